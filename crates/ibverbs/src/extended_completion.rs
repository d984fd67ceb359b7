//! Extended completion queues: completions that are looked at one by one, field by field.

use crate::boundary::null;
use crate::completion::{Cq, work_completion};
use libc::{EINVAL, ENOENT, EOPNOTSUPP, c_int, c_uint};
use rdma_verbs_sys::{
    __be32, IBV_CQ_INIT_ATTR_MASK_FLAGS, IBV_CQ_INIT_ATTR_MASK_PD, IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN,
    IBV_CREATE_CQ_ATTR_SINGLE_THREADED, IBV_WC_EX_WITH_BYTE_LEN, IBV_WC_EX_WITH_COMPLETION_TIMESTAMP,
    IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK, IBV_WC_EX_WITH_DLID_PATH_BITS, IBV_WC_EX_WITH_IMM,
    IBV_WC_EX_WITH_QP_NUM, IBV_WC_EX_WITH_SL, IBV_WC_EX_WITH_SLID, IBV_WC_EX_WITH_SRC_QP, ibv_context,
    ibv_cq_ex, ibv_cq_init_attr_ex, ibv_poll_cq_attr, ibv_wc, ibv_wc_opcode,
};

/// When a completion came, by either clock.
const TIMED: u32 = IBV_WC_EX_WITH_COMPLETION_TIMESTAMP | IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK;
/// What completions can be asked for here.
const WC_FLAGS: u32 = IBV_WC_EX_WITH_BYTE_LEN
    | IBV_WC_EX_WITH_IMM
    | IBV_WC_EX_WITH_QP_NUM
    | IBV_WC_EX_WITH_SRC_QP
    | IBV_WC_EX_WITH_SLID
    | IBV_WC_EX_WITH_SL
    | IBV_WC_EX_WITH_DLID_PATH_BITS
    | TIMED;

/// One more completion for an extended poll.
///
/// # Safety
/// Only between `begin_polling` and `end_polling` of that queue.
unsafe fn advance(c: *mut ibv_cq_ex) -> c_int {
    // SAFETY: the program says that it is one.
    let cq = unsafe { Cq::of(c.cast()) };
    // SAFETY: the caller holds it.
    let entry = match unsafe { cq.next(usize::MAX) } {
        Ok(Some(entry)) => entry,
        Ok(None) => return ENOENT,
        Err(error) => return error,
    };
    // SAFETY: as above.
    let polled = unsafe { &mut *cq.polled.get() };
    polled.current = work_completion(cq, &entry);
    // SAFETY: what the program has reads of it while it polls.
    unsafe {
        (*c).status = polled.current.status;
        (*c).wr_id = polled.current.wr_id;
        if (*c).read_completion_ts.is_some() {
            polled.times = [nanoseconds(libc::CLOCK_MONOTONIC), nanoseconds(libc::CLOCK_REALTIME)];
        }
    }
    0
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of ours.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec.cast_unsigned())
}

/// What the poll is at.
///
/// # Safety
/// As the program calls it: within a poll.
unsafe fn current<'a>(c: *mut ibv_cq_ex) -> &'a ibv_wc {
    // SAFETY: within a poll, nobody else writes it.
    unsafe { &(*Cq::of(c.cast()).polled.get()).current }
}

/// # Safety
/// As [`current`].
unsafe fn times(c: *mut ibv_cq_ex) -> [u64; 2] {
    // SAFETY: as in `current`.
    unsafe { (*Cq::of(c.cast()).polled.get()).times }
}

operation! {
    libc::EIO,
    /// ibv_start_poll(3).
    fn start_poll(c: *mut ibv_cq_ex, attr: *mut ibv_poll_cq_attr) -> c_int {
        // SAFETY: the program gave the attributes, or none.
        if !attr.is_null() && unsafe { (*attr).comp_mask } != 0 {
            return EINVAL;
        }
        // SAFETY: the program says that it is one.
        let cq = unsafe { Cq::of(c.cast()) };
        cq.begin_polling();
        // SAFETY: we hold it.
        let result = unsafe { advance(c) };
        if result != 0 {
            // There is no end_poll without a completion.
            cq.end_polling();
        }
        result
    }

    libc::EIO,
    /// ibv_next_poll(3).
    fn next_poll(c: *mut ibv_cq_ex) -> c_int {
        // SAFETY: the program is within a poll.
        unsafe { advance(c) }
    }

    (),
    /// ibv_end_poll(3).
    fn end_poll(c: *mut ibv_cq_ex) {
        // SAFETY: the program is within a poll.
        unsafe { Cq::of(c.cast()) }.end_polling();
    }

    0,
    fn read_opcode(c: *mut ibv_cq_ex) -> ibv_wc_opcode {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.opcode
    }

    0,
    fn read_vendor_err(c: *mut ibv_cq_ex) -> u32 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.vendor_err
    }

    0,
    fn read_byte_len(c: *mut ibv_cq_ex) -> u32 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.byte_len
    }

    0,
    fn read_imm_data(c: *mut ibv_cq_ex) -> __be32 {
        // SAFETY: the program is within a poll; both members are numbers of four bytes.
        unsafe { current(c).immediate.imm_data }
    }

    0,
    fn read_qp_num(c: *mut ibv_cq_ex) -> u32 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.qp_num
    }

    0,
    fn read_src_qp(c: *mut ibv_cq_ex) -> u32 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.src_qp
    }

    0,
    fn read_wc_flags(c: *mut ibv_cq_ex) -> c_uint {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.wc_flags
    }

    0,
    fn read_slid(c: *mut ibv_cq_ex) -> u32 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.slid.into()
    }

    0,
    fn read_sl(c: *mut ibv_cq_ex) -> u8 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.sl
    }

    0,
    fn read_dlid_path_bits(c: *mut ibv_cq_ex) -> u8 {
        // SAFETY: the program is within a poll.
        unsafe { current(c) }.dlid_path_bits
    }

    0,
    fn read_completion_ts(c: *mut ibv_cq_ex) -> u64 {
        // SAFETY: the program is within a poll.
        unsafe { times(c)[0] }
    }

    0,
    fn read_completion_wallclock_ns(c: *mut ibv_cq_ex) -> u64 {
        // SAFETY: the program is within a poll.
        unsafe { times(c)[1] }
    }

    std::ptr::null_mut(),
    /// ibv_create_cq_ex(3).
    fn create_cq_ex(context: *mut ibv_context, attr: *mut ibv_cq_init_attr_ex) -> *mut ibv_cq_ex {
        // Promises that nothing here needs.
        const KNOWN: u32 = IBV_CREATE_CQ_ATTR_SINGLE_THREADED | IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;
        // SAFETY: the program gave the attributes, as far as the mask says.
        let (cqe, cq_context, channel, vector, wc_flags, mask) = unsafe {
            let attr = &raw const *attr;
            ((*attr).cqe, (*attr).cq_context, (*attr).channel, (*attr).comp_vector, (*attr).wc_flags, (*attr).comp_mask)
        };
        if mask & !(IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD) != 0 {
            return null(EINVAL);
        }
        // SAFETY: as above.
        if mask & IBV_CQ_INIT_ATTR_MASK_FLAGS != 0 && unsafe { (*attr).flags } & !KNOWN != 0 {
            return null(EINVAL);
        }
        if wc_flags & !u64::from(WC_FLAGS) != 0 {
            return null(EOPNOTSUPP);
        }
        let vector = c_int::try_from(vector).unwrap_or(-1);
        let made = Cq::make(context, cqe as usize, cq_context, channel, vector, |c| {
            c.start_poll = Some(start_poll);
            c.next_poll = Some(next_poll);
            c.end_poll = Some(end_poll);
            c.read_opcode = Some(read_opcode);
            c.read_vendor_err = Some(read_vendor_err);
            c.read_byte_len = Some(read_byte_len);
            c.read_imm_data = Some(read_imm_data);
            c.read_qp_num = Some(read_qp_num);
            c.read_src_qp = Some(read_src_qp);
            c.read_wc_flags = Some(read_wc_flags);
            c.read_slid = Some(read_slid);
            c.read_sl = Some(read_sl);
            c.read_dlid_path_bits = Some(read_dlid_path_bits);
            if wc_flags & u64::from(TIMED) != 0 {
                c.read_completion_ts = Some(read_completion_ts);
                c.read_completion_wallclock_ns = Some(read_completion_wallclock_ns);
            }
        });
        match made {
            Ok(cq) => cq.cast(),
            Err(error) => null(error),
        }
    }
}

//! What an opened device tells: its attributes, its port, its GIDs and partition keys.

use crate::backend::{ATTRIBUTES, MAX_MESSAGE};
use crate::boundary::{number, set_errno};
use crate::context::Context;
use crate::device::{Device, write};
use libc::{EINVAL, ENODATA, c_int, c_uint, c_void, size_t, ssize_t};
use rdma_verbs_sys::{
    __be16, IBV_ATOMIC_GLOB, IBV_DEVICE_CURR_QP_STATE_MOD, IBV_DEVICE_MEM_WINDOW,
    IBV_DEVICE_MEM_WINDOW_TYPE_2B, IBV_DEVICE_RC_RNR_NAK_GEN, IBV_DEVICE_SRQ_RESIZE,
    IBV_DEVICE_SYS_IMAGE_GUID, IBV_DEVICE_UD_AV_PORT_ENFORCE, IBV_DEVICE_XRC, IBV_GID_TYPE_ROCE_V2,
    IBV_LINK_LAYER_ETHERNET, IBV_MTU_4096, IBV_PORT_ACTIVE, IBV_PORT_CM_SUP, IBV_PORT_IP_BASED_GIDS,
    IBV_QPF_GRH_REQUIRED, IBV_VALUES_MASK_RAW_CLOCK, ibv_context, ibv_device_attr, ibv_device_attr_ex,
    ibv_gid, ibv_gid_entry, ibv_port_attr, ibv_query_device_ex_input, ibv_values_ex, verbs_context,
};
use std::mem::offset_of;

/// The one partition, with full membership.
const PKEY: u16 = 0xffff;
/// 4 lanes of 25 Gb/s: programs like to know, and the loopback interface comes near it.
const WIDTH_4X: u8 = 2;
const SPEED_EDR: u8 = 32;
/// `phys_state` of a port whose link is up.
const LINK_UP: u8 = 5;
/// What no other limit bounds.
const MANY: c_int = 1 << 20;
/// What Soft-RoCE says: the number of no maker.
const VENDOR: u32 = 0x00ff_ffff;

fn device_attributes(context: &Context) -> ibv_device_attr {
    let limit = |limit: usize| c_int::try_from(limit).unwrap_or(c_int::MAX);
    let guid = Device::all().get(context.backend.index()).map_or(0, Device::guid).to_be();
    let reads = c_int::from(ATTRIBUTES.max_rd_atomic);
    let mut attributes = ibv_device_attr {
        node_guid: guid,
        sys_image_guid: guid,
        max_mr_size: u64::MAX,
        page_size_cap: 0xffff_f000,
        vendor_id: VENDOR,
        max_qp: limit(ATTRIBUTES.max_qp),
        max_qp_wr: limit(ATTRIBUTES.max_qp_wr),
        device_cap_flags: IBV_DEVICE_CURR_QP_STATE_MOD
            | IBV_DEVICE_SYS_IMAGE_GUID
            | IBV_DEVICE_RC_RNR_NAK_GEN
            | IBV_DEVICE_UD_AV_PORT_ENFORCE
            | IBV_DEVICE_SRQ_RESIZE
            | IBV_DEVICE_XRC
            | IBV_DEVICE_MEM_WINDOW
            | IBV_DEVICE_MEM_WINDOW_TYPE_2B,
        max_sge: limit(ATTRIBUTES.max_sge),
        max_sge_rd: limit(ATTRIBUTES.max_sge),
        max_cq: MANY,
        max_cqe: limit(ATTRIBUTES.max_cqe),
        max_mr: limit(ATTRIBUTES.max_mr),
        max_pd: MANY,
        max_qp_rd_atom: reads,
        max_res_rd_atom: MANY,
        max_qp_init_rd_atom: reads,
        atomic_cap: IBV_ATOMIC_GLOB,
        max_ah: limit(ATTRIBUTES.max_ah),
        max_mw: limit(ATTRIBUTES.max_mw),
        max_srq: MANY,
        max_srq_wr: limit(ATTRIBUTES.max_srq_wr),
        max_srq_sge: limit(ATTRIBUTES.max_sge),
        max_mcast_grp: limit(ATTRIBUTES.max_mcast_grp),
        max_mcast_qp_attach: limit(ATTRIBUTES.max_mcast_qp_attach),
        max_total_mcast_qp_attach: limit(ATTRIBUTES.max_mcast_grp * ATTRIBUTES.max_mcast_qp_attach),
        max_pkeys: 1,
        phys_port_cnt: 1,
        ..ibv_device_attr::default()
    };
    write(&mut attributes.fw_ver, env!("CARGO_PKG_VERSION"));
    attributes
}

fn port_attributes(context: &Context) -> ibv_port_attr {
    ibv_port_attr {
        state: IBV_PORT_ACTIVE,
        max_mtu: IBV_MTU_4096,
        active_mtu: context.backend.mtu().code().into(),
        gid_tbl_len: 1,
        port_cap_flags: IBV_PORT_CM_SUP | IBV_PORT_IP_BASED_GIDS,
        max_msg_sz: MAX_MESSAGE,
        pkey_tbl_len: 1,
        max_vl_num: 1,
        active_width: WIDTH_4X,
        active_speed: SPEED_EDR,
        phys_state: LINK_UP,
        link_layer: IBV_LINK_LAYER_ETHERNET,
        flags: IBV_QPF_GRH_REQUIRED,
        ..ibv_port_attr::default()
    }
}

/// Copies the first `len` bytes of `value` to `to`.
///
/// # Safety
/// `to` must have room for `len` bytes.
unsafe fn copy_prefix<T>(value: &T, to: *mut c_void, len: usize) {
    let whole = size_of::<T>();
    // SAFETY: the value has so many bytes, and the caller has room for them.
    unsafe {
        std::ptr::copy_nonoverlapping(std::ptr::from_ref(value).cast::<u8>(), to.cast(), len.min(whole));
    };
    if len > whole {
        // SAFETY: as above.
        unsafe { to.byte_add(whole).cast::<u8>().write_bytes(0, len - whole) };
    }
}

fn gid_entry(context: &Context, port: u32, index: u32) -> Result<ibv_gid_entry, c_int> {
    if port != 1 {
        return Err(EINVAL);
    }
    if index != 0 {
        return Err(ENODATA);
    }
    Ok(ibv_gid_entry {
        gid: ibv_gid { raw: context.backend.gid()? },
        gid_index: 0,
        port_num: 1,
        gid_type: IBV_GID_TYPE_ROCE_V2,
        ndev_ifindex: context.backend.interface().index,
    })
}

/// -1 with errno, as some verbs report errors.
fn minus_one(error: c_int) -> c_int {
    set_errno(error);
    -1
}

operation! {
    libc::EIO,
    /// The operation behind ibv_query_port(3): `len` is how much of the attributes the program knows.
    fn query_port(context: *mut ibv_context, port: u8, attr: *mut ibv_port_attr, len: size_t) -> c_int {
        if port != 1 {
            return number(EINVAL);
        }
        // SAFETY: the program says that it is open.
        let attributes = port_attributes(unsafe { Context::of(context) });
        // SAFETY: the program has `len` bytes there.
        unsafe { copy_prefix(&attributes, attr.cast(), len) };
        0
    }

    libc::EIO,
    /// ibv_query_device_ex(3).
    fn query_device_ex(
        context: *mut ibv_context,
        input: *const ibv_query_device_ex_input,
        attr: *mut ibv_device_attr_ex,
        len: size_t,
    ) -> c_int {
        // SAFETY: a program that gives one gives its mask.
        if !input.is_null() && unsafe { (*input).comp_mask } != 0 {
            return number(EINVAL);
        }
        if len < size_of::<ibv_device_attr>() {
            return number(EINVAL);
        }
        let mut attributes = ibv_device_attr_ex::default();
        // SAFETY: the program says that it is open.
        attributes.orig_attr = device_attributes(unsafe { Context::of(context) });
        attributes.completion_timestamp_mask = u64::MAX;
        // In kHz: the timestamps are nanoseconds.
        attributes.hca_core_clock = 1_000_000;
        attributes.device_cap_flags_ex = attributes.orig_attr.device_cap_flags.into();
        attributes.phys_port_cnt_ex = 1;
        // SAFETY: the program has `len` bytes there.
        unsafe { copy_prefix(&attributes, attr.cast(), len) };
        0
    }

    libc::EIO,
    /// ibv_query_rt_values_ex(3): the clock that completions are stamped by.
    fn query_rt_values(context: *mut ibv_context, values: *mut ibv_values_ex) -> c_int {
        let _ = context;
        // SAFETY: the program gave a structure.
        let asked = unsafe { (*values).comp_mask };
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place of ours.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        // SAFETY: as above.
        unsafe { values.write(ibv_values_ex { comp_mask: asked & IBV_VALUES_MASK_RAW_CLOCK, raw_clock: now }) };
        0
    }
}

export! {
    "IBVERBS_1.1", libc::EIO,
    /// ibv_query_device(3).
    fn ibv_query_device(context: *mut ibv_context, attr: *mut ibv_device_attr) -> c_int {
        // SAFETY: the program says that it is open.
        let attributes = device_attributes(unsafe { Context::of(context) });
        // SAFETY: the program gave a place for it.
        unsafe { attr.write(attributes) };
        0
    }

    "IBVERBS_1.1", libc::EIO,
    /// ibv_query_port(3), as programs call it that know no more of the attributes than `flags`.
    fn ibv_query_port(context: *mut ibv_context, port: u8, attr: *mut ibv_port_attr) -> c_int {
        let len = offset_of!(ibv_port_attr, flags) + size_of::<u8>();
        // SAFETY: as the program has it.
        unsafe { query_port(context, port, attr, len) }
    }

    "IBVERBS_1.1", -1,
    /// ibv_query_gid(3).
    fn ibv_query_gid(context: *mut ibv_context, port: u8, index: c_int, gid: *mut ibv_gid) -> c_int {
        // SAFETY: the program says that it is open.
        let context = unsafe { Context::of(context) };
        let found = u32::try_from(index).map_err(|_| EINVAL).and_then(|index| gid_entry(context, port.into(), index));
        match found {
            Ok(entry) => {
                // SAFETY: the program gave a place for it.
                unsafe { gid.write(entry.gid) };
                0
            }
            Err(ENODATA) => minus_one(EINVAL),
            Err(error) => minus_one(error),
        }
    }

    "IBVERBS_1.11", libc::EIO,
    /// ibv_query_gid_ex(3).
    fn _ibv_query_gid_ex(
        context: *mut ibv_context,
        port: u32,
        index: u32,
        entry: *mut ibv_gid_entry,
        flags: u32,
        entry_size: size_t,
    ) -> c_int {
        if flags != 0 || entry_size < size_of::<ibv_gid_entry>() {
            return number(EINVAL);
        }
        // SAFETY: the program says that it is open.
        match gid_entry(unsafe { Context::of(context) }, port, index) {
            Ok(found) => {
                // SAFETY: the program has `entry_size` bytes there.
                unsafe { copy_prefix(&found, entry.cast(), entry_size) };
                0
            }
            Err(error) => number(error),
        }
    }

    "IBVERBS_1.11", -1,
    /// ibv_query_gid_table(3).
    fn _ibv_query_gid_table(
        context: *mut ibv_context,
        entries: *mut ibv_gid_entry,
        max_entries: size_t,
        flags: u32,
        entry_size: size_t,
    ) -> ssize_t {
        if flags != 0 || entry_size < size_of::<ibv_gid_entry>() {
            return -(EINVAL as ssize_t);
        }
        if max_entries == 0 {
            return -(EINVAL as ssize_t);
        }
        // SAFETY: the program says that it is open.
        match gid_entry(unsafe { Context::of(context) }, 1, 0) {
            Ok(found) => {
                // SAFETY: the program has room for at least one of `entry_size` bytes.
                unsafe { copy_prefix(&found, entries.cast(), entry_size) };
                1
            }
            Err(error) => -(error as ssize_t),
        }
    }

    "IBVERBS_PRIVATE_34", -1,
    /// Which kind of GID one is, in sysfs' numbers: 0 for InfiniBand and RoCE v1, 1 for RoCE v2.
    fn ibv_query_gid_type(context: *mut ibv_context, port: u8, index: c_uint, kind: *mut c_uint) -> c_int {
        // SAFETY: the program says that it is open.
        match gid_entry(unsafe { Context::of(context) }, port.into(), index) {
            Ok(_) => {
                // SAFETY: the program gave a place for it.
                unsafe { kind.write(1) };
                0
            }
            Err(error) => minus_one(error),
        }
    }

    "IBVERBS_1.1", -1,
    /// ibv_query_pkey(3).
    fn ibv_query_pkey(context: *mut ibv_context, port: u8, index: c_int, pkey: *mut __be16) -> c_int {
        let _ = context;
        if port != 1 || index != 0 {
            return minus_one(EINVAL);
        }
        // SAFETY: the program gave a place for it.
        unsafe { pkey.write(PKEY.to_be()) };
        0
    }

    "IBVERBS_1.5", -1,
    /// ibv_get_pkey_index(3).
    fn ibv_get_pkey_index(context: *mut ibv_context, port: u8, pkey: __be16) -> c_int {
        let _ = context;
        if port == 1 && pkey == PKEY.to_be() { 0 } else { minus_one(EINVAL) }
    }

    "IBVERBS_1.1", 0,
    /// ibv_fork_init(3): memory is never pinned, so a fork takes nothing away.
    fn ibv_fork_init() -> c_int {
        0
    }

    "IBVERBS_1.13", 0,
    /// ibv_is_fork_initialized(3).
    fn ibv_is_fork_initialized() -> c_uint {
        const IBV_FORK_UNNEEDED: c_uint = 2;
        IBV_FORK_UNNEEDED
    }

    "IBVERBS_1.1", 0,
    /// Keeps memory from being copied by a fork; nothing of the kind is needed.
    fn ibv_dontfork_range(base: *mut c_void, size: size_t) -> c_int {
        let _ = (base, size);
        0
    }

    "IBVERBS_1.1", 0,
    /// Ends what [`ibv_dontfork_range`] began.
    fn ibv_dofork_range(base: *mut c_void, size: size_t) -> c_int {
        let _ = (base, size);
        0
    }
}

/// The whole of a context is what programs of rdma-core 44 know.
const _: () =
    assert!(offset_of!(verbs_context, context) + size_of::<ibv_context>() == size_of::<verbs_context>());

//! The queue pair of a connected rsocket with its memory: carries out what the [`Stream`] says.

use super::memory::Region;
use crate::boundary::errno;
use crate::id::Id;
use crate::queue_pair::{create_qp, destroy_qp};
use crate::session::verbs;
use libc::{EINVAL, c_int};
use rdma_verbs_sys::{
    IBV_QPT_RC, IBV_SEND_INLINE, IBV_WC_SUCCESS, IBV_WC_WITH_IMM, IBV_WR_RDMA_WRITE,
    IBV_WR_RDMA_WRITE_WITH_IMM, ibv_comp_channel, ibv_cq, ibv_pd, ibv_poll_cq, ibv_post_recv, ibv_post_send,
    ibv_qp, ibv_qp_cap, ibv_qp_init_attr, ibv_recv_wr, ibv_req_notify_cq, ibv_send_wr, ibv_send_wr_rdma,
    ibv_sge, ibv_wc,
};
use rocev2_rsocket::stream::{Control, Ended, Sizes, Stream, Write};
use rocev2_rsocket::wire::{ConnectData, Iomap, Message, Order, Sge, TARGETS};
use std::os::fd::RawFd;
use std::ptr::null_mut;

/// The room for data in requests that the library itself needs.
const INLINE: u32 = 24;

/// Completions that are taken at once.
const BATCH: u8 = 16;

/// The number of a receive request.
const RECEIVE: u64 = 1 << 63;

/// What the number of a request to send says when it has completed.
#[derive(Clone, Copy)]
enum Sent {
    /// So many bytes of send buffer are free again.
    Data(u32),
    Control(Message),
}

impl Sent {
    const CONTROL: u64 = 1 << 62;

    fn encode(self) -> u64 {
        match self {
            Self::Data(len) => len.into(),
            Self::Control(message) => Self::CONTROL | u64::from(message.encode()),
        }
    }

    fn decode(id: u64) -> Self {
        let low = u32::try_from(id & u64::from(u32::MAX)).unwrap_or(0);
        match Message::decode(low).filter(|_| id & Self::CONTROL != 0) {
            Some(message) => Self::Control(message),
            None => Self::Data(low),
        }
    }
}

pub(super) struct Endpoint {
    qp: *mut ibv_qp,
    cq: *mut ibv_cq,
    channel: *mut ibv_comp_channel,
    /// Whether the next completion raises an event.
    armed: bool,
    /// Events that the library hasn't been told to be seen.
    unacknowledged: u32,
    sizes: Sizes,
    /// The peer writes there.
    recv: Region,
    /// And there: the target list, and behind it the list of its mapped buffers.
    lists: Region,
    send: Region,
    /// What stands there, as far as the peer has said that it has written it.
    iomaps: Box<[Iomap]>,
}

// SAFETY: libibverbs' objects may be used by any thread.
unsafe impl Send for Endpoint {}

impl Endpoint {
    /// A queue pair for an id that belongs to the device, with its memory, ready to receive.
    pub(super) fn new(id: &Id, sizes: Sizes, iomaps: u16) -> Result<Self, c_int> {
        let library = verbs()?;
        // SAFETY: fields of the id.
        let (context, pd) = unsafe { ((*id.c()).verbs, (*id.c()).pd) };
        if context.is_null() || pd.is_null() {
            return Err(EINVAL);
        }
        let lists = TARGETS as usize * Sge::LEN + usize::from(iomaps) * Iomap::LEN;
        // SAFETY: the protection domain is the process's, and stays.
        let (recv, lists, send) = unsafe {
            (
                Region::new(pd, sizes.recv_len as usize, true)?,
                Region::new(pd, lists, true)?,
                Region::new(pd, sizes.send_len as usize, false)?,
            )
        };
        // SAFETY: the context is open.
        let channel = unsafe { library.ibv_create_comp_channel(context) };
        if channel.is_null() {
            return Err(errno());
        }
        let capacity = c_int::from(sizes.send_requests) + c_int::from(sizes.recv_requests);
        // SAFETY: as above.
        let cq = unsafe { library.ibv_create_cq(context, capacity, null_mut(), channel, 0) };
        // What was made is destroyed with this, whatever fails.
        let mut made = Self {
            qp: null_mut(),
            cq,
            channel,
            armed: false,
            unacknowledged: 0,
            sizes,
            recv,
            lists,
            send,
            iomaps: vec![Iomap::default(); iomaps.into()].into(),
        };
        if cq.is_null() {
            return Err(errno());
        }
        super::wait::set_nonblocking(made.descriptor())?;
        let mut attr = ibv_qp_init_attr {
            send_cq: cq,
            recv_cq: cq,
            qp_type: IBV_QPT_RC,
            sq_sig_all: 1,
            cap: ibv_qp_cap {
                max_send_wr: sizes.send_requests.into(),
                max_recv_wr: sizes.recv_requests.into(),
                max_send_sge: 2,
                max_recv_sge: 1,
                max_inline_data: INLINE,
            },
            ..ibv_qp_init_attr::default()
        };
        // SAFETY: what the attributes name lives.
        unsafe { create_qp(id, pd, &mut attr)? };
        // SAFETY: a field of the id.
        made.qp = unsafe { (*id.c()).qp };
        let posted = (0..sizes.recv_requests).try_for_each(|_| made.post_recv());
        posted.inspect_err(|_| made.destroy_qp(id))?;
        Ok(made)
    }

    /// What the peer is told of this side.
    pub(super) fn connect_data(&self) -> ConnectData {
        ConnectData {
            order: Order::HOST,
            credits: self.sizes.recv_requests,
            // As many as there were asked for.
            iomaps: u16::try_from(self.iomaps.len()).unwrap_or(0),
            targets: Sge { addr: self.lists.addr(), key: self.lists.rkey(), length: TARGETS },
            data: Sge { length: self.sizes.recv_len / 2, ..self.buffer() },
        }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn buffer(&self) -> Sge {
        Sge { addr: self.recv.addr(), key: self.recv.rkey(), length: self.sizes.recv_len }
    }

    /// Readable when there is an event.
    pub(super) fn descriptor(&self) -> RawFd {
        // SAFETY: the endpoint's own.
        unsafe { (*self.channel).fd }
    }

    fn post_recv(&self) -> Result<(), c_int> {
        let mut request = ibv_recv_wr { wr_id: RECEIVE, ..ibv_recv_wr::default() };
        // SAFETY: the endpoint's queue pair, and a request without elements.
        match unsafe { ibv_post_recv(self.qp, &raw mut request, &mut null_mut()) } {
            0 => Ok(()),
            error => Err(error),
        }
    }

    fn post_send(
        &self,
        id: Sent,
        elements: &mut [ibv_sge],
        message: Option<Message>,
        (addr, key): (u64, u32),
        send_flags: u32,
    ) -> Result<(), c_int> {
        let mut request = ibv_send_wr {
            wr_id: id.encode(),
            sg_list: elements.as_mut_ptr(),
            // At most two.
            num_sge: c_int::try_from(elements.len()).unwrap_or(0),
            opcode: message.map_or(IBV_WR_RDMA_WRITE, |_| IBV_WR_RDMA_WRITE_WITH_IMM),
            send_flags,
            ..ibv_send_wr::default()
        };
        request.immediate.imm_data = message.map_or(0, |message| message.encode().to_be());
        request.wr.rdma = ibv_send_wr_rdma { remote_addr: addr, rkey: key };
        // SAFETY: the endpoint's queue pair; elements of its own memory, or inline, which are read by now.
        match unsafe { ibv_post_send(self.qp, &raw mut request, &mut null_mut()) } {
            0 => Ok(()),
            error => Err(error),
        }
    }

    /// Copies a WRITE's data into the send buffer and posts it.
    ///
    /// # Safety
    /// There are as many bytes at `from` as the WRITE has.
    pub(super) unsafe fn write(&self, write: &Write, from: *const u8) -> Result<(), c_int> {
        let [first, second] = write.pieces;
        // SAFETY: the caller says so.
        unsafe {
            self.send.write(first.at, from, first.len as usize);
            self.send.write(second.at, from.add(first.len as usize), second.len as usize);
        }
        let mut elements = write.pieces.map(|piece| self.send.element(piece.at, piece.len));
        let count = if second.len == 0 { 1 } else { 2 };
        let to = (write.addr, write.key);
        self.post_send(Sent::Data(write.len()), &mut elements[..count], write.message, to, 0)
    }

    pub(super) fn control(&self, control: &Control) -> Result<(), c_int> {
        let id = Sent::Control(control.message);
        match control.target {
            None => self.post_send(id, &mut [], Some(control.message), (0, 0), 0),
            Some((entry, addr, key)) => {
                let at = entry.as_ptr().expose_provenance() as u64;
                let element = ibv_sge { addr: at, length: Sge::BYTES, lkey: 0 };
                self.post_send(id, &mut [element], Some(control.message), (addr, key), IBV_SEND_INLINE)
            }
        }
    }

    /// Copies bytes out of the receive buffer.
    ///
    /// # Safety
    /// There is room for so many bytes at `to`.
    pub(super) unsafe fn read(&self, at: u32, to: *mut u8, len: u32) {
        // SAFETY: the caller says so.
        unsafe { self.recv.read(at, to, len as usize) };
    }

    /// Remembers what stands in an entry of the list of mapped buffers, which the peer has written.
    fn remember(&mut self, index: u32) {
        let Some(known) = usize::try_from(index).ok().and_then(|index| self.iomaps.get_mut(index)) else {
            return;
        };
        *known = Iomap::decode(self.lists.get(TARGETS * Sge::BYTES + index * Iomap::BYTES));
    }

    /// The buffers that the peer's program has mapped.
    pub(super) fn iomaps(&self) -> &[Iomap] {
        &self.iomaps
    }

    /// Takes completions, and tells the peer of room; whether something changed.
    pub(super) fn progress(&mut self, stream: &mut Stream) -> bool {
        let mut has_changed = false;
        let mut completions = [ibv_wc::default(); BATCH as usize];
        loop {
            // SAFETY: the endpoint's completion queue, and room for so many.
            let count = unsafe { ibv_poll_cq(self.cq, BATCH.into(), completions.as_mut_ptr()) };
            let count = usize::try_from(count).unwrap_or(0);
            for completion in &completions[..count] {
                self.complete(stream, completion);
            }
            has_changed |= count > 0;
            if count < BATCH.into() {
                break;
            }
        }
        while let Some(slot) = stream.wants_target() {
            stream.retarget(Sge::decode(self.lists.get(slot * Sge::BYTES)));
            has_changed = true;
        }
        self.give(stream);
        has_changed
    }

    /// Tells the peer of room, if it is time.
    pub(super) fn give(&self, stream: &mut Stream) {
        while let Some(credits) = stream.credits(self.buffer()) {
            if self.control(&credits).is_err() {
                stream.end(Ended::Broken);
            }
        }
    }

    fn complete(&mut self, stream: &mut Stream, completion: &ibv_wc) {
        let has_failed = completion.status != IBV_WC_SUCCESS;
        if completion.wr_id == RECEIVE {
            // Those that are flushed say nothing.
            if has_failed {
                return;
            }
            if completion.wc_flags & IBV_WC_WITH_IMM == 0 {
                stream.end(Ended::Violated);
                return;
            }
            // SAFETY: there is some, as the flag says.
            let word = u32::from_be(unsafe { completion.immediate.imm_data });
            if let Some(Message::Iomap(index)) = Message::decode(word) {
                self.remember(index);
            }
            stream.receive(word, completion.byte_len);
            if stream.ended().is_none() && self.post_recv().is_err() {
                stream.end(Ended::Broken);
            }
            return;
        }
        match Sent::decode(completion.wr_id) {
            Sent::Data(len) => stream.sent(len),
            Sent::Control(message) => stream.controlled(message),
        }
        if has_failed {
            stream.end(Ended::Broken);
        }
    }

    /// Has the next completion raise an event; false if that was so already.
    pub(super) fn arm(&mut self) -> bool {
        if self.armed {
            return false;
        }
        // SAFETY: the endpoint's completion queue.
        self.armed = unsafe { ibv_req_notify_cq(self.cq, 0) } == 0;
        true
    }

    /// Takes the events that there are.
    pub(super) fn take_events(&mut self) {
        const ACKNOWLEDGE: u32 = 256;
        let Ok(library) = verbs() else { return };
        let (mut cq, mut context) = (null_mut(), null_mut());
        // SAFETY: the endpoint's channel, whose descriptor doesn't wait, and places for both.
        while unsafe { library.ibv_get_cq_event(self.channel, &raw mut cq, &raw mut context) } == 0 {
            self.armed = false;
            self.unacknowledged += 1;
        }
        if self.unacknowledged >= ACKNOWLEDGE {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        if let Ok(library) = verbs() {
            // SAFETY: so many events of this queue were taken.
            unsafe { library.ibv_ack_cq_events(self.cq, self.unacknowledged) };
            self.unacknowledged = 0;
        }
    }

    /// Destroys what the id and this have together. Memory follows when this is dropped.
    pub(super) fn destroy_qp(&mut self, id: &Id) {
        if !self.qp.is_null() {
            // SAFETY: nobody else uses it.
            unsafe { destroy_qp(id) };
            self.qp = null_mut();
        }
    }

    /// The id's protection domain.
    pub(super) fn pd(&self) -> *mut ibv_pd {
        // SAFETY: the endpoint's queue pair.
        unsafe { (*self.qp).pd }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if !self.cq.is_null() {
            self.acknowledge();
        }
        let Ok(library) = verbs() else { return };
        // SAFETY: the endpoint's own, which nobody uses: its queue pair is gone.
        unsafe {
            if !self.cq.is_null() {
                library.ibv_destroy_cq(self.cq);
            }
            library.ibv_destroy_comp_channel(self.channel);
        }
    }
}

//! Protection domains.

use super::device::{ATTRIBUTES, DeviceState, within};
use super::{
    AddressHandle, CompletionQueue, DeviceError, MemoryRegion, MemoryWindow, PathAttributes, QueuePair,
    QueuePairOptions, SharedReceiveQueue,
};
use crate::engine::{self, DomainMemory, Element, Receives};
use crate::memory::{Access, Backing, Base, KeyTable, Registration, WindowType};
#[cfg(target_os = "linux")]
use crate::{ForeignRegion, memory::Foreign};
use rocev2::transport::{Limits, QueuePair as Protocol, rc, uc, ud};
use rocev2::wire::Transport;
use rocev2::work::{Attributes, ReceiveQueue, State};
use rocev2::{Mtu, Psn, Qpn};
use std::sync::Arc;

/// Bytes that one queue pair may have in flight at most. The window finds by itself what the sockets on the
/// path can hold; this only keeps one queue pair from taking more than the largest socket buffers hold.
const WINDOW: u64 = 2 << 20;

/// The queue key of queue pair 1 (IBA 3.5.4).
pub const GSI_QKEY: u32 = 0x8001_0000;

/// A protection domain: its queue pairs reach its regions and no others.
pub struct ProtectionDomain {
    device: Arc<DeviceState>,
    keys: Arc<KeyTable>,
}

impl ProtectionDomain {
    pub(crate) fn new(device: Arc<DeviceState>, keys: Arc<KeyTable>) -> Self {
        Self { device, keys }
    }

    pub(crate) fn is_of(&self, device: &Arc<DeviceState>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// Its regions and windows.
    pub(crate) fn keys(&self) -> &Arc<KeyTable> {
        &self.keys
    }

    /// Allocates and registers `len` zeroed bytes; there may be none.
    ///
    /// Peers name them by addresses that begin at random, or at 0 ([`Access::ZERO_BASED`]): neither they nor who
    /// reads the packets learn where things lie in this process.
    ///
    /// # Errors
    /// No memory, too many regions, or rights that contradict each other.
    pub fn register(&self, len: usize, access: Access) -> Result<MemoryRegion, DeviceError> {
        let mapping = Arc::new(self.device.allocate(len)?);
        let backing = Backing::Own(Arc::clone(&mapping));
        let region = self.keys.register(Registration { backing, base: Base::Random, access })?;
        Ok(MemoryRegion::new(mapping, region, Arc::clone(&self.keys)))
    }

    /// Registers memory that the program owns, whose first byte peers and work requests name by `base`.
    ///
    /// The program may unmap it, truncate the file behind it or protect it while it is registered: requests that
    /// come upon that end with an error.
    ///
    /// # Errors
    /// There are too many regions, or the rights contradict each other.
    #[cfg(target_os = "linux")]
    pub fn register_foreign(
        &self,
        memory: Foreign,
        base: Base,
        access: Access,
    ) -> Result<ForeignRegion, DeviceError> {
        let backing = Backing::Foreign(Arc::new(memory));
        let region = self.keys.register(Registration { backing, base, access })?;
        Ok(ForeignRegion::new(region, base, Arc::clone(&self.keys)))
    }

    /// Allocates a memory window, bound to nothing.
    ///
    /// # Errors
    /// There are too many.
    pub fn window(&self, kind: WindowType) -> Result<MemoryWindow, DeviceError> {
        Ok(MemoryWindow::new(self.keys.window(kind)?, Arc::clone(&self.keys)))
    }

    /// `len` bytes at `va` of the region that `lkey` names, for a work request of a queue pair of this domain. If
    /// none has that key, or they reach outside, the request completes with `LOC_PROT_ERR`.
    #[must_use]
    pub fn element(&self, lkey: u32, va: u64, len: u32) -> Element {
        Element::by_lkey(&self.keys, lkey, va, len)
    }

    /// A queue pair in the RESET state. One of XRC is an initiator; its peer is [an XRC domain's
    /// target](super::XrcDomain::target).
    ///
    /// # Errors
    /// The limits are more than the device has, or a queue is another device's, or an XRC domain's.
    pub fn queue_pair(&self, options: QueuePairOptions<'_>) -> Result<QueuePair, DeviceError> {
        self.check(&options)?;
        let engine = self.device.engine();
        let queue_pair = engine
            .add_queue_pair(|qpn| self.make(&options, qpn))
            .map_err(DeviceError::system("drawing a queue pair number"))?;
        Ok(QueuePair::new(queue_pair, Arc::clone(&self.device)))
    }

    /// Queue pair 1, the general services interface, in RTS: management datagrams, sent to the peers' queue pair 1
    /// and received at every address that is in use by then. Its transport is UD whatever `options` say; its queue key
    /// is [`GSI_QKEY`], which requests name, too.
    ///
    /// It has one owner: as long as that one exists there is no other.
    ///
    /// # Errors
    /// As [`queue_pair`](Self::queue_pair), or somebody has it: of processes that share a port, the one of slot 0.
    pub fn gsi_queue_pair(&self, options: QueuePairOptions<'_>) -> Result<QueuePair, DeviceError> {
        let options = QueuePairOptions { transport: Transport::Ud, ..options };
        self.check(&options)?;
        let queue_pair =
            self.device.engine().add_gsi(|qpn| self.make(&options, qpn)).ok_or(DeviceError::Gsi)?;
        let queue_pair = QueuePair::new(queue_pair, Arc::clone(&self.device));
        if self.device.is_sealed_only() {
            queue_pair.seal_datagrams()?;
        }
        let to = |state| Attributes { state: Some(state), ..Attributes::default() };
        let init = Attributes { pkey_index: Some(0), port: Some(1), qkey: Some(GSI_QKEY), ..to(State::Init) };
        let sq_psn = Some(Psn::default());
        for step in [init, to(State::ReadyToReceive), Attributes { sq_psn, ..to(State::ReadyToSend) }] {
            queue_pair.set_attributes(step, None)?;
        }
        Ok(queue_pair)
    }

    fn check(&self, options: &QueuePairOptions<'_>) -> Result<(), DeviceError> {
        let QueuePairOptions { send_queue, recv_queue, shared, .. } = *options;
        let own = |queue: &CompletionQueue| queue.is_of(&self.device);
        if !own(send_queue) || !own(recv_queue) || !shared.is_none_or(|queue| queue.is_of(&self.device)) {
            return Err(DeviceError::OtherDevice);
        }
        if shared.is_some_and(|queue| queue.srqn().is_some()) {
            return Err(DeviceError::XrcQueue);
        }
        within("send requests", options.max_send_requests, ATTRIBUTES.max_qp_wr)?;
        within("receive requests", options.max_recv_requests, ATTRIBUTES.max_qp_wr)
    }

    /// The engine's queue pair of that number.
    fn make(&self, options: &QueuePairOptions<'_>, qpn: Qpn) -> engine::QueuePair {
        let limits = Limits { max_send_requests: options.max_send_requests, window: WINDOW };
        let receives = match options.shared {
            Some(queue) => Receives::Shared(Arc::clone(queue.engine())),
            None => Receives::Own(ReceiveQueue::new(options.max_recv_requests)),
        };
        engine::QueuePair::new(
            qpn,
            protocol(options.transport, limits, qpn),
            receives,
            DomainMemory::new(Arc::clone(&self.keys)),
            Some([options.send_queue.engine(), options.recv_queue.engine()]),
            self.device.engine().shared(),
        )
    }

    /// A shared receive queue for `capacity` requests.
    ///
    /// # Errors
    /// The device has no queue of that size.
    pub fn shared_receive_queue(&self, capacity: usize) -> Result<SharedReceiveQueue, DeviceError> {
        within("requests of a shared receive queue", capacity, ATTRIBUTES.max_srq_wr)?;
        let number = self.device.shared_queue_number();
        let queue = engine::SharedReceiveQueue::new(number, capacity, self.device.engine().shared());
        Ok(SharedReceiveQueue::new(Arc::new(queue), Arc::clone(&self.device)))
    }

    /// An address handle. The local address is in use from now on.
    ///
    /// # Errors
    /// The path isn't possible, or there are too many.
    pub fn address_handle(&self, path: PathAttributes) -> Result<AddressHandle, DeviceError> {
        let path = path.resolve(&self.device, Transport::Ud)?;
        let limit = ATTRIBUTES.max_ah;
        let id = self.device.engine().shared().addresses.add(path, &self.keys, limit);
        let id = id.ok_or(DeviceError::Limit { what: "address handles", asked: limit + 1, limit })?;
        Ok(AddressHandle::new(id, Arc::clone(&self.device)))
    }
}

/// The protocol's side of a new queue pair.
fn protocol(transport: Transport, limits: Limits, qpn: Qpn) -> Protocol<DomainMemory> {
    match transport {
        Transport::Rc => Protocol::Rc(rc::QueuePair::new(limits)),
        // Its peer is an XRC domain's target.
        Transport::Xrc => Protocol::Rc(rc::QueuePair::xrc_initiator(limits)),
        Transport::Uc => Protocol::Uc(uc::QueuePair::new(limits)),
        // What fits is known with the address handle.
        Transport::Ud => Protocol::Ud(ud::QueuePair::new(limits, qpn, Mtu::B4096)),
    }
}

impl core::fmt::Debug for ProtectionDomain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ProtectionDomain").field("regions", &self.keys.len()).finish_non_exhaustive()
    }
}

//! What two ends share: SAs in both directions, and their successors while they are replaced.

use super::database::SpiError;
use super::inbound::{AssociationId, InboundSa, InboundStatus};
use super::peer::Peer;
use crate::engine::Shared;
use crate::memory::ProcessMark;
use rocev2_esp::{Inbound, Outbound, Spi};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Who opens what is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// An embedded device: it doesn't look at the ICRC, of which the tag proves more.
    Embedded,
    /// A kernel, or a card, that opens packets for a RoCE device which checks the ICRC.
    Kernel,
}

/// What packets that leave are sealed with.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) sa: Arc<Outbound>,
    pub(super) receiver: Receiver,
}

/// SAs in both directions.
pub(crate) struct Association {
    id: AssociationId,
    shared: Arc<Shared>,
    /// A child of `fork` has a copy of all numbers, and must seal nothing.
    process: ProcessMark,
    /// SPIs that were allocated, and the SAs of those that have one, in that order.
    inbound: Mutex<Vec<(Spi, Option<Arc<InboundSa>>)>>,
    outbound: Mutex<Option<Current>>,
    /// How often the latter was replaced.
    generation: AtomicU64,
    /// The UDP port at which the peer's kernel opens packets, where that isn't told by each way there.
    port: OnceLock<NonZeroU16>,
}

impl Association {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            id: AssociationId::next(),
            shared: Arc::clone(shared),
            process: ProcessMark::new(),
            inbound: Mutex::default(),
            outbound: Mutex::default(),
            generation: AtomicU64::new(0),
            port: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> AssociationId {
        self.id
    }

    pub(crate) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    pub(crate) fn allocate_spi(&self) -> Result<Spi, SpiError> {
        let spi = self.shared.database.allocate(self.id, &*self.shared.host)?;
        crate::lock(&self.inbound).push((spi, None));
        Ok(spi)
    }

    pub(crate) fn install_inbound(&self, sa: Inbound) -> Result<(), SpiError> {
        let spi = sa.spi();
        let sa = self.shared.database.install(self.id, sa)?;
        for (_, slot) in crate::lock(&self.inbound).iter_mut().filter(|(allocated, _)| *allocated == spi) {
            *slot = Some(Arc::clone(&sa));
        }
        Ok(())
    }

    pub(crate) fn release(&self, spi: Spi) {
        self.shared.database.release(self.id, spi);
        crate::lock(&self.inbound).retain(|(other, _)| *other != spi);
    }

    pub(crate) fn inbound(&self) -> Vec<InboundStatus> {
        let inbound = crate::lock(&self.inbound);
        let sas = inbound.iter().filter_map(|(_, sa)| sa.as_ref());
        sas.map(|sa| sa.status()).collect()
    }

    /// Has packets that leave from now on sealed by `sa`.
    pub(crate) fn install_outbound(&self, sa: Outbound, receiver: Receiver) {
        let mut outbound = crate::lock(&self.outbound);
        if outbound.replace(Current { sa: Arc::new(sa), receiver }).is_some() {
            self.shared.counters.rekeyed();
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Has it seal datagrams for `peer`, and open that one's.
    pub(crate) fn serve(self: &Arc<Self>, peer: Peer) {
        self.shared.peers.set(peer, self);
    }

    /// Has its packets go to a kernel's UDP port, and, where it is for a peer's datagrams, for all at that address.
    pub(crate) fn set_kernel(self: &Arc<Self>, port: NonZeroU16) {
        // There is one kernel at an address, and one port of its for as long as an association lives.
        let _ = self.port.set(port);
        self.shared.peers.widen(self);
    }

    /// Where its packets go, if not where the way of each queue pair leads.
    pub(super) fn port(&self) -> Option<NonZeroU16> {
        self.port.get().copied()
    }

    /// Seals and opens nothing any more.
    pub(crate) fn close(&self) {
        crate::lock(&self.outbound).take();
        self.generation.fetch_add(1, Ordering::Release);
        self.shared.peers.forget(self.id);
        for (spi, _) in crate::lock(&self.inbound).drain(..) {
            self.shared.database.release(self.id, spi);
        }
    }

    /// The SPI that packets leave with, and how many numbers of its SA are taken.
    pub(crate) fn outbound(&self) -> Option<(Spi, u64)> {
        crate::lock(&self.outbound).as_ref().map(|current| (current.sa.spi(), current.sa.taken()))
    }

    /// Whether this is the process that its numbers belong to.
    pub(super) fn may_seal(&self) -> bool {
        self.process.holds()
    }

    /// How often the SA for packets that leave was replaced.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The SA for packets that leave, and who opens them.
    pub(super) fn current(&self) -> Option<(Arc<Outbound>, Receiver)> {
        crate::lock(&self.outbound).as_ref().map(|current| (Arc::clone(&current.sa), current.receiver))
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        self.close();
    }
}

impl core::fmt::Debug for Association {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Association")
            .field("inbound", &self.inbound())
            .field("outbound", &self.outbound())
            .finish_non_exhaustive()
    }
}

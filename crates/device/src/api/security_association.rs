//! Security associations.

use super::DeviceError;
use super::device::DeviceState;
use crate::engine::{self, Peer, Receiver};
use rocev2_esp::{Inbound, Outbound, Spi};
use std::num::NonZeroU16;
use std::sync::Arc;

/// What seals the packets of queue pairs, and opens their peers': ESP in UDP ([`esp`](crate::esp)), a security
/// association (SA) in each direction.
///
/// The device knows no TLS, and negotiates nothing: whoever has agreed on keys with the peer allocates an SPI here,
/// tells the peer, and installs the two SAs. Queue pairs are bound by
/// [`QueuePair::seal_by`](crate::QueuePair::seal_by); several may share an association.
///
/// To re-key under traffic, each side allocates another SPI, installs its new inbound SA, tells the peer, then
/// installs the new outbound SA once the peer has said that it is ready for it, and releases the old SPI when nothing
/// under way needs it any more.
pub struct SecurityAssociation {
    association: Arc<engine::Association>,
}

/// What an SA for packets that arrive has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaStatus {
    /// Its SPI.
    pub spi: Spi,
    /// Packets: those that it has opened, or for which it has taken numbers.
    pub packets: u64,
}

impl SecurityAssociation {
    pub(super) fn new(device: &Arc<DeviceState>) -> Self {
        Self { association: Arc::new(engine::Association::new(device.engine().shared())) }
    }

    /// The engine's association, if it is that device's.
    pub(super) fn of(&self, device: &Arc<DeviceState>) -> Option<Arc<engine::Association>> {
        self.association.is_of(device.engine().shared()).then(|| Arc::clone(&self.association))
    }

    /// Draws an SPI for packets that arrive, at random. It is this association's until it is released.
    ///
    /// # Errors
    /// The device has all that it can have.
    pub fn allocate_spi(&self) -> Result<Spi, DeviceError> {
        Ok(self.association.allocate_spi()?)
    }

    /// Opens packets with the SPI of `sa` from now on, beside what is opened already.
    ///
    /// # Errors
    /// The SPI wasn't allocated here, or has an SA.
    pub fn install_inbound(&self, sa: Inbound) -> Result<(), DeviceError> {
        Ok(self.association.install_inbound(sa)?)
    }

    /// Seals packets with `sa` from now on, instead of the one before.
    pub fn install_outbound(&self, sa: Outbound, receiver: Receiver) {
        self.association.install_outbound(sa, receiver);
    }

    /// Opens nothing with this SPI any more, and gives it back.
    pub fn release(&self, spi: Spi) {
        self.association.release(spi);
    }

    /// Has it seal datagrams for `peer`, instead of the one before, and open that one's: those of queue pairs whose
    /// [datagrams are sealed](crate::QueuePair::seal_datagrams). Where its receiver is a kernel, it has to be told
    /// [its port](Self::for_kernel), too.
    pub fn for_datagrams(&self, peer: Peer) {
        self.association.serve(peer);
    }

    /// Has its packets go to this UDP port, where the peer's kernel opens them, whatever port a queue pair's peer has:
    /// for good, and before there is an SA for them. A kernel opens and seals for all devices at its address, so that
    /// [datagrams](Self::for_datagrams) for any of them are sealed by it, and may be from any of them.
    pub fn for_kernel(&self, port: NonZeroU16) {
        self.association.set_kernel(port);
    }

    /// Ends it: nothing is sealed and opened any more, and what queue pairs still have to send is never sent in clear.
    pub fn close(&self) {
        self.association.close();
    }

    /// The SAs for packets that arrive, oldest first.
    #[must_use]
    pub fn inbound(&self) -> Vec<SaStatus> {
        let status = |it: engine::InboundStatus| SaStatus { spi: it.spi, packets: it.opened };
        self.association.inbound().into_iter().map(status).collect()
    }

    /// The SA for packets that leave, if there is one. At [`REKEY_AFTER`](rocev2_esp::outbound::REKEY_AFTER) packets,
    /// it is time for a successor.
    #[must_use]
    pub fn outbound(&self) -> Option<SaStatus> {
        self.association.outbound().map(|(spi, packets)| SaStatus { spi, packets })
    }
}

impl core::fmt::Debug for SecurityAssociation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SecurityAssociation").field(&self.association).finish()
    }
}

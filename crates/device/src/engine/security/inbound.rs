//! An SA for packets that arrive, and whose it is.

use super::refusal::Refusal;
use rocev2_esp::{Inbound, Spi};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names an association in this process. Not a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AssociationId(u64);

impl AssociationId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What an SA for packets that arrive has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboundStatus {
    /// Its SPI.
    pub(crate) spi: Spi,
    /// How many packets it has opened.
    pub(crate) opened: u64,
}

/// An SA for packets that arrive, and whose it is.
pub(crate) struct InboundSa {
    association: AssociationId,
    spi: Spi,
    /// How many packets it has opened.
    opened: AtomicU64,
    sa: Mutex<Inbound>,
}

impl InboundSa {
    pub(super) fn new(association: AssociationId, sa: Inbound) -> Self {
        Self { association, spi: sa.spi(), opened: AtomicU64::new(0), sa: Mutex::new(sa) }
    }

    pub(super) fn association(&self) -> AssociationId {
        self.association
    }

    pub(super) fn spi(&self) -> Spi {
        self.spi
    }

    pub(super) fn status(&self) -> InboundStatus {
        InboundStatus { spi: self.spi, opened: self.opened.load(Ordering::Relaxed) }
    }

    /// Opens a datagram where it stands.
    pub(super) fn open<'d>(&self, datagram: &'d mut [u8]) -> Result<&'d [u8], Refusal> {
        let opened = crate::lock(&self.sa).open(datagram)?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(opened.packet)
    }
}

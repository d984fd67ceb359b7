//! SAs for packets that arrive, by SPI.

use super::inbound::{AssociationId, InboundSa};
use super::refusal::Refusal;
use crate::engine::Host;
use rocev2_esp::{Inbound, Spi};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

/// SPIs that a device has at most: a quarter of those that there are at a port which takes plain packets too, so that
/// a free one is found soon.
const MAX_SPIS: usize = 1 << 20;

/// Why an SPI or its SA couldn't be had.
#[derive(Debug, thiserror::Error)]
pub enum SpiError {
    /// The device has as many as it can have.
    #[error("the device has all {MAX_SPIS} SPIs that it can have")]
    TooMany,
    /// The SPI wasn't allocated for this association, or was released.
    #[error("{0:?} wasn't allocated for this association")]
    NotAllocated(Spi),
    /// It has an SA already: another key needs another SPI.
    #[error("{0:?} has an SA already: another key needs another SPI")]
    InUse(Spi),
    /// The system has no randomness.
    #[error("drawing an SPI: {0}")]
    Random(#[from] io::Error),
}

/// Whom an SPI was allocated for, and its SA once the keys are known.
struct Slot {
    owner: AssociationId,
    sa: Option<Arc<InboundSa>>,
}

/// All SPIs of a device.
#[derive(Default)]
pub(crate) struct Database(RwLock<HashMap<Spi, Slot>>);

impl Database {
    /// Draws a free SPI from the host's generator. Nothing is opened by it yet.
    pub(crate) fn allocate(&self, owner: AssociationId, host: &dyn Host) -> Result<Spi, SpiError> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SPIS {
            return Err(SpiError::TooMany);
        }
        loop {
            let mut bytes = [0; 5];
            host.random(&mut bytes)?;
            let [any, random @ ..] = bytes;
            let spi = Spi::for_shared_port(u32::from_ne_bytes(random), host.slot().unwrap_or(any));
            if let Entry::Vacant(place) = slots.entry(spi) {
                place.insert(Slot { owner, sa: None });
                return Ok(spi);
            }
        }
    }

    /// Gives an allocated SPI its SA.
    pub(super) fn install(&self, owner: AssociationId, sa: Inbound) -> Result<Arc<InboundSa>, SpiError> {
        let spi = sa.spi();
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get_mut(&spi).filter(|slot| slot.owner == owner);
        let slot = slot.ok_or(SpiError::NotAllocated(spi))?;
        if slot.sa.is_some() {
            return Err(SpiError::InUse(spi));
        }
        let sa = Arc::new(InboundSa::new(owner, sa));
        slot.sa = Some(Arc::clone(&sa));
        Ok(sa)
    }

    /// Forgets an SPI: what still arrives with it is unknown.
    pub(super) fn release(&self, owner: AssociationId, spi: Spi) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if slots.get(&spi).is_some_and(|slot| slot.owner == owner) {
            slots.remove(&spi);
        }
    }

    fn get(&self, spi: Spi) -> Option<Arc<InboundSa>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&spi)?.sa.as_ref().map(Arc::clone)
    }
}

/// Opens what arrives at one port. Packets come in runs: the SA of the last one is remembered for a batch.
#[derive(Default)]
pub(crate) struct Opener {
    last: Option<Arc<InboundSa>>,
}

impl Opener {
    /// Whether a datagram is sealed: if not, it is a plain packet, or none.
    pub(crate) fn is_sealed(datagram: &[u8]) -> bool {
        datagram.first().is_some_and(|first| Spi::is_sealed(*first))
    }

    /// Opens a sealed datagram where it stands: the packet, BTH through ICRC, and whose it is.
    pub(crate) fn open<'d>(
        &mut self,
        database: &Database,
        datagram: &'d mut [u8],
    ) -> Result<(&'d [u8], AssociationId), Refusal> {
        let spi = Spi::of(datagram).ok_or(Refusal::Length)?;
        if self.last.as_ref().is_none_or(|sa| sa.spi() != spi) {
            self.last = Some(database.get(spi).ok_or(Refusal::UnknownSpi)?);
        }
        let sa = self.last.as_ref().ok_or(Refusal::UnknownSpi)?;
        Ok((sa.open(datagram)?, sa.association()))
    }

    /// Forgets the last SA, which may be released before anything else arrives.
    pub(crate) fn finish_batch(&mut self) {
        self.last = None;
    }
}

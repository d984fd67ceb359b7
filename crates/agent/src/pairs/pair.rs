//! One pair: its security association, and when it needs other keys.

use super::protocol::Material;
use core::time::Duration;
use rocev2::UDP_PORT;
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi};
use rocev2_device::{Receiver, SecurityAssociation};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// How long packets that were sealed with the key before may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// A pair, whose keys may still be under way.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) association: Arc<SecurityAssociation>,
    /// Its name, the first SPI by which packets are taken.
    pub(super) name: Spi,
    /// By which packets of the newest key come.
    newest: Spi,
    /// The one before, and since when nothing new comes by it.
    old: Option<(Spi, Option<Instant>)>,
    /// A new SPI whose key is under way.
    pub(super) asked: bool,
    /// Packets both ways have keys.
    pub(super) is_ready: bool,
    /// A kernel opens and seals the peer's, and those of all queue pairs at its address.
    pub(super) is_kernel: bool,
}

impl Pair {
    /// One that has no keys yet, and takes its first packets by that SPI.
    pub(super) fn new(association: Arc<SecurityAssociation>, spi: Spi) -> Self {
        Self {
            association,
            name: spi,
            newest: spi,
            old: None,
            asked: false,
            is_ready: false,
            is_kernel: false,
        }
    }

    /// Whether the peer needs a new key: the SPI by which packets under it will be taken.
    pub(super) fn look(&mut self, now: Instant, limit: u64) -> Option<Spi> {
        let inbound = self.association.inbound();
        let packets = inbound.iter().find(|sa| sa.spi == self.newest).map_or(0, |sa| sa.packets);
        match &mut self.old {
            Some((spi, since)) => {
                if packets > 0 && now.duration_since(*since.get_or_insert(now)) >= LINGER {
                    self.association.release(*spi);
                    self.old = None;
                }
                None
            }
            None if packets >= limit && !self.asked => self.association.allocate_spi().ok(),
            None => None,
        }
    }

    pub(super) fn take_inbound(&mut self, spi: u32, key: &Material) -> Result<(), ()> {
        let spi = Spi::new(spi).ok_or(())?;
        let sa = Inbound::new(spi, esp_key(key)?, DEFAULT_WINDOW);
        self.association.install_inbound(sa).map_err(drop)?;
        if spi != self.newest {
            self.old = Some((std::mem::replace(&mut self.newest, spi), None));
            self.asked = false;
        }
        Ok(())
    }

    pub(super) fn take_outbound(
        &mut self,
        spi: u32,
        key: &Material,
        numbers: u64,
        esp_port: Option<NonZeroU16>,
    ) -> Result<(), ()> {
        let inner = Inner { source_port: UDP_PORT, checksum: None };
        let sa = Outbound::with_numbers(Spi::new(spi).ok_or(())?, esp_key(key)?, inner, 1, numbers);
        let receiver = match esp_port {
            Some(port) => {
                self.association.for_kernel(port);
                self.is_kernel = true;
                Receiver::Kernel
            }
            None => Receiver::Embedded,
        };
        self.association.install_outbound(sa, receiver);
        Ok(())
    }

    /// Seals and opens by a key that nobody else has: for queue pairs of one device that are connected to each other.
    pub(super) fn take_own_key(&mut self, spi: Spi, numbers: u64) -> Result<(), String> {
        let mut bytes = Zeroizing::new(vec![0; Algorithm::Aes256Gcm.material_len()]);
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        let key = Material::new(bytes);
        let refused = |()| "the cryptographic library refuses a key".to_owned();
        self.take_inbound(spi.number(), &key).map_err(refused)?;
        self.take_outbound(spi.number(), &key, numbers, None).map_err(refused)
    }
}

fn esp_key(material: &Material) -> Result<Key, ()> {
    let algorithms = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];
    let fits = |algorithm: &Algorithm| algorithm.material_len() == material.bytes().len();
    let algorithm = algorithms.into_iter().find(fits).ok_or(())?;
    Key::new(algorithm, material.bytes()).map_err(drop)
}

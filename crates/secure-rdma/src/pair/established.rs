//! A pair that has keys.

use super::PairError;
use super::agent::PairAgent;
use super::channel::Channel;
use super::message::{self, Message};
use crate::seal::{PacketChain, PacketKeys};
use crate::tls::Shown;
use rdma_verbs::esp::{Algorithm, Spi};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Two devices whose agents have met. When it is dropped, the peer's agent learns that it is over.
#[derive(Debug)]
pub struct Pair {
    pub(super) agent: Arc<PairAgent>,
    pub(super) channel: Channel,
    pub(super) keys: PacketKeys,
    /// The SPI by which the peer's device takes the first packets.
    pub(super) spi: Spi,
    /// The UDP port at which its kernel does, if that does it.
    pub(super) esp_port: Option<NonZeroU16>,
    pub(super) peer: IpAddr,
    pub(super) shown: Shown,
}

/// What the peer's agent says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer's device takes packets under this side's next key, by this SPI.
    Spi(Spi),
}

/// A key of a device's, in bytes, for who hands it to the device.
#[derive(Debug)]
pub struct NextKey {
    /// Which of the keys of its direction it is.
    pub epoch: u64,
    /// What it is for.
    pub algorithm: Algorithm,
    /// Key, then salt. Erased when it is dropped.
    pub material: Zeroizing<Vec<u8>>,
}

impl NextKey {
    fn of(chain: &mut PacketChain) -> Result<Self, PairError> {
        let epoch = chain.epoch();
        let (algorithm, material) = chain.next_material()?;
        Ok(Self { epoch, algorithm, material })
    }
}

impl Pair {
    /// The SPI by which the peer's device takes the first packets.
    #[must_use]
    pub const fn spi(&self) -> Spi {
        self.spi
    }

    /// The UDP port at which the peer's kernel opens packets, for all queue pairs at its address; `None` where its
    /// device does.
    #[must_use]
    pub const fn esp_port(&self) -> Option<NonZeroU16> {
        self.esp_port
    }

    /// The next key of what arrives.
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn next_inbound(&mut self) -> Result<NextKey, PairError> {
        NextKey::of(&mut self.keys.peer)
    }

    /// The next key of what leaves.
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn next_outbound(&mut self) -> Result<NextKey, PairError> {
        NextKey::of(&mut self.keys.own)
    }

    /// Tells the peer's agent that this side's device takes packets, now that it has the first key of what arrives.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn ready(&mut self) -> Result<(), PairError> {
        self.channel.send(Message::Ready).await
    }

    /// Tells the peer's agent that this side's device takes packets under the peer's key `epoch` by that SPI.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn tell_spi(&mut self, epoch: u64, spi: Spi) -> Result<(), PairError> {
        self.channel.send(Message::Spi { epoch, spi: spi.number() }).await
    }

    /// What the peer's agent says next. Cancelling loses nothing.
    ///
    /// # Errors
    /// The connection has ended, or the peer says what makes no sense.
    pub async fn next(&mut self) -> Result<Heard, PairError> {
        match self.channel.receive().await? {
            Message::Spi { epoch, spi } if epoch == self.keys.own.epoch() => {
                Ok(Heard::Spi(message::spi(spi)?))
            }
            _ => Err(PairError::Protocol),
        }
    }

    /// Whether the peer would get keys by the rules as they are now.
    ///
    /// # Errors
    /// It would not, or the rules can't be read.
    pub async fn judge(&self) -> Result<(), PairError> {
        self.agent.rules_now().await?.vet(&self.shown, self.peer)
    }
}

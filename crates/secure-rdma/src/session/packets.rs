//! A session whose packets are sealed: its security association, and new keys for it under way.
//!
//! Each side, as the receiver, sees to it that its peer has a new key in time: it derives it, takes packets under it by
//! a new SPI, and says so (`Spi`). The peer seals with it from the moment that it reads that. The old SPI is given back
//! some time after the first packet under the new one.

use super::association::{Association, Way};
use super::sharing::Offered;
use super::{Local, SealedBy, SessionOptions};
use crate::SessionError;
use crate::control::{PacketPolicy, SealPolicy};
use crate::seal::{Limits, PacketChain};
use rdma_verbs::Receiver;
use rdma_verbs::esp::Spi;
use rdma_verbs::esp::outbound::REKEY_AFTER;
use std::time::Duration;
use tokio::time::Instant;

/// How often a session looks at how much has been sealed.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long packets that were sealed with the key before may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// What a side wants of the data path.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) seal: SealPolicy,
    pub(super) packets: Option<PacketPolicy>,
}

impl Wish {
    /// What this side wants, as far as its device can, or the kernel for it; and what seals packets then.
    pub(super) async fn new(local: &Local<'_>) -> Result<(Self, Option<Offered>), SessionError> {
        let SessionOptions { seal, packets, .. } = local.options;
        let wanted = packets.filter(|_| seal != SealPolicy::Off);
        let required = wanted == Some(PacketPolicy::Required);
        let offered = match wanted {
            Some(_) => match Offered::new(local, required).await {
                Err(reason) if required => return Err(reason),
                offered => offered.ok(),
            },
            None => None,
        };
        Ok((Self { seal, packets: wanted.filter(|_| offered.is_some()) }, offered))
    }

    /// How the data path of two sides that want this is sealed.
    pub(super) fn agree(self, peer: Self) -> Result<SealedBy, SessionError> {
        use SealPolicy::{Off, Optional, Required};
        let sealed = match (self.seal, peer.seal) {
            (Required, Off) | (Off, Required) => {
                return Err(SessionError::Seal { own: self.seal, peer: peer.seal });
            }
            (Off, Off | Optional) | (Optional, Off) => false,
            (Required | Optional, Required | Optional) => true,
        };
        match (self.packets, peer.packets) {
            (Some(_), Some(_)) if sealed => Ok(SealedBy::Packets),
            (Some(PacketPolicy::Required), _) => Err(SessionError::NoPackets { who: "the peer" }),
            (_, Some(PacketPolicy::Required)) => Err(SessionError::NoPackets { who: "this side" }),
            _ if sealed => Ok(SealedBy::Messages),
            _ => Ok(SealedBy::Nothing),
        }
    }
}

/// What gives an association's packets new keys.
#[derive(Debug)]
pub(super) struct Rekeying {
    association: Association,
    /// Keys of what this side sends, and of what the peer does.
    sealing: PacketChain,
    opening: PacketChain,
    way: Way,
    /// Packets after which the peer gets a new key.
    limit: u64,
    /// By which packets of the newest key come, and that key's number.
    newest: (u64, Spi),
    /// The SPI before, and since when nothing new comes by it.
    old: Option<(Spi, Option<Instant>)>,
}

impl Rekeying {
    /// Installs the first key of both directions, of what this side sends and of what the peer does, in an association
    /// that takes packets by the SPI beside it; `peers` is the SPI by which the peer takes packets.
    pub(super) fn new(
        (association, spi): (Association, Spi),
        peers: Spi,
        [sealing, opening]: [PacketChain; 2],
        way: Way,
        limits: Limits,
    ) -> Result<Self, SessionError> {
        let limit = limits.records.clamp(1, REKEY_AFTER);
        let newest = (opening.epoch(), spi);
        let mut new = Self { association, sealing, opening, way, limit, newest, old: None };
        new.take_by(spi)?;
        new.seal_for(peers)?;
        Ok(new)
    }

    pub(super) fn association(&self) -> &Association {
        &self.association
    }

    /// Looks whether the peer needs a new key. Returns the newest that it has to seal with, by number, and the SPI by
    /// which its packets are taken, if that isn't the first.
    pub(super) fn look(&mut self, now: Instant) -> Result<Option<(u64, Spi)>, SessionError> {
        let packets = self.association.packets(self.newest.1)?;
        if let Some((spi, since)) = &mut self.old {
            if packets > 0 && now.duration_since(*since.get_or_insert(now)) >= LINGER {
                self.association.release(*spi)?;
                self.old = None;
            }
        } else if packets >= self.limit {
            let spi = self.association.allocate_spi()?;
            let epoch = self.opening.epoch();
            self.take_by(spi)?;
            let (_, before) = core::mem::replace(&mut self.newest, (epoch, spi));
            self.old = Some((before, None));
        }
        Ok(Some(self.newest).filter(|(epoch, _)| *epoch > 0))
    }

    /// The peer takes packets of this side's next key by `spi`. Where sessions share, others may have said so before.
    pub(super) fn told(&mut self, epoch: u64, spi: Spi) -> Result<(), SessionError> {
        let next = self.sealing.epoch();
        if epoch < next && self.may_be_shared() {
            return Ok(());
        }
        if epoch != next {
            return Err(SessionError::Protocol { what: "an SPI for another key than the next" });
        }
        self.seal_for(spi)
    }

    /// Whether a kernel seals or opens its packets.
    fn may_be_shared(&self) -> bool {
        self.association.esp_port().is_some() || self.way.receiver == Receiver::Kernel
    }

    /// Takes packets under the peer's next key by `spi`.
    fn take_by(&mut self, spi: Spi) -> Result<(), SessionError> {
        self.association.take_by(spi, &mut self.opening, self.way)
    }

    /// Seals packets with this side's next key.
    fn seal_for(&mut self, spi: Spi) -> Result<(), SessionError> {
        self.association.seal_for(spi, &mut self.sealing, self.way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PacketPolicy as Packets;
    use SealPolicy::{Off, Optional, Required};

    #[test]
    fn it_is_packets_where_both_can_and_never_less_than_either_requires() {
        let wish = |seal, packets| Wish { seal, packets };
        let (offered, required) = (Some(Packets::Offered), Some(Packets::Required));
        for (a, b, expected) in [
            (wish(Required, offered), wish(Required, offered), Some(SealedBy::Packets)),
            (wish(Optional, offered), wish(Optional, offered), Some(SealedBy::Packets)),
            (wish(Required, required), wish(Optional, offered), Some(SealedBy::Packets)),
            // An older peer, or another device.
            (wish(Required, offered), wish(Required, None), Some(SealedBy::Messages)),
            (wish(Required, required), wish(Required, None), None),
            (wish(Optional, offered), wish(Off, None), Some(SealedBy::Nothing)),
            (wish(Required, offered), wish(Off, None), None),
            (wish(Required, required), wish(Off, None), None),
            // What no side of this software says: still no session in clear.
            (wish(Optional, required), wish(Off, None), None),
            (wish(Off, None), wish(Off, None), Some(SealedBy::Nothing)),
        ] {
            for (own, peer) in [(a, b), (b, a)] {
                assert_eq!(own.agree(peer).ok(), expected);
            }
        }
    }
}

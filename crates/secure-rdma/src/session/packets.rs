//! A session whose packets are sealed: its security association, and new keys for it under way.
//!
//! Each side, as the receiver, sees to it that its peer has a new key in time: it derives it, takes packets under it by
//! a new SPI, and says so (`Spi`). The peer seals with it from the moment that it reads that. The old SPI is given back
//! some time after the first packet under the new one.

use super::{SealedBy, SessionOptions};
use crate::SessionError;
use crate::control::{PacketPolicy, Record, SealPolicy};
use crate::seal::{Limits, PacketKeys};
use rdma_verbs::esp::outbound::REKEY_AFTER;
use rdma_verbs::esp::replay::DEFAULT_WINDOW;
use rdma_verbs::esp::{Inbound, Inner, Outbound, Spi};
use rdma_verbs::{Device, Receiver, SecurityAssociation};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often a session looks at how much has been sealed.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// How long packets that were sealed with the key before may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// Numbers of one key. A peer that gives no new key in time makes this side fall silent: 16 times as many as it takes
/// packets before it does, some minutes at the fastest.
const NUMBERS: u64 = 16 * REKEY_AFTER;

/// What a side wants of the data path.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) seal: SealPolicy,
    pub(super) packets: Option<PacketPolicy>,
}

impl Wish {
    /// What this side wants, as far as its device can.
    pub(super) fn new(device: &Arc<Device>, options: SessionOptions) -> Result<Self, SessionError> {
        let SessionOptions { seal, packets, .. } = options;
        let wanted = packets.filter(|_| seal != SealPolicy::Off);
        let packets = match (wanted, wanted.and_then(|_| device.security_association().ok())) {
            (Some(PacketPolicy::Required), None) => return Err(SessionError::NoPackets { who: "this side" }),
            (wanted, Some(_)) => wanted,
            (_, None) => None,
        };
        Ok(Self { seal, packets })
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

/// A security association, and the SPI by which it will take packets.
pub(super) struct Offered {
    pub(super) association: SecurityAssociation,
    pub(super) spi: Spi,
}

impl Offered {
    pub(super) fn new(device: &Arc<Device>) -> Result<Self, SessionError> {
        let association = device.security_association()?;
        let spi = association.allocate_spi().map_err(rdma_verbs::Error::from)?;
        Ok(Self { association, spi })
    }
}

/// What gives a session's packets new keys.
pub(super) struct Rekeying {
    association: SecurityAssociation,
    keys: PacketKeys,
    /// The UDP port that the headers inside name.
    source_port: u16,
    /// Packets after which the peer gets a new key.
    limit: u64,
    /// By which packets of the newest key come.
    newest: Spi,
    /// The one before, and since when nothing new comes by it.
    old: Option<(Spi, Option<Instant>)>,
}

impl Rekeying {
    /// Installs the first key of both directions; `peers` is the SPI by which the peer takes packets.
    pub(super) fn new(
        offered: Offered,
        peers: Spi,
        keys: PacketKeys,
        source_port: u16,
        limits: Limits,
    ) -> Result<Self, SessionError> {
        let Offered { association, spi } = offered;
        let limit = limits.records.clamp(1, REKEY_AFTER);
        let mut new = Self { association, keys, source_port, limit, newest: spi, old: None };
        new.take_by(spi)?;
        new.seal_for(peers)?;
        Ok(new)
    }

    pub(super) fn association(&self) -> &SecurityAssociation {
        &self.association
    }

    /// Looks whether the peer needs a new key: what to tell it.
    pub(super) fn look(&mut self, now: Instant) -> Result<Option<Record>, SessionError> {
        let newest = self.association.inbound().into_iter().find(|sa| sa.spi == self.newest);
        let packets = newest.map_or(0, |sa| sa.packets);
        match &mut self.old {
            Some((spi, since)) => {
                if packets > 0 && now.duration_since(*since.get_or_insert(now)) >= LINGER {
                    self.association.release(*spi);
                    self.old = None;
                }
                Ok(None)
            }
            None if packets >= self.limit => {
                let spi = self.association.allocate_spi().map_err(rdma_verbs::Error::from)?;
                let epoch = self.keys.peer.epoch();
                self.take_by(spi)?;
                self.old = Some((core::mem::replace(&mut self.newest, spi), None));
                Ok(Some(Record::Spi { epoch, spi }))
            }
            None => Ok(None),
        }
    }

    /// The peer takes packets of this side's next key by `spi`.
    pub(super) fn told(&mut self, epoch: u64, spi: Spi) -> Result<(), SessionError> {
        if epoch != self.keys.own.epoch() {
            return Err(SessionError::Protocol { what: "an SPI for another key than the next" });
        }
        self.seal_for(spi)
    }

    /// Takes packets under the peer's next key by `spi`.
    fn take_by(&mut self, spi: Spi) -> Result<(), SessionError> {
        let sa = Inbound::new(spi, self.keys.peer.next_key()?, DEFAULT_WINDOW);
        Ok(self.association.install_inbound(sa).map_err(rdma_verbs::Error::from)?)
    }

    /// Seals packets with this side's next key.
    fn seal_for(&mut self, spi: Spi) -> Result<(), SessionError> {
        let inner = Inner { source_port: self.source_port, checksum: None };
        let sa = Outbound::with_numbers(spi, self.keys.own.next_key()?, inner, 1, NUMBERS);
        self.association.install_outbound(sa, Receiver::Embedded);
        Ok(())
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

//! Keys for the packets of two devices, whatever their queue pairs are: those of programs that know nothing of it.
//!
//! They follow the schedule of a session's packets ([`packets`](super::packets)): the side that began the handshake
//! has the client's keys.

use super::packets::PacketKeys;
use super::secret::Secret;
use super::{Exporter, SealError, Suite};
use crate::certs::Fingerprint;
use crate::control::Role;
use core::net::IpAddr;
use core::num::NonZeroU16;
use rdma_verbs::esp::Spi;

/// The label under which TLS exports the secret of a pair's packets.
pub const PAIR_LABEL: &[u8] = b"EXPORTER secure-rdma/1 pair";

/// What both sides know of a pair of devices, each for itself: if they differ in anything, they have different keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairContext {
    /// The version of the protocol that both agents speak.
    pub version: u16,
    /// The side whose agent began the handshake.
    pub initiator: PairEnd,
    /// The other one.
    pub responder: PairEnd,
    /// The UDP port at which the other one's kernel opens packets, where that does it.
    pub esp_port: Option<NonZeroU16>,
    /// The fingerprints of the certificates that they showed, in that order.
    pub certificates: [Fingerprint; 2],
}

/// One side: a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairEnd {
    /// Its address.
    pub address: IpAddr,
    /// Which of the devices at that address it is.
    pub slot: u8,
    /// The SPI by which it takes the peer's first packets.
    pub spi: Spi,
}

/// The encoding begins with it.
const NAME: &[u8; 16] = b"secure-rdma pair";

/// Bytes of a side.
const END: usize = 16 + 1 + 4;

/// Bytes of the encoding.
const LEN: usize = NAME.len() + 2 + 2 + 2 * END + 2 + 2 * 32;

impl PairContext {
    /// Its encoding: every field has a place and a length of its own, so that two contexts never have the same.
    fn encode(&self, suite: Suite) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.extend(NAME);
        out.extend(self.version.to_be_bytes());
        out.extend(suite.code().to_be_bytes());
        for PairEnd { address, slot, spi } in [&self.initiator, &self.responder] {
            let address = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => *v6,
            };
            out.extend(address.octets());
            out.push(*slot);
            out.extend(spi.number().to_be_bytes());
        }
        out.extend(self.esp_port.map_or(0, NonZeroU16::get).to_be_bytes());
        self.certificates.iter().for_each(|certificate| out.extend(certificate.as_bytes()));
        out
    }
}

impl PacketKeys {
    /// The keys of the side that is `own`, the client having begun the handshake, for the pair that `context`
    /// describes, from the TLS connection that it was agreed on in.
    ///
    /// # Errors
    /// TLS or the cryptographic library refuses.
    pub fn of_pair(tls: &impl Exporter, context: &PairContext, own: Role) -> Result<Self, SealError> {
        let suite = tls.suite()?;
        let secret = Secret::new(suite, |out| tls.export(PAIR_LABEL, &context.encode(suite), out))?;
        Self::from_secret(&secret, own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn whatever_differs_makes_another_encoding_of_the_same_length() {
        let end = |address: [u8; 4], slot, spi| PairEnd {
            address: address.into(),
            slot,
            spi: Spi::new(spi).unwrap(),
        };
        let context = || PairContext {
            version: 1,
            initiator: end([192, 0, 2, 1], 3, 0xc1c2_0304),
            responder: end([192, 0, 2, 2], 4, 0xd1d2_0405),
            esp_port: None,
            certificates: [Fingerprint::of(b"a"), Fingerprint::of(b"b")],
        };
        let changed = |change: &dyn Fn(&mut PairContext)| {
            let mut context = context();
            change(&mut context);
            context
        };
        let mut seen = HashSet::new();
        for suite in Suite::ALL {
            assert!(seen.insert(context().encode(suite)), "{suite:?}");
        }
        for context in [
            changed(&|it| it.version = 2),
            changed(&|it| core::mem::swap(&mut it.initiator, &mut it.responder)),
            changed(&|it| it.certificates.swap(0, 1)),
            changed(&|it| it.initiator.address = "2001:db8::1".parse().unwrap()),
            changed(&|it| it.initiator.slot = 5),
            changed(&|it| it.initiator.spi = Spi::new(0xc1c2_0305).unwrap()),
            changed(&|it| it.responder.address = [192, 0, 2, 3].into()),
            changed(&|it| it.responder.slot = 5),
            changed(&|it| it.responder.spi = Spi::new(0xd1d2_0406).unwrap()),
            changed(&|it| it.esp_port = NonZeroU16::new(4500)),
            changed(&|it| it.esp_port = NonZeroU16::new(4501)),
        ] {
            let encoding = context.encode(Suite::Aes256Gcm);
            assert_eq!(encoding.len(), LEN);
            assert!(seen.insert(encoding), "{context:?}");
        }
    }
}

//! Keys for sealed packets: where both ends' devices seal each packet (ESP), instead of messages and slots.
//!
//! ```text
//! exporter (PACKET_LABEL, context) ── secret ─┬─ "c packet" ── client's packets, epoch 0 ── "next" ── epoch 1 ── …
//!                                             └─ "s packet" ── server's packets, epoch 0 ── "next" ── epoch 1 ── …
//! each of the secrets at the right ── "esp": key, then salt
//! ```
//!
//! Where sessions share an association, only the first one's keys are used. Each has one secret more, "join", by which
//! the two sides prove to each other that they have the first one's: [`JoinSecret`].

use super::context::{COUNTERS, Endpoint, encode_counters};
use super::secret::Secret;
use super::{Exporter, SealError, Suite};
use crate::certs::Fingerprint;
use crate::control::{Access, Counters, PacketPolicy, Role, SealPolicy};
use aws_lc_rs::constant_time;
use core::fmt;
use rdma_verbs::esp::{Algorithm, Key, Spi};
use zeroize::Zeroizing;

/// The label under which TLS exports the secret of a session's packets.
pub const PACKET_LABEL: &[u8] = b"EXPORTER secure-rdma/1 packets";

/// What both sides of a session whose packets are sealed know of it, each for itself: if they differ in anything, they
/// have different keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketContext {
    /// The version of the control protocol that both speak.
    pub version: u16,
    /// The client.
    pub client: PacketEnd,
    /// The server.
    pub server: PacketEnd,
    /// The region that the server gives the client, if it does.
    pub region: Option<PacketRegion>,
    /// The fingerprint of the certificate that the client showed in the handshake, if it did.
    pub client_certificate: Option<Fingerprint>,
}

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketEnd {
    /// What its Hello wants.
    pub policy: SealPolicy,
    /// What its Hello says of packets.
    pub packets: PacketPolicy,
    /// Its end of the queue pair.
    pub endpoint: Endpoint,
    /// The SPI by which it takes the peer's first packets.
    pub spi: Spi,
}

/// A region for one-sided access: plain memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PacketRegion {
    /// Its first address.
    pub addr: u64,
    /// Its remote key.
    pub rkey: u32,
    /// Its length in bytes.
    pub len: u64,
    /// How many bytes of it, from the start, are data.
    pub data_len: u64,
    /// Its counters, if there are any.
    pub counters: Option<Counters>,
    /// What the client may do: there, and with messages.
    pub access: Access,
}

/// The encoding begins with it.
const NAME: &[u8; 16] = b"secure-rdma pckt";

/// Bytes of a side.
const END: usize = 1 + 1 + 28 + 4;

/// Bytes of a region.
const REGION: usize = 8 + 4 + 2 * 8 + COUNTERS + 1;

/// Bytes of the encoding.
const LEN: usize = NAME.len() + 2 + 2 + 2 * END + 1 + REGION + 1 + 32;

impl PacketContext {
    /// Its encoding: every field has a place and a length of its own, so that two contexts never have the same.
    pub(super) fn encode(&self, suite: Suite) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.extend(NAME);
        out.extend(self.version.to_be_bytes());
        out.extend(suite.code().to_be_bytes());
        for PacketEnd { policy, packets, endpoint, spi } in [&self.client, &self.server] {
            out.extend([*policy as u8, *packets as u8]);
            endpoint.encode(&mut out);
            out.extend(spi.number().to_be_bytes());
        }
        match &self.region {
            Some(PacketRegion { addr, rkey, len, data_len, counters, access }) => {
                out.push(1);
                out.extend(addr.to_be_bytes());
                out.extend(rkey.to_be_bytes());
                [len, data_len].iter().for_each(|number| out.extend(number.to_be_bytes()));
                encode_counters(counters.as_ref(), &mut out);
                out.push(access.bits());
            }
            None => out.extend([0; 1 + REGION]),
        }
        match &self.client_certificate {
            Some(certificate) => {
                out.push(1);
                out.extend(certificate.as_bytes());
            }
            None => out.extend([0; 1 + 32]),
        }
        out
    }
}

/// Without the key, as everywhere.
impl fmt::Debug for PacketRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketRegion")
            .field("addr", &self.addr)
            .field("len", &self.len)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// The keys of both directions of a session's packets.
#[derive(Debug)]
pub struct PacketKeys {
    /// Of what this side sends.
    pub own: PacketChain,
    /// Of what the peer sends.
    pub peer: PacketChain,
    /// By which other sessions can join this one's association.
    pub join: JoinSecret,
}

/// What the two ends of an association prove to each other, where another session of theirs is to be sealed by it too:
/// that they are those ends.
pub struct JoinSecret(Secret);

impl JoinSecret {
    /// What the side that is `prover` shows for the session that has the secret `session`, if this is the
    /// association's. It depends on both, and so on everything that the session's keys depend on.
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn proof(&self, session: &Self, prover: Role) -> Result<Proof, SealError> {
        let label = match prover {
            Role::Client => b"c join",
            Role::Server => b"s join",
        };
        let mut proof = [0; 32];
        self.0.expand(label, session.0.expose(), &mut proof)?;
        Ok(Proof(proof))
    }
}

/// What only who has an association's secret can tell of a session that joins it. Comparing two takes the same time
/// wherever they differ.
#[derive(Clone, Copy, Debug)]
pub struct Proof([u8; 32]);

impl Proof {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Proof {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Proof {}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret")
    }
}

impl PacketKeys {
    /// The keys of the side that is `own`, for the session that `context` describes, from the TLS connection that it
    /// was agreed on in.
    ///
    /// # Errors
    /// TLS or the cryptographic library refuses.
    pub fn new(tls: &impl Exporter, context: &PacketContext, own: Role) -> Result<Self, SealError> {
        let suite = tls.suite()?;
        let secret = Secret::new(suite, |out| tls.export(PACKET_LABEL, &context.encode(suite), out))?;
        Self::from_secret(&secret, own)
    }

    /// The same from the secret.
    pub(super) fn from_secret(secret: &Secret, own: Role) -> Result<Self, SealError> {
        let [client, server] = [b"c packet", b"s packet"].map(|label| PacketChain::first(secret, label));
        let (client, server) = (client?, server?);
        let join = JoinSecret(secret.derive(b"join", b"")?);
        Ok(match own {
            Role::Client => Self { own: client, peer: server, join },
            Role::Server => Self { own: server, peer: client, join },
        })
    }
}

/// The keys of one direction's packets, epoch after epoch. Each is given out once.
pub struct PacketChain {
    secret: Secret,
    epoch: u64,
}

impl PacketChain {
    fn first(secret: &Secret, label: &[u8]) -> Result<Self, SealError> {
        Ok(Self { secret: secret.derive(label, b"")?, epoch: 0 })
    }

    /// The number of the next key.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next key's bytes, key then salt, and what it is for, for a device that is elsewhere. Otherwise as
    /// [`next_key`](Self::next_key).
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn next_material(&mut self) -> Result<(Algorithm, Zeroizing<Vec<u8>>), SealError> {
        let material = self.material()?;
        self.secret = self.secret.derive(b"next", b"")?;
        self.epoch += 1;
        Ok((algorithm(self.secret.suite()), material))
    }

    /// The next key. The secret of the one after it takes the place of its own; one-way, as TLS's application traffic
    /// secrets are (RFC 8446, section 7.2).
    ///
    /// # Errors
    /// The cryptographic library refuses.
    pub fn next_key(&mut self) -> Result<Key, SealError> {
        let (algorithm, material) = self.next_material()?;
        Key::new(algorithm, &material).map_err(|_| SealError::Library)
    }

    /// The next key's bytes: key, then salt.
    pub(super) fn material(&self) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut material = Zeroizing::new(vec![0; algorithm(self.secret.suite()).material_len()]);
        self.secret.expand(b"esp", b"", &mut material)?;
        Ok(material)
    }

    #[cfg(test)]
    pub(super) const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for PacketChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketChain").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What seals packets where TLS has agreed on `suite`. ESP has AES-GCM on both sides here, whatever TLS prefers.
const fn algorithm(suite: Suite) -> Algorithm {
    match suite {
        Suite::Aes128Gcm => Algorithm::Aes128Gcm,
        Suite::Aes256Gcm | Suite::ChaCha20Poly1305 => Algorithm::Aes256Gcm,
    }
}

#[cfg(test)]
mod tests;

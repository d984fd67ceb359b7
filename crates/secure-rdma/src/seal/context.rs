//! What both sides must agree on for their keys to be the same.

use super::{Layout, Suite};
use crate::certs::Fingerprint;
use crate::control::{Access, Counters, SealPolicy};
use rocev2::{Psn, Qpn};

/// What both sides of a session know of it, each for itself: if they differ in anything, they have different keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The version of the control protocol that both speak.
    pub version: u16,
    /// What the client's Hello wants.
    pub client_policy: SealPolicy,
    /// What the server's Hello wants.
    pub server_policy: SealPolicy,
    /// The client's end of the queue pair.
    pub client: Endpoint,
    /// The server's.
    pub server: Endpoint,
    /// The region that the server gives the client, if it does.
    pub region: Option<Region>,
    /// The fingerprint of the certificate that the client showed in the handshake, if it did. TLS's exporter
    /// covers the server's certificate, but not the client's (RFC 8446, sections 7.1 and 7.5).
    pub client_certificate: Option<Fingerprint>,
}

/// One end of the queue pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number.
    pub qpn: Qpn,
    /// The first PSN that it sends.
    pub psn: Psn,
    /// Its GID, as its Endpoint record has it.
    pub gid: [u8; 16],
    /// The UDP port that it receives on; 0 where there is none (InfiniBand).
    pub udp_port: u16,
    /// Its LID; 0 where there is none (RoCE).
    pub lid: u16,
}

/// A region for one-sided access.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its first address.
    pub addr: u64,
    /// Its remote key.
    pub rkey: u32,
    /// Its length in bytes.
    pub len: u64,
    /// How many bytes of it, from the start, are sealed slots, and how they are divided.
    pub layout: Layout,
    /// Its counters, if there are any. They aren't sealed.
    pub counters: Option<Counters>,
    /// What the client may do: there, and with messages.
    pub access: Access,
}

/// The encoding begins with it.
const NAME: &[u8; 16] = b"secure-rdma seal";

/// Bytes of an endpoint.
const ENDPOINT: usize = 28;

/// Bytes of counters.
pub(super) const COUNTERS: usize = 20;

/// Bytes of a region.
const REGION: usize = 35 + COUNTERS;

/// Bytes of the encoding.
pub(super) const LEN: usize = NAME.len() + 2 + 2 + 1 + 1 + 2 * ENDPOINT + 1 + REGION + 1 + 32;

impl Context {
    /// Its encoding: every field has a place and a length of its own, so that two contexts never have the same.
    pub(super) fn encode(&self, suite: Suite) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.extend(NAME);
        out.extend(self.version.to_be_bytes());
        out.extend(suite.code().to_be_bytes());
        out.extend([self.client_policy as u8, self.server_policy as u8]);
        self.client.encode(&mut out);
        self.server.encode(&mut out);
        if let Some(region) = &self.region {
            out.push(1);
            region.encode(&mut out);
        } else {
            out.extend([0; 1 + REGION]);
        }
        if let Some(certificate) = &self.client_certificate {
            out.push(1);
            out.extend(certificate.as_bytes());
        } else {
            out.extend([0; 1 + 32]);
        }
        out
    }
}

impl Endpoint {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.qpn.get().to_be_bytes());
        out.extend(self.psn.get().to_be_bytes());
        out.extend(self.gid);
        out.extend(self.udp_port.to_be_bytes());
        out.extend(self.lid.to_be_bytes());
    }
}

impl Region {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self { addr, rkey, len, layout, counters, access } = self;
        let rights = [Access::READ, Access::WRITE, Access::ATOMIC, Access::SEND];
        let access =
            (0_u8..).zip(rights).fold(0, |bits, (at, right)| bits | u8::from(access.allows(right)) << at);
        out.extend(addr.to_be_bytes());
        out.extend(rkey.to_be_bytes());
        out.extend(len.to_be_bytes());
        out.extend(layout.area_len().to_be_bytes());
        encode_counters(counters.as_ref(), out);
        out.push(access);
        out.extend(layout.format().payload.to_be_bytes());
        out.extend([layout.format().epoch_bits, layout.format().writers as u8]);
    }
}

/// Counters, or as many zeros: those that there are have a length.
pub(super) fn encode_counters(counters: Option<&Counters>, out: &mut Vec<u8>) {
    match counters {
        Some(Counters { addr, rkey, len }) => {
            out.extend(addr.to_be_bytes());
            out.extend(rkey.expose().to_be_bytes());
            out.extend(len.to_be_bytes());
        }
        None => out.extend([0; COUNTERS]),
    }
}

/// Without PSN, as everywhere: it lets packets reach memory.
impl core::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Endpoint")
            .field("qpn", &self.qpn)
            .field("gid", &self.gid)
            .field("udp_port", &self.udp_port)
            .field("lid", &self.lid)
            .finish_non_exhaustive()
    }
}

/// Without the key, as everywhere.
impl core::fmt::Debug for Region {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Region")
            .field("addr", &self.addr)
            .field("len", &self.len)
            .field("layout", &self.layout)
            .field("counters", &self.counters)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

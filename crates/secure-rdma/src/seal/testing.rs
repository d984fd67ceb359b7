//! What the tests of this module share.

use super::secret::Secret;
use super::{
    Context, Endpoint, Format, Layout, Limits, PacketContext, PacketEnd, PacketRegion, Region, SealError,
    SessionKeys, Suite, Writers,
};
use crate::certs::Fingerprint;
use crate::control::{Access, Counters, PacketPolicy, Redacted, Role, SealPolicy};
use rdma_verbs::esp::Spi;
use rocev2::{Psn, Qpn};

/// The counters of the contexts.
const COUNTERS: Counters = Counters { addr: 0x7f00_5678_9000, rkey: Redacted::new(0x0c0f_fee5), len: 64 };

/// A session's secret of bytes that count up from `first`.
pub(super) fn session(suite: Suite, first: u8) -> Secret {
    let fill = |out: &mut [u8]| {
        out.iter_mut().zip(first..).for_each(|(byte, value)| *byte = value);
        Ok::<_, SealError>(())
    };
    Secret::new(suite, fill).unwrap()
}

/// Both sides of a session: the client's keys and the server's.
pub(super) fn pair(suite: Suite, limits: Limits, layout: Option<Layout>) -> (SessionKeys, SessionKeys) {
    let session = session(suite, 0);
    let keys = |own| SessionKeys::from_secret(&session, own, limits, layout).unwrap();
    (keys(Role::Client), keys(Role::Server))
}

pub(super) fn layout() -> Layout {
    Layout::for_capacity(1 << 20, Format::DEFAULT).unwrap()
}

/// Small slots, and a new key every four. Both sides write.
pub(super) fn small() -> Layout {
    Layout::for_capacity(64 * 8, Format { payload: 64, epoch_bits: 2, writers: Writers::Both }).unwrap()
}

/// The same, but the client alone writes.
pub(super) fn clients() -> Layout {
    let format = Format { writers: Writers::Client, ..small().format() };
    Layout::for_capacity(small().capacity(), format).unwrap()
}

/// The same of a session whose packets are sealed.
pub(super) fn packet_context() -> PacketContext {
    let Context { version, client, server, client_certificate, .. } = context();
    let end = |endpoint, spi| PacketEnd {
        policy: SealPolicy::Required,
        packets: PacketPolicy::Offered,
        endpoint,
        spi: Spi::new(spi).unwrap(),
    };
    PacketContext {
        version,
        client: end(client, 0xc1c2_c3c4),
        server: end(server, 0xd1d2_d3d4),
        region: Some(PacketRegion {
            addr: 0x7f00_1234_5000,
            rkey: 0xdead_beef,
            len: 1 << 20,
            data_len: 1 << 20,
            counters: Some(COUNTERS),
            access: Access::READ | Access::WRITE,
        }),
        client_certificate,
    }
}

/// A context of documentation addresses, with every field set.
pub(super) fn context() -> Context {
    let end = |qpn, psn, host: u16, udp_port| {
        let gid = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).octets();
        let (qpn, psn) = (Qpn::new(qpn).unwrap(), Psn::new(psn).unwrap());
        Endpoint { qpn, psn, gid, udp_port, lid: 0 }
    };
    Context {
        version: crate::control::VERSION,
        client_policy: SealPolicy::Required,
        server_policy: SealPolicy::Optional,
        client: end(0x0001_2345, 0x00ab_cdef, 1, 4791),
        server: end(0x00fe_dcba, 0x0012_3456, 2, 49152),
        region: Some(Region {
            addr: 0x7f00_1234_5000,
            rkey: 0xdead_beef,
            len: layout().area_len(),
            layout: layout(),
            counters: Some(COUNTERS),
            access: Access::READ | Access::WRITE,
        }),
        client_certificate: Some(Fingerprint::of(b"a client's certificate")),
    }
}

//! Keys of a session that was never set up.

use rocev2::{Psn, Qpn};
use secure_rdma::control::{Access, Role, SealPolicy};
use secure_rdma::seal::{
    Context, Endpoint, Exporter, Format, Layout, Limits, Region, SealError, SessionKeys, Suite, Writers,
};
use std::cell::RefCell;

/// A TLS connection that exports the same bytes to everyone, and keeps the context that it was asked for.
pub(super) struct Fixed {
    suite: Suite,
    pub(super) asked: RefCell<Vec<u8>>,
}

impl Fixed {
    pub(super) fn new(suite: Suite) -> Self {
        Self { suite, asked: RefCell::default() }
    }
}

impl Exporter for Fixed {
    fn suite(&self) -> Result<Suite, SealError> {
        Ok(self.suite)
    }

    fn export(&self, _: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        self.asked.replace(context.to_vec());
        out.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        Ok(())
    }
}

/// Slots that are small, with a new key every four.
pub(super) fn small(writers: Writers) -> Layout {
    let format = Format { payload: 64, epoch_bits: 2, writers };
    Layout::for_capacity(64 * 4, format).expect("a layout")
}

/// The keys of both sides, the client's first; a new key for messages every three.
pub(super) fn pair(suite: Suite, layout: Layout) -> [SessionKeys; 2] {
    let end = |qpn| Endpoint {
        qpn: Qpn::truncate(qpn),
        psn: Psn::truncate(0),
        gid: [0; 16],
        udp_port: 4791,
        lid: 0,
    };
    let context = Context {
        version: secure_rdma::control::VERSION,
        client_policy: SealPolicy::Required,
        server_policy: SealPolicy::Required,
        client: end(2),
        server: end(3),
        region: Some(Region {
            addr: 0,
            rkey: 0,
            len: layout.area_len(),
            layout,
            counters: None,
            access: Access::READ | Access::WRITE,
        }),
        client_certificate: None,
    };
    let tls = Fixed::new(suite);
    [Role::Client, Role::Server].map(|own| {
        SessionKeys::new(&tls, &context, own, Limits { records: 3, bytes: 1000 }).expect("the keys")
    })
}

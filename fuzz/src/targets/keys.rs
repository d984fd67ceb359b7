//! Keys of a session that was never set up.

use aws_lc_rs::digest::{SHA256, digest};
use rocev2::{Psn, Qpn};
use secure_rdma::control::{Access, Role, SealPolicy};
use secure_rdma::seal::{
    Context, Endpoint, Exporter, Format, Layout, Limits, Region, SealError, SessionKeys, Suite, Writers,
};
use std::cell::RefCell;

/// A TLS connection that exports the same bytes to everyone, and keeps the context that it was asked for.
pub(super) struct Fixed {
    suite: Suite,
    secret: [u8; 32],
    pub(super) asked: RefCell<Vec<u8>>,
}

impl Fixed {
    pub(super) fn new(suite: Suite) -> Self {
        let mut secret = [0; 32];
        secret.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        Self { suite, secret, asked: RefCell::default() }
    }

    /// One that nobody who has seen the connections of other inputs knows anything of. A fuzzer sees what records are
    /// compared with, and would put one into its next input as its own.
    fn of(suite: Suite, input: &[u8]) -> Self {
        let mut secret = [0; 32];
        secret.copy_from_slice(digest(&SHA256, input).as_ref());
        Self { suite, secret, asked: RefCell::default() }
    }
}

impl Exporter for Fixed {
    fn suite(&self) -> Result<Suite, SealError> {
        Ok(self.suite)
    }

    fn export(&self, _: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        self.asked.replace(context.to_vec());
        out.iter_mut().zip(self.secret.iter().cycle()).for_each(|(byte, value)| *byte = *value);
        Ok(())
    }
}

/// Slots that are small, with a new key every four.
pub(super) fn small(writers: Writers) -> Layout {
    let format = Format { payload: 64, epoch_bits: 2, writers };
    Layout::for_capacity(64 * 4, format).expect("a layout")
}

/// The keys of both sides, the client's first, for that input alone; a new key for messages every three.
pub(super) fn pair(suite: Suite, layout: Layout, input: &[u8]) -> [SessionKeys; 2] {
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
    let tls = Fixed::of(suite, input);
    [Role::Client, Role::Server].map(|own| {
        SessionKeys::new(&tls, &context, own, Limits { records: 3, bytes: 1000 }).expect("the keys")
    })
}

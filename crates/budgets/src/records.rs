//! Sealing and opening, with AES-256-GCM.

use crate::count::counted_if;
use rocev2::{Psn, Qpn};
use secure_rdma::control::{Access, Role, SealPolicy};
use secure_rdma::seal::{
    Attempts, Context, Endpoint, Exporter, Format, Layout, Limits, OVERHEAD, Region, SealError, SessionKeys,
    Suite,
};

const LEN: usize = 4096;

/// Stands for a TLS connection: the secret is the same every time, so that the instructions are.
struct Fixed;

impl Exporter for Fixed {
    fn suite(&self) -> Result<Suite, SealError> {
        Ok(Suite::Aes256Gcm)
    }

    fn export(&self, _label: &[u8], _context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        out.fill(0x42);
        Ok(())
    }
}

/// The client's keys and the server's.
fn keys() -> [SessionKeys; 2] {
    let layout = Layout::for_capacity(1 << 20, Format::DEFAULT).expect("a layout");
    let end = |number| Endpoint {
        qpn: Qpn::truncate(number),
        psn: Psn::truncate(number),
        gid: [0; 16],
        udp_port: 4791,
        lid: 0,
    };
    let context = Context {
        version: 1,
        client_policy: SealPolicy::Required,
        server_policy: SealPolicy::Required,
        client: end(0x11_1111),
        server: end(0x22_2222),
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
    [Role::Client, Role::Server]
        .map(|role| SessionKeys::new(&Fixed, &context, role, Limits::DEFAULT).expect("keys"))
}

fn messages(times: u64, seal: bool) {
    let [mut client, mut server] = keys();
    let (text, mut record, mut out) = (vec![0x5a; LEN], vec![0; LEN + OVERHEAD], vec![0; LEN]);
    for _ in 0..times {
        counted_if(seal, || client.sealer.seal(true, &text, &mut record).expect("sealed"));
        counted_if(!seal, || server.opener.open(&record, &mut out).map(drop).expect("authentic"));
    }
}

fn slots(times: u64, seal: bool) {
    let [mut client, mut server] = keys();
    let (client, server) = (client.slots.as_mut().expect("slots"), server.slots.as_mut().expect("slots"));
    let (text, mut sealed, mut out) = (vec![0x5a; LEN], vec![0; client.layout().stride()], vec![0; LEN]);
    for _ in 0..times {
        counted_if(seal, || client.seal(0, &text, &mut sealed).expect("sealed"));
        counted_if(!seal, || {
            server.open(0, &sealed, &mut out, &mut Attempts::once()).expect("authentic");
        });
    }
}

pub(crate) fn sealed(times: u64) {
    messages(times, true);
}

pub(crate) fn opened(times: u64) {
    messages(times, false);
}

pub(crate) fn slot_sealed(times: u64) {
    slots(times, true);
}

pub(crate) fn slot_opened(times: u64) {
    slots(times, false);
}

//! What a session's keys depend on: whatever the two sides have agreed on reads back from its encoding, so no
//! two agreements share keys.

use super::keys::Fixed;
use crate::input::Input;
use rocev2::{Psn, Qpn};
use secure_rdma::certs::Fingerprint;
use secure_rdma::control::{Access, Counters, Redacted, Role, SealPolicy};
use secure_rdma::seal::{Context, Endpoint, Format, Layout, Limits, Region, SessionKeys, Suite, Writers};

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let suite = input.pick(&Suite::ALL);
    let context = Context {
        version: input.u16(),
        client_policy: policy(&mut input),
        server_policy: policy(&mut input),
        client: endpoint(&mut input),
        server: endpoint(&mut input),
        region: input.flag().then(|| region(&mut input)),
        client_certificate: input.flag().then(|| Fingerprint::of(input.bytes(8))),
    };
    let own = if input.flag() { Role::Server } else { Role::Client };
    let tls = Fixed::new(suite);
    let keys = SessionKeys::new(&tls, &context, own, Limits::DEFAULT).expect("the keys");
    assert_eq!(keys.slots.is_some(), context.region.is_some());
    let encoded = tls.asked.take();
    assert_eq!(encoded.len(), 167);
    assert_eq!(read(&encoded), (suite.code(), context));
}

fn policy(input: &mut Input<'_>) -> SealPolicy {
    input.pick(&[SealPolicy::Off, SealPolicy::Optional, SealPolicy::Required])
}

fn endpoint(input: &mut Input<'_>) -> Endpoint {
    Endpoint {
        qpn: Qpn::truncate(input.u32()),
        psn: Psn::truncate(input.u32()),
        gid: input.array(),
        udp_port: input.u16(),
        lid: input.u16(),
    }
}

fn region(input: &mut Input<'_>) -> Region {
    let format = Format {
        payload: 64 << (input.u8() % 11),
        epoch_bits: input.u8() % 21,
        writers: input.pick(&[Writers::Client, Writers::Both]),
    };
    let slots = u64::from(input.u32().max(1));
    Region {
        addr: input.u64(),
        rkey: input.u32(),
        len: input.u64(),
        layout: Layout::for_capacity(slots * u64::from(format.payload), format).expect("a layout"),
        counters: counters(input),
        access: access(input.u8()),
    }
}

/// Counters; none if they have no bytes.
fn counters(input: &mut Input<'_>) -> Option<Counters> {
    let (addr, rkey, len) = (input.u64(), input.u32(), input.u64());
    (len > 0).then(|| Counters { addr, rkey: Redacted::new(rkey), len })
}

fn access(bits: u8) -> Access {
    [Access::READ, Access::WRITE, Access::ATOMIC]
        .into_iter()
        .enumerate()
        .filter(|(at, _)| bits >> at & 1 != 0)
        .fold(Access::NONE, |all, (_, right)| all | right)
}

/// Reads the encoding as docs/sealing.md describes it.
fn read(bytes: &[u8]) -> (u16, Context) {
    let mut input = Input::new(bytes);
    assert_eq!(input.bytes(16), b"secure-rdma seal");
    let version = input.u16();
    let suite = input.u16();
    let [client_policy, server_policy] = input
        .array()
        .map(|code| [SealPolicy::Off, SealPolicy::Optional, SealPolicy::Required][usize::from(code)]);
    let (client, server) = (endpoint(&mut input), endpoint(&mut input));
    let region = match input.u8() {
        0 => {
            assert_eq!(input.array(), [0; 55]);
            None
        }
        1 => Some(read_region(&mut input)),
        other => panic!("{other}"),
    };
    let certificate = match input.u8() {
        0 => {
            assert_eq!(input.array(), [0; 32]);
            None
        }
        1 => Some(fingerprint(input.bytes(32))),
        other => panic!("{other}"),
    };
    assert!(input.is_empty());
    (
        suite,
        Context {
            version,
            client_policy,
            server_policy,
            client,
            server,
            region,
            client_certificate: certificate,
        },
    )
}

fn read_region(input: &mut Input<'_>) -> Region {
    let (addr, rkey, len) = (input.u64(), input.u32(), input.u64());
    let (area, counters, access) = (input.u64(), counters(input), access(input.u8()));
    let (payload, epoch_bits) = (input.u32(), input.u8());
    let writers = match input.u8() {
        1 => Writers::Client,
        3 => Writers::Both,
        other => panic!("{other}"),
    };
    let layout = Layout::for_area(area, Format { payload, epoch_bits, writers }).expect("a layout");
    Region { addr, rkey, len, layout, counters, access }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}").parse().expect("a fingerprint")
}

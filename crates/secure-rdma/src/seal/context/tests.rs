//! The context's encoding.

use super::*;
use crate::control::Redacted;
use crate::seal::testing::context;
use crate::seal::{Format, Layout, Writers};
use std::collections::HashSet;

const SUITE: Suite = Suite::Aes256Gcm;

/// The context with each of its fields changed, one at a time.
fn changed() -> Vec<(&'static str, Context)> {
    let one = |name, change: &dyn Fn(&mut Context)| {
        let mut context = context();
        change(&mut context);
        (name, context)
    };
    let end = |name, change: &dyn Fn(&mut Endpoint)| {
        [one(name, &|context| change(&mut context.client)), one(name, &|context| change(&mut context.server))]
    };
    let region =
        |name, change: &dyn Fn(&mut Region)| one(name, &|context| change(context.region.as_mut().unwrap()));
    let mut all = vec![
        one("version", &|context| context.version += 1),
        one("the client's policy", &|context| context.client_policy = SealPolicy::Optional),
        one("the server's policy", &|context| context.server_policy = SealPolicy::Required),
        one("policies exchanged", &|context| {
            core::mem::swap(&mut context.client_policy, &mut context.server_policy);
        }),
        one("ends exchanged", &|context| core::mem::swap(&mut context.client, &mut context.server)),
        one("no region", &|context| context.region = None),
        one("no certificate", &|context| context.client_certificate = None),
        one("another certificate", &|context| context.client_certificate = Some(Fingerprint::of(b""))),
        region("address", &|region| region.addr += 1),
        region("remote key", &|region| region.rkey += 1),
        region("length", &|region| region.len += 1),
        region("counters' address", &|region| region.counters.as_mut().unwrap().addr += 8),
        region("counters' key", &|region| region.counters.as_mut().unwrap().rkey = Redacted::new(1)),
        region("counters", &|region| region.counters.as_mut().unwrap().len += 8),
        region("no counters", &|region| region.counters = None),
        region("access", &|region| region.access = region.access | Access::ATOMIC),
        region("messages", &|region| region.access = region.access | Access::SEND),
        region("no access", &|region| region.access = Access::NONE),
        region("capacity", &|region| {
            region.layout = Layout::for_capacity(1 << 21, Format::DEFAULT).unwrap();
        }),
        region("slots", &|region| {
            region.layout =
                Layout::for_capacity(1 << 20, Format { payload: 8192, ..Format::DEFAULT }).unwrap();
        }),
        region("writers", &|region| {
            region.layout =
                Layout::for_capacity(1 << 20, Format { writers: Writers::Both, ..Format::DEFAULT }).unwrap();
        }),
        region("epochs", &|region| {
            region.layout =
                Layout::for_capacity(1 << 20, Format { epoch_bits: 19, ..Format::DEFAULT }).unwrap();
        }),
    ];
    all.extend(end("QPN", &|end| end.qpn = Qpn::new(end.qpn.get() + 1).unwrap()));
    all.extend(end("PSN", &|end| end.psn = end.psn.plus(1)));
    all.extend(end("GID", &|end| end.gid[15] ^= 1));
    all.extend(end("UDP port", &|end| end.udp_port += 1));
    all.extend(end("LID", &|end| end.lid = 1));
    all
}

#[test]
fn whatever_differs_makes_another_encoding_of_the_same_length() {
    let mut seen = HashSet::new();
    for suite in Suite::ALL {
        assert!(seen.insert(context().encode(suite)), "{suite:?}");
    }
    for (name, context) in changed() {
        let encoding = context.encode(SUITE);
        assert_eq!(encoding.len(), LEN, "{name}");
        assert!(seen.insert(encoding), "{name}");
    }
}

#[test]
fn nothing_secret_is_printed() {
    let text = format!("{:?}", context());
    for secret in [0x00ab_cdef_u32, 0x0012_3456, 0xdead_beef] {
        assert!(!text.contains(&secret.to_string()) && !text.contains(&format!("{secret:x}")), "{text}");
    }
}

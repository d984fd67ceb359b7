//! What the keys of packets depend on, and that each is another.

use super::*;
use crate::control::Redacted;
use crate::seal::testing::{packet_context, session};
use std::collections::HashSet;

/// The context with each of its fields changed, one at a time.
fn changed() -> Vec<(&'static str, PacketContext)> {
    let one = |name, change: &dyn Fn(&mut PacketContext)| {
        let mut context = packet_context();
        change(&mut context);
        (name, context)
    };
    let end = |name, change: &dyn Fn(&mut PacketEnd)| {
        [one(name, &|context| change(&mut context.client)), one(name, &|context| change(&mut context.server))]
    };
    let region = |name, change: &dyn Fn(&mut PacketRegion)| {
        one(name, &|context| change(context.region.as_mut().unwrap()))
    };
    let mut all = vec![
        one("version", &|context| context.version += 1),
        one("ends exchanged", &|context| core::mem::swap(&mut context.client, &mut context.server)),
        one("no region", &|context| context.region = None),
        one("no certificate", &|context| context.client_certificate = None),
        one("another certificate", &|context| context.client_certificate = Some(Fingerprint::of(b""))),
        region("address", &|region| region.addr += 1),
        region("remote key", &|region| region.rkey += 1),
        region("length", &|region| region.len += 1),
        region("data", &|region| region.data_len += 1),
        region("counters' address", &|region| region.counters.as_mut().unwrap().addr += 8),
        region("counters' key", &|region| region.counters.as_mut().unwrap().rkey = Redacted::new(1)),
        region("counters", &|region| region.counters.as_mut().unwrap().len += 8),
        region("no counters", &|region| region.counters = None),
        region("access", &|region| region.access = region.access | Access::ATOMIC),
        region("no access", &|region| region.access = Access::NONE),
    ];
    all.extend(end("policy", &|end| end.policy = SealPolicy::Off));
    all.extend(end("packets", &|end| end.packets = PacketPolicy::Required));
    all.extend(end("QPN", &|end| end.endpoint.qpn = rocev2::Qpn::truncate(end.endpoint.qpn.get() + 1)));
    all.extend(end("PSN", &|end| end.endpoint.psn = end.endpoint.psn.plus(1)));
    all.extend(end("GID", &|end| end.endpoint.gid[15] ^= 1));
    all.extend(end("UDP port", &|end| end.endpoint.udp_port += 1));
    all.extend(end("LID", &|end| end.endpoint.lid = 1));
    all.extend(end("SPI", &|end| end.spi = Spi::new(end.spi.number() ^ 1).unwrap()));
    all
}

#[test]
fn whatever_differs_makes_another_encoding_of_the_same_length() {
    let mut seen = HashSet::new();
    for suite in Suite::ALL {
        assert!(seen.insert(packet_context().encode(suite)), "{suite:?}");
        assert!(seen.insert(crate::seal::testing::context().encode(suite)), "that of messages and slots");
    }
    for (name, context) in changed() {
        let encoding = context.encode(Suite::Aes256Gcm);
        assert_eq!(encoding.len(), LEN, "{name}");
        assert!(seen.insert(encoding), "{name}");
    }
}

#[test]
fn every_direction_and_epoch_has_a_key_of_its_own_and_both_sides_have_the_same() {
    for suite in Suite::ALL {
        let keys = |own| PacketKeys::from_secret(&session(suite, 0), own).unwrap();
        let (mut client, mut server) = (keys(Role::Client), keys(Role::Server));
        let mut seen = HashSet::new();
        for epoch in 0..4 {
            for (own, peers) in [(&mut client.own, &mut server.peer), (&mut server.own, &mut client.peer)] {
                assert_eq!((own.epoch(), peers.epoch()), (epoch, epoch));
                let material = own.material().unwrap().to_vec();
                assert_eq!(material, *peers.material().unwrap());
                assert!(seen.insert(material[..16].to_vec()));
                assert!(seen.insert(own.secret().bytes()[..16].to_vec()));
                own.next_key().unwrap();
                peers.next_key().unwrap();
            }
        }
    }
}

#[test]
fn nothing_secret_is_printed() {
    let keys = PacketKeys::from_secret(&session(Suite::Aes256Gcm, 0x30), Role::Client).unwrap();
    let text = format!("{:?} {keys:?}", packet_context());
    for secret in [0x00ab_cdef_u32, 0x0012_3456, 0xdead_beef] {
        assert!(!text.contains(&secret.to_string()) && !text.contains(&format!("{secret:x}")), "{text}");
    }
    assert!(!text.contains("31, 32") && !text.contains("3132"), "{text}");
}

#[test]
fn only_who_has_the_associations_secret_proves_it_for_one_session_and_as_one_side() {
    for suite in Suite::ALL {
        let join = |first, own| PacketKeys::from_secret(&session(suite, first), own).unwrap().join;
        let (association, joining) = (join(0, Role::Client), join(1, Role::Client));
        let proof = association.proof(&joining, Role::Client).unwrap();
        // The other end, which was the server of the first session and is that of the other.
        assert!(join(0, Role::Server).proof(&join(1, Role::Server), Role::Client).unwrap() == proof);
        for (association, joining, prover) in
            [(0, 1, Role::Server), (0, 2, Role::Client), (2, 1, Role::Client)]
        {
            let [association, joining] = [association, joining].map(|first| join(first, Role::Server));
            assert!(association.proof(&joining, prover).unwrap() != proof);
        }
        let mut changed = *proof.bytes();
        changed[31] ^= 1;
        assert!(Proof::from(changed) != proof);
        assert_eq!(format!("{association:?}"), "JoinSecret");
    }
}

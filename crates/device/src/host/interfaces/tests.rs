use std::fs;

use super::*;
use crate::link::testing::in_namespace;

#[test]
fn loopback_is_there_and_comes_last() {
    let found = interfaces().unwrap();
    let first = found.iter().position(|interface| interface.address.is_loopback()).unwrap();
    assert!(found[first..].iter().all(|interface| interface.address.is_loopback()), "{found:?}");
    assert!(found.iter().any(|interface| interface.address == IpAddr::from([127, 0, 0, 1])));
}

#[test]
fn the_system_agrees_on_index_and_mtu() {
    for interface in interfaces().unwrap() {
        let read = |what| fs::read_to_string(format!("/sys/class/net/{}/{what}", interface.name)).unwrap();
        assert_eq!(read("ifindex").trim(), interface.index.to_string());
        assert_eq!(read("mtu").trim(), interface.mtu.to_string());
    }
}

#[test]
fn this_host_is_reached_from_the_address_itself() {
    for interface in interfaces().unwrap() {
        let route = route(interface.address).unwrap();
        assert_eq!(route.src, interface.address);
        assert!(route.mtu >= 1280);
    }
    assert!(matches!(route([0; 4].into()), Err(RouteError::NotUnicast(_))));
    assert!(matches!(route("ff02::1".parse().unwrap()), Err(RouteError::NotUnicast(_))));
}

#[test]
fn addresses_mtus_and_routes_are_those_of_the_processs_own_namespace() {
    if !in_namespace(
        concat!(module_path!(), "::addresses_mtus_and_routes_are_those_of_the_processs_own_namespace"),
        &["ip"],
        "ip link add jumbo type veth peer name other
         ip link add unused type veth peer name other2
         ip addr add 198.51.100.1/24 dev jumbo
         ip addr add 203.0.113.1/24 dev unused
         ip addr add fd00:7::1/64 dev jumbo nodad
         ip link set jumbo mtu 9000 up
         ip link set other mtu 9000 up",
    ) {
        return;
    }
    let found = interfaces().unwrap();
    let shown: Vec<_> = found
        .iter()
        .map(|interface| (&*interface.name, interface.address.to_string(), interface.mtu))
        .collect();
    assert_eq!(
        shown,
        [
            ("jumbo", "198.51.100.1".into(), 9000),
            ("jumbo", "fd00:7::1".into(), 9000),
            ("lo", "127.0.0.1".into(), 65_536),
            ("lo", "::1".into(), 65_536),
        ],
        "neither link-local addresses nor interfaces that are down"
    );
    for (peer, src) in [("198.51.100.9", "198.51.100.1"), ("fd00:7::9", "fd00:7::1")] {
        let expected = Route { src: src.parse().unwrap(), mtu: 9000 };
        assert_eq!(route(peer.parse().unwrap()).unwrap(), expected);
    }
    for unknown in ["192.0.2.1", "203.0.113.9", "2001:db8::1"] {
        let error = route(unknown.parse().unwrap()).unwrap_err();
        assert!(
            matches!(error, RouteError::NoRoute { .. }) && error.to_string().contains(unknown),
            "{error}"
        );
    }
}

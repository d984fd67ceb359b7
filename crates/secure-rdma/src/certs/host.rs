//! This host's names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CertsError, Name};

/// The most names that [`host_names`] gives. Each takes room in every handshake.
pub const MAX_NAMES: usize = 128;

/// The names that a server on this host is reached by: `localhost`, the loopback addresses, the host's own
/// name (with and without its domain), and the addresses of its interfaces; the first [`MAX_NAMES`] of them,
/// link-local addresses last.
///
/// # Errors
/// If the system doesn't tell the addresses.
pub fn host_names() -> Result<Vec<Name>, CertsError> {
    let interfaces = if_addrs::get_if_addrs().map_err(CertsError::Interfaces)?;
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let mut addresses: Vec<IpAddr> = interfaces.iter().map(if_addrs::Interface::ip).collect();
    // The interfaces' order may change from call to call.
    addresses.sort_by_key(|address| (is_link_local(*address), *address));
    Ok(collect(&host, addresses))
}

fn collect(host: &str, addresses: Vec<IpAddr>) -> Vec<Name> {
    let domainless = host.split('.').next().unwrap_or(host);
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut names: Vec<Name> = Vec::new();
    // A host may be called what no certificate can name; its addresses are still there.
    let hosts = ["localhost", host, domainless].into_iter().filter_map(|name| name.parse().ok());
    for name in hosts.chain(loopback.into_iter().chain(addresses).map(Name::from)) {
        if names.len() < MAX_NAMES && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn the_host_is_reached_as_localhost_by_its_name_and_by_its_addresses() {
        let names = host_names().unwrap();
        for expected in ["localhost", "127.0.0.1", "::1"] {
            assert!(names.contains(&name(expected)), "{expected} in {names:?}");
        }
        for interface in if_addrs::get_if_addrs().unwrap().iter().take(8) {
            assert!(names.contains(&interface.ip().into()), "{} in {names:?}", interface.ip());
        }
    }

    #[test]
    fn a_host_name_counts_with_and_without_its_domain_and_once() {
        let names = collect(
            "Node1.cluster.example",
            vec![Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(10, 0, 0, 1).into()],
        );
        let expected = ["localhost", "node1.cluster.example", "node1", "127.0.0.1", "::1", "10.0.0.1"];
        assert_eq!(names, expected.map(name));
        assert_eq!(collect("not a name", Vec::new()), ["localhost", "127.0.0.1", "::1"].map(name));
    }

    #[test]
    fn a_host_of_very_many_addresses_keeps_its_first_names() {
        let many = (0..1000_u16).map(|n| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).into()).collect();
        let names = collect("host", many);
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(names[..4], ["localhost", "host", "127.0.0.1", "::1"].map(name));
    }
}

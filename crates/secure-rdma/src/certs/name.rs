//! The names that certificates are for.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::pki_types::{DnsName, ServerName};

use super::CertsError;

/// The most names that [`host_names`] gives. Each takes room in every handshake.
pub const MAX_NAMES: usize = 128;

/// A DNS name or an IP address: what a client says it wants to talk to, and what a certificate says it is for.
///
/// DNS names are kept in lower case and without a final dot, IPv4-mapped addresses as IPv4: two names are
/// equal if they mean the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(ServerName<'static>);

impl Name {
    /// The same as rustls has it.
    pub(crate) const fn as_server_name(&self) -> &ServerName<'static> {
        &self.0
    }

    /// The address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.0 {
            ServerName::IpAddress(ip) => Some(ip.into()),
            _ => None,
        }
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        Self(ServerName::IpAddress(address.to_canonical().into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

/// Text that is neither a DNS name nor an IP address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a DNS name nor an IP address")]
pub struct ParseNameError(String);

impl FromStr for Name {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        DnsName::try_from(name)
            .map(|name| Self(ServerName::DnsName(name)))
            .map_err(|_| ParseNameError(text.to_owned()))
    }
}

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
    fn spellings_of_one_name_are_equal() {
        assert_eq!(name("LocalHost."), name("localhost"));
        assert_eq!(name("::ffff:127.0.0.1"), name("127.0.0.1"));
        assert_eq!(name("0:0::1"), name("::1"));
        assert_eq!(name("::1").to_string(), "::1");
        assert_eq!(name("127.0.0.1").ip(), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(name("a.example").ip(), None);
    }

    #[test]
    fn what_no_certificate_can_name_is_refused() {
        for text in [
            "",
            ".",
            "a b",
            "*.example",
            "-a",
            "a..b",
            "[::1]",
            "::1%eth0",
            "1.2.3.4.5",
            "a\n",
            &"x".repeat(64),
        ] {
            assert_eq!(text.parse::<Name>(), Err(ParseNameError(text.into())));
        }
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

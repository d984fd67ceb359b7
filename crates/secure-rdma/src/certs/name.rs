//! The names that certificates are for.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;

use rustls::pki_types::{DnsName, ServerName};

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

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
}

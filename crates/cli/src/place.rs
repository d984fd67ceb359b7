//! Where a server is.

use std::str::FromStr;

/// The TCP port of the control channel, where nothing else is said.
pub(crate) const PORT: u16 = 4433;

/// A host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Text that isn't a place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a host: give a name or an IP address, and the port behind a colon if it isn't 4433, such \
     as [::1]:4433"
)]
pub(crate) struct ParsePlaceError(String);

impl FromStr for Place {
    type Err = ParsePlaceError;

    fn from_str(text: &str) -> Result<Self, ParsePlaceError> {
        let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((host, ""))) => (host, None),
            Some(Some((host, rest))) => (host, Some(rest.strip_prefix(':').unwrap_or_default())),
            Some(None) => ("", None),
            // An address such as ::1 has several colons; none of them is before a port.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let error = || ParsePlaceError(text.to_owned());
        let port = match port {
            None => PORT,
            Some(port) => port.parse().ok().filter(|&port| port != 0).ok_or_else(error)?,
        };
        if host.is_empty()
            || host.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']'))
        {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_port_and_brackets() {
        for (text, host, port) in [
            ("localhost", "localhost", 4433),
            ("localhost:1", "localhost", 1),
            ("127.0.0.1", "127.0.0.1", 4433),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("::1", "::1", 4433),
            ("[::1]", "::1", 4433),
            ("[::1]:4434", "::1", 4434),
            ("fe80::1%eth0", "fe80::1%eth0", 4433),
        ] {
            assert_eq!(text.parse(), Ok(Place { host: host.into(), port }), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "[::1",
            "[::1]4433",
            "[]:1",
            "a b",
            "[::1]:",
            "::1]",
        ] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}

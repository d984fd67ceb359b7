//! Which device a user means.

use core::fmt;
use core::str::FromStr;
use std::net::{IpAddr, SocketAddr};

/// A device as a user names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceSelector {
    /// `auto`: the best there is.
    #[default]
    Auto,
    /// `embedded`, `embedded:ADDR` or `embedded:ADDR:PORT`.
    Embedded {
        /// The only local address to use; all otherwise.
        address: Option<IpAddr>,
        /// The UDP port to receive on; 4791 if it is free otherwise.
        port: Option<u16>,
    },
    /// A device of libibverbs: `NAME`, `NAME:PORT` or `NAME:PORT:GID_INDEX`, such as `rxe0` or `mlx5_0:1:3`.
    Named {
        /// Its name.
        name: String,
        /// The port, counted from 1; the first active one otherwise.
        port: Option<u8>,
        /// The entry of the port's GID table to use; the one that the peer reaches otherwise.
        gid_index: Option<usize>,
    },
}

/// Why a device's name can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing was given.
    #[error(
        "a device's name can't be empty: give auto, embedded, embedded:ADDR, or the name of one of libibverbs' devices"
    )]
    Empty,
    /// What follows `embedded:` isn't an address.
    #[error(
        "embedded:{0} doesn't name an address: give embedded:ADDR or embedded:ADDR:PORT, for example \
         embedded:127.0.0.1, embedded:::1 or embedded:[::1]:4792"
    )]
    Address(String),
    /// What follows a device's name isn't a port and a GID index.
    #[error(
        "{0:?} names no device: give NAME, NAME:PORT or NAME:PORT:GID_INDEX with a port from 1 to 255 and a \
         GID index from 0 to 65535, for example rxe0 or mlx5_0:1:3"
    )]
    Place(String),
}

impl FromStr for DeviceSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        match text.split_once(':') {
            None if text.is_empty() => Err(SelectorError::Empty),
            None if text == "auto" => Ok(Self::Auto),
            None if text == "embedded" => Ok(Self::Embedded { address: None, port: None }),
            Some(("embedded", place)) => {
                let bare = place.trim_start_matches('[').trim_end_matches(']');
                if let Ok(address) = bare.parse() {
                    Ok(Self::Embedded { address: Some(address), port: None })
                } else if let Ok(endpoint) = place.parse::<SocketAddr>() {
                    Ok(Self::Embedded { address: Some(endpoint.ip()), port: Some(endpoint.port()) })
                } else {
                    Err(SelectorError::Address(place.into()))
                }
            }
            _ => named(text).ok_or_else(|| SelectorError::Place(text.into())),
        }
    }
}

/// `NAME[:PORT[:GID_INDEX]]`.
fn named(text: &str) -> Option<DeviceSelector> {
    let mut parts = text.split(':');
    let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
    let port = match parts.next() {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0)?),
        None => None,
    };
    let gid_index = match parts.next() {
        Some(index) => Some(index.parse::<u16>().ok()?.into()),
        None => None,
    };
    parts.next().is_none().then_some(DeviceSelector::Named { name, port, gid_index })
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Embedded { address: None, .. } => f.write_str("embedded"),
            Self::Embedded { address: Some(address), port: None } => write!(f, "embedded:{address}"),
            Self::Embedded { address: Some(address), port: Some(port) } => {
                write!(f, "embedded:{}", SocketAddr::new(*address, *port))
            }
            Self::Named { name, port, gid_index } => {
                f.write_str(name)?;
                // An index stands behind a port only.
                match (port, gid_index) {
                    (None, None) => Ok(()),
                    (port, None) => write!(f, ":{}", port.unwrap_or(1)),
                    (port, Some(index)) => write!(f, ":{}:{index}", port.unwrap_or(1)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for text in [
            "auto",
            "embedded",
            "embedded:10.0.0.1",
            "embedded:::1",
            "embedded:10.0.0.1:4792",
            "embedded:[::1]:4792",
            "rxe0",
            "rxe0:1",
            "mlx5_0:1:3",
        ] {
            assert_eq!(text.parse::<DeviceSelector>().unwrap().to_string(), text);
        }
        let bracketed = "embedded:[::1]".parse::<DeviceSelector>().unwrap();
        assert_eq!(bracketed, DeviceSelector::Embedded { address: Some("::1".parse().unwrap()), port: None });
    }

    #[test]
    fn what_names_no_address_is_refused() {
        for text in ["", "embedded:", "embedded:nowhere", "embedded:1.2.3.4:99999", "embedded:1.2.3"] {
            assert!(text.parse::<DeviceSelector>().is_err(), "{text:?}");
        }
        for text in [":1", "rxe0:", "rxe0:0", "rxe0:256", "rxe0:x", "rxe0:1:", "rxe0:1:-1", "rxe0:1:2:3"] {
            let error = text.parse::<DeviceSelector>().unwrap_err();
            assert_eq!(error, SelectorError::Place(text.into()));
        }
    }
}

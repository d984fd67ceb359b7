//! Where other hosts' agents are, where that isn't the usual.
//!
//! A TOML file, one entry a peer:
//!
//! ```toml
//! [[peer]]
//! address = "10.77.0.2"
//! port = 4500
//! name = "storage-2.example"
//! ```
//!
//! - `address`: the address that programs name.
//! - `port`: the TCP port that its agent listens on, where it isn't this host's own.
//! - `name`: what the agent's certificate has to carry, where it isn't the address: a DNS name or another address.
//! - `kernel`: `true` where the kernel seals for programs there, which may be the first to send datagrams.

use crate::certs::{CertsError, Name};
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// What is said of peers, by their addresses. See the [module](super) for whom it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers(HashMap<IpAddr, PeerEntry>);

/// What is said of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerEntry {
    /// The TCP port that its agent listens on.
    pub port: Option<u16>,
    /// The name that its agent's certificate has to carry.
    pub name: Option<Name>,
    /// The kernel seals for programs there.
    pub kernel: bool,
}

/// Why a file of peers can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// It can't be read.
    #[error("the file of peers")]
    Read(#[from] CertsError),
    /// It isn't one.
    #[error("the file of peers {path}{at}: {reason}", path = path.display(),
        at = line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line that is wrong, if it is one.
        line: Option<usize>,
        /// What was found and what is needed.
        reason: String,
    },
}

impl Peers {
    /// Where the agent of that address listens, if that is said.
    #[must_use]
    pub fn port(&self, address: IpAddr) -> Option<u16> {
        self.0.get(&address)?.port
    }

    /// What its certificate has to carry, if that is said.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> Option<&Name> {
        self.0.get(&address)?.name.as_ref()
    }
}

impl Peers {
    /// Those for whose programs the kernel seals.
    pub(super) fn kernels(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().filter(|(_, entry)| entry.kernel).map(|(address, _)| *address)
    }
}

impl FromIterator<(IpAddr, PeerEntry)> for Peers {
    fn from_iter<I: IntoIterator<Item = (IpAddr, PeerEntry)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(address, entry)| (address.to_canonical(), entry)).collect())
    }
}

#[cfg(feature = "toml")]
mod file {
    use super::{PeerEntry, Peers, PeersError};
    use crate::certs::{self, Name, Named, Secrecy};
    use core::num::NonZeroU16;
    use core::ops::Range;
    use std::collections::HashMap;
    use std::net::IpAddr;
    use std::path::Path;
    use toml::Spanned;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        peer: Vec<Entry>,
    }

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        address: Spanned<IpAddr>,
        port: Option<NonZeroU16>,
        name: Option<Spanned<String>>,
        #[serde(default)]
        kernel: bool,
    }

    impl Peers {
        /// What the file `path` says.
        ///
        /// # Errors
        /// It can't be read, or anything in it isn't understood.
        pub fn load(path: &Path) -> Result<Self, PeersError> {
            let bytes = certs::read_existing(path, Secrecy::Public, Named::ByUser)?;
            Self::parse(path, &bytes)
        }

        pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, PeersError> {
            let line_of = |at: usize| 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
            let at = |span: Range<usize>| line_of(span.start);
            let wrong = |line, reason: String| PeersError::Wrong { path: path.into(), line, reason };
            let text = str::from_utf8(bytes).map_err(|error| {
                wrong(Some(line_of(error.valid_up_to())), "it is not text in UTF-8".into())
            })?;
            let file: File = toml::from_str(text)
                .map_err(|error| wrong(error.span().map(at), error.message().to_owned()))?;
            let mut lines: HashMap<IpAddr, usize> = HashMap::new();
            let mut peers = HashMap::new();
            for Entry { address, port, name, kernel } in file.peer {
                let line = at(address.span());
                let address = address.into_inner().to_canonical();
                if let Some(first) = lines.insert(address, line) {
                    let reason = format!("{address} is there already, in line {first}");
                    return Err(wrong(Some(line), reason));
                }
                let parse = |name: Spanned<String>| {
                    let line = at(name.span());
                    name.get_ref().parse::<Name>().map_err(|error| wrong(Some(line), error.to_string()))
                };
                let name = name.map(parse).transpose()?;
                if port.is_none() && name.is_none() && !kernel {
                    let reason =
                        format!("{address}: nothing is said of it; give a port, a name or kernel = true");
                    return Err(wrong(Some(line), reason));
                }
                peers.insert(address, PeerEntry { port: port.map(NonZeroU16::get), name, kernel });
            }
            Ok(Self(peers))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn parse(text: &str) -> Result<Peers, String> {
            Peers::parse(Path::new("peers.toml"), text.as_bytes()).map_err(|error| error.to_string())
        }

        #[test]
        fn what_is_said_of_a_peer_is_found_by_its_address() {
            let peers = parse(
                "[[peer]]\naddress = \"10.77.0.2\"\nport = 4500\n\n[[peer]]\naddress = \"2001:db8::2\"\n\
                 name = \"b.example\"\n\n[[peer]]\naddress = \"10.77.0.4\"\nkernel = true\n",
            )
            .unwrap();
            let (v4, v6) = (IpAddr::from([10, 77, 0, 2]), "2001:db8::2".parse().unwrap());
            assert_eq!((peers.port(v4), peers.name(v4)), (Some(4500), None));
            assert_eq!(
                (peers.port(v6), peers.name(v6).map(ToString::to_string)),
                (None, Some("b.example".into()))
            );
            assert_eq!(peers.port([10, 77, 0, 3].into()), None);
            assert_eq!(peers.kernels().collect::<Vec<_>>(), [IpAddr::from([10, 77, 0, 4])]);
            assert_eq!(parse(""), Ok(Peers::default()));
        }

        #[test]
        fn what_is_wrong_is_told_with_its_line() {
            let entry = |rest: &str| format!("# peers\n[[peer]]\naddress = \"10.77.0.2\"\n{rest}\n");
            for (text, line, words) in [
                (entry("port = 0"), 4, "nonzero"),
                (entry("port = 70000"), 4, "u16"),
                (entry("name = \"not a name\""), 4, "neither a DNS name nor an IP address"),
                (entry("prot = 1"), 4, "unknown field"),
                (entry(""), 3, "nothing is said"),
                (entry("kernel = false"), 3, "nothing is said"),
                ("[[peer]]\naddress = \"10.77.0\"\nport = 1\n".into(), 2, "IP address"),
                (format!("{}{}", entry("port = 1"), entry("port = 2")), 7, "already, in line 3"),
            ] {
                let error = parse(&text).unwrap_err();
                assert!(
                    error.contains(&format!("line {line}")) && error.contains(words),
                    "{text:?}: {error}"
                );
            }
        }
    }
}

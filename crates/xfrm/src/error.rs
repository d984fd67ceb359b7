//! What goes wrong.

use std::io;
use std::net::IpAddr;

/// Why the kernel doesn't seal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused.
    #[error("{what}: {}", reason(.source))]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The kernel's answer is none.
    #[error("{what}: the kernel's answer is malformed")]
    Malformed {
        /// What was tried.
        what: &'static str,
    },
    /// These addresses have IPsec policies already.
    #[error(
        "between {own} and {peer} there is an IPsec policy for UDP already: another program's, or the \
         administrator's (ip xfrm policy); the kernel seals for one program at each of two addresses"
    )]
    Busy {
        /// This host's address.
        own: IpAddr,
        /// The peer's.
        peer: IpAddr,
    },
    /// These addresses can't be sealed between.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// No such association, SPI or key: the caller's mistake.
    #[error("{0}")]
    Request(&'static str),
    /// The helper's answer.
    #[error("{0}")]
    Helper(String),
}

/// Why the kernel can't seal between two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// The peer is this host.
    #[error("the kernel seals between hosts, and {0} is this host's own address")]
    OwnHost(IpAddr),
    /// An IPv4 and an IPv6 address.
    #[error("{0} and {1} are of different versions of IP")]
    Families(IpAddr, IpAddr),
    /// An address that isn't one host's, or only this host's.
    #[error("{0} isn't the address of one host in a network")]
    NotAHost(IpAddr),
    /// The address isn't this host's.
    #[error("{0} isn't an address of this host")]
    Foreign(IpAddr),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn kernel<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Kernel { what, source: error.into() }
    }

    /// What the kernel said, if it said something.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// What the kernel means by its error, where that isn't said by its name.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "the right to (CAP_NET_ADMIN) is missing".into(),
        Some(libc::ENOSYS) => "the kernel has no rfc4106(gcm(aes)) (modprobe gcm)".into(),
        Some(libc::EPROTONOSUPPORT) => {
            "the kernel has no ESP or no IPsec (modprobe esp4 esp6 xfrm_user)".into()
        }
        _ => error.to_string(),
    }
}

//! What the helper is asked, and what it answers: one packet each on a Unix socket pair, CBOR (RFC 8949).

use crate::{Material, Ports};
use minicbor::{Decode, Encode};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send as send_bytes};
use std::net::IpAddr;
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// The version of what is said here.
pub(super) const VERSION: u16 = 3;

/// Bytes of a message.
const MAX_LEN: usize = 1024;

/// What is asked. It is answered before anything else is.
#[derive(Debug, Encode, Decode)]
pub(super) enum Request {
    /// It comes first.
    #[n(0)]
    Hello {
        #[n(0)]
        version: u16,
    },
    /// Whether the kernel has what it takes.
    #[n(8)]
    Check,
    /// An association between two addresses.
    #[n(1)]
    Open {
        #[n(0)]
        own: IpAddr,
        #[n(1)]
        peer: IpAddr,
    },
    /// An SPI.
    #[n(2)]
    AllocateSpi {
        #[n(0)]
        association: u32,
    },
    /// A key of what arrives.
    #[n(3)]
    InstallInbound {
        #[n(0)]
        association: u32,
        #[n(1)]
        spi: u32,
        #[n(2)]
        ports: Ports,
        #[n(3)]
        material: Material,
    },
    /// A key of what leaves.
    #[n(4)]
    InstallOutbound {
        #[n(0)]
        association: u32,
        #[n(1)]
        spi: u32,
        #[n(2)]
        ports: Ports,
        #[n(3)]
        material: Material,
    },
    /// How many packets have come.
    #[n(5)]
    Packets {
        #[n(0)]
        association: u32,
        #[n(1)]
        spi: u32,
    },
    /// An SPI isn't used any more.
    #[n(6)]
    Release {
        #[n(0)]
        association: u32,
        #[n(1)]
        spi: u32,
    },
    /// Nothing more comes or goes between its addresses, until there are keys again.
    #[n(9)]
    Block {
        /// Which.
        #[n(0)]
        association: u32,
    },
    /// The association isn't used any more, and no queue pair is left that was.
    #[n(7)]
    Close {
        #[n(0)]
        association: u32,
    },
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Answer {
    /// It is this version.
    #[n(0)]
    Hello {
        #[n(0)]
        version: u16,
        /// Whose states and policies are those that it is asked for.
        #[n(1)]
        reqid: u32,
    },
    /// An association, or an SPI, or how many packets.
    #[n(1)]
    Number {
        #[n(0)]
        number: u64,
    },
    /// It is done.
    #[n(2)]
    Done,
    /// It isn't.
    #[n(3)]
    Refused {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
}

/// Sends a message. Its bytes may be a key, and are wiped.
pub(super) fn send<M: Encode<()>>(socket: impl AsFd, message: &M) -> Result<(), Errno> {
    // So long that it doesn't grow, and leave a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN));
    minicbor::encode(message, &mut *bytes).map_err(|_| Errno::INVAL)?;
    if bytes.len() > MAX_LEN {
        return Err(Errno::MSGSIZE);
    }
    retry_on_intr(|| send_bytes(&socket, &bytes, SendFlags::NOSIGNAL)).map(drop)
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<M> {
    /// A message.
    Message(M),
    /// Something else.
    Malformed,
    /// The other side is gone.
    End,
}

/// Waits for a message.
pub(super) fn receive<M: for<'b> Decode<'b, ()>>(socket: impl AsFd) -> Result<Incoming<M>, Errno> {
    let mut bytes = Zeroizing::new([0; MAX_LEN]);
    let (_, len) = retry_on_intr(|| recv(&socket, &mut bytes[..], RecvFlags::TRUNC))?;
    Ok(match bytes.get(..len) {
        Some([]) => Incoming::End,
        Some(message) => minicbor::decode(message).map_or(Incoming::Malformed, Incoming::Message),
        None => Incoming::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn messages_arrive_and_others_are_told_from_them() {
        let (a, b) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let material = Material::new(&[7; 36]).unwrap();
        let ports = Ports { own: 4500, peer: 4791 };
        send(&a, &Request::InstallInbound { association: 1, spi: 2, ports, material }).unwrap();
        let Ok(Incoming::Message(Request::InstallInbound { material, .. })) = receive(&b) else {
            panic!("no key")
        };
        assert_eq!(material.bytes(), [7; 36]);
        for bytes in [&b"no message"[..], &[0xff; MAX_LEN + 1]] {
            send_bytes(&a, bytes, SendFlags::empty()).unwrap();
            assert_eq!(receive::<Answer>(&b).unwrap(), Incoming::Malformed);
        }
        drop(a);
        assert_eq!(receive::<Answer>(&b).unwrap(), Incoming::End);
    }
}

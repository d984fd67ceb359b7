//! What a process says to the agent, and what it hears: one packet each on a Unix socket, CBOR (RFC 8949).
//!
//! Each side speaks when it likes. Both are one user's, who can do to either what the messages could; they are checked
//! nevertheless.

use super::Instance;
use core::fmt;
use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::{Encoder, Error as EncodeError, Write};
use minicbor::{Decode, Encode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send as send_bytes};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Bytes of a message: settings have paths in them.
pub const MAX_LEN: usize = 16 << 10;

/// What a process says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// It comes first: the process' device, and by what settings its packets are to be sealed.
    #[n(0)]
    Attach {
        /// The device.
        #[n(0)]
        own: Instance,
        /// The settings, as `secure-rdma run` has given them.
        #[n(1)]
        settings: String,
    },
    /// Keys are needed for a peer: the program has named it, or the agent has asked.
    #[n(1)]
    Open {
        /// The peer.
        #[n(0)]
        peer: Instance,
        /// By what SPI its first packets are taken. It names the pair from here on.
        #[n(1)]
        spi: u32,
    },
    /// Packets with that SPI are taken.
    #[n(2)]
    Installed {
        /// The pair.
        #[n(0)]
        pair: u32,
        /// The SPI.
        #[n(1)]
        spi: u32,
    },
    /// The peer needs another key: its packets under that one will be taken by another SPI.
    #[n(3)]
    Rekey {
        /// The pair.
        #[n(0)]
        pair: u32,
        /// The SPI.
        #[n(1)]
        spi: u32,
    },
    /// The pair isn't wanted any more.
    #[n(4)]
    Close {
        /// The pair.
        #[n(0)]
        pair: u32,
    },
}

/// What a process hears.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Event {
    /// The agent agrees on keys for this process.
    #[n(0)]
    Attached {
        /// After how many packets under one key the peer gets another.
        #[n(0)]
        rekey_after: u64,
        /// The addresses for whose programs the kernel seals, as far as that is known beforehand.
        #[n(1)]
        kernels: Vec<IpAddr>,
    },
    /// It doesn't.
    #[n(1)]
    Refused {
        /// Why, for people.
        #[n(0)]
        reason: String,
    },
    /// A peer wants keys: the process is to open a pair with it.
    #[n(2)]
    Wanted {
        /// The peer.
        #[n(0)]
        peer: Instance,
    },
    /// A key of what arrives.
    #[n(3)]
    Inbound {
        /// The pair.
        #[n(0)]
        pair: u32,
        /// The SPI by which packets under it arrive.
        #[n(1)]
        spi: u32,
        /// The key.
        #[n(2)]
        key: Material,
    },
    /// A key of what leaves.
    #[n(4)]
    Outbound {
        /// The pair.
        #[n(0)]
        pair: u32,
        /// The SPI that the peer takes packets under it by.
        #[n(1)]
        spi: u32,
        /// The key.
        #[n(2)]
        key: Material,
        /// The UDP port at which the peer's kernel takes them, for all queue pairs at its address, where that does it.
        #[n(3)]
        esp_port: Option<NonZeroU16>,
    },
    /// There are no keys for the pair, or not any more.
    #[n(5)]
    Ended {
        /// The pair.
        #[n(0)]
        pair: u32,
        /// Why, for people.
        #[n(1)]
        reason: String,
    },
}

/// A key of AES-GCM, then its salt. Erased when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Material(Zeroizing<Vec<u8>>);

impl Material {
    /// These bytes.
    #[must_use]
    pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

impl<C> Encode<C> for Material {
    fn encode<W: Write>(&self, encoder: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        encoder.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Material {
    fn decode(decoder: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        Ok(Self(Zeroizing::new(decoder.bytes()?.to_vec())))
    }
}

/// A message's bytes. They may be a key: they are erased when they are dropped.
///
/// # Errors
/// `EMSGSIZE` if there are too many.
pub fn encode<M: Encode<()>>(message: &M) -> Result<Zeroizing<Vec<u8>>, Errno> {
    // Long enough for every key, so that none is left behind in a buffer that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    minicbor::encode(message, &mut *bytes).map_err(|_| Errno::INVAL)?;
    if bytes.len() > MAX_LEN { Err(Errno::MSGSIZE) } else { Ok(bytes) }
}

/// The message with these bytes, if they are one and nothing more.
#[must_use]
pub fn decode<M: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Option<M> {
    let mut decoder = Decoder::new(bytes);
    let message = decoder.decode().ok()?;
    (decoder.position() == bytes.len()).then_some(message)
}

/// Sends a message.
///
/// # Errors
/// What the system says.
pub fn send<M: Encode<()>>(socket: impl AsFd, message: &M) -> Result<(), Errno> {
    send_bytes(socket, &encode(message)?, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a message, without waiting for one. `None` at the end, and for what is no message.
///
/// # Errors
/// What the system says; `EAGAIN` if there is none.
pub fn receive<M: for<'b> Decode<'b, ()>>(socket: impl AsFd) -> Result<Option<M>, Errno> {
    let mut bytes = Zeroizing::new(vec![0; MAX_LEN]);
    let (len, _) = recv(socket, &mut bytes[..], RecvFlags::DONTWAIT)?;
    Ok(bytes.get(..len).filter(|bytes| !bytes.is_empty()).and_then(decode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn messages_survive_the_way_and_what_is_none_is_told_from_them() {
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let peer = Instance { address: "2001:db8::1".parse().unwrap(), slot: 63 };
        let key = Material::new(Zeroizing::new(vec![7; 36]));
        assert_eq!(format!("{key:?}"), "Material");
        for event in [
            Event::Attached { rekey_after: u64::MAX, kernels: vec![peer.address] },
            Event::Wanted { peer },
            Event::Inbound { pair: 1, spi: u32::MAX, key: key.clone() },
            Event::Outbound { pair: 1, spi: u32::MAX, key: key.clone(), esp_port: NonZeroU16::new(4500) },
            Event::Ended { pair: 2, reason: "gone".into() },
        ] {
            send(&here, &event).unwrap();
            assert_eq!(receive::<Event>(&there).unwrap(), Some(event));
        }
        assert_eq!(receive::<Event>(&there).unwrap_err(), Errno::AGAIN);
        let twice = [encode(&Event::Wanted { peer }).unwrap().as_slice(), &[0]].concat();
        for none in [b"\xff".as_slice(), &twice] {
            rustix::io::write(&here, none).unwrap();
            assert_eq!(receive::<Event>(&there).unwrap(), None);
        }
        let long = Request::Attach { own: peer, settings: "x".repeat(MAX_LEN) };
        assert_eq!(send(&here, &long), Err(Errno::MSGSIZE));
        drop(here);
        assert_eq!(receive::<Event>(&there).unwrap(), None);
    }
}

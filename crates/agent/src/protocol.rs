//! Messages between a process and the agent: packets on a Unix socket, of a fixed length, with descriptors beside them.
//!
//! Both sides are one user's, who can do to either what the messages could; they are checked nevertheless.

use rocev2_device::host::group::SLOTS;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a message begins with.
const MAGIC: [u8; 4] = *b"4791";

/// The version of these messages. An agent answers another version with its own, and nothing else.
pub const VERSION: u8 = 5;

/// Bytes of each message.
const LEN: usize = 24;

/// How packets of a process leave, and arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packets {
    /// In clear.
    Clear,
    /// Sealed, or not at all.
    Sealed,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A process asks for a slot at an address.
    Ask(IpAddr, Packets),
    /// A process that has a slot gives a new agent the group, which it got from another one.
    Return(IpAddr, u8, Packets),
    /// The agent gives a slot, with the group's sockets.
    Slot(u8),
    /// The agent is done with what it was given.
    Taken,
    /// All slots at that address are taken.
    Full,
    /// The port can't be had there: an error number.
    Failed(i32),
    /// The other side speaks this version.
    Version(u8),
    /// A process wants connection management at an address. Where it is to be sealed,
    /// [`Attach`](crate::pairs::protocol::Request::Attach) follows, with the agent's own slot there.
    Manage(IpAddr, Packets),
    /// It has it: what follows is [`crate::cm::protocol`]'s.
    Manages,
    /// It doesn't get it: [`Refused`](crate::pairs::protocol::Event::Refused) follows, which says why.
    Refuses,
    /// A process whose packets are sealed wants keys: what follows is [`crate::pairs::protocol`]'s.
    Seal,
    /// It gets them.
    Seals,
}

impl Message {
    fn to_bytes(self) -> [u8; LEN] {
        let none = Ipv6Addr::UNSPECIFIED.into();
        let (kind, slot, number, address) = match self {
            Self::Ask(address, _) => (1, 0, 0, address),
            Self::Return(address, slot, _) => (2, slot, 0, address),
            Self::Slot(slot) => (3, slot, 0, none),
            Self::Taken => (4, 0, 0, none),
            Self::Full => (5, 0, 0, none),
            Self::Failed(number) => (6, 0, number, none),
            Self::Version(_) => (7, 0, 0, none),
            Self::Manage(address, _) => (8, 0, 0, address),
            Self::Manages => (9, 0, 0, none),
            Self::Seal => (10, 0, 0, none),
            Self::Seals => (11, 0, 0, none),
            Self::Refuses => (12, 0, 0, none),
        };
        let sealed = match self {
            Self::Ask(_, packets) | Self::Return(_, _, packets) | Self::Manage(_, packets) => {
                u8::from(packets == Packets::Sealed)
            }
            _ => 0,
        };
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        // What a number takes up beside an address lies where none of them has both.
        bytes[4..8].copy_from_slice(&[VERSION, kind, slot, sealed]);
        bytes[8..].copy_from_slice(&address.octets());
        if let Self::Failed(_) = self {
            bytes[8..12].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let [magic @ .., version, kind, slot, sealed] = *head;
        if magic != MAGIC {
            return None;
        }
        if version != VERSION {
            return Some(Self::Version(version));
        }
        let rest: [u8; 16] = rest.try_into().ok()?;
        let address = Ipv6Addr::from(rest).to_canonical();
        let packets = match sealed {
            0 => Packets::Clear,
            1 => Packets::Sealed,
            _ => return None,
        };
        let is_slot = slot != 0 && usize::from(slot) < SLOTS;
        match kind {
            1 => Some(Self::Ask(address, packets)),
            2 if is_slot => Some(Self::Return(address, slot, packets)),
            3 if is_slot => Some(Self::Slot(slot)),
            4 => Some(Self::Taken),
            5 => Some(Self::Full),
            6 => Some(Self::Failed(i32::from_le_bytes(*rest.first_chunk()?))),
            7 => Some(Self::Version(version)),
            8 => Some(Self::Manage(address, packets)),
            9 => Some(Self::Manages),
            10 => Some(Self::Seal),
            11 => Some(Self::Seals),
            12 => Some(Self::Refuses),
            _ => None,
        }
    }
}

/// Sends a message with descriptors, of which there may be none.
///
/// # Errors
/// What the system says.
pub fn send(socket: impl AsFd, message: Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = message.to_bytes();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// Receives a message with its descriptors. `None` at the end, and for what is no message.
///
/// # Errors
/// What the system says.
pub fn receive(socket: impl AsFd) -> Result<Option<(Message, Vec<OwnedFd>)>, Errno> {
    let mut bytes = [0; LEN + 1];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SLOTS))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let parts = &mut [IoSliceMut::new(&mut bytes)];
    let len = recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = message {
            descriptors.extend(found);
        }
    }
    Ok(bytes.get(..len).and_then(Message::from_bytes).map(|message| (message, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().unwrap());
        for message in [
            Message::Ask(v4, Packets::Clear),
            Message::Ask(v6, Packets::Sealed),
            Message::Return(v4, 63, Packets::Sealed),
            Message::Slot(1),
            Message::Taken,
            Message::Full,
            Message::Failed(-98),
            Message::Version(VERSION),
            Message::Manage(v6, Packets::Clear),
            Message::Manage(v4, Packets::Sealed),
            Message::Manages,
            Message::Refuses,
            Message::Seal,
            Message::Seals,
        ] {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        let good = Message::Slot(7).to_bytes();
        assert_eq!(Message::from_bytes(&good[..LEN - 1]), None);
        let with = |at: usize, byte| {
            let mut bytes = good;
            bytes[at] = byte;
            Message::from_bytes(&bytes)
        };
        assert_eq!(with(0, b'x'), None);
        assert_eq!(with(4, 9), Some(Message::Version(9)), "another version says only that");
        assert_eq!(with(5, 99), None);
        assert_eq!(with(7, 2), None);
        for slot in [0, 64, 255] {
            assert_eq!(with(6, slot), None, "slot {slot}");
        }
    }
}

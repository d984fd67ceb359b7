//! Other sockets' memory, as the system tells of it (`sock_diag(7)`).

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// A netlink socket that answers questions about others.
#[derive(Debug)]
pub(super) struct Diagnosis {
    socket: OwnedFd,
    asked: u32,
}

/// Bytes of a netlink message's header, `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of a question, a header and `struct inet_diag_req_v2`.
const QUESTION: u32 = 16 + 56;
/// Bytes of an answer before its attributes, `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// Bytes of an attribute's header, `struct rtattr`.
const ATTRIBUTE: usize = 4;

const NLM_F_REQUEST: u16 = 1;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const INET_DIAG_SKMEMINFO: u16 = 7;
const PROTOCOL_UDP: u8 = 17;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

impl Diagnosis {
    /// `None` where the system has none.
    pub(super) fn new() -> Option<Self> {
        let (kind, flags) = (SocketType::RAW, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::NETLINK, kind, flags, Some(netlink::SOCK_DIAG)).ok()?;
        Some(Self { socket, asked: 0 })
    }

    /// How much of its receive buffer the socket uses that gets what is sent `from` there `to` here, and how large
    /// the buffer is, in bytes.
    pub(super) fn receive_buffer(&mut self, from: SocketAddr, to: SocketAddr) -> Option<[u32; 2]> {
        self.asked = self.asked.wrapping_add(1);
        send(&self.socket, &question(self.asked, from, to), SendFlags::empty()).ok()?;
        let mut bytes = [0; 512];
        // The answer is there when the question was taken; one to an earlier question may stand before it.
        loop {
            let (_, len) = recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
            let (header, rest) = bytes.get(..len)?.split_first_chunk::<HEADER>()?;
            if header[8..12] == self.asked.to_ne_bytes() {
                return answer(header, rest);
            }
        }
    }
}

fn question(number: u32, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut message = Vec::with_capacity(QUESTION as usize);
    message.extend(QUESTION.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    // The port of this socket: the system knows it.
    message.extend([0; 4]);
    // Any state.
    message.extend([family, PROTOCOL_UDP, 1 << (INET_DIAG_SKMEMINFO - 1), 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(from.port().to_be_bytes());
    message.extend(to.port().to_be_bytes());
    message.extend(address(from.ip()));
    message.extend(address(to.ip()));
    // Any interface, and no cookie.
    message.extend([0; 4]);
    message.extend([0xff; 8]);
    message
}

/// 16 bytes, of which IPv4 uses the first four.
fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The first two numbers of the attribute `INET_DIAG_SKMEMINFO`.
fn answer(header: &[u8; HEADER], rest: &[u8]) -> Option<[u32; 2]> {
    if header[4..6] != SOCK_DIAG_BY_FAMILY.to_ne_bytes() {
        return None;
    }
    let mut attributes = rest.get(ANSWER..)?;
    loop {
        let (head, _) = attributes.split_first_chunk::<ATTRIBUTE>()?;
        let [a, b, c, d] = *head;
        let (len, kind) = (usize::from(u16::from_ne_bytes([a, b])), u16::from_ne_bytes([c, d]));
        if kind == INET_DIAG_SKMEMINFO {
            let value = attributes.get(ATTRIBUTE..len)?;
            let (filled, behind) = value.split_first_chunk()?;
            return Some([u32::from_ne_bytes(*filled), u32::from_ne_bytes(*behind.first_chunk()?)]);
        }
        attributes = attributes.get(len.max(ATTRIBUTE).next_multiple_of(4)..)?;
    }
}

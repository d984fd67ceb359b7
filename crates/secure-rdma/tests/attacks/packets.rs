//! Forged packets.

use rdma_verbs::RemoteRegion;
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Aeth, Bth, Headers, Opcode, Operation, Reth, Syndrome};
use rocev2::{Psn, Qpn};
use secure_rdma::{Session, SessionInfo};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

/// A packet as a UDP payload, with the right ICRC: that has no key. Over IPv6 it covers nothing that a sender
/// doesn't choose.
pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, headers: &Headers, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 8192];
    let frame = headers.frame(&mut out, payload.len()).expect("a packet");
    frame.payload.copy_from_slice(payload);
    let end = frame.len + icrc::LEN;
    out.truncate(end);
    PseudoHeader::new(from, to).expect("one family").write(0, &mut out).expect("room");
    out
}

/// Somebody on this host who sends packets in the name of others.
pub(crate) struct Injector {
    socket: UdpSocket,
}

impl Injector {
    pub(crate) fn new() -> Self {
        Self { socket: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("a socket") }
    }

    pub(crate) fn send(&self, to: SocketAddr, headers: &Headers, payload: &[u8]) {
        let from = self.socket.local_addr().expect("its address");
        self.socket.send_to(&datagram(from, to, headers, payload), to).expect("sent");
    }

    /// The same with a wrong ICRC.
    pub(crate) fn send_broken(&self, to: SocketAddr, headers: &Headers, payload: &[u8]) {
        let from = self.socket.local_addr().expect("its address");
        let mut bytes = datagram(from, to, headers, payload);
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        self.socket.send_to(&bytes, to).expect("sent");
    }
}

/// Sends a packet to the server that pretends to be the client's.
pub(crate) fn inject(client: &Session, headers: &Headers, payload: &[u8]) {
    Injector::new().send(client.info().remote.address, headers, payload);
}

/// The header of the client's request with the PSN that is so many behind its first.
pub(crate) fn request(client: &Session, operation: Operation, behind: u32) -> Headers {
    let info = client.info();
    packet(operation, info.remote.qpn, info.own.psn.get().plus(behind))
}

pub(crate) fn packet(operation: Operation, to: Qpn, psn: Psn) -> Headers {
    let bth = Bth::new(Opcode::rc(operation), to, psn);
    Headers::new(Bth { ack_req: operation.is_request(), ..bth })
}

/// An acknowledgement, or a refusal, of the request with that PSN, in the server's name.
pub(crate) fn answer(client: &SessionInfo, psn: Psn, syndrome: Syndrome) -> Headers {
    let mut headers = packet(Operation::Acknowledge, client.own.qpn, psn);
    headers.aeth = Some(Aeth { syndrome, msn: 0 });
    headers
}

/// `len` bytes at `offset` of a region, for a one-sided request.
pub(crate) fn reth(region: &RemoteRegion, offset: u64, len: usize) -> Option<Reth> {
    let len = u32::try_from(len).expect("short");
    Some(Reth { va: region.addr + offset, rkey: region.rkey, len })
}

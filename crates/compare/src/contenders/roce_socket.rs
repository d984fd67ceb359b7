//! The embedded device's socket with nothing above it but what each RoCEv2 packet needs: headers, a copy of
//! its payload, and an ICRC, made and checked. Nothing is acknowledged or sent again. What it takes more than
//! bare UDP is the price of such packets, what the device takes more than it that of the protocol. The same
//! sealed: AES-256-GCM besides, as sessions seal their messages.

mod round_trip;
mod stream;

use crate::clock::Clock;
use crate::contender::Contender;
use crate::ends::{Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, Op, SMALL};
use crate::sample::Sample;
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Bth, Headers, Opcode, Operation, Packet};
use rocev2::{Psn, Qpn};
use rocev2_device::link::{RxBatch, Sent, Socket, TxBatch};
use rustix::event::{PollFd, PollFlags, poll};
use std::net::SocketAddr;
use stream::Stream;

pub(crate) enum RoceSocket {
    Plain,
    Sealed,
}

impl Contender for RoceSocket {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain => "roce-socket",
            Self::Sealed => "roce-socket-sealed",
        }
    }

    fn figures(&self) -> Vec<Figure> {
        match self {
            Self::Plain => {
                let streams = [Op::Write, Op::Send].into_iter().flat_map(|op| Figure::each(op, &LARGE));
                streams.chain(Figure::each(Op::RoundTrip, &SMALL)).collect()
            }
            Self::Sealed => Figure::each(Op::Send, &LARGE).collect(),
        }
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        match (self, op) {
            (Self::Plain, Op::RoundTrip) => round_trip::run(size, clock, place),
            (Self::Plain, Op::Write) => Stream::Write.run(size, clock, place),
            (Self::Plain, _) => Stream::Send.run(size, clock, place),
            (Self::Sealed, _) => Stream::Sealed.run(size, clock, place),
        }
    }
}

/// One end.
struct End {
    socket: Socket,
    peer: SocketAddr,
    /// Of what it sends, and of what it receives.
    pseudo_headers: [PseudoHeader; 2],
    batch: TxBatch,
    buffers: RxBatch,
}

impl End {
    fn meet(meeting: &Meeting<SocketAddr>) -> Result<Self, Failure> {
        let socket = Socket::bind(SocketAddr::new(meeting.host(), 0)).during("binding a UDP socket")?;
        meeting.tell(socket.local_addr());
        let (own, peer) = (socket.local_addr(), meeting.hear()?);
        let pseudo_headers = [PseudoHeader::new(own, peer)?, PseudoHeader::new(peer, own)?];
        Ok(Self { socket, peer, pseudo_headers, batch: TxBatch::new(), buffers: RxBatch::new() })
    }

    /// Adds a packet to those that are sent next.
    fn put(&mut self, headers: &Headers, payload: &[u8]) -> Result<(), Failure> {
        let frame = headers.frame(self.batch.reserve(), payload.len())?;
        frame.payload.copy_from_slice(payload);
        let (len, pseudo_header) = (frame.len, &self.pseudo_headers[0]);
        self.batch.commit(len, self.peer, |packet, id| pseudo_header.icrc(id, packet));
        Ok(())
    }

    /// Sends all that was added. Waits where there is no room.
    fn flush(&mut self) -> Result<(), Failure> {
        let Self { socket, pseudo_headers: [own, _], batch, .. } = self;
        while socket.send(batch, &mut |packet, _, id| own.icrc(id, packet)) == Sent::Blocked {
            poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
        }
        Ok(())
    }

    /// Takes the packets that have arrived; how many there were.
    fn take(&mut self, mut each: impl FnMut(Packet<'_>)) -> Result<usize, Failure> {
        let mut count = 0;
        self.socket.recv(&mut self.buffers);
        for datagram in self.buffers.datagrams() {
            let verified = self.pseudo_headers[1].verify(datagram.index, datagram.bytes)?;
            each(Packet::parse(verified.packet)?);
            count += 1;
        }
        Ok(count)
    }
}

/// The headers that all operations have.
fn headers(operation: Operation) -> Headers {
    Headers::new(Bth::new(Opcode::rc(operation), Qpn::truncate(1), Psn::truncate(1)))
}

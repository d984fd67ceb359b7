//! The embedded device's socket with nothing above it but what each RoCEv2 packet needs: headers, a copy of
//! its payload, and an ICRC, made and checked. Nothing is acknowledged or sent again. What it takes more than
//! bare UDP is the price of such packets, what the device takes more than it that of the protocol. The same
//! sealed: AES-256-GCM besides, as sessions seal their messages, or each packet inside ESP.

mod esp;
mod round_trip;
mod stream;

use crate::clock::Clock;
use crate::contender::Contender;
use crate::ends::{Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, Op, SMALL};
use crate::sample::Sample;
use esp::Esp;
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Bth, Headers, Opcode, Operation, Packet};
use rocev2::{Psn, Qpn};
use rocev2_device::link::{RxBatch, Sent, Socket, TxBatch, put_icrc};
use rustix::event::{PollFd, PollFlags, poll};
use std::net::SocketAddr;
use stream::Stream;

pub(crate) enum RoceSocket {
    Plain,
    /// As sessions seal messages.
    Sealed,
    /// Each packet in ESP.
    Esp,
}

impl Contender for RoceSocket {
    fn name(&self) -> &'static str {
        match self {
            Self::Plain => "roce-socket",
            Self::Sealed => "roce-socket-sealed",
            Self::Esp => "roce-socket-esp",
        }
    }

    fn figures(&self) -> Vec<Figure> {
        match self {
            Self::Plain | Self::Esp => {
                let streams = [Op::Write, Op::Send].into_iter().flat_map(|op| Figure::each(op, &LARGE));
                streams.chain(Figure::each(Op::RoundTrip, &SMALL)).collect()
            }
            Self::Sealed => Figure::each(Op::Send, &LARGE).collect(),
        }
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        let Figure { op, size } = figure;
        let esp = matches!(self, Self::Esp);
        match (self, op) {
            (Self::Sealed, _) => Stream::Sealed.run(size, clock, place, esp),
            (_, Op::RoundTrip) => round_trip::run(size, clock, place, esp),
            (_, Op::Write) => Stream::Write.run(size, clock, place, esp),
            _ => Stream::Send.run(size, clock, place, esp),
        }
    }
}

/// One end.
struct End {
    socket: Socket,
    peer: SocketAddr,
    /// What makes and checks its packets.
    format: Format,
    batch: TxBatch,
    buffers: RxBatch,
}

/// How packets are on the wire.
enum Format {
    /// With an ICRC: what it covers beside them where they leave, and where they arrive.
    Plain([PseudoHeader; 2]),
    /// In ESP.
    Esp(Box<Esp>),
}

impl End {
    fn meet(meeting: &Meeting<SocketAddr>, esp: bool) -> Result<Self, Failure> {
        let socket = Socket::bind(SocketAddr::new(meeting.host(), 0)).during("binding a UDP socket")?;
        meeting.tell(socket.local_addr());
        let (own, peer) = (socket.local_addr(), meeting.hear()?);
        let format = if esp {
            Format::Esp(Box::new(Esp::new(own, peer)?))
        } else {
            Format::Plain([PseudoHeader::new(own, peer)?, PseudoHeader::new(peer, own)?])
        };
        Ok(Self { socket, peer, format, batch: TxBatch::new(), buffers: RxBatch::new() })
    }

    /// Adds a packet to those that are sent next.
    fn put(&mut self, headers: &Headers, payload: &[u8]) -> Result<(), Failure> {
        let own = match &mut self.format {
            Format::Esp(esp) => return esp.put(&mut self.batch, self.peer, headers, payload),
            Format::Plain([own, _]) => own,
        };
        let frame = headers.frame(self.batch.reserve(), payload.len())?;
        frame.payload.copy_from_slice(payload);
        let len = frame.len;
        self.batch.commit(len, self.peer, |packet, id| own.icrc(id, packet));
        Ok(())
    }

    /// Sends all that was added. Waits where there is no room.
    fn flush(&mut self) -> Result<(), Failure> {
        let Self { socket, format, batch, .. } = self;
        let mut reseal = |datagram: &mut [u8], _, id| {
            // Inside ESP nobody looks at the ICRC.
            if let Format::Plain([own, _]) = format {
                put_icrc(datagram, |packet| own.icrc(id, packet));
            }
        };
        while socket.send(batch, &mut reseal) == Sent::Blocked {
            poll(&mut [PollFd::new(socket, PollFlags::OUT)], None)?;
        }
        Ok(())
    }

    /// Takes the packets that have arrived; how many there were.
    fn take(&mut self, mut each: impl FnMut(Packet<'_>)) -> Result<usize, Failure> {
        let mut count = 0;
        self.socket.recv(&mut self.buffers);
        for datagram in self.buffers.datagrams() {
            let packet = match &mut self.format {
                Format::Plain([_, peers]) => peers.verify(datagram.index, datagram.bytes)?.packet,
                Format::Esp(esp) => esp.open(datagram.bytes)?,
            };
            each(Packet::parse(packet)?);
            count += 1;
        }
        Ok(count)
    }
}

/// The headers that all operations have.
fn headers(operation: Operation) -> Headers {
    Headers::new(Bth::new(Opcode::rc(operation), Qpn::truncate(1), Psn::truncate(1)))
}

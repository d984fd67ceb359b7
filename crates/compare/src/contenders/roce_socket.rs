//! The embedded device's socket with nothing above it but what each RoCEv2 packet needs: a copy of its payload, and an ICRC made and
//! checked. Nothing is acknowledged or sent again. What it takes more than bare UDP is the price of such packets, what the device takes more
//! than it that of the protocol.

use crate::clock::{Clock, Meter, Stopwatch};
use crate::contender::Contender;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, LARGE, Op, SMALL};
use crate::sample::Sample;
use crate::spin::Spin;
use device::net::{RecvBuffers, Socket, TxBatch};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Bth, Opcode, Operation};
use rocev2::{Psn, Qpn};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

/// Payload of a full packet.
const PATH_MTU: usize = 4096;

pub(crate) struct RoceSocket;

impl Contender for RoceSocket {
    fn name(&self) -> &'static str {
        "roce-socket"
    }

    fn figures(&self) -> Vec<Figure> {
        Figure::each(Op::Send, &LARGE).chain(Figure::each(Op::RoundTrip, &SMALL)).collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        match figure.op {
            Op::Send => bandwidth(figure.size, clock, place),
            _ => round_trip(figure.size, clock, place),
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
    buffers: RecvBuffers,
    payload: Vec<u8>,
}

impl End {
    fn meet(meeting: &Meeting<SocketAddr>, size: usize) -> Result<Self, Failure> {
        let socket = Socket::bind(SocketAddr::new(meeting.host(), 0)).during("binding a UDP socket")?;
        meeting.tell(socket.local_addr());
        let (own, peer) = (socket.local_addr(), meeting.hear()?);
        let pseudo_headers = [PseudoHeader::new(own, peer)?, PseudoHeader::new(peer, own)?];
        let (batch, buffers, payload) = (TxBatch::new(), RecvBuffers::new(), vec![0x5a; size]);
        Ok(Self { socket, peer, pseudo_headers, batch, buffers, payload })
    }

    /// Adds a packet with that part of the payload.
    fn put(&mut self, part: Range<usize>) {
        let bth = Bth::new(Opcode::rc(Operation::SendOnly), Qpn::truncate(1), Psn::truncate(1));
        let payload = &self.payload[part];
        let mut header = [0; Bth::LEN];
        bth.encode(&mut header);
        let (front, rest) = self.batch.slot().split_at_mut(header.len());
        front.copy_from_slice(&header);
        rest[..payload.len()].copy_from_slice(payload);
        let pseudo_header = &self.pseudo_headers[0];
        let len = Bth::LEN + payload.len();
        self.batch.commit(len, self.peer, |packet, id| pseudo_header.icrc(id, packet));
    }

    fn flush(&mut self) {
        let pseudo_header = &self.pseudo_headers[0];
        self.batch.flush(&self.socket, |packet, _, id| pseudo_header.icrc(id, packet));
    }

    fn send(&mut self) {
        self.put(0..self.payload.len());
        self.flush();
    }

    /// Waits for a packet; false when time is up.
    fn receive(&mut self, clock: &Clock) -> Result<bool, Failure> {
        let mut spin = Spin::default();
        while !clock.over() {
            if let Some(datagram) = self.socket.recv(&mut self.buffers).datagrams().next() {
                self.pseudo_headers[1].verify(datagram.index, datagram.bytes)?;
                return Ok(true);
            }
            spin.pause();
        }
        Ok(false)
    }
}

/// A stream of packets of the largest path MTU, from one region of `size` bytes into another.
fn bandwidth(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, size)?;
        let (mut meter, mut spin, mut at) = (Meter::new(clock, size), Spin::default(), 0);
        loop {
            let mut bytes = 0;
            for datagram in end.socket.recv(&mut end.buffers).datagrams() {
                let verified = end.pseudo_headers[1].verify(datagram.index, datagram.bytes)?;
                let payload = &verified.packet[Bth::LEN..];
                end.payload[at..][..payload.len()].copy_from_slice(payload);
                at = (at + payload.len()) % size;
                bytes += payload.len();
            }
            if bytes > 0 {
                spin = Spin::default();
                if !meter.arrived(bytes) {
                    return meter.sample();
                }
            } else if clock.over() {
                return meter.sample();
            } else {
                spin.pause();
            }
        }
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, size)?;
        clock.start();
        while !clock.over() {
            for at in (0..size).step_by(PATH_MTU) {
                end.put(at..at + PATH_MTU);
                if end.batch.is_full() {
                    end.flush();
                }
            }
        }
        Ok(())
    };
    Ok(ends::run(place, server, client)?.0)
}

/// An echo, both ends looking all the time.
fn round_trip(size: usize, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
    let server = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, size)?;
        while end.receive(clock)? {
            end.send();
        }
        Ok(())
    };
    let client = |meeting: Meeting<SocketAddr>| {
        let mut end = End::meet(&meeting, size)?;
        let mut watch = Stopwatch::new(clock);
        clock.start();
        loop {
            let begun = Instant::now();
            end.send();
            if !end.receive(clock)? || !watch.back(begun) {
                return watch.sample();
            }
        }
    };
    Ok(ends::run(place, server, client)?.1)
}

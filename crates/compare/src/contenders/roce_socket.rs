//! The embedded device's socket with nothing above it but what each RoCEv2 packet needs: a copy of its payload, and an ICRC made and
//! checked. Nothing is acknowledged or sent again. What it takes more than bare UDP is the price of such packets, what the device takes more
//! than it that of the protocol.

use crate::clock::{Clock, Stopwatch};
use crate::contender::Contender;
use crate::ends::{self, Meeting, Place};
use crate::failure::{Failure, While};
use crate::figure::{Figure, Op, SMALL};
use crate::sample::Sample;
use crate::spin::Spin;
use device::net::{RecvBuffers, Socket, TxBatch};
use rocev2::icrc::PseudoHeader;
use rocev2::wire::{Bth, Opcode, Operation};
use rocev2::{Psn, Qpn};
use std::net::SocketAddr;
use std::time::Instant;

pub(crate) struct RoceSocket;

impl Contender for RoceSocket {
    fn name(&self) -> &'static str {
        "roce-socket"
    }

    fn figures(&self) -> Vec<Figure> {
        Figure::each(Op::RoundTrip, &SMALL).collect()
    }

    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure> {
        round_trip(figure.size, clock, place)
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

    fn send(&mut self) {
        let bth = Bth::new(Opcode::rc(Operation::SendOnly), Qpn::truncate(1), Psn::truncate(1));
        let mut header = [0; Bth::LEN];
        bth.encode(&mut header);
        let (front, rest) = self.batch.slot().split_at_mut(header.len());
        front.copy_from_slice(&header);
        let len = header.len() + self.payload.len();
        rest[..self.payload.len()].copy_from_slice(&self.payload);
        let pseudo_header = &self.pseudo_headers[0];
        self.batch.commit(len, self.peer, |packet, id| pseudo_header.icrc(id, packet));
        self.batch.flush(&self.socket, |packet, _, id| pseudo_header.icrc(id, packet));
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

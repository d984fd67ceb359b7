//! How long one client waits while somebody floods its server with packets that are refused.

use crate::machine::Machine;
use crate::platform::address;
use crate::victim::{PATIENCE, STEP, TIMING, connect, network};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Bth, Headers, Opcode, Operation};
use rocev2::{Psn, Qpn};
use std::net::SocketAddr;

/// What the server's machine needs for a packet that it takes from a socket, beside its steps: several times what a
/// packet costs that is refused. It takes half a million a second.
const PACKET_NS: u64 = 2_000;

/// Bytes of each packet of the flood, without its headers.
const PAYLOAD: usize = 1024;

/// The server's machine, the client's, and the attacker's.
const SERVER: usize = 0;
const VICTIM: usize = 1;
const ATTACKER: usize = 2;

/// What packets are refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Nobody has their queue pair.
    Nobody,
    /// They come in the client's name, with a PSN that is not yet expected: each may have it asked to send again.
    Ahead,
    /// Their checksum is wrong.
    Broken,
}

impl Flood {
    /// The counter of the server's device.
    const fn reason(self) -> &'static str {
        match self {
            Self::Nobody => "unknown_queue_pair",
            Self::Ahead => "out_of_sequence",
            Self::Broken => "icrc",
        }
    }
}

/// What a client got beside a flood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flooded {
    /// How long each of the client's READs took, in nanoseconds of virtual time, sorted.
    pub took: Vec<u64>,
    /// How long all of them took.
    pub span: u64,
    /// Packets of the flood.
    pub sent: u64,
    /// Those that the server's device has refused, and counted by their reason.
    pub refused: u64,
    /// Packets for which its receive buffer had no room, whosever they were.
    pub lost: u64,
}

/// Has a client read 64 bytes from a server, `rounds` times, one after the other, while `flood` comes, so many packets
/// a second. What comes of these is counted when all have arrived.
///
/// # Panics
/// If a READ fails, or there is no end.
#[must_use]
pub fn read_beside_flood(seed: u64, flood: Option<(Flood, u64)>, rounds: usize) -> Flooded {
    let network = network(seed, 2, 0);
    let mut machines: Vec<_> = (0..2).map(|number| Machine::new(&network, number, TIMING)).collect();
    let (mut reader, served) = connect(&machines, VICTIM);
    let packet = flood.map(|(flood, rate)| (forged(flood, served.qpn()), 1_000_000_000 / rate));
    let to = SocketAddr::new(address(SERVER), rocev2::UDP_PORT);
    let (mut sent, mut next_at, mut span) = (0, 0, 0);
    loop {
        let is_over = reader.took.len() >= rounds;
        if is_over && span == 0 {
            span = network.lock().now;
        }
        if is_over && network.lock().is_quiet(SERVER) {
            break;
        }
        let steps = machines.iter().filter_map(Machine::next);
        let floods = packet.is_some().then_some(next_at).filter(|_| !is_over);
        let next = steps.chain(floods).chain((!is_over).then_some(reader.look_at));
        let arrives = network.lock().next_arrival(SERVER);
        let next = next.chain(arrives).min().expect("something is under way");
        let now = {
            let mut state = network.lock();
            state.now = next.max(state.now + 1);
            state.deliver();
            if let Some(((from, datagram), every)) = packet.as_ref().filter(|_| !is_over) {
                while next_at <= state.now {
                    state.forge(ATTACKER, *from, to, datagram.clone());
                    (sent, next_at) = (sent + 1, next_at + every);
                }
            }
            state.now
        };
        assert!(now < PATIENCE, "{} round trips", reader.took.len());
        for (number, machine) in machines.iter_mut().enumerate().filter(|(_, machine)| !machine.is_busy(now))
        {
            let before = network.lock().taken(number);
            machine.step(now);
            let taken = network.lock().taken(number) - before;
            machine.stall(now + STEP + taken * PACKET_NS);
        }
        if !is_over && reader.look_at <= now {
            reader.look(now);
        }
    }
    let counters = machines[SERVER].device.counters();
    let reason = flood.map(|(flood, _)| flood.reason());
    let refused = counters.iter().filter(|(name, _)| Some(*name) == reason).map(|(_, count)| count).sum();
    let mut took = reader.took;
    took.sort_unstable();
    let lost = network.lock().machines[SERVER].overflowed;
    Flooded { took, span, sent, refused, lost }
}

/// A packet of a flood against a server with this queue pair, and whom it pretends to be from.
fn forged(flood: Flood, qpn: Qpn) -> (SocketAddr, Vec<u8>) {
    let from = if flood == Flood::Ahead { VICTIM } else { ATTACKER };
    let [from, to] = [from, SERVER].map(|machine| SocketAddr::new(address(machine), rocev2::UDP_PORT));
    let qpn = if flood == Flood::Nobody { Qpn::truncate(qpn.get() ^ 1) } else { qpn };
    let headers = Headers::new(Bth::new(Opcode::rc(Operation::SendOnly), qpn, Psn::truncate(1 << 20)));
    let mut datagram = vec![0; PAYLOAD + 64];
    let end = headers.frame(&mut datagram, PAYLOAD).expect("room").len + icrc::LEN;
    datagram.truncate(end);
    PseudoHeader::new(from, to).expect("one family").write(0, &mut datagram).expect("room");
    if let (Flood::Broken, Some(last)) = (flood, datagram.last_mut()) {
        *last ^= 1;
    }
    (from, datagram)
}

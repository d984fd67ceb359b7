//! A port: one local address with its socket, and what arrives there.

use crate::counters::{Counters, Stray};
use crate::net::{Datagram, Gid, RecvBuffers, Socket};
use crate::queue_pair::QueuePairCore;
use crate::queue_table::QueueTable;
use rocev2::icrc::PseudoHeader;
use rocev2::wire::Packet;
use rocev2::{Mtu, Qpn, Time};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Partition membership is the top bit; the rest must be the default partition's (IBA 10.9.1).
const PARTITION: u16 = 0x7fff;

/// Times that one call empties the socket at most, so that a flood can't hold a caller for ever.
const ROUNDS: usize = 16;

/// How long to leave another thread alone that is emptying the socket.
const BUSY: Duration = Duration::from_micros(50);

/// One local address of the device, bound.
pub(crate) struct Port {
    socket: Socket,
    gid: Gid,
    mtu: Mtu,
    receive: Mutex<Receiving>,
    /// How often somebody has emptied the socket.
    emptied: AtomicU64,
}

/// What only the thread that empties the socket needs.
struct Receiving {
    buffers: RecvBuffers,
    intake: Intake,
}

/// What is remembered from packet to packet: they come in runs.
#[derive(Default)]
struct Intake {
    /// The queue pairs that got a packet since they last had their turn.
    touched: Vec<Arc<QueuePairCore>>,
    /// The last sender's part of the ICRC.
    pseudo_header: Option<(SocketAddr, PseudoHeader)>,
}

impl Port {
    pub(crate) fn new(socket: Socket, gid: Gid, mtu: Mtu) -> Self {
        let receive = Receiving { buffers: RecvBuffers::new(), intake: Intake::default() };
        Self { socket, gid, mtu, receive: Mutex::new(receive), emptied: AtomicU64::new(0) }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.local().ip()
    }

    pub(crate) fn gid(&self) -> Gid {
        self.gid
    }

    /// The largest path MTU that fits the interface.
    pub(crate) fn mtu(&self) -> Mtu {
        self.mtu
    }

    /// Takes what has arrived and carries on the queue pairs concerned, unless another thread is at it; returns whether it did.
    pub(crate) fn progress(&self, table: &QueueTable, counters: &Counters, clock: impl Fn() -> Time) -> bool {
        let Ok(mut receiving) = self.receive.try_lock() else { return false };
        let Receiving { buffers, intake } = &mut *receiving;
        for _ in 0..ROUNDS {
            let mut now = None;
            let received = self.socket.recv(buffers, |datagram| {
                let now = *now.get_or_insert_with(&clock);
                if let Err(stray) = intake.take(now, self.local(), &datagram, table, counters) {
                    counters.stray(stray);
                }
            });
            if !intake.touched.is_empty() {
                let now = clock();
                for queue_pair in intake.touched.drain(..) {
                    queue_pair.turn(now);
                }
            }
            if !received.more {
                break;
            }
        }
        self.emptied.fetch_add(1, Ordering::Release);
        true
    }

    /// The same, but returns only when everything that has arrived so far is taken, by whomever: another thread may have it in its
    /// hands, and be stopped there by the operating system for longer than any peer may be silent.
    pub(crate) fn catch_up(&self, table: &QueueTable, counters: &Counters, clock: impl Fn() -> Time) {
        // What that thread had begun before it may have looked too early.
        let enough = self.emptied.load(Ordering::Acquire) + 2;
        while !self.progress(table, counters, &clock) && self.emptied.load(Ordering::Acquire) < enough {
            std::thread::sleep(BUSY);
        }
    }
}

impl Intake {
    /// Checks a datagram as far as it can be without knowing its queue pair, and hands it over.
    fn take(
        &mut self,
        now: Time,
        local: SocketAddr,
        datagram: &Datagram<'_>,
        table: &QueueTable,
        counters: &Counters,
    ) -> Result<(), Stray> {
        let pseudo_header = match self.pseudo_header {
            Some((source, pseudo_header)) if source == datagram.src => pseudo_header,
            _ => {
                let pseudo_header =
                    PseudoHeader::new(datagram.src, local).map_err(|_| Stray::WrongAddress)?;
                self.pseudo_header = Some((datagram.src, pseudo_header));
                pseudo_header
            }
        };
        let verified = pseudo_header.verify(datagram.index, datagram.bytes).map_err(|_| Stray::Icrc)?;
        let packet = match Packet::parse(verified.packet) {
            Ok(packet) => packet,
            Err(error) => {
                counters.malformed(&error);
                return Ok(());
            }
        };
        let bth = &packet.headers.bth;
        if bth.pkey & PARTITION != PARTITION {
            return Err(Stray::PartitionKey);
        }
        let queue_pair = self.touch(bth.dest_qp, table).ok_or(Stray::UnknownQueuePair)?;
        queue_pair.handle_packet(now, datagram.src.ip(), local.ip(), &packet);
        Ok(())
    }

    /// Finds the queue pair and notes that it is owed a turn.
    fn touch(&mut self, qpn: Qpn, table: &QueueTable) -> Option<&QueuePairCore> {
        let known = self.touched.iter().rposition(|queue_pair| queue_pair.qpn() == qpn);
        let at = match known {
            Some(at) => at,
            None => {
                self.touched.push(table.get(qpn)?);
                self.touched.len() - 1
            }
        };
        self.touched.get(at).map(|queue_pair| &**queue_pair)
    }
}

#[cfg(test)]
mod tests;

//! A port: one local address with its socket, and what arrives there.

use crate::completion_queue::QueueCore;
use crate::counters::Counters;
use crate::net::{Datagram, Gid, Received, RecvBuffers, Socket};
use crate::poll_mode::PollMode;
use crate::queue_pair::QueuePairCore;
use crate::queue_table::QueueTable;
use rocev2::icrc::PseudoHeader;
use rocev2::transport::{DropReason, Source};
use rocev2::wire::Packet;
use rocev2::{Mtu, Qpn, Time};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

/// Partition membership is the top bit; the rest must be the default partition's (IBA 10.9.1).
const PARTITION: u16 = 0x7fff;

/// Times that one call takes from the socket at most, so that a flood can't hold a caller for ever.
const ROUNDS: usize = 16;

/// How long to leave another thread alone that is at the socket.
pub(crate) const BUSY: Duration = Duration::from_micros(20);

/// One local address of the device, bound.
pub(crate) struct Port {
    socket: Socket,
    /// What the socket is known as where it is waited for.
    token: u64,
    gid: Gid,
    mtu: Mtu,
    receive: Mutex<Receiving>,
    /// How often somebody has found the socket empty, or left it so.
    emptied: AtomicU64,
    mode: PollMode,
    /// Held while the port is armed or disarmed.
    arming: Mutex<()>,
    unsettled: Unsettled,
}

/// A port that has to be emptied before a deadline may be taken to have passed.
pub(crate) struct CatchUp {
    port: Arc<Port>,
    /// How often it has to have been found empty.
    enough: u64,
    /// How often something was found.
    taken: usize,
}

/// Queue pairs whose programs were given messages, and may answer them before they look for more.
#[derive(Default)]
struct Unsettled {
    some: AtomicBool,
    /// Weak, since a queue pair's completion queues hold this port, and nobody may come to settle.
    queue_pairs: Mutex<Vec<Weak<QueuePairCore>>>,
}

/// What only the thread that takes from the socket needs.
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
    pub(crate) fn new(socket: Socket, token: u64, gid: Gid, mtu: Mtu) -> Self {
        let receive = Receiving { buffers: RecvBuffers::new(), intake: Intake::default() };
        Self {
            socket,
            token,
            gid,
            mtu,
            receive: Mutex::new(receive),
            emptied: AtomicU64::new(0),
            mode: PollMode::new(),
            arming: Mutex::default(),
            unsettled: Unsettled::default(),
        }
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

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn mode(&self) -> &PollMode {
        &self.mode
    }

    /// Arms or disarms the port, by `watch` where that is a change.
    pub(crate) fn arm(&self, on: bool, watch: impl FnOnce() -> std::io::Result<()>) {
        let _arming = crate::lock(&self.arming);
        // Where the system has no memory for it, the progress thread looks in, and tries again.
        if self.mode.is_armed() != on && (watch().is_ok() || !on) {
            self.mode.set_armed(on);
        }
    }

    /// Takes what has arrived, or the first of it, and carries on the queue pairs concerned, unless another
    /// thread is at it: then `None`, otherwise whether something had arrived.
    pub(crate) fn progress(
        &self,
        table: &QueueTable,
        counters: &Counters,
        clock: impl Fn() -> Time,
    ) -> Option<bool> {
        self.settle(&clock);
        self.take(table, counters, &clock, |queue_pair, now| queue_pair.turn(now))
    }

    /// The same for a thread that polls `queue`, and may answer what it gets there before it polls again.
    pub(crate) fn poll(
        &self,
        queue: &QueueCore,
        table: &QueueTable,
        counters: &Counters,
        clock: impl Fn() -> Time,
    ) {
        // Others' programs may be about to answer.
        self.settle_if(&clock, |queue_pair, now| {
            let own = queue_pair.receives_into(queue);
            if own {
                queue_pair.settle(now);
            }
            own || queue_pair.settle_overdue(now)
        });
        self.take(table, counters, &clock, |queue_pair, now| {
            // Unless the progress thread looks in, nobody would settle for a program that stops polling.
            if self.mode.is_armed() || !queue_pair.receives_into(queue) {
                queue_pair.turn(now);
            } else if queue_pair.turn_for_poller(now) {
                crate::lock(&self.unsettled.queue_pairs).push(Arc::downgrade(queue_pair));
                self.unsettled.some.store(true, Ordering::SeqCst);
            }
        });
        // The progress thread may have armed the port in between, and have seen nothing to settle.
        fence(Ordering::SeqCst);
        if self.mode.is_armed() {
            self.settle(&clock);
        }
    }

    /// Acknowledges what programs were given and have not answered.
    pub(crate) fn settle(&self, clock: impl Fn() -> Time) {
        self.settle_if(clock, |queue_pair, now| {
            queue_pair.settle(now);
            true
        });
    }

    /// The same, but leaves out what was given a moment ago.
    pub(crate) fn settle_overdue(&self, clock: impl Fn() -> Time) {
        self.settle_if(clock, QueuePairCore::settle_overdue);
    }

    /// Goes through the unsettled queue pairs; `settle` says which no longer are.
    fn settle_if(&self, clock: impl Fn() -> Time, mut settle: impl FnMut(&QueuePairCore, Time) -> bool) {
        if self.unsettled.some.load(Ordering::SeqCst) && self.unsettled.some.swap(false, Ordering::SeqCst) {
            let now = clock();
            let mut queue_pairs = crate::lock(&self.unsettled.queue_pairs);
            queue_pairs.retain(|it| it.upgrade().is_some_and(|queue_pair| !settle(&queue_pair, now)));
            if !queue_pairs.is_empty() {
                self.unsettled.some.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Takes what has arrived, unless another thread is at it; whether something had.
    fn take(
        &self,
        table: &QueueTable,
        counters: &Counters,
        clock: &impl Fn() -> Time,
        mut turn: impl FnMut(&Arc<QueuePairCore>, Time),
    ) -> Option<bool> {
        let mut receiving = match self.receive.try_lock() {
            Ok(receiving) => receiving,
            // What a thread that panicked has left is good enough to go on with; nobody would ever receive otherwise.
            Err(TryLockError::Poisoned(receiving)) => receiving.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let Receiving { buffers, intake } = &mut *receiving;
        let (mut found, mut emptied) = (false, false);
        for _ in 0..ROUNDS {
            let received = self.socket.recv(buffers);
            emptied = received.is_all();
            if received.is_empty() {
                break;
            }
            found = true;
            intake.take(clock(), self.local(), received, table, counters);
            if !intake.touched.is_empty() {
                let now = clock();
                for queue_pair in intake.touched.drain(..) {
                    turn(&queue_pair, now);
                }
            }
            if !received.is_full() {
                break;
            }
        }
        if emptied {
            self.emptied.fetch_add(1, Ordering::Release);
        }
        Some(found)
    }

    /// Begins to take everything that has arrived so far.
    pub(crate) fn begin_catch_up(self: &Arc<Self>) -> CatchUp {
        // What a thread that is at it had begun before may have looked too early.
        let enough = self.emptied.load(Ordering::Acquire) + 2;
        CatchUp { port: Arc::clone(self), enough, taken: 0 }
    }
}

impl CatchUp {
    /// Takes what has arrived. Returns whether everything that had arrived when this began is taken, by whomever:
    /// another thread may have it in its hands, and be stopped there by the operating system for longer than any
    /// peer may be silent.
    pub(crate) fn go_on(
        &mut self,
        table: &QueueTable,
        counters: &Counters,
        clock: impl Fn() -> Time,
    ) -> bool {
        // A flood doesn't hold it for ever.
        while self.port.emptied.load(Ordering::Acquire) < self.enough && self.taken < ROUNDS {
            match self.port.progress(table, counters, &clock) {
                Some(false) => return true,
                Some(true) => self.taken += 1,
                None => return false,
            }
        }
        true
    }
}

impl Intake {
    /// Hands packets to their queue pairs. Those for one that follow each other lock it once: were it locked
    /// for each packet, this thread and one that posts to it meanwhile would wait for each other, and be
    /// woken, once a packet.
    fn take(
        &mut self,
        now: Time,
        local: SocketAddr,
        received: Received<'_>,
        table: &QueueTable,
        counters: &Counters,
    ) {
        let Self { touched, pseudo_header } = self;
        let packets = received.datagrams().filter_map(|datagram| {
            let packet = check(pseudo_header, local, &datagram, counters)?;
            Some((datagram.src.ip(), packet))
        });
        let mut packets = packets.peekable();
        while let Some((source, first)) = packets.next() {
            let qpn = first.headers.bth.dest_qp;
            let Some(queue_pair) = touch(touched, qpn, table) else {
                counters.dropped(DropReason::UnknownQueuePair);
                continue;
            };
            let destination = local.ip();
            let from = Source { source, destination, traffic_class: None, hop_limit: None };
            let mut queue_pair = queue_pair.enter(&from);
            queue_pair.handle_packet(now, &first);
            let follows =
                |(from, next): &(IpAddr, Packet<'_>)| *from == source && next.headers.bth.dest_qp == qpn;
            while let Some((_, packet)) = packets.next_if(follows) {
                queue_pair.handle_packet(now, &packet);
            }
        }
    }
}

/// Checks a datagram as far as it can be without knowing its queue pair; counts it if it is none for this
/// device. `pseudo_header` is that of the last sender.
fn check<'a>(
    pseudo_header: &mut Option<(SocketAddr, PseudoHeader)>,
    local: SocketAddr,
    datagram: &Datagram<'a>,
    counters: &Counters,
) -> Option<Packet<'a>> {
    let pseudo_header = match pseudo_header {
        Some((source, pseudo_header)) if *source == datagram.src => pseudo_header,
        _ => {
            let Ok(new) = PseudoHeader::new(datagram.src, local) else {
                counters.dropped(DropReason::WrongAddress);
                return None;
            };
            &mut pseudo_header.insert((datagram.src, new)).1
        }
    };
    let Ok(verified) = pseudo_header.verify(datagram.index, datagram.bytes) else {
        counters.dropped(DropReason::Icrc);
        return None;
    };
    let packet = match Packet::parse(verified.packet) {
        Ok(packet) => packet,
        Err(error) => {
            counters.malformed(&error);
            return None;
        }
    };
    if packet.headers.bth.pkey & PARTITION != PARTITION {
        counters.dropped(DropReason::PartitionKey);
        return None;
    }
    Some(packet)
}

/// Finds the queue pair and notes that it is owed a turn.
fn touch<'a>(
    touched: &'a mut Vec<Arc<QueuePairCore>>,
    qpn: Qpn,
    table: &QueueTable,
) -> Option<&'a QueuePairCore> {
    let known = touched.iter().rposition(|queue_pair| queue_pair.qpn() == qpn);
    let at = match known {
        Some(at) => at,
        None => {
            touched.push(table.get(qpn)?);
            touched.len() - 1
        }
    };
    touched.get(at).map(|queue_pair| &**queue_pair)
}

#[cfg(test)]
mod tests;

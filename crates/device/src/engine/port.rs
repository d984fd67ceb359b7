//! A port: one local address, what arrives there, and whose turn it is to send.

use super::completion_queue::CompletionQueue;
use super::delayed_acks::DelayedAcks;
use super::poll_mode::PollMode;
use super::queue_pair::QueuePair;
use super::queue_pair_table::QueuePairTable;
use super::security::{AssociationId, Opener};
use super::{Counters, Members, Shared};
use crate::gid::Gid;
use crate::link::{Datagram, Interest, Link, RxBatch};
use core::time::Duration;
use rocev2::icrc::PseudoHeader;
use rocev2::transport::{DropReason, Source};
use rocev2::wire::Packet;
use rocev2::{Mtu, Qpn, Time, icrc};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError, Weak};

/// Partition membership is the top bit; the rest must be the default partition's (IBA 10.9.1).
const PARTITION: u16 = 0x7fff;

/// Times that one call takes from the link at most, so that a flood can't hold a caller for ever.
const ROUNDS: usize = 16;

/// Queue pairs that one call gives their turn to send at most, for the same reason.
const TURNS: usize = 8;

/// How long to leave another thread alone that is at the link.
pub(crate) const BUSY: Duration = Duration::from_micros(20);

/// The largest path MTUs that fit an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathMtu {
    /// Of packets in clear.
    pub(crate) clear: Mtu,
    /// Of packets in ESP; `None` where not even the smallest fits.
    pub(crate) sealed: Option<Mtu>,
}

/// One local address of the device, bound.
pub(crate) struct Port {
    link: Box<dyn Link>,
    /// What the link is reported as where it is ready.
    token: u64,
    local: SocketAddr,
    gid: Gid,
    mtu: PathMtu,
    receive: Mutex<RxPath>,
    /// What was opened where it arrived is to be wiped.
    stale: AtomicBool,
    /// How often somebody has found the link empty, or left it so.
    emptied: AtomicU64,
    mode: PollMode,
    /// What of the link wakes the progress thread. Held while that changes.
    interest: Mutex<Interest>,
    /// Weak, since a queue pair's completion queues hold this port, and nobody may come to flush.
    delayed_acks: DelayedAcks<Weak<QueuePair>>,
    turns: Turns,
    /// Of a multicast group's port.
    members: Option<Members>,
    shared: Arc<Shared>,
}

/// Queue pairs that have more to send than they may at a time, or wait for room in the link.
#[derive(Default)]
struct Turns {
    /// The link has no room: it says so when it has again.
    blocked: AtomicBool,
    /// Somebody waits.
    some: AtomicBool,
    queue: Mutex<VecDeque<Qpn>>,
}

/// What only the thread that takes from the link needs. Packets come in runs: some things are remembered.
#[derive(Default)]
struct RxPath {
    batch: RxBatch,
    /// The queue pairs that got a packet since they were last serviced.
    dirty: RefCell<Vec<Arc<QueuePair>>>,
    /// The last sender's part of the ICRC.
    pseudo_header: Option<(SocketAddr, PseudoHeader)>,
    opener: Opener,
}

/// A port that has to be emptied before a deadline may be taken to have passed.
#[derive(Debug)]
pub(crate) struct CatchUp {
    port: Arc<Port>,
    /// How often it has to have been found empty.
    enough: u64,
    /// How often something was found.
    taken: usize,
}

impl Port {
    /// A port whose packets wake the progress thread.
    pub(crate) fn new(
        link: Box<dyn Link>,
        token: u64,
        mtu: PathMtu,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let interest = Interest { readable: true, writable: false };
        link.watch(interest)?;
        let local = link.local_addr();
        Ok(Self {
            link,
            token,
            local,
            gid: Gid::for_endpoint(local),
            mtu,
            receive: Mutex::default(),
            stale: AtomicBool::new(false),
            emptied: AtomicU64::new(0),
            mode: PollMode::new(),
            interest: Mutex::new(interest),
            delayed_acks: DelayedAcks::new(),
            turns: Turns::default(),
            members: None,
            shared,
        })
    }

    /// A port at the address of a multicast group.
    pub(crate) fn for_group(
        link: Box<dyn Link>,
        token: u64,
        mtu: PathMtu,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        Ok(Self { members: Some(Members::default()), ..Self::new(link, token, mtu, shared)? })
    }

    /// Who gets what arrives, if it is a multicast group's port.
    pub(crate) fn members(&self) -> Option<&Members> {
        self.members.as_ref()
    }

    pub(crate) fn link(&self) -> &dyn Link {
        &*self.link
    }

    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.local.ip()
    }

    pub(crate) fn gid(&self) -> Gid {
        self.gid
    }

    /// The largest path MTUs that fit the interface.
    pub(crate) fn mtu(&self) -> PathMtu {
        self.mtu
    }

    pub(crate) fn mode(&self) -> &PollMode {
        &self.mode
    }

    /// Has packets wake the progress thread, or no longer.
    pub(crate) fn arm(&self, on: bool) {
        let mut interest = crate::lock(&self.interest);
        let wanted = Interest { readable: on, ..*interest };
        // Where the system has no memory for it, the progress thread looks in, and tries again.
        if wanted != *interest && (self.link.watch(wanted).is_ok() || !on) {
            *interest = wanted;
            self.mode.set_armed(on);
            if on {
                // Nobody polls here any more; those who poll elsewhere say so again.
                self.shared.unattended();
            }
        }
    }

    /// Has the progress thread woken when there is room to send, or no longer; whether that is possible.
    fn wait_for_room(&self, on: bool) -> bool {
        let mut interest = crate::lock(&self.interest);
        let wanted = Interest { writable: on, ..*interest };
        let possible = wanted == *interest || self.link.watch(wanted).is_ok();
        if possible {
            *interest = wanted;
        }
        possible
    }

    /// Whoever polled is about to wait for a completion channel.
    pub(crate) fn about_to_wait(&self) {
        if self.mode.waits() {
            self.arm(true);
        }
        self.flush_delayed_acks();
    }

    /// When there is something to do here, unless the link is ready before.
    pub(crate) fn next(&self) -> Option<Time> {
        if self.has_turns() { Some(Time::ZERO) } else { self.mode.look_in() }
    }

    /// Whether the link has no room to send.
    pub(crate) fn is_blocked(&self) -> bool {
        self.turns.blocked.load(Ordering::Relaxed)
    }

    /// The link has no room for what the queue pair still wants to send; it comes first when there is. Returns
    /// whether that will be noticed.
    pub(crate) fn block(&self, queue_pair: Qpn) -> bool {
        crate::lock(&self.turns.queue).push_front(queue_pair);
        self.turns.some.store(true, Ordering::Relaxed);
        // Not after: there may be room again by then.
        self.turns.blocked.store(true, Ordering::Relaxed);
        let noticed = self.wait_for_room(true);
        if !noticed {
            self.turns.blocked.store(false, Ordering::Relaxed);
            // It doesn't wait: it would be here once more each time that it sends.
            let mut queue = crate::lock(&self.turns.queue);
            queue.pop_front_if(|first| *first == queue_pair);
            self.turns.some.store(!queue.is_empty(), Ordering::Relaxed);
        }
        noticed
    }

    /// There is room to send again.
    pub(crate) fn unblock(&self) {
        self.wait_for_room(false);
        self.turns.blocked.store(false, Ordering::Relaxed);
    }

    /// Whether others wait for their turn to send.
    pub(crate) fn is_contended(&self) -> bool {
        self.turns.some.load(Ordering::Relaxed)
    }

    /// Whether queue pairs wait for their turn to send, and there is room.
    pub(crate) fn has_turns(&self) -> bool {
        self.is_contended() && !self.is_blocked()
    }

    /// The queue pair has more to send: it gets its turn when those had theirs that wait already.
    pub(crate) fn take_turn(&self, queue_pair: Qpn) {
        crate::lock(&self.turns.queue).push_back(queue_pair);
        self.turns.some.store(true, Ordering::Relaxed);
        if !self.is_blocked() {
            self.shared.alarm.by(self.shared.now());
        }
    }

    /// How many wait for their turn.
    pub(crate) fn turns_waiting(&self) -> usize {
        crate::lock(&self.turns.queue).len()
    }

    /// How many delay an ACK.
    pub(crate) fn acks_delayed(&self) -> usize {
        self.delayed_acks.len()
    }

    /// Lets queue pairs send in turn.
    pub(crate) fn give_turns(&self, table: &QueuePairTable) {
        for _ in 0..TURNS {
            if !self.has_turns() {
                return;
            }
            let next = {
                let mut queue = crate::lock(&self.turns.queue);
                let next = queue.pop_front();
                self.turns.some.store(!queue.is_empty(), Ordering::Relaxed);
                next
            };
            if let Some(queue_pair) = next.and_then(|qpn| table.get(qpn)) {
                queue_pair.send_in_turn(self.shared.now());
            }
        }
    }

    /// Takes what has arrived, or the first of it, and drives the queue pairs concerned, unless another thread
    /// is at it: then `None`, otherwise whether something had arrived.
    pub(crate) fn progress(&self, table: &QueuePairTable) -> Option<bool> {
        self.flush_delayed_acks();
        let found = self.take(table, |queue_pair, now| queue_pair.service(now));
        self.give_turns(table);
        found
    }

    /// The same for a thread that polls `queue`, and may answer what it gets there before it polls again.
    pub(crate) fn poll(&self, queue: &CompletionQueue, table: &QueuePairTable) {
        // Others' programs may be about to answer.
        self.flush_delayed_acks_if(|queue_pair, now| {
            let own = queue_pair.receives_into(queue);
            if own {
                queue_pair.flush_delayed_ack(now);
            }
            own || queue_pair.flush_overdue_ack(now)
        });
        self.take(table, |queue_pair, now| {
            // Unless the progress thread looks in, nobody would flush for a program that stops polling.
            if self.mode.is_armed() || !queue_pair.receives_into(queue) {
                queue_pair.service(now);
            } else if queue_pair.service_for_poller(now) {
                self.delayed_acks.add([Arc::downgrade(queue_pair)]);
            }
        });
        // The progress thread may have armed the port in between, and have seen nothing to flush.
        if self.mode.is_armed_now() {
            self.flush_delayed_acks();
        }
        self.give_turns(table);
    }

    /// Acknowledges what programs were given and have not answered.
    pub(crate) fn flush_delayed_acks(&self) {
        self.flush_delayed_acks_if(|queue_pair, now| {
            queue_pair.flush_delayed_ack(now);
            true
        });
    }

    /// The same, but leaves out what was given a moment ago.
    pub(crate) fn flush_overdue_acks(&self) {
        self.flush_delayed_acks_if(QueuePair::flush_overdue_ack);
    }

    /// Goes through the queue pairs that delay an ACK; `flush` says which no longer do.
    fn flush_delayed_acks_if(&self, mut flush: impl FnMut(&QueuePair, Time) -> bool) {
        let Some(mut queue_pairs) = self.delayed_acks.take() else { return };
        let now = self.shared.now();
        queue_pairs.retain(|it| it.upgrade().is_some_and(|queue_pair| !flush(&queue_pair, now)));
        if !queue_pairs.is_empty() {
            self.delayed_acks.add(queue_pairs);
        }
    }

    /// Takes what has arrived, unless another thread is at it; whether something had.
    fn take(&self, table: &QueuePairTable, service: impl FnMut(&Arc<QueuePair>, Time)) -> Option<bool> {
        let found = self.take_some(table, service);
        // Somebody may have come to wipe it meanwhile.
        if self.stale.load(Ordering::Acquire) {
            self.wipe();
        }
        found
    }

    /// Wipes what sealed packets have left where they arrived: a queue pair has ended that they were for. Where another
    /// thread is at it, that one does.
    pub(crate) fn wipe(&self) {
        self.stale.store(true, Ordering::Release);
        let mut rx = match self.receive.try_lock() {
            Ok(rx) => rx,
            Err(TryLockError::Poisoned(rx)) => rx.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.stale.store(false, Ordering::Relaxed);
        rx.batch.wipe();
    }

    fn take_some(
        &self,
        table: &QueuePairTable,
        mut service: impl FnMut(&Arc<QueuePair>, Time),
    ) -> Option<bool> {
        let mut rx = match self.receive.try_lock() {
            Ok(rx) => rx,
            // What a thread that panicked has left is good enough to go on with; nobody would ever receive otherwise.
            Err(TryLockError::Poisoned(rx)) => rx.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let (mut found, mut emptied) = (false, false);
        for _ in 0..ROUNDS {
            let received = self.link.recv(&mut rx.batch);
            emptied = received.is_all;
            if received.datagrams == 0 {
                break;
            }
            found = true;
            match &self.members {
                None => rx.handle(self.local, table, &self.shared),
                Some(members) => rx.hand_round(self.local, members, &self.shared),
            }
            let dirty = rx.dirty.get_mut();
            if !dirty.is_empty() {
                let now = self.shared.now();
                for queue_pair in dirty.drain(..) {
                    service(&queue_pair, now);
                }
            }
            if !received.is_full {
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

impl core::fmt::Debug for Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Port").field("local", &self.local).finish_non_exhaustive()
    }
}

impl CatchUp {
    /// Takes what has arrived. Returns whether everything that had arrived when this began is taken, by whomever:
    /// another thread may have it in its hands, and be stopped there by the operating system for longer than any
    /// peer may be silent.
    pub(crate) fn go_on(&mut self, table: &QueuePairTable) -> bool {
        // A flood doesn't hold it for ever.
        while self.port.emptied.load(Ordering::Acquire) < self.enough && self.taken < ROUNDS {
            match self.port.progress(table) {
                Some(false) => return true,
                Some(true) => self.taken += 1,
                None => return false,
            }
        }
        true
    }
}

impl RxPath {
    /// Hands packets to their queue pairs. Those for one that follow each other lock it once: were it locked
    /// for each packet, this thread and one that posts to it meanwhile would wait for each other, and be
    /// woken, once a packet.
    ///
    /// What is sealed is opened, in place, before anything else of it is looked at.
    fn handle(&mut self, local: SocketAddr, table: &QueuePairTable, shared: &Shared) {
        let now = shared.now();
        let Self { batch, dirty, pseudo_header, opener } = self;
        let counters = &shared.counters;
        let packets = batch.datagrams().filter_map(|datagram| {
            let Datagram { src, index, bytes } = datagram;
            let (packet, association) = if Opener::is_sealed(bytes) {
                let (bytes, association) =
                    opener.open(&shared.database, bytes).map_err(|refusal| counters.refused(refusal)).ok()?;
                // The tag has proved more than the ICRC would.
                let (bytes, _) = bytes.split_last_chunk::<{ icrc::LEN }>().unwrap_or((&[], &[0; icrc::LEN]));
                (parse(bytes, counters)?, Some(association))
            } else {
                (check(pseudo_header, [src, local], index, bytes, counters)?, None)
            };
            let Some(found) = find(&dirty.borrow(), packet.headers.bth.dest_qp, table) else {
                counters.dropped(DropReason::UnknownQueuePair);
                return None;
            };
            let way = Way { source: src.ip(), association };
            Some((way, found.touch(&mut dirty.borrow_mut()), packet))
        });
        let mut packets = packets.peekable();
        while let Some((way, at, first)) = packets.next() {
            let Some(queue_pair) = dirty.borrow().get(at).map(Arc::clone) else { continue };
            let from =
                Source { source: way.source, destination: local.ip(), traffic_class: None, hop_limit: None };
            let mut queue_pair = queue_pair.lock_rx(&from, way.association);
            queue_pair.handle_packet(now, &first);
            let follows = |(other, to, _): &(Way, usize, Packet<'_>)| *other == way && *to == at;
            while let Some((_, _, packet)) = packets.next_if(follows) {
                queue_pair.handle_packet(now, &packet);
            }
        }
        drop(packets);
        opener.finish_batch();
    }
}

impl RxPath {
    /// Hands packets that were sent to a multicast group to all of its members. They come in clear.
    fn hand_round(&mut self, local: SocketAddr, members: &Members, shared: &Shared) {
        let now = shared.now();
        let members = members.all();
        let Self { batch, dirty, pseudo_header, .. } = self;
        for Datagram { src, index, bytes } in batch.datagrams() {
            let Some(packet) = check(pseudo_header, [src, local], index, bytes, &shared.counters) else {
                continue;
            };
            if packet.headers.bth.dest_qp != Qpn::MULTICAST {
                shared.counters.dropped(DropReason::UnknownQueuePair);
                continue;
            }
            let (source, destination) = (src.ip(), local.ip());
            let from = Source { source, destination, traffic_class: None, hop_limit: None };
            for member in &members {
                member.lock_rx(&from, None).handle_packet(now, &packet);
            }
        }
        dirty.get_mut().extend(members);
    }
}

/// How a packet came.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    source: IpAddr,
    /// Whose SA has opened it, if it was sealed.
    association: Option<AssociationId>,
}

/// Checks a datagram; counts it if it is none for this device. `pseudo_header` is that of the last sender.
fn check<'a>(
    pseudo_header: &mut Option<(SocketAddr, PseudoHeader)>,
    [from, local]: [SocketAddr; 2],
    index: u16,
    bytes: &'a [u8],
    counters: &Counters,
) -> Option<Packet<'a>> {
    let pseudo_header = match pseudo_header {
        Some((source, pseudo_header)) if *source == from => pseudo_header,
        _ => {
            let Ok(new) = PseudoHeader::new(from, local) else {
                counters.dropped(DropReason::WrongAddress);
                return None;
            };
            &mut pseudo_header.insert((from, new)).1
        }
    };
    let Ok(verified) = pseudo_header.verify(index, bytes) else {
        counters.dropped(DropReason::Icrc);
        return None;
    };
    parse(verified.packet, counters)
}

/// The packet, BTH through pad, in `bytes`; counts it if it is none for this device.
fn parse<'a>(bytes: &'a [u8], counters: &Counters) -> Option<Packet<'a>> {
    let packet = match Packet::parse(bytes) {
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

/// A queue pair that a packet is for: one that has got another just before, or not.
enum Found {
    Dirty(usize),
    New(Arc<QueuePair>),
}

fn find(dirty: &[Arc<QueuePair>], qpn: Qpn, table: &QueuePairTable) -> Option<Found> {
    let known = dirty.iter().rposition(|queue_pair| queue_pair.qpn() == qpn);
    known.map(Found::Dirty).or_else(|| table.get(qpn).map(Found::New))
}

impl Found {
    /// Notes that the queue pair is to be serviced; its place among those.
    fn touch(self, dirty: &mut Vec<Arc<QueuePair>>) -> usize {
        match self {
            Self::Dirty(at) => at,
            Self::New(queue_pair) => {
                dirty.push(queue_pair);
                dirty.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests;

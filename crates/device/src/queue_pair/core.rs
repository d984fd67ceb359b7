//! What of a queue pair the receiving threads see: the protocol's queue pair, the path to its peer, and where
//! its completions go.

use crate::alarm::Alarm;
use crate::buffers::{Buffers, DomainMemory};
use crate::completion_queue::{Overflow, QueueCore, WorkCompletion};
use crate::counters::Counters;
use crate::deadlines::Deadlines;
use crate::events::{DeviceEvent, EventQueue};
use crate::net::TxBatch;
use crate::port::Port;
use crate::queue_pair::dialogue::Dialogue;
use crate::queue_pair::segmentation::Segmentation;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use rocev2::icrc::PseudoHeader;
use rocev2::transport::{Context, DropReason, PacketKind, QueuePair, Snapshot, Source};
use rocev2::wire::{Headers, Packet};
use rocev2::work::{Event, ModifyError, PostError, ReceiveQueue, RecvRequest, SendRequest, Transition};
use rocev2::{Mtu, Qpn, Time};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Packets that one call sends for one queue pair at most; then others get their turn. A READ of 2 GiB is
/// half a million packets. Eight runs of the longest packets.
const TURN: usize = 120;

/// When to look at a deadline again that passed while the queue pair was locked.
const LATER: Duration = Duration::from_micros(100);

/// Room for the longest packet: headers, payload, pad. The batch has room for the ICRC beside it.
const LONGEST: usize = Headers::MAX_LEN + Mtu::B4096.bytes() as usize + 3;

thread_local! {
    /// The packets that this thread is about to send.
    static OUTGOING: RefCell<TxBatch> = RefCell::new(TxBatch::new());
}

/// What a queue pair shares with the rest of its device.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) counters: Arc<Counters>,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) events: Arc<EventQueue>,
    pub(crate) alarm: Arc<Alarm>,
}

/// The way to the peer.
pub(crate) struct Path {
    pub(crate) port: Arc<Port>,
    pub(crate) peer: SocketAddr,
    pub(crate) pseudo_header: PseudoHeader,
    pub(crate) segmentation: Segmentation,
}

struct Locked {
    protocol: QueuePair<DomainMemory>,
    receives: ReceiveQueue<Buffers>,
    path: Option<Path>,
    dialogue: Dialogue,
    /// The deadline that was announced last, unless it has passed.
    announced: Option<Time>,
}

pub(crate) struct QueuePairCore {
    qpn: Qpn,
    memory: DomainMemory,
    send_queue: Arc<QueueCore>,
    recv_queue: Arc<QueueCore>,
    surroundings: Surroundings,
    locked: Mutex<Locked>,
}

/// A queue pair, locked. Whoever waits for its completions is woken when it no longer is: a thread that is
/// woken before would have to wait for the lock, and be woken again.
struct Guard<'a> {
    // In this order: what is declared first is dropped first.
    locked: MutexGuard<'a, Locked>,
    _rings: Rings<'a>,
}

/// Rings the completion channels when it is dropped.
struct Rings<'a>(&'a QueuePairCore);

impl Drop for Rings<'_> {
    fn drop(&mut self) {
        self.0.send_queue.ring();
        self.0.recv_queue.ring();
    }
}

impl Deref for Guard<'_> {
    type Target = Locked;

    fn deref(&self) -> &Locked {
        &self.locked
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut Locked {
        &mut self.locked
    }
}

/// A queue pair, locked to take packets that came one way.
pub(crate) struct Entered<'a> {
    core: &'a QueuePairCore,
    locked: MutexGuard<'a, Locked>,
    from: &'a Source,
    /// Whether it is the way from the peer.
    known: bool,
}

impl Entered<'_> {
    /// Takes a packet; what it leads to is sent by the next [`QueuePairCore::turn`].
    pub(crate) fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        let counters = &self.core.surroundings.counters;
        if !self.known {
            counters.dropped(DropReason::WrongAddress);
            return;
        }
        let Locked { protocol, receives, .. } = &mut *self.locked;
        let mut cx = Context { memory: &self.core.memory, receives };
        if let Err(reason) = protocol.handle_packet(now, self.from, packet, &mut cx) {
            counters.dropped(reason);
        }
    }
}

impl Locked {
    fn modify(&mut self, transition: Transition) -> Result<(), ModifyError> {
        self.protocol.modify(transition, &mut self.receives)
    }

    /// A program that polls received a message that its peer wants acknowledged.
    fn asked(&mut self, now: Time) {
        let wait = self.dialogue.asked(now);
        self.protocol.let_ack_wait(wait);
    }

    /// The program posted something to be sent.
    fn answered(&mut self, now: Time) {
        self.dialogue.answered(now);
        self.protocol.let_ack_wait(false);
    }

    /// The program looks for more without having answered; whether an ACK may have waited for that.
    fn unanswered(&mut self) -> bool {
        let waited = self.dialogue.unanswered();
        self.protocol.let_ack_wait(false);
        waited
    }
}

impl QueuePairCore {
    pub(crate) fn new(
        qpn: Qpn,
        protocol: QueuePair<DomainMemory>,
        receives: ReceiveQueue<Buffers>,
        memory: DomainMemory,
        send_queue: Arc<QueueCore>,
        recv_queue: Arc<QueueCore>,
        surroundings: Surroundings,
    ) -> Self {
        let locked =
            Locked { protocol, receives, path: None, dialogue: Dialogue::default(), announced: None };
        Self { qpn, memory, send_queue, recv_queue, surroundings, locked: Mutex::new(locked) }
    }

    fn lock(&self) -> Guard<'_> {
        self.guard(crate::lock(&self.locked))
    }

    fn guard<'a>(&'a self, locked: MutexGuard<'a, Locked>) -> Guard<'a> {
        Guard { locked, _rings: Rings(self) }
    }

    pub(crate) fn qpn(&self) -> Qpn {
        self.qpn
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        crate::lock(&self.locked).protocol.snapshot()
    }

    /// Whether it isn't known yet if segmentation offload serves the path.
    #[cfg(test)]
    pub(crate) fn is_on_trial(&self) -> bool {
        crate::lock(&self.locked).path.as_ref().is_none_or(|path| path.segmentation.is_on_trial())
    }

    /// Makes a transition; `path` goes with the one to RTR.
    pub(crate) fn modify(
        &self,
        now: Time,
        transition: Transition,
        path: Option<Path>,
    ) -> Result<(), ModifyError> {
        // Before the lock: a thread that polls these queues holds their lists of ports while it looks for
        // packets, and may find one for this queue pair. A port too many does no harm, should the transition
        // be refused.
        if let Some(path) = &path {
            self.send_queue.add_port(&path.port);
            self.recv_queue.add_port(&path.port);
        }
        let mut locked = self.lock();
        self.acknowledge(&mut locked, now);
        locked.modify(transition)?;
        if path.is_some() {
            locked.path = path;
        }
        self.carry_on(&mut locked, now);
        Ok(())
    }

    pub(crate) fn post_send(&self, now: Time, request: SendRequest<Buffers>) -> Result<(), PostError> {
        let mut locked = self.lock();
        locked.protocol.post_send(request)?;
        locked.answered(now);
        self.carry_on(&mut locked, now);
        Ok(())
    }

    /// Queues several requests and then sends: their packets share system calls. Stops at the first that isn't taken.
    pub(crate) fn post_send_list(
        &self,
        now: Time,
        requests: impl Iterator<Item = SendRequest<Buffers>>,
    ) -> Result<(), PostError> {
        let mut locked = self.lock();
        let mut result = Ok(());
        for request in requests {
            result = locked.protocol.post_send(request);
            if result.is_err() {
                break;
            }
        }
        locked.answered(now);
        self.carry_on(&mut locked, now);
        result
    }

    pub(crate) fn post_recv(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        let mut locked = self.lock();
        let Locked { protocol, receives, .. } = &mut *locked;
        protocol.post_recv(request, receives)?;
        // There is nothing to send for it; in the error state it has completed already.
        self.deliver(&mut locked);
        Ok(())
    }

    /// Locks it for packets that came that way.
    pub(crate) fn enter<'a>(&'a self, from: &'a Source) -> Entered<'a> {
        let locked = crate::lock(&self.locked);
        // The source port may differ: senders vary it for the sake of multipath routing (IBA A17.9.5.2).
        let known = locked
            .path
            .as_ref()
            .is_some_and(|path| path.peer.ip() == from.source && path.port.address() == from.destination);
        Entered { core: self, locked, from, known }
    }

    /// Sends what is to be sent and hands out what has completed.
    pub(crate) fn turn(&self, now: Time) {
        self.carry_on(&mut self.lock(), now);
    }

    /// The same for a thread that polls: it sees what has completed first, and may answer it. Returns whether it has to
    /// [`Self::settle`] before it looks for packets again.
    pub(crate) fn turn_for_poller(&self, now: Time) -> bool {
        let mut locked = self.lock();
        let asked = self.deliver(&mut locked) && locked.protocol.owes_only_an_ack();
        if asked {
            locked.asked(now);
        }
        self.carry_on(&mut locked, now);
        asked
    }

    /// Whether its receive requests complete there.
    pub(crate) fn receives_into(&self, queue: &QueueCore) -> bool {
        core::ptr::eq(&*self.recv_queue, queue)
    }

    /// Acknowledges what the program, after all, has not answered.
    pub(crate) fn settle(&self, now: Time) {
        self.acknowledge(&mut self.lock(), now);
    }

    /// The same if it might have answered long ago. Returns whether there is nothing left to settle.
    pub(crate) fn settle_overdue(&self, now: Time) -> bool {
        let mut locked = self.lock();
        let overdue = locked.dialogue.is_overdue(now);
        if overdue {
            self.acknowledge(&mut locked, now);
        }
        overdue
    }

    fn acknowledge(&self, locked: &mut Locked, now: Time) {
        if locked.unanswered() {
            self.carry_on(locked, now);
        }
    }

    /// Whether something is to be done, now that `deadline` has passed. Mostly it isn't: each acknowledgement
    /// moves the queue pair's own deadline on, and only here that is noticed and the next one announced.
    ///
    /// Doesn't wait for a thread that is at work on it, since the two would go on waiting for each other:
    /// asks again later.
    pub(crate) fn is_due(&self, now: Time, deadline: Time) -> bool {
        let mut locked = match self.locked.try_lock() {
            Ok(locked) => self.guard(locked),
            Err(TryLockError::Poisoned(error)) => self.guard(error.into_inner()),
            Err(TryLockError::WouldBlock) => {
                self.surroundings.deadlines.add(now + LATER, self.qpn);
                return false;
            }
        };
        if locked.announced.is_some_and(|announced| announced <= deadline) {
            locked.announced = None;
        }
        let due = locked.protocol.poll_timeout().is_some_and(|at| at <= now);
        if !due {
            self.carry_on(&mut locked, now);
        }
        due
    }

    /// Announces its deadline anew, after `deadline` was taken.
    pub(crate) fn announce_again(&self, deadline: Time) {
        let next = match self.locked.try_lock() {
            Ok(mut locked) if locked.announced.is_none_or(|announced| announced <= deadline) => {
                locked.announced = locked.protocol.poll_timeout();
                locked.announced
            }
            // It has announced an earlier one since.
            Ok(_) => None,
            Err(_) => Some(deadline),
        };
        if let Some(at) = next {
            self.surroundings.deadlines.add(at, self.qpn);
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&self, now: Time) {
        let mut locked = self.lock();
        let Locked { protocol, receives, .. } = &mut *locked;
        protocol.handle_timeout(now, receives);
        self.carry_on(&mut locked, now);
    }

    /// Ends the queue pair: it neither sends nor remembers anything from here on.
    pub(crate) fn destroy(&self, now: Time) {
        let mut locked = self.lock();
        // What the program has received was received: the peer shall know.
        self.acknowledge(&mut locked, now);
        // RESET is allowed from every state.
        let _ = locked.modify(Transition::Reset);
        locked.path = None;
    }

    fn carry_on(&self, locked: &mut Locked, now: Time) {
        if let Some(path) = &mut locked.path {
            path.segmentation.acknowledged(locked.protocol.unacknowledged());
        }
        let more = self.transmit(locked, now);
        self.deliver(locked);
        // Others get their turn in between.
        let wanted = if more { Some(now + Duration::from_nanos(1)) } else { locked.protocol.poll_timeout() };
        if let Some(at) = wanted
            && locked.announced.is_none_or(|announced| at < announced)
        {
            locked.announced = Some(at);
            if self.surroundings.deadlines.add(at, self.qpn) {
                self.surroundings.alarm.by(at);
            }
        }
    }

    /// Sends; returns whether there is more than one turn's worth.
    ///
    /// Packets leave while the queue pair is locked: two threads can't overtake each other.
    fn transmit(&self, locked: &mut Locked, now: Time) -> bool {
        let Locked { protocol, receives, path: Some(path), .. } = locked else { return false };
        let mut cx = Context { memory: &self.memory, receives };
        OUTGOING.with_borrow_mut(|outgoing| {
            let (port, pseudo_header) = (&path.port, &path.pseudo_header);
            let icrc = |packet: &[u8], id| pseudo_header.icrc(id, packet);
            let flush = |outgoing: &mut TxBatch| {
                outgoing.flush(port.socket(), |packet, _, id| icrc(packet, id));
            };
            for _ in 0..TURN {
                if outgoing.is_full() {
                    flush(outgoing);
                }
                let Some(transmit) = protocol.poll_transmit(now, &mut cx, &mut outgoing.slot()[..LONGEST])
                else {
                    flush(outgoing);
                    return false;
                };
                let len = transmit.len;
                if path.segmentation == Segmentation::Fails {
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                if transmit.kind == PacketKind::Acknowledge && !outgoing.ends_with_run() {
                    // Segmentation offload costs more than a second system call, measured, where there is a
                    // single packet to go with.
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                let place = outgoing.commit(len, path.peer, icrc);
                if path.segmentation.is_on_trial()
                    && transmit.kind == PacketKind::Request
                    && path.segmentation.sent(transmit.psn, place, protocol.losses())
                {
                    self.surroundings.counters.gso_distrusted();
                    tracing::info!(peer = %path.peer, "packets sent by segmentation offload don't arrive; \
                        sending them one by one");
                }
            }
            flush(outgoing);
            true
        })
    }

    /// Hands out what has completed; returns whether a message was received.
    fn deliver(&self, locked: &mut Locked) -> bool {
        let mut received = false;
        while let Some(event) = locked.protocol.poll() {
            match event {
                Event::Completion(completion) => {
                    let is_recv = completion.kind.is_recv();
                    received |= is_recv;
                    let queue = if is_recv { &self.recv_queue } else { &self.send_queue };
                    if let Err(Overflow { .. }) = queue.push(WorkCompletion { qpn: self.qpn, completion }) {
                        self.surroundings.events.push(DeviceEvent::CompletionQueueOverflow(queue.number()));
                        // Its other queue pairs notice when they complete something themselves.
                        let _ = locked.modify(Transition::Error);
                    }
                }
                Event::Async(event) => self.surroundings.events.push(DeviceEvent::QueuePair(self.qpn, event)),
            }
        }
        received
    }
}

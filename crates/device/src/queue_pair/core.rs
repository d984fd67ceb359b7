//! What of a queue pair the receiving threads see: the protocol's queue pair, the path to its peer, and where
//! its completions go.

use crate::buffers::{Buffers, DomainMemory};
use crate::completion_queue::{Overflow, QueueCore, WorkCompletion};
use crate::counters::{Counters, Stray};
use crate::deadlines::Deadlines;
use crate::events::{DeviceEvent, EventQueue};
use crate::helper::Waker;
use crate::net::TxBatch;
use crate::port::Port;
use crate::queue_pair::dialogue::Dialogue;
use crate::queue_pair::segmentation::Segmentation;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use rocev2::icrc::PseudoHeader;
use rocev2::rc::{self, Event, PostError, RecvRequest, SendRequest, Transition};
use rocev2::wire::{Aeth, Bth, Headers, Opcode, Operation, Packet};
use rocev2::{Mtu, Psn, Qpn, Time};
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Packets that one call sends for one queue pair at most; then others get their turn. A READ of 2 GiB is
/// half a million packets. Eight runs of the longest packets.
const TURN: usize = 120;

/// When to look at a deadline again that passed while the queue pair was locked.
const LATER: Duration = Duration::from_micros(100);

/// Room for the longest packet: headers, payload, pad. The batch has room for the ICRC beside it.
const LONGEST: usize = Headers::MAX_LEN + Mtu::B4096.bytes() as usize + 3;

/// The length of an ACK packet.
const ACK: usize = Bth::LEN + Aeth::LEN;

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
    pub(crate) waker: Arc<Waker>,
}

/// The way to the peer.
pub(crate) struct Path {
    pub(crate) port: Arc<Port>,
    pub(crate) peer: SocketAddr,
    pub(crate) pseudo_header: PseudoHeader,
    pub(crate) segmentation: Segmentation,
}

struct Locked {
    protocol: rc::QueuePair<DomainMemory>,
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
    /// Whether it is the way from the peer.
    known: bool,
}

impl Entered<'_> {
    /// Takes a packet; what it leads to is sent by the next [`QueuePairCore::turn`].
    pub(crate) fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        let counters = &self.core.surroundings.counters;
        if !self.known {
            counters.stray(Stray::WrongAddress);
        } else if let Err(refusal) = self.locked.protocol.handle_packet(now, packet, &self.core.memory) {
            counters.refused(refusal);
        }
    }
}

impl Locked {
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
        limits: rc::Limits,
        memory: DomainMemory,
        send_queue: Arc<QueueCore>,
        recv_queue: Arc<QueueCore>,
        surroundings: Surroundings,
    ) -> Self {
        let locked = Locked {
            protocol: rc::QueuePair::new(limits),
            path: None,
            dialogue: Dialogue::default(),
            announced: None,
        };
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

    pub(crate) fn snapshot(&self) -> rc::Snapshot {
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
    ) -> Result<(), rc::ModifyError> {
        // Before the lock: a thread that polls these queues holds their lists of ports while it looks for
        // packets, and may find one for this queue pair. A port too many does no harm, should the transition
        // be refused.
        if let Some(path) = &path {
            self.send_queue.add_port(&path.port);
            self.recv_queue.add_port(&path.port);
        }
        let mut locked = self.lock();
        self.acknowledge(&mut locked, now);
        locked.protocol.modify(transition)?;
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
        locked.protocol.post_recv(request)?;
        // There is nothing to send for it; in the error state it has completed already.
        self.deliver(&mut locked);
        Ok(())
    }

    /// Locks it for packets from `source` to this host's `destination`.
    pub(crate) fn enter(&self, source: IpAddr, destination: IpAddr) -> Entered<'_> {
        let locked = crate::lock(&self.locked);
        // The source port may differ: senders vary it for the sake of multipath routing (IBA A17.9.5.2).
        let known = locked
            .path
            .as_ref()
            .is_some_and(|path| path.peer.ip() == source && path.port.address() == destination);
        Entered { core: self, locked, known }
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

    /// Does what is due.
    pub(crate) fn handle_timeout(&self, now: Time) {
        let mut locked = self.lock();
        locked.protocol.handle_timeout(now);
        self.carry_on(&mut locked, now);
    }

    /// Ends the queue pair: it neither sends nor remembers anything from here on.
    pub(crate) fn destroy(&self, now: Time) {
        let mut locked = self.lock();
        // What the program has received was received: the peer shall know.
        self.acknowledge(&mut locked, now);
        // RESET is allowed from every state.
        let _ = locked.protocol.modify(Transition::Reset);
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
                self.surroundings.waker.announce(at);
            }
        }
    }

    /// Sends; returns whether there is more than one turn's worth.
    ///
    /// Packets leave while the queue pair is locked: two threads can't overtake each other.
    fn transmit(&self, locked: &mut Locked, now: Time) -> bool {
        let Locked { protocol, path: Some(path), .. } = locked else { return false };
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
                let Some(len) = protocol.poll_transmit(now, &self.memory, &mut outgoing.slot()[..LONGEST])
                else {
                    flush(outgoing);
                    return false;
                };
                if path.segmentation == Segmentation::Fails {
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                if len == ACK && !outgoing.ends_with_run() && is_ack(outgoing.slot()) {
                    // Segmentation offload costs more than a second system call, measured, where there is a
                    // single packet to go with.
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                let request =
                    path.segmentation.is_on_trial().then(|| request_psn(outgoing.slot(), len)).flatten();
                let place = outgoing.commit(len, path.peer, icrc);
                let losses = protocol.losses();
                if request.is_some_and(|psn| path.segmentation.sent(psn, place, losses)) {
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
                        let _ = locked.protocol.modify(Transition::Error);
                    }
                }
                Event::Async(event) => self.surroundings.events.push(DeviceEvent::QueuePair(self.qpn, event)),
            }
        }
        received
    }
}

/// Whether the packet of [`ACK`] bytes in `slot` is one.
fn is_ack(slot: &[u8]) -> bool {
    let packet = slot.get(..ACK).and_then(|bytes| Packet::parse(bytes).ok());
    packet.is_some_and(|packet| packet.headers.bth.opcode == Opcode::rc(Operation::Acknowledge))
}

/// The PSN of the packet in the first `len` bytes of `slot`, if it is a request.
fn request_psn(slot: &[u8], len: usize) -> Option<Psn> {
    let bth = Packet::parse(slot.get(..len)?).ok()?.headers.bth;
    match bth.opcode {
        Opcode::Known { operation, .. } if operation.is_request() => Some(bth.psn),
        _ => None,
    }
}

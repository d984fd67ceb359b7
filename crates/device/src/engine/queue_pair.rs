//! Queue pairs: the protocol's, with the path to its peer, its turn to send, and where its completions go.

mod delayed_ack;
mod segmentation;

use self::delayed_ack::DelayedAck;
pub(crate) use self::segmentation::Segmentation;
use super::completion_queue::{CompletionQueue, Overflow, WorkCompletion};
use super::{Buffers, DeviceEvent, DomainMemory, Port, Shared};
use crate::link::tx::Unsent;
use crate::link::{Sent, TxBatch};
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use rocev2::icrc::PseudoHeader;
use rocev2::transport::{self, Context, DropReason, PacketKind, Snapshot, Source};
use rocev2::wire::{Headers, Packet};
use rocev2::work::{Event, ModifyError, PostError, ReceiveQueue, RecvRequest, SendRequest, Transition};
use rocev2::{Mtu, Qpn, Time};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Bytes that one queue pair sends before others get their turn, while none waits. A READ of 2 GiB is half a
/// million packets.
const ALONE: usize = 480 << 10;

/// The same while others wait: two runs of the longest packets.
const QUANTUM: usize = 128 << 10;

/// When to look at a deadline again that passed while the queue pair was state.
const LATER: Duration = Duration::from_micros(100);

/// Room for the longest packet: headers, payload, pad. The batch has room for the ICRC beside it.
const LONGEST: usize = Headers::MAX_LEN + Mtu::B4096.bytes() as usize + 3;

/// What became of a queue pair's packets.
enum Transmitted {
    /// There are no more now.
    All,
    /// There may be more than it may send in its turn.
    Part,
    /// The link has no room for these.
    Blocked(Option<Unsent>),
}

thread_local! {
    /// The packets that this thread is about to send.
    static OUTGOING: RefCell<TxBatch> = RefCell::new(TxBatch::new());
}

/// The way to the peer.
pub(crate) struct Path {
    pub(crate) port: Arc<Port>,
    pub(crate) peer: SocketAddr,
    pub(crate) pseudo_header: PseudoHeader,
    pub(crate) segmentation: Segmentation,
}

struct State {
    protocol: transport::QueuePair<DomainMemory>,
    receives: ReceiveQueue<Buffers>,
    path: Option<Path>,
    delayed_ack: DelayedAck,
    /// The deadline that was announced last, unless it has passed.
    announced: Option<Time>,
    /// It waits for its turn to send.
    waits: bool,
    /// Bytes that it may send yet in its turn.
    deficit: usize,
    /// Packets that the link had no room for: they leave first.
    unsent: Option<Unsent>,
}

/// What of a queue pair the receiving threads see: the protocol's queue pair, the path to its peer, and where
/// its completions go.
pub(crate) struct QueuePair {
    qpn: Qpn,
    memory: DomainMemory,
    send_queue: Arc<CompletionQueue>,
    recv_queue: Arc<CompletionQueue>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

/// A queue pair, state. Whoever waits for its completions is woken when it no longer is: a thread that is
/// woken before would have to wait for the lock, and be woken again.
struct Guard<'a> {
    // In this order: what is declared first is dropped first.
    state: MutexGuard<'a, State>,
    _rings: Rings<'a>,
}

/// Rings the completion channels when it is dropped.
struct Rings<'a>(&'a QueuePair);

impl Drop for Rings<'_> {
    fn drop(&mut self) {
        self.0.send_queue.ring();
        self.0.recv_queue.ring();
    }
}

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// A queue pair, locked to take packets that came one way.
pub(crate) struct RxGuard<'a> {
    queue_pair: &'a QueuePair,
    state: MutexGuard<'a, State>,
    from: &'a Source,
    /// Whether it is the way from the peer.
    known: bool,
}

impl RxGuard<'_> {
    /// Takes a packet; what it leads to is sent by the next [`QueuePair::service`].
    pub(crate) fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        let counters = &self.queue_pair.shared.counters;
        if !self.known {
            counters.dropped(DropReason::WrongAddress);
            return;
        }
        let State { protocol, receives, .. } = &mut *self.state;
        let mut cx = Context { memory: &self.queue_pair.memory, receives };
        if let Err(reason) = protocol.handle_packet(now, self.from, packet, &mut cx) {
            counters.dropped(reason);
        }
    }
}

impl State {
    fn modify(&mut self, transition: Transition) -> Result<(), ModifyError> {
        self.protocol.modify(transition, &mut self.receives)
    }

    /// A program that polls received a message that its peer wants acknowledged.
    fn received(&mut self, now: Time) {
        let wait = self.delayed_ack.received(now);
        self.protocol.let_ack_wait(wait);
    }

    /// The program posted something to be sent.
    fn answered(&mut self, now: Time) {
        self.delayed_ack.answered(now);
        self.protocol.let_ack_wait(false);
    }

    /// The program looks for more without having answered; whether an ACK may have waited for that.
    fn polled(&mut self) -> bool {
        let waited = self.delayed_ack.polled();
        self.protocol.let_ack_wait(false);
        waited
    }
}

impl QueuePair {
    pub(crate) fn new(
        qpn: Qpn,
        protocol: transport::QueuePair<DomainMemory>,
        receives: ReceiveQueue<Buffers>,
        memory: DomainMemory,
        [send_queue, recv_queue]: [&Arc<CompletionQueue>; 2],
        shared: &Arc<Shared>,
    ) -> Self {
        let state = State {
            protocol,
            receives,
            path: None,
            delayed_ack: DelayedAck::default(),
            announced: None,
            waits: false,
            deficit: 0,
            unsent: None,
        };
        Self {
            qpn,
            memory,
            send_queue: Arc::clone(send_queue),
            recv_queue: Arc::clone(recv_queue),
            shared: Arc::clone(shared),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> Guard<'_> {
        self.guard(crate::lock(&self.state))
    }

    fn guard<'a>(&'a self, state: MutexGuard<'a, State>) -> Guard<'a> {
        Guard { state, _rings: Rings(self) }
    }

    pub(crate) fn qpn(&self) -> Qpn {
        self.qpn
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        crate::lock(&self.state).protocol.snapshot()
    }

    /// Whether it isn't known yet if segmentation offload serves the path.
    #[cfg(test)]
    pub(crate) fn is_on_trial(&self) -> bool {
        crate::lock(&self.state).path.as_ref().is_none_or(|path| path.segmentation.is_on_trial())
    }

    /// Makes a transition; `path` goes with the one to RTR.
    pub(crate) fn modify(
        &self,
        now: Time,
        transition: Transition,
        path: Option<Path>,
    ) -> Result<(), ModifyError> {
        // A port too many does no harm, should the transition be refused.
        if let Some(path) = &path {
            self.send_queue.add_port(&path.port);
            self.recv_queue.add_port(&path.port);
        }
        let mut state = self.lock();
        self.send_delayed_ack(&mut state, now);
        state.modify(transition)?;
        if path.is_some() {
            state.path = path;
        }
        self.drive(&mut state, now);
        Ok(())
    }

    pub(crate) fn post_send(&self, now: Time, request: SendRequest<Buffers>) -> Result<(), PostError> {
        let mut state = self.lock();
        state.protocol.post_send(request)?;
        state.answered(now);
        self.drive(&mut state, now);
        Ok(())
    }

    /// Queues several requests and then sends: their packets share system calls. Stops at the first that isn't taken.
    pub(crate) fn post_send_list(
        &self,
        now: Time,
        requests: impl Iterator<Item = SendRequest<Buffers>>,
    ) -> Result<(), PostError> {
        let mut state = self.lock();
        let mut result = Ok(());
        for request in requests {
            result = state.protocol.post_send(request);
            if result.is_err() {
                break;
            }
        }
        state.answered(now);
        self.drive(&mut state, now);
        result
    }

    pub(crate) fn post_recv(&self, request: RecvRequest<Buffers>) -> Result<(), PostError> {
        let mut state = self.lock();
        let State { protocol, receives, .. } = &mut *state;
        protocol.post_recv(request, receives)?;
        // There is nothing to send for it; in the error state it has completed already.
        self.deliver(&mut state);
        Ok(())
    }

    /// Locks it for packets that came that way.
    pub(crate) fn lock_rx<'a>(&'a self, from: &'a Source) -> RxGuard<'a> {
        let state = crate::lock(&self.state);
        // The source port may differ: senders vary it for the sake of multipath routing (IBA A17.9.5.2).
        let known = state
            .path
            .as_ref()
            .is_some_and(|path| path.peer.ip() == from.source && path.port.address() == from.destination);
        RxGuard { queue_pair: self, state, from, known }
    }

    /// Sends what is to be sent and hands out what has completed.
    pub(crate) fn service(&self, now: Time) {
        self.drive(&mut self.lock(), now);
    }

    /// The same for a thread that polls: it sees what has completed first, and may answer it. Returns whether it has to
    /// [`Self::flush_delayed_ack`] before it looks for packets again.
    pub(crate) fn service_for_poller(&self, now: Time) -> bool {
        let mut state = self.lock();
        let asked = self.deliver(&mut state) && state.protocol.owes_only_an_ack();
        if asked {
            state.received(now);
        }
        self.drive(&mut state, now);
        asked
    }

    /// Whether its receive requests complete there.
    pub(crate) fn receives_into(&self, queue: &CompletionQueue) -> bool {
        core::ptr::eq(&*self.recv_queue, queue)
    }

    /// Acknowledges what the program, after all, has not answered.
    pub(crate) fn flush_delayed_ack(&self, now: Time) {
        self.send_delayed_ack(&mut self.lock(), now);
    }

    /// The same if it might have answered long ago. Returns whether there is nothing left to flush.
    pub(crate) fn flush_overdue_ack(&self, now: Time) -> bool {
        let mut state = self.lock();
        let overdue = state.delayed_ack.is_overdue(now);
        if overdue {
            self.send_delayed_ack(&mut state, now);
        }
        overdue
    }

    fn send_delayed_ack(&self, state: &mut State, now: Time) {
        if state.polled() {
            self.drive(state, now);
        }
    }

    /// Whether something is to be done, now that `deadline` has passed. Mostly it isn't: each acknowledgement
    /// moves the queue pair's own deadline on, and only here that is noticed and the next one announced.
    ///
    /// Doesn't wait for a thread that is at work on it, since the two would go on waiting for each other:
    /// asks again later.
    pub(crate) fn is_due(&self, now: Time, deadline: Time) -> bool {
        let mut state = match self.state.try_lock() {
            Ok(state) => self.guard(state),
            Err(TryLockError::Poisoned(error)) => self.guard(error.into_inner()),
            Err(TryLockError::WouldBlock) => {
                self.shared.announce(now + LATER, self.qpn);
                return false;
            }
        };
        if state.announced.is_some_and(|announced| announced <= deadline) {
            state.announced = None;
        }
        let due = state.protocol.poll_timeout().is_some_and(|at| at <= now);
        if !due {
            self.drive(&mut state, now);
        }
        due
    }

    /// Announces its deadline anew, after `deadline` was taken.
    pub(crate) fn announce_again(&self, deadline: Time) {
        let next = match self.state.try_lock() {
            Ok(mut state) if state.announced.is_none_or(|announced| announced <= deadline) => {
                state.announced = state.protocol.poll_timeout();
                state.announced
            }
            // It has announced an earlier one since.
            Ok(_) => None,
            Err(_) => Some(deadline),
        };
        if let Some(at) = next {
            self.shared.deadlines.add(at, self.qpn);
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&self, now: Time) {
        let mut state = self.lock();
        let State { protocol, receives, .. } = &mut *state;
        let due = protocol.poll_timeout().is_some_and(|at| at <= now);
        protocol.handle_timeout(now, receives);
        if due {
            // What is sent again doesn't have to leave twice.
            state.unsent = None;
        }
        self.drive(&mut state, now);
    }

    /// Ends the queue pair: it neither sends nor remembers anything from here on.
    pub(crate) fn destroy(&self, now: Time) {
        let mut state = self.lock();
        // What the program has received was received: the peer shall know.
        self.send_delayed_ack(&mut state, now);
        // RESET is allowed from every state.
        let _ = state.modify(Transition::Reset);
        state.path = None;
        state.unsent = None;
    }

    /// Goes on to send: it's this queue pair's turn.
    pub(crate) fn send_in_turn(&self, now: Time) {
        let mut state = self.lock();
        state.waits = false;
        // Where the link had no room, the last turn goes on.
        if state.unsent.is_none() {
            state.deficit += QUANTUM;
        }
        self.drive(&mut state, now);
    }

    /// Sends what is to be sent, hands out what has completed, and announces when to be looked at again.
    fn drive(&self, state: &mut State, now: Time) {
        if let Some(path) = &mut state.path {
            path.segmentation.acknowledged(state.protocol.unacknowledged());
            self.send(state, now);
        }
        self.deliver(state);
        if let Some(at) = state.protocol.poll_timeout()
            && state.announced.is_none_or(|announced| at < announced)
        {
            state.announced = Some(at);
            self.shared.announce(at, self.qpn);
        }
    }

    /// Sends what may be sent, if it isn't others' turn.
    fn send(&self, state: &mut State, now: Time) {
        let Some(path) = &state.path else { return };
        let port = Arc::clone(&path.port);
        if state.waits {
            return;
        }
        // Whoever has its turn has a deficit; the others don't overtake those that wait.
        if !port.is_blocked() && (state.deficit > 0 || !port.is_contended()) {
            if state.deficit == 0 {
                state.deficit = ALONE;
            }
            match self.transmit(state, now) {
                Transmitted::All => {
                    state.deficit = 0;
                    return;
                }
                Transmitted::Part => {}
                Transmitted::Blocked(unsent) => {
                    // Otherwise they are lost, as on the way.
                    if port.block(self.qpn) {
                        state.unsent = unsent;
                        state.waits = true;
                    }
                    return;
                }
            }
        }
        state.waits = true;
        port.take_turn(self.qpn);
    }

    /// Sends up to `deficit` bytes, and takes them from it.
    ///
    /// Packets leave while the queue pair is locked: two threads can't overtake each other. Nobody waits.
    fn transmit(&self, state: &mut State, now: Time) -> Transmitted {
        let State { protocol, receives, path: Some(path), deficit, unsent, .. } = state else {
            return Transmitted::All;
        };
        let mut cx = Context { memory: &self.memory, receives };
        OUTGOING.with_borrow_mut(|outgoing| {
            let (port, pseudo_header) = (&path.port, &path.pseudo_header);
            let icrc = |packet: &[u8], id| pseudo_header.icrc(id, packet);
            let flush = |outgoing: &mut TxBatch| {
                port.link().send(outgoing, &mut |packet, _, id| icrc(packet, id)) == Sent::All
            };
            if let Some(unsent) = unsent.take() {
                outgoing.restore(unsent);
                if !flush(outgoing) {
                    return Transmitted::Blocked(outgoing.take_unsent());
                }
            }
            while *deficit > 0 {
                if outgoing.is_full() && !flush(outgoing) {
                    return Transmitted::Blocked(outgoing.take_unsent());
                }
                let Some(transmit) = protocol.poll_transmit(now, &mut cx, &mut outgoing.reserve()[..LONGEST])
                else {
                    return if flush(outgoing) {
                        Transmitted::All
                    } else {
                        Transmitted::Blocked(outgoing.take_unsent())
                    };
                };
                // A packet that its queue pair protects is sealed here, in place, before its ICRC is computed.
                let len = transmit.len;
                *deficit = deficit.saturating_sub(len);
                // Segmentation offload costs more than a second system call, measured, where there is a single packet
                // to go with an ACK.
                let lone = transmit.kind == PacketKind::Acknowledge && !outgoing.ends_with_run();
                if lone || path.segmentation == Segmentation::Fails {
                    outgoing.commit_alone(len, path.peer, icrc);
                    continue;
                }
                let place = outgoing.commit(len, path.peer, icrc);
                if path.segmentation.is_on_trial()
                    && transmit.kind == PacketKind::Request
                    && path.segmentation.sent(transmit.psn, place, protocol.losses())
                {
                    self.shared.counters.gso_distrusted();
                    tracing::info!(peer = %path.peer, "packets sent by segmentation offload don't arrive; \
                        sending them one by one");
                }
            }
            if flush(outgoing) { Transmitted::Part } else { Transmitted::Blocked(outgoing.take_unsent()) }
        })
    }

    /// Hands out what has completed; returns whether a message was received.
    fn deliver(&self, state: &mut State) -> bool {
        let mut received = false;
        while let Some(event) = state.protocol.poll() {
            match event {
                Event::Completion(completion) => {
                    let is_recv = completion.kind.is_recv();
                    received |= is_recv;
                    let queue = if is_recv { &self.recv_queue } else { &self.send_queue };
                    if let Err(Overflow { .. }) = queue.push(WorkCompletion { qpn: self.qpn, completion }) {
                        self.shared.events.push(DeviceEvent::CompletionQueueOverflow(queue.number()));
                        // Its other queue pairs notice when they complete something themselves.
                        let _ = state.modify(Transition::Error);
                    }
                }
                Event::Async(event) => self.shared.events.push(DeviceEvent::QueuePair(self.qpn, event)),
            }
        }
        received
    }
}

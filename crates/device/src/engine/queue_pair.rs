//! Queue pairs: the protocol's, with the path to its peer, its turn to send, and where its completions go.

mod announced;
mod delayed_ack;
mod pacing;
mod path;
mod reads;
mod segmentation;
mod transmit;

use self::announced::Announced;
use self::delayed_ack::DelayedAck;
use self::pacing::Pacing;
pub(crate) use self::path::Path;
use self::reads::ReadPacing;
use self::segmentation::Segmentation;
use self::transmit::Transmitted;
use super::completion_queue::{CompletionQueue, Overflow, WorkCompletion};
use super::security::{AssociationId, Peer, Refusal, SealedDatagrams, Sealing, Served};
use super::shared_receive_queue::Receives;
use super::{Association, Buffers, DeviceEvent, DomainMemory, Port, Shared};
use crate::link::tx::Unsent;
use core::ops::{Deref, DerefMut};
use core::time::Duration;
use rocev2::transport::{self, Context, Destination, DropReason, Snapshot, Source};
use rocev2::wire::Packet;
use rocev2::work::{
    self, AddressId, Attributes, Completion, Event, ModifyError, PostError, QueuePairType, Recipient,
    RecvRequest, SendRequest, Transition,
};
use rocev2::{Mtu, Qpn, Time};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Bytes that one queue pair sends before others get their turn, while none waits. A READ of 2 GiB is half a
/// million packets.
const ALONE: usize = 480 << 10;

/// The same while others wait: two whole runs of the longest packets. A part of a run costs a system call like a whole
/// one.
const QUANTUM: usize = 120 << 10;

/// The longest WRITE whose packets are messages of their own. Longer ones gain nothing: the one run more that their
/// FIRST packet costs is one among many.
const SPLIT_UP_TO: u32 = 64 << 10;

/// When to look at a deadline again that passed while the queue pair was state.
const LATER: Duration = Duration::from_micros(100);

/// A queue pair is past the state in which that may change.
pub(crate) struct NotBeforeRtr(pub(crate) work::State);

struct State {
    protocol: transport::QueuePair<DomainMemory>,
    receives: Receives,
    /// The way to the peer, or the one that the last datagram took.
    path: Option<Path>,
    /// What seals its packets: then it takes and sends no others.
    sealing: Option<Sealing>,
    /// The others that seal, for a queue pair for datagrams, all of which are sealed then.
    sealed_datagrams: Option<SealedDatagrams>,
    /// The address handle that the path is.
    address: Option<AddressId>,
    /// The slot of who the last packet of an unreliable transport is for.
    receiver: Option<u8>,
    pacing: Pacing,
    reads: ReadPacing,
    delayed_ack: DelayedAck,
    announced: Announced,
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
    of: QueuePairType,
    memory: DomainMemory,
    /// Where send and receive requests complete. An XRC target has none: its messages complete at the shared receive
    /// queues that they name.
    queues: Option<[Arc<CompletionQueue>; 2]>,
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
        self.0.queues.iter().flatten().for_each(|queue| queue.ring());
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
    /// Why it takes nothing that comes that way.
    refused: Option<Refused>,
    /// Whose sealed datagrams these are.
    served: Option<Served>,
}

/// Why a queue pair takes nothing that comes some way.
#[derive(Clone, Copy)]
enum Refused {
    /// It isn't the way from the peer.
    Way,
    /// It isn't sealed as it has to be.
    Seal(Refusal),
}

impl RxGuard<'_> {
    /// Takes a packet; what it leads to is sent by the next [`QueuePair::service`].
    pub(crate) fn handle_packet(&mut self, now: Time, packet: &Packet<'_>) {
        let counters = &self.queue_pair.shared.counters;
        match self.refused {
            None => {}
            Some(Refused::Way) => return counters.dropped(DropReason::WrongAddress),
            Some(Refused::Seal(refusal)) => return counters.refused(refusal),
        }
        if let Some(served) = self.served
            && packet.headers.deth.is_none_or(|deth| !served.has(Peer::of(served.address(), deth.src_qp)))
        {
            // Who sealed it has no such queue pair.
            return counters.refused(Refusal::OtherAssociation);
        }
        let State { protocol, receives, .. } = &mut *self.state;
        let chosen = receives.choose(packet.headers.xrc_srq);
        let memory = chosen.as_ref().map_or(&self.queue_pair.memory, |queue| queue.memory());
        let xrc_srq = chosen.as_ref().filter(|queue| !queue.is_withdrawn()).map(|queue| queue.number());
        let mut entered = receives.enter();
        let mut cx = Context { memory, receives: &mut entered, xrc_srq };
        if let Err(reason) = protocol.handle_packet(now, self.from, packet, &mut cx) {
            counters.dropped(reason);
        }
        drop(entered);
        if chosen.is_some() {
            // While it is known which queue it was.
            self.queue_pair.deliver(&mut self.state);
        }
    }
}

impl State {
    fn modify(&mut self, transition: Transition) -> Result<(), ModifyError> {
        self.protocol.modify(transition, &mut self.receives.enter())
    }

    /// Whether nothing leaves in clear.
    fn is_sealed(&self) -> bool {
        self.sealing.is_some() || self.sealed_datagrams.is_some()
    }

    /// When to be looked at again.
    fn poll_timeout(&self) -> Option<Time> {
        let paced = self.pacing.wake().into_iter().chain(self.reads.wake());
        self.protocol.poll_timeout().into_iter().chain(paced).min()
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
        receives: Receives,
        memory: DomainMemory,
        queues: Option<[&Arc<CompletionQueue>; 2]>,
        shared: &Arc<Shared>,
    ) -> Self {
        let state = State {
            protocol,
            receives,
            path: None,
            sealing: None,
            sealed_datagrams: None,
            address: None,
            receiver: None,
            pacing: Pacing::default(),
            reads: ReadPacing::default(),
            delayed_ack: DelayedAck::default(),
            announced: Announced::default(),
            waits: false,
            deficit: 0,
            unsent: None,
        };
        Self {
            qpn,
            of: state.protocol.queue_pair_type(),
            memory,
            queues: queues.map(|queues| queues.map(Arc::clone)),
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

    /// What it was made for.
    pub(crate) fn queue_pair_type(&self) -> QueuePairType {
        self.of
    }

    /// Where its peer's packets arrive.
    pub(crate) fn port(&self) -> Option<Arc<Port>> {
        crate::lock(&self.state).path.as_ref().map(|path| Arc::clone(&path.port))
    }

    /// Whoever polls for its completions looks there for packets.
    pub(crate) fn use_port(&self, port: &Arc<Port>) {
        self.queues.iter().flatten().for_each(|queue| queue.add_port(port));
    }

    /// Where its requests complete.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &CompletionQueue> {
        self.queues.iter().flatten().map(|queue| &**queue)
    }

    /// Whether any of its requests complete there.
    pub(crate) fn completes_into(&self, queue: &CompletionQueue) -> bool {
        self.queues().any(|own| core::ptr::eq(own, queue))
    }

    /// Makes a transition that needs no path.
    pub(crate) fn modify(&self, now: Time, transition: Transition) -> Result<(), ModifyError> {
        self.change(now, None, |state| state.modify(transition))
    }

    /// Sets attributes, and with them the state; `path` is one of them.
    pub(crate) fn set_attributes(
        &self,
        now: Time,
        attributes: Attributes,
        path: Option<Path>,
    ) -> Result<(), ModifyError> {
        let attributes = Attributes { path: path.is_some(), ..attributes };
        self.change(now, path, |state| {
            state.protocol.set_attributes(&attributes, &mut state.receives.enter())
        })
    }

    fn change(
        &self,
        now: Time,
        mut path: Option<Path>,
        change: impl FnOnce(&mut State) -> Result<(), ModifyError>,
    ) -> Result<(), ModifyError> {
        // A port too many does no harm, should the change be refused.
        if let Some(path) = &path {
            self.use_port(&path.port);
        }
        let mut state = self.lock();
        if let (Some(path), Some(domain)) = (&path, state.receives.xrc_domain()) {
            domain.use_port(&path.port);
        }
        self.send_delayed_ack(&mut state, now);
        if let (Some(path), Some(sealing)) = (&mut path, &mut state.sealing) {
            sealing.refresh(path.port.address(), path.peer.ip());
            if !sealing.has_icrc() {
                // Nothing that the peer checks depends on how packets leave.
                path.segmentation.vouch();
            }
        }
        change(&mut state)?;
        let State { protocol, sealing, .. } = &mut *state;
        if let (Some(sealing), Some(receive)) = (sealing, protocol.snapshot().receive) {
            sealing.fit(receive.path_mtu);
        }
        if let Some(path) = path {
            // On one host the receiver's buffer is what fills: what leaves is there.
            if !path.is_here {
                state.protocol.allow_read_responses(0);
            }
            // What is sealed is padded to one length.
            let runs = state.sealing.is_none() && path.segmentation != Segmentation::Fails;
            state.protocol.split_writes(if runs { SPLIT_UP_TO } else { 0 });
            state.path = Some(path);
        }
        self.drive(&mut state, now);
        Ok(())
    }

    /// Looks at where a datagram is to go: to a handle of this domain, and it fits what carries it.
    fn check_destination(&self, state: &State, request: &SendRequest<Buffers>) -> Result<(), PostError> {
        let Some(Recipient::Datagram(to)) = request.destination else { return Ok(()) };
        let path = self.address(to.address).ok_or(PostError::Destination)?;
        let mtu = path.port.mtu();
        let mtu = if state.sealed_datagrams.is_some() { mtu.sealed } else { Some(mtu.clear) };
        let (len, mtu) = (request.len, mtu.map_or(0, Mtu::bytes));
        if len > mtu { Err(PostError::Datagram { len, mtu }) } else { Ok(()) }
    }

    /// The way that an address handle of this domain leads.
    fn address(&self, id: AddressId) -> Option<Arc<Path>> {
        self.shared.addresses.get(id, self.memory.domain())
    }

    pub(crate) fn post_send(&self, now: Time, request: SendRequest<Buffers>) -> Result<(), PostError> {
        let mut state = self.lock();
        self.check_destination(&state, &request)?;
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
            result =
                self.check_destination(&state, &request).and_then(|()| state.protocol.post_send(request));
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
        protocol.post_recv(request, &mut receives.enter())?;
        // There is nothing to send for it; in the error state it has completed already.
        self.deliver(&mut state);
        Ok(())
    }

    /// Has it take and send nothing but what this association seals, from now on and for good. Before RTR only.
    pub(crate) fn seal_by(&self, association: Arc<Association>) -> Result<(), NotBeforeRtr> {
        let mut state = self.lock();
        let now = state.protocol.snapshot().state;
        if !matches!(now, work::State::Reset | work::State::Init) {
            return Err(NotBeforeRtr(now));
        }
        state.sealing = Some(Sealing::new(association));
        Ok(())
    }

    /// Has a queue pair for datagrams take and send none in clear, from now on and for good. Before RTR only.
    pub(crate) fn seal_datagrams(&self) -> Result<(), NotBeforeRtr> {
        let mut state = self.lock();
        let now = state.protocol.snapshot().state;
        if !matches!(now, work::State::Reset | work::State::Init) {
            return Err(NotBeforeRtr(now));
        }
        state.sealed_datagrams.get_or_insert_default();
        Ok(())
    }

    /// Whether it takes and sends nothing in clear.
    pub(crate) fn is_sealed(&self) -> bool {
        crate::lock(&self.state).is_sealed()
    }

    /// What seals its packets, if anything does.
    pub(crate) fn association(&self) -> Option<Arc<Association>> {
        crate::lock(&self.state).sealing.as_ref().map(|sealing| Arc::clone(sealing.association()))
    }

    /// Locks it for packets that came that way, and were sealed by that association, if at all.
    pub(crate) fn lock_rx<'a>(&'a self, from: &'a Source, association: Option<AssociationId>) -> RxGuard<'a> {
        let state = crate::lock(&self.state);
        // The source port may differ: senders vary it for the sake of multipath routing (IBA A17.9.5.2).
        let known = self.of == QueuePairType::Ud
            || state
                .path
                .as_ref()
                .is_some_and(|path| path.peer.ip() == from.source && path.port.address() == from.destination);
        if state.sealed_datagrams.is_some() {
            let served = association.and_then(|association| self.shared.peers.served(association));
            let served = served.filter(|served| served.address() == from.source.to_canonical());
            let refused = match (association, served) {
                (None, _) => Some(Refused::Seal(Refusal::Clear)),
                (Some(_), None) => Some(Refused::Seal(Refusal::OtherAssociation)),
                (Some(_), Some(_)) => None,
            };
            return RxGuard { queue_pair: self, state, from, refused, served };
        }
        let own = state.sealing.as_ref().map(Sealing::id);
        let refused = match (own, association) {
            _ if own == association => (!known).then_some(Refused::Way),
            (Some(_), None) => Some(Refused::Seal(Refusal::Clear)),
            (None, _) => Some(Refused::Seal(Refusal::Sealed)),
            (Some(_), Some(_)) => Some(Refused::Seal(Refusal::OtherAssociation)),
        };
        RxGuard { queue_pair: self, state, from, refused, served: None }
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
        self.queues.as_ref().is_some_and(|[_, receives]| core::ptr::eq(&**receives, queue))
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
        state.announced.taken(deadline);
        let due = state.poll_timeout().is_some_and(|at| at <= now);
        if !due {
            self.drive(&mut state, now);
        }
        due
    }

    /// Announces its deadline anew, after `deadline` was taken. Doesn't wait for a thread that is at work on it.
    pub(crate) fn announce_again(&self, now: Time, deadline: Time) {
        let next = match self.state.try_lock() {
            Ok(mut state) => {
                state.announced.taken(deadline);
                state.poll_timeout().filter(|at| state.announced.add(*at))
            }
            Err(_) => Some(now + LATER),
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
        protocol.handle_timeout(now, &mut receives.enter());
        if due {
            // What is sent again doesn't have to leave twice.
            state.unsent = None;
        }
        state.reads.woken(now);
        self.drive(&mut state, now);
    }

    /// Ends the queue pair: it neither sends nor remembers anything from here on.
    pub(crate) fn destroy(&self, now: Time) {
        let mut state = self.lock();
        // What the program has received was received: the peer shall know.
        self.send_delayed_ack(&mut state, now);
        // RESET is allowed from every state.
        let _ = state.modify(Transition::Reset);
        let opened = state.is_sealed().then(|| state.path.as_ref().map(|path| Arc::clone(&path.port)));
        state.path = None;
        state.address = None;
        state.receiver = None;
        state.unsent = None;
        state.pacing.forget();
        state.reads.pause();
        drop(state);
        if let Some(port) = opened.flatten() {
            // What the program has received is its own to wipe; copies of it are not to stay here.
            port.wipe();
        }
    }

    /// Goes on to send: it's this queue pair's turn.
    pub(crate) fn send_in_turn(&self, now: Time) {
        let mut state = self.lock();
        state.waits = false;
        // Where the link had no room, the last turn goes on.
        if state.unsent.is_none() {
            let contended = state.path.as_ref().is_some_and(|path| path.port.is_contended());
            state.deficit += if contended { QUANTUM } else { ALONE };
        }
        self.drive(&mut state, now);
    }

    /// Hands out what has completed, sends what is to be sent, and announces when to be looked at again.
    fn drive(&self, state: &mut State, now: Time) {
        // A message that is acknowledged has completed here: its sender may tell so by another way, and this thread may
        // have to wait for the processor in between.
        self.deliver(state);
        if self.of == QueuePairType::Ud {
            self.find_path(state);
        }
        if let Some(path) = &mut state.path {
            path.segmentation.acknowledged(state.protocol.unacknowledged());
            self.send(state, now);
        }
        // What nobody acknowledges completes as it leaves.
        self.deliver(state);
        if let Some(at) = state.poll_timeout()
            && state.announced.add(at)
        {
            self.shared.announce(at, self.qpn);
        }
    }

    /// Sends what may be sent, if it isn't others' turn.
    fn send(&self, state: &mut State, now: Time) {
        let Some(path) = &state.path else { return };
        let mut port = Arc::clone(&path.port);
        // Whoever waits for a turn gets one.
        state.pacing.begin();
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
                Transmitted::Paced => {
                    state.deficit = 0;
                    return;
                }
                Transmitted::Blocked(unsent) => {
                    // Datagrams may have been on their way from another one.
                    if let Some(path) = &state.path {
                        port = Arc::clone(&path.port);
                    }
                    if port.block(self.qpn) {
                        state.unsent = unsent;
                        state.waits = true;
                    } else {
                        // They are lost, as on the way. What comes after them must not wait for ever: not every
                        // transport has a timer of its own.
                        state.pacing.blocked(now);
                    }
                    return;
                }
            }
        }
        state.waits = true;
        port.take_turn(self.qpn);
    }

    /// Chooses the first path of a datagram queue pair, by what it is to send.
    fn find_path(&self, state: &mut State) {
        if state.path.is_none()
            && let Some((Destination::Address(id), _)) = state.protocol.next_destination()
        {
            self.take_address(state, id);
        }
    }

    /// Goes on with the path of an address handle. Where the program has destroyed it though a request names it,
    /// nothing more can be sent.
    fn take_address(&self, state: &mut State, id: AddressId) {
        let Some(path) = self.address(id) else {
            let _ = state.modify(Transition::Error);
            return;
        };
        self.use_port(&path.port);
        state.path = Some(Path::clone(&path));
        state.address = Some(id);
        state.receiver = None;
    }

    /// Hands out what has completed; returns whether a message was received.
    fn deliver(&self, state: &mut State) -> bool {
        let mut received = false;
        while let Some(event) = state.protocol.poll() {
            match event {
                Event::Completion(completion) => {
                    let is_recv = completion.kind.is_recv();
                    received |= is_recv;
                    let overflow = match (&self.queues, state.receives.chosen()) {
                        (Some([sends, receives]), _) => {
                            let queue = if is_recv { receives } else { sends };
                            self.complete(queue, completion)
                        }
                        // A withdrawn queue's requests have nobody who waits for them.
                        (None, chosen) => chosen.and_then(|queue| queue.completions()).and_then(|queue| {
                            let overflow = self.complete(queue, completion);
                            queue.ring();
                            overflow
                        }),
                    };
                    if let Some(queue) = overflow {
                        self.shared.events.push(DeviceEvent::CompletionQueueOverflow(queue));
                        // Its other queue pairs notice when they complete something themselves.
                        let _ = state.modify(Transition::Error);
                    }
                }
                Event::Async(event) => self.shared.events.push(DeviceEvent::QueuePair(self.qpn, event)),
            }
        }
        if !state.protocol.message_arrives() {
            state.receives.choose_none();
        }
        received
    }

    /// Hands out a completion; the number of the queue if it has no room.
    fn complete(&self, queue: &CompletionQueue, completion: Completion) -> Option<u64> {
        let pushed = queue.push(WorkCompletion { qpn: self.qpn, completion });
        pushed.err().map(|Overflow { .. }| queue.number())
    }
}

//! What each machine's program does: it polls, posts receive requests, and posts whatever work the seed brings.

use crate::connections::{GRH, QKEY, SHARED, slot};
use crate::end::{Drain, Effect, Message, Receive, WINDOWS, Window, WindowState, Work};
use crate::memory::{ClaimId, Content};
use crate::plan::{Disturbance, MS, SHARED_MESSAGE};
use crate::simulation::Simulation;
use crate::tally::{Operation, Way};
use rocev2::wire::Transport;
use rocev2::work::{
    AsyncEvent, AtomicOperation, CompletionKind, Datagram, Recipient, RecvRequest, RemoteAddress,
    SendOperation, SendRequest, Transition,
};
use rocev2_device::memory::{Access, WindowRange, WindowType};
use rocev2_device::{Arm, Buffers, DeviceEvent};
use std::rc::Rc;
use std::sync::Arc;

/// How long a program that waits for its channel leaves out its turn to post.
const TICK: u64 = 3 * MS;

/// The longest time between two looks of a program that polls.
const SLOWEST: u64 = 2 * MS;

/// The longest message that is posted inline.
const INLINE: usize = 200;

/// A request as it is made, before it is posted.
struct Draft {
    work: Work,
    request: SendOperation,
    buffers: Buffers,
    fence: bool,
    solicited: bool,
}

impl Draft {
    fn new(operation: Operation, request: SendOperation, buffers: Buffers, len: usize) -> Self {
        let work = Work {
            id: 0,
            operation,
            kind: request.completion_kind(),
            signaled: true,
            len: u32::try_from(len).expect("a short message"),
            source: None,
            target: None,
            remote: None,
            refused: false,
            counter: false,
            message: None,
            effect: Effect::None,
        };
        Self { work, request, buffers, fence: false, solicited: false }
    }
}

impl Simulation {
    /// A program's turn.
    pub(crate) fn run_program(&mut self, number: usize, now: u64) {
        let mut active = false;
        if !self.machines[number].waiting {
            active |= self.poll(number);
        }
        active |= self.take_events(number);
        for end in 0..self.ends.len() {
            if self.ends[end].machine == number && self.ends[end].queue_pair.is_some() {
                active |= self.resume(end);
                active |=
                    if self.ends[end].plan.shares { self.post_shared(end) } else { self.post_receives(end) };
                active |= self.post_sends(end);
            }
        }
        let machine = &mut self.machines[number];
        machine.idle = if active { 0 } else { machine.idle + 1 };
        if machine.waiting {
            machine.program_at = now + TICK;
            return;
        }
        if machine.waits && machine.idle >= 3 {
            machine.queues.iter().for_each(|queue| queue.arm(Arm::Any));
            // What came before isn't announced.
            if !self.poll(number) {
                let machine = &mut self.machines[number];
                machine.waiting = true;
                machine.program_at = now + TICK;
                return;
            }
        }
        let machine = &mut self.machines[number];
        let pause = (machine.pace_ns << machine.idle.min(10)).min(SLOWEST.max(machine.pace_ns));
        machine.program_at = now + pause;
    }

    /// Takes completions; whether there were any.
    fn poll(&mut self, number: usize) -> bool {
        let mut out = Vec::new();
        let machine = &self.machines[number];
        let mut overflowed = Vec::new();
        for (at, queue) in machine.queues.iter().enumerate() {
            if queue.poll(&mut out, machine.batch).is_err() {
                overflowed.push(at);
            }
        }
        self.take_completions(number, &out);
        for queue in &overflowed {
            self.replace_queue(number, *queue);
        }
        !out.is_empty() || !overflowed.is_empty()
    }

    /// Takes all completions that are there.
    pub(crate) fn drain_queues(&mut self, number: usize) {
        while self.poll(number) {}
    }

    /// Takes asynchronous events.
    fn take_events(&mut self, number: usize) -> bool {
        let mut some = false;
        while let Some(event) = self.machines[number].machine.device.try_event() {
            some = true;
            let (qpn, event) = match event {
                DeviceEvent::QueuePair(qpn, event) => (qpn, event),
                DeviceEvent::SharedReceiveQueueLimit(queue) => {
                    self.limit_reached(number, queue);
                    continue;
                }
                DeviceEvent::CompletionQueueOverflow(_) => {
                    // The next poll says so, after what had room.
                    self.machines[number].waiting = false;
                    continue;
                }
            };
            self.record("event", &[("machine", number as u64), ("event", event as u64)]);
            let Some(&end) = self.by_qpn.get(&(number, qpn)) else { panic!("an event of nobody's") };
            match event {
                AsyncEvent::SendQueueDrained => self.ends[end].drain = Drain::Drained,
                AsyncEvent::AccessError | AsyncEvent::RequestError | AsyncEvent::Fatal => {
                    assert!(self.ends[end].may_fail, "{event:?} of end {end}, to which nothing was done");
                    self.note_error(end);
                }
                _ => {}
            }
        }
        some
    }

    /// Goes on with a send queue that has drained.
    fn resume(&mut self, end: usize) -> bool {
        if self.ends[end].drain != Drain::Drained {
            return false;
        }
        self.ends[end].drain = Drain::No;
        if let Some(queue_pair) = &self.ends[end].queue_pair
            && let Err(error) = queue_pair.modify(Transition::Resume)
        {
            assert!(self.ends[end].may_fail, "a drained send queue can't be resumed: {error}");
        }
        self.record("resume", &[("end", end as u64)]);
        true
    }

    fn post_receives(&mut self, number: usize) -> bool {
        let mut active = false;
        loop {
            let end = &self.ends[number];
            let wanted = end.plan.recv_depth;
            if end.receives.len() >= wanted || (end.in_error && !end.receives.is_empty()) {
                return active;
            }
            // In the error state, one more now and then: it is flushed at once.
            let late = if end.in_error { 97 } else { end.plan.late_receives };
            if self.rng.percent(late) {
                return active;
            }
            let (inbox, size) = (end.inbox, slot(&end.common));
            let claim = self.memories[inbox].claim(&mut self.rng, size, size);
            let Some(claim) = claim.or_else(|| self.memories[inbox].claim_any(size)) else { return active };
            let Some(list) = self.memories[inbox].elements(claim.start, size, 1 + self.rng.index(3)) else {
                return active;
            };
            let end = &mut self.ends[number];
            let (id, place) = (end.id(), end.posted_receives);
            end.posted_receives += 1;
            let request = RecvRequest { id, buffers: Buffers::List(list), len: size as u64 };
            end.receives.push_back(Receive { id, number: place, claim: Some(claim) });
            let queue_pair = end.queue_pair.as_ref().expect("it is there");
            queue_pair.post_recv(request).expect("there is room");
            self.tally.of(self.ends[number].transport(), Operation::Receive).posted += 1;
            self.record("post_recv", &[("end", number as u64), ("id", id)]);
            if self.ends[number].is_reliable() {
                self.expect_message(number, place);
            } else {
                // Which messages come, and what remains of others that didn't, nobody knows.
                self.memories[claim.memory].set(claim, Content::Any);
            }
            active = true;
        }
    }

    /// Fills the shared receive queue that an end takes requests from.
    fn post_shared(&mut self, number: usize) -> bool {
        let mut active = false;
        let end = &self.ends[number];
        let (machine, domain, late) = (end.machine, end.domain, end.plan.late_receives);
        loop {
            let shared = self.machines[machine].shared[domain].as_mut().expect("it was made with the end");
            if shared.receives.len() >= SHARED || self.rng.percent(late) {
                return active;
            }
            let size = SHARED_MESSAGE + GRH;
            let memory = &mut self.memories[shared.inbox];
            let Some(claim) = memory.claim_any(size) else { return active };
            memory.set(claim, Content::Any);
            let Some(list) = memory.elements(claim.start, size, 1 + self.rng.index(3)) else { return active };
            shared.next_id += 1;
            let id = shared.next_id;
            shared.receives.insert(id, claim);
            let request = RecvRequest { id, buffers: Buffers::List(list), len: size as u64 };
            shared.queue.post_recv(request).expect("there is room");
            self.tally.of(self.ends[number].transport(), Operation::Receive).posted += 1;
            self.record("post_shared", &[("machine", machine as u64), ("id", id)]);
            active = true;
        }
    }

    /// A shared receive queue has fewer requests waiting than its limit: asks for the next such event.
    fn limit_reached(&mut self, machine: usize, queue: u64) {
        self.record("limit", &[("machine", machine as u64), ("queue", queue)]);
        let mut shared = self.machines[machine].shared.iter().flatten();
        let shared = shared.find(|shared| shared.queue.number() == queue).expect("an event of nobody's");
        assert_eq!(shared.queue.limit(), 0, "the limit is still set");
        shared.queue.set_limit(2).expect("less than its capacity");
    }

    /// A receive request and the message that it is for are both posted: its buffer may change.
    fn expect_message(&mut self, receiver: usize, place: u64) {
        if !self.ends[receiver].is_reliable() || self.ends[receiver].plan.shares {
            return;
        }
        let sender = &self.ends[self.ends[receiver].peer];
        let message = usize::try_from(place).ok().and_then(|place| sender.messages.get(place));
        let receive = self.ends[receiver].receives.iter().find(|receive| receive.number == place);
        if let (Some(message), Some(Receive { claim: Some(claim), .. })) = (message, receive) {
            let content = Content::Filling { bytes: Rc::clone(&message.bytes), done: 0 };
            self.memories[claim.memory].set(*claim, content);
        }
    }

    fn post_sends(&mut self, end: usize) -> bool {
        let mut active = false;
        for _ in 0..=self.rng.index(4) {
            let it = &self.ends[end];
            if it.queue_pair.is_none() || it.quota == 0 || it.works.len() >= it.plan.send_depth {
                break;
            }
            if it.in_error && self.rng.percent(90) {
                break;
            }
            let draft = self.draft(end).unwrap_or_else(|| self.draft_inline_send(end));
            self.post(end, draft);
            active = true;
        }
        active
    }

    fn draft(&mut self, end: usize) -> Option<Draft> {
        match self.ends[end].transport() {
            Transport::Rc | Transport::Xrc => self.draft_reliable(end),
            Transport::Uc => match self.rng.below(10) {
                0..5 => self.draft_send(end),
                5..8 => self.draft_write(end, false),
                8 => self.draft_write(end, true),
                _ => self.draft_refused(end),
            },
            Transport::Ud => self.draft_send(end),
        }
    }

    fn draft_reliable(&mut self, end: usize) -> Option<Draft> {
        match self.rng.below(100) {
            0..28 => self.draft_send(end),
            28..50 => self.draft_write(end, false),
            50..58 => self.draft_write(end, true),
            58..70 => self.draft_read(end),
            70..76 => self.draft_counter(end),
            76..84 => self.draft_word(end),
            84..97 => self.draft_window(end),
            _ => self.draft_refused(end),
        }
    }

    fn len(&mut self, end: usize) -> usize {
        let common = &self.ends[end].common;
        let (mtu, max) = (common.mtu.bytes() as usize, common.max_message);
        let any = self.rng.index(max + 1);
        self.rng.pick(&[0, 1, mtu - 1, mtu, mtu + 1, 3 * mtu, any, any, any]).min(max)
    }

    /// Bytes of this end to send: inline or in its memory.
    fn source(&mut self, end: usize, len: usize) -> Option<(Buffers, Option<ClaimId>, Vec<u8>)> {
        let bytes = self.rng.bytes(len);
        if len <= INLINE && self.rng.percent(25) {
            self.tally.way(Way::Inline);
            return Some((Buffers::Inline(bytes.as_slice().into()), None, bytes));
        }
        let memory = &mut self.memories[self.ends[end].memory];
        let claim = memory.claim(&mut self.rng, len, 1)?;
        memory.write(claim.start, &bytes);
        let list = memory.elements(claim.start, len, 1 + self.rng.index(3))?;
        Some((Buffers::List(list), Some(claim), bytes))
    }

    fn draft_inline_send(&mut self, end: usize) -> Draft {
        let bytes = self.rng.bytes(8);
        let buffers = Buffers::Inline(bytes.as_slice().into());
        self.tally.way(Way::Inline);
        let mut draft = Draft::new(Operation::Send, SendOperation::Send, buffers, bytes.len());
        self.announce(end, &mut draft, bytes.into());
        draft
    }

    fn draft_send(&mut self, end: usize) -> Option<Draft> {
        let len = self.len(end);
        let (buffers, source, bytes) = self.source(end, len)?;
        let immediate = self.rng.word();
        let (operation, request) = match self.rng.below(2) {
            0 => (Operation::Send, SendOperation::Send),
            _ => (Operation::SendImmediate, SendOperation::SendImmediate(immediate)),
        };
        let mut draft = Draft::new(operation, request, buffers, len);
        draft.work.source = source;
        self.announce(end, &mut draft, bytes.into());
        Some(draft)
    }

    /// The request takes one of the peer's receive requests.
    fn announce(&mut self, end: usize, draft: &mut Draft, bytes: Rc<[u8]>) {
        draft.solicited = self.rng.percent(30);
        let (kind, immediate, invalidated) = match draft.request {
            SendOperation::SendImmediate(immediate) => (CompletionKind::Recv, Some(immediate), None),
            SendOperation::SendInvalidate(rkey) => (CompletionKind::Recv, None, Some(rkey)),
            SendOperation::WriteImmediate(_, immediate) => {
                (CompletionKind::RecvWriteImmediate, Some(immediate), None)
            }
            _ => (CompletionKind::Recv, None, None),
        };
        let (len, solicited) = (draft.work.len, draft.solicited);
        let messages = &mut self.ends[end].messages;
        messages.push(Message { bytes, len, kind, immediate, invalidated, solicited, written: None });
        let place = messages.len() as u64 - 1;
        draft.work.message = Some(place);
        self.expect_message(self.ends[end].peer, place);
    }

    fn draft_write(&mut self, end: usize, immediate: bool) -> Option<Draft> {
        let len = self.len(end);
        let remote = self.remote_claim(end, len)?;
        let Some((buffers, source, bytes)) = self.source(end, len) else {
            self.memories[remote.memory].abandon(remote);
            return None;
        };
        let memory = &mut self.memories[remote.memory];
        memory.set(remote, Content::Filling { bytes: bytes.into(), done: 0 });
        let address = memory.remote(remote.start)?;
        let mut draft = if immediate {
            let request = SendOperation::WriteImmediate(address, self.rng.word());
            let mut draft = Draft::new(Operation::WriteImmediate, request, buffers, len);
            self.announce(end, &mut draft, Rc::new([]));
            if let Some(message) = self.ends[end].messages.last_mut() {
                message.written = Some(remote);
            }
            draft
        } else {
            Draft::new(Operation::Write, SendOperation::Write(address), buffers, len)
        };
        (draft.work.source, draft.work.remote) = (source, Some(remote));
        Some(draft)
    }

    /// Bytes of the peer.
    fn remote_claim(&mut self, end: usize, len: usize) -> Option<ClaimId> {
        let peer = &self.ends[self.ends[end].peer];
        self.memories[peer.memory].claim(&mut self.rng, len, 1)
    }

    fn draft_read(&mut self, end: usize) -> Option<Draft> {
        let len = self.len(end);
        let remote = self.remote_claim(end, len)?;
        let Some(mut draft) = self.draft_read_of(end, remote, remote.start, len) else {
            self.memories[remote.memory].abandon(remote);
            return None;
        };
        let own = &self.ends[end];
        let room = own.plan.send_depth - own.works.len();
        if room < 2 || own.quota < 2 || !self.rng.percent(40) {
            return Some(draft);
        }
        // What the READ brings is sent on by a fenced request.
        let bytes: Rc<[u8]> = self.memories[remote.memory].bytes(remote.start, len).into();
        let target = draft.work.target?;
        draft.work.remote = Some(remote);
        self.post(end, draft);
        let next = if self.rng.percent(50) { None } else { self.remote_claim(end, len) };
        let memory = &mut self.memories[target.memory];
        let list = memory.elements(target.start, len, 1)?;
        memory.hold(target);
        let buffers = Buffers::List(list);
        let mut fenced = match next {
            Some(next) => {
                let memory = &mut self.memories[next.memory];
                memory.set(next, Content::Filling { bytes, done: 0 });
                let address = memory.remote(next.start)?;
                let mut fenced = Draft::new(Operation::Write, SendOperation::Write(address), buffers, len);
                fenced.work.remote = Some(next);
                fenced
            }
            None => {
                let mut fenced = Draft::new(Operation::Send, SendOperation::Send, buffers, len);
                self.announce(end, &mut fenced, bytes);
                fenced
            }
        };
        fenced.work.source = Some(target);
        fenced.fence = true;
        self.tally.way(Way::Fenced);
        Some(fenced)
    }

    /// A READ of bytes of the peer, named by where they begin.
    fn draft_read_of(&mut self, end: usize, remote: ClaimId, start: usize, len: usize) -> Option<Draft> {
        let address = self.memories[remote.memory].remote(start)?;
        let bytes: Rc<[u8]> = self.memories[remote.memory].bytes(start, len).into();
        let memory = &mut self.memories[self.ends[end].memory];
        let target = memory.claim(&mut self.rng, len, 1)?;
        let list = memory.elements(target.start, len, 1 + self.rng.index(3))?;
        memory.set(target, Content::Filling { bytes, done: 0 });
        let mut draft = Draft::new(Operation::Read, SendOperation::Read(address), Buffers::List(list), len);
        (draft.work.target, draft.work.remote) = (Some(target), Some(remote));
        Some(draft)
    }

    /// A place for an atomic's result.
    fn result(&mut self, end: usize, content: Content) -> Option<(ClaimId, Buffers)> {
        let memory = &mut self.memories[self.ends[end].memory];
        let target = memory.claim(&mut self.rng, 8, 1)?;
        memory.set(target, content);
        let list = memory.elements(target.start, 8, 1)?;
        Some((target, Buffers::List(list)))
    }

    /// Adds 1 to a word that many add to.
    fn draft_counter(&mut self, end: usize) -> Option<Draft> {
        let peer = &self.ends[self.ends[end].peer];
        let memory = self.machines[peer.machine].counters[peer.domain];
        let address = self.memories[memory].remote(0)?;
        let (target, buffers) = self.result(end, Content::Any)?;
        self.counters.entry(memory).or_default().posted += 1;
        self.memories[memory].count_one_more();
        let add = AtomicOperation::FetchAdd { add: 1 };
        let request = SendOperation::Atomic(address, add);
        let mut draft = Draft::new(Operation::FetchAdd, request, buffers, 8);
        (draft.work.target, draft.work.counter) = (Some(target), true);
        Some(draft)
    }

    /// Changes a word of the peer's that this end has for itself.
    fn draft_word(&mut self, end: usize) -> Option<Draft> {
        let peer_memory = self.ends[self.ends[end].peer].memory;
        let known = self.ends[end].word.filter(|(claim, _)| claim.memory == peer_memory);
        let (claim, value) = match known {
            Some(known) => known,
            None => {
                let memory = &mut self.memories[peer_memory];
                let claim = memory.claim(&mut self.rng, 8, 8)?;
                let value = u64::from_ne_bytes(*memory.bytes(claim.start, 8).first_chunk()?);
                memory.set(claim, Content::Word { values: vec![value], at: 0 });
                (claim, value)
            }
        };
        let address = self.memories[peer_memory].remote(claim.start)?;
        let original: Rc<[u8]> = value.to_ne_bytes().into();
        let (target, buffers) = self.result(end, Content::Filling { bytes: original, done: 0 })?;
        let (operation, atomic, after) = match self.rng.below(3) {
            0 => {
                let add = self.rng.next();
                (Operation::FetchAdd, AtomicOperation::FetchAdd { add }, value.wrapping_add(add))
            }
            1 => {
                let swap = self.rng.next();
                (Operation::CompareSwap, AtomicOperation::CompareSwap { compare: value, swap }, swap)
            }
            _ => {
                let (compare, swap) = (self.rng.next(), self.rng.next());
                (Operation::CompareSwap, AtomicOperation::CompareSwap { compare, swap }, value)
            }
        };
        if let Some(Content::Word { values, .. }) = self.memories[peer_memory].content(claim)
            && after != value
        {
            values.push(after);
        }
        self.ends[end].word = Some((claim, after));
        let mut draft = Draft::new(operation, SendOperation::Atomic(address, atomic), buffers, 8);
        draft.work.target = Some(target);
        Some(draft)
    }

    fn draft_window(&mut self, end: usize) -> Option<Draft> {
        let peer = self.ends[end].peer;
        let first = self.rng.index(WINDOWS);
        let in_state = |windows: &[Window], state| {
            let of = |number: &usize| windows[*number].state == state && windows[*number].window.is_some();
            (0..WINDOWS).map(|number| (first + number) % WINDOWS).find(of)
        };
        if let Some(window) = in_state(&self.ends[end].windows, WindowState::Returned) {
            return self.draft_invalidate(end, window);
        }
        if let Some(window) = in_state(&self.ends[peer].windows, WindowState::Offered) {
            return self.draft_use(end, window);
        }
        let window = in_state(&self.ends[end].windows, WindowState::Free)?;
        self.draft_bind(end, window)
    }

    fn draft_bind(&mut self, end: usize, number: usize) -> Option<Draft> {
        let long = self.rng.percent(50);
        let len = if long { self.ends[end].common.max_message } else { self.len(end).max(1) };
        let it = &self.ends[end];
        let memory = it.memory;
        let zero_based = it.windows[number].kind == WindowType::Two && self.rng.percent(40);
        let claim = self.memories[memory].claim(&mut self.rng, len, 1)?;
        let region = Arc::clone(self.memories[memory].region()?.region());
        let va = region.addr() + claim.start as u64;
        let flag = if zero_based { Access::ZERO_BASED } else { Access::empty() };
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE | flag;
        let range = WindowRange { region, va, len: len as u64, access };
        let window = &mut self.ends[end].windows[number];
        let bind = window.window.as_ref()?.bind(None, Some(range)).expect("a key");
        window.remote = RemoteAddress { va: if zero_based { 0 } else { va }, rkey: bind.rkey() };
        (window.claim, window.len, window.state) = (Some(claim), len, WindowState::Binding);
        let buffers = Buffers::Bind(Box::new(bind));
        let mut draft = Draft::new(Operation::Bind, SendOperation::BindWindow, buffers, 0);
        draft.work.effect = Effect::Binds(number);
        Some(draft)
    }

    /// Uses a window of the peer; and perhaps takes it back at once.
    fn draft_use(&mut self, end: usize, number: usize) -> Option<Draft> {
        let peer = self.ends[end].peer;
        let own = &self.ends[end];
        let room = own.plan.send_depth - own.works.len();
        let window = &self.ends[peer].windows[number];
        let (claim, address, kind) = (window.claim?, window.remote, window.kind);
        let len = if self.rng.percent(60) { window.len } else { 1 + self.rng.index(window.len) };
        let mut draft = if self.rng.percent(60) {
            let (buffers, source, bytes) = self.source(end, len)?;
            self.memories[claim.memory].set(claim, Content::Filling { bytes: bytes.into(), done: 0 });
            let mut draft = Draft::new(Operation::Write, SendOperation::Write(address), buffers, len);
            draft.work.source = source;
            draft
        } else {
            let mut draft = self.draft_read_of(end, claim, claim.start, len)?;
            draft.request = SendOperation::Read(address);
            draft
        };
        self.memories[claim.memory].hold(claim);
        draft.work.remote = Some(claim);
        draft.work.effect = Effect::Uses(number);
        self.tally.way(Way::Window);
        // At any moment, or else as soon as a part has been written.
        if self.ends[peer].deallocates && self.rng.percent(30) {
            self.ends[peer].deallocates = false;
            self.disturb_soon(Disturbance::Deallocate { end: peer });
        }
        let takes_back = kind == WindowType::Two && room >= 2 && self.ends[end].quota >= 2;
        if !takes_back || self.rng.percent(50) {
            self.ends[peer].windows[number].state = WindowState::Used;
            return Some(draft);
        }
        self.ends[peer].windows[number].state = WindowState::UsedAndInvalidated;
        // What follows a READ may overtake its answer (IBA 10.8.3.3, table of ordering rules).
        let fence = draft.work.operation == Operation::Read;
        self.post(end, draft);
        let bytes = self.rng.bytes(4);
        let buffers = Buffers::Inline(bytes.as_slice().into());
        let request = SendOperation::SendInvalidate(address.rkey);
        let mut draft = Draft::new(Operation::SendInvalidate, request, buffers, bytes.len());
        draft.fence = fence;
        self.announce(end, &mut draft, bytes.into());
        Some(draft)
    }

    /// Takes a window of this end back.
    fn draft_invalidate(&mut self, end: usize, number: usize) -> Option<Draft> {
        let window = &mut self.ends[end].windows[number];
        let mut draft = match window.kind {
            WindowType::Two => {
                let request = SendOperation::LocalInvalidate(window.remote.rkey);
                Draft::new(Operation::LocalInvalidate, request, Buffers::empty(), 0)
            }
            WindowType::One => {
                let bind = window.window.as_ref()?.bind(None, None).expect("a key");
                let buffers = Buffers::Bind(Box::new(bind));
                Draft::new(Operation::Bind, SendOperation::BindWindow, buffers, 0)
            }
        };
        window.state = WindowState::Invalidating;
        draft.work.effect = Effect::Invalidates(number);
        Some(draft)
    }

    /// A request that the peer must refuse.
    fn draft_refused(&mut self, end: usize) -> Option<Draft> {
        if !self.harsh || self.rng.percent(70) {
            return None;
        }
        let peer = &self.ends[self.ends[end].peer];
        let (memory, inbox) = (&self.memories[peer.memory], &self.memories[peer.inbox]);
        let others = &self.machines[peer.machine].counters;
        let other = others[(peer.domain + 1) % others.len()];
        let stale = peer.windows.iter().find(|window| window.state == WindowState::Free && window.len > 0);
        let address = match self.rng.below(5) {
            // No right.
            0 => inbox.remote(0)?,
            // It begins inside.
            1 => memory.remote(memory.len() - 3)?,
            // Another domain's.
            2 if others.len() > 1 => self.memories[other].remote(8)?,
            // Taken back.
            3 => stale?.remote,
            _ => RemoteAddress { va: memory.remote(0)?.va, rkey: self.rng.word() },
        };
        let len = self.ends[end].common.max_message.clamp(8, 64);
        let bytes = self.rng.bytes(len);
        let reliable = self.ends[end].is_reliable();
        let mut draft = if self.rng.percent(50) || !reliable {
            let buffers = Buffers::Inline(bytes.as_slice().into());
            Draft::new(Operation::Write, SendOperation::Write(address), buffers, len)
        } else {
            let own = &mut self.memories[self.ends[end].memory];
            let target = own.claim(&mut self.rng, len, 1)?;
            let list = own.elements(target.start, len, 1)?;
            let mut draft =
                Draft::new(Operation::Read, SendOperation::Read(address), Buffers::List(list), len);
            draft.work.target = Some(target);
            draft
        };
        self.tally.way(Way::Refused);
        // Over an unreliable connection it is dropped, and nobody is told.
        if reliable {
            draft.work.refused = true;
            self.allow_failure(end);
        }
        Some(draft)
    }

    fn post(&mut self, number: usize, draft: Draft) {
        let Draft { mut work, request, buffers, fence, solicited } = draft;
        let end = &mut self.ends[number];
        end.quota -= 1;
        work.id = end.id();
        let last_chance = end.unsignaled + 1 >= end.plan.send_depth || end.quota == 0;
        work.signaled = last_chance || !self.rng.percent(35);
        end.unsignaled = if work.signaled { 0 } else { end.unsignaled + 1 };
        if !work.signaled {
            self.tally.way(Way::Unsignaled);
        }
        self.tally.of(self.ends[number].transport(), work.operation).posted += 1;
        let values = [
            ("end", number as u64),
            ("id", work.id),
            ("kind", work.operation as u64),
            ("len", work.len.into()),
            ("signaled", work.signaled.into()),
        ];
        self.record("post_send", &values);
        let remote_qpn = self.ends[self.ends[number].peer].qpn;
        let end = &mut self.ends[number];
        if end.association.is_some() {
            self.tally.way(Way::Sealed);
        }
        let way = end.handle.as_ref().map(rocev2_device::AddressHandle::id);
        let destination =
            way.map(|address| Recipient::Datagram(Datagram { address, remote_qpn, remote_qkey: QKEY }));
        let request = SendRequest {
            id: work.id,
            operation: request,
            buffers,
            len: work.len,
            signaled: work.signaled,
            solicited,
            fence,
            destination,
        };
        end.works.push_back(work);
        let queue_pair = end.queue_pair.as_ref().expect("it is there");
        if let Err(error) = queue_pair.post_send(request) {
            panic!("end {number} can't post: {error}");
        }
    }
}

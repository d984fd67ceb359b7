//! What completions must say, and what follows from them.

use crate::connections::GRH;
use crate::end::{EXCUSED, Effect, Message, Window, WindowState, Work};
use crate::memory::ClaimId;
use crate::platform;
use crate::simulation::{Connection, Simulation};
use crate::tally::Operation;
use rocev2::wire::Transport;
use rocev2::work::{Completion, Status};
use rocev2_device::WorkCompletion;

impl Simulation {
    pub(crate) fn take_completions(&mut self, machine: usize, completions: &[WorkCompletion]) {
        for WorkCompletion { qpn, completion } in completions {
            let Some(&end) = self.by_qpn.get(&(machine, *qpn)) else {
                panic!("a completion of a queue pair that never was: {completion:?}")
            };
            let values = [
                ("end", end as u64),
                ("id", completion.id),
                ("status", completion.status as u64),
                ("recv", completion.kind.is_recv().into()),
            ];
            self.record("completion", &values);
            if completion.kind.is_recv() {
                self.received(end, completion);
            } else {
                self.sent(end, completion);
            }
        }
    }

    /// The end of a send request, and of the unsignaled ones before it.
    fn sent(&mut self, number: usize, completion: &Completion) {
        loop {
            let Some(work) = self.ends[number].works.pop_front() else {
                panic!("end {number}: request {} ended, which isn't under way", completion.id)
            };
            if work.id == completion.id {
                self.sent_one(number, &work, completion);
                return;
            }
            assert!(
                !work.signaled && !self.ends[number].send_failed,
                "end {number}: request {} ended before {:?} {}, or that one's completion was lost",
                completion.id,
                work.operation,
                work.id
            );
            self.succeeded(number, &work);
        }
    }

    fn sent_one(&mut self, number: usize, work: &Work, completion: &Completion) {
        let status = completion.status;
        let what = format!("end {number}: {:?} {}", work.operation, work.id);
        if status == Status::Success {
            assert!(work.signaled, "{what} has a completion, and asked for none");
            assert!(!self.ends[number].send_failed, "{what} succeeded after another one had failed");
            assert_eq!((completion.kind, completion.len), (work.kind, work.len), "{what}");
            self.succeeded(number, work);
        } else {
            let failed = self.ends[number].send_failed;
            self.excuse(number, status, failed, &what);
            self.ends[number].send_failed = true;
            let ends = self.tally.of(self.ends[number].transport(), work.operation);
            *(if status == Status::Flushed { &mut ends.flushed } else { &mut ends.failed }) += 1;
            self.failed(number, work);
            self.note_error(number);
        }
    }

    /// Whether a request may end so.
    fn excuse(&self, number: usize, status: Status, failed: bool, what: &str) {
        let end = &self.ends[number];
        assert!(end.may_fail, "{what}: {status}, though nothing was done to its connection");
        assert!(EXCUSED.contains(&status), "{what}: {status}");
        assert!(!failed || status == Status::Flushed, "{what}: {status}, after another one had failed");
    }

    fn succeeded(&mut self, number: usize, work: &Work) {
        let what = format!("end {number}: {:?} {}", work.operation, work.id);
        assert!(!work.refused, "{what} succeeded, and nobody had given it a right");
        let end = &mut self.ends[number];
        self.tally.of(end.transport(), work.operation).succeeded += 1;
        let mut remote = work.remote;
        if !end.is_reliable() {
            // It has left, which says nothing of its arrival.
            end.loose.extend(remote.take());
        }
        for claim in [work.source, work.target, remote].into_iter().flatten() {
            self.memories[claim.memory].complete(claim, &what);
        }
        if let (true, Some(claim)) = (work.counter, work.target) {
            let bytes = self.memories[claim.memory].bytes(claim.start, 8).first_chunk();
            let found = bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
            let peer = &self.ends[self.ends[number].peer];
            let memory = self.machines[peer.machine].counters[peer.domain];
            let counter = self.counters.entry(memory).or_default();
            counter.succeeded += 1;
            assert!(counter.found.insert(found), "{what}: two additions found {found}");
            assert!(found < counter.posted, "{what}: found {found}, of {} additions", counter.posted);
        }
        if let Some(place) = work.message {
            self.ends[number].acknowledged = place + 1;
        }
        let peer = self.ends[number].peer;
        match work.effect {
            Effect::None => {}
            Effect::Binds(window) => {
                let window = &mut self.ends[number].windows[window];
                if let (WindowState::Binding, Some(bound)) = (window.state, &window.window) {
                    assert!(bound.window().is_bound(), "{what}: it isn't bound");
                    assert_eq!(bound.window().rkey(), window.remote.rkey);
                    window.state = WindowState::Offered;
                }
            }
            Effect::Invalidates(window) => self.taken_back(number, window, &what),
            Effect::Uses(window) => {
                let window = &mut self.ends[peer].windows[window];
                if window.state == WindowState::Used {
                    window.state = WindowState::Returned;
                }
            }
        }
    }

    /// A window of that end was taken back, by whomever.
    fn taken_back(&mut self, number: usize, window: usize, what: &str) {
        let window = &mut self.ends[number].windows[window];
        let Some(bound) = &window.window else { return };
        assert!(!bound.window().is_bound(), "{what}: the window is still bound");
        window.state = WindowState::Free;
        if let Some(claim) = window.claim.take() {
            self.memories[claim.memory].complete(claim, what);
        }
    }

    fn failed(&mut self, number: usize, work: &Work) {
        for claim in [work.source, work.target].into_iter().flatten() {
            self.memories[claim.memory].abandon(claim);
        }
        let end = &mut self.ends[number];
        // Its packets may still be on their way.
        end.loose.extend(work.remote);
        if let Effect::Binds(window) | Effect::Invalidates(window) = work.effect {
            end.windows[window].state = WindowState::Dead;
        }
    }

    /// The end of a receive request.
    fn received(&mut self, number: usize, completion: &Completion) {
        let what = format!("end {number}: receive request {}", completion.id);
        let claim = self.take_receive(number, completion.id, &what);
        let transport = self.ends[number].transport();
        if completion.status != Status::Success {
            let failed = self.ends[number].receive_failed;
            self.excuse(number, completion.status, failed, &what);
            self.ends[number].receive_failed = true;
            let ends = self.tally.of(transport, Operation::Receive);
            let flushed = completion.status == Status::Flushed;
            *(if flushed { &mut ends.flushed } else { &mut ends.failed }) += 1;
            if let Some(claim) = claim {
                self.memories[claim.memory].abandon(claim);
            }
            self.note_error(number);
            return;
        }
        assert!(!self.ends[number].receive_failed, "{what} got a message after another one had failed");
        if let Some(claim) = claim {
            self.memories[claim.memory].complete(claim, &what);
        }
        let message = self.find_message(number, completion, claim, &what);
        self.tally.of(transport, Operation::Receive).succeeded += 1;
        self.ends[number].received += 1;
        if let Some(written) = message.written {
            self.memories[written.memory].check_written(written, &what);
        }
        if let Some(rkey) = message.invalidated {
            let windows = &self.ends[number].windows;
            let of_it = |window: &Window| {
                window.remote.rkey == rkey && window.state == WindowState::UsedAndInvalidated
            };
            if let Some(window) = windows.iter().position(of_it) {
                self.taken_back(number, window, &what);
            }
        }
    }

    /// Takes a receive request from those under way.
    fn take_receive(&mut self, number: usize, id: u64, what: &str) -> Option<ClaimId> {
        let end = &mut self.ends[number];
        if end.plan.shares {
            let shared = self.machines[end.machine].shared[end.domain].as_mut();
            let claim = shared.and_then(|shared| shared.receives.remove(&id));
            assert!(claim.is_some(), "{what} ended, which isn't under way");
            return claim;
        }
        let Some(receive) = end.receives.pop_front() else { panic!("{what} ended, which isn't under way") };
        assert_eq!(receive.id, id, "{what}: out of order, or a completion was lost");
        receive.claim
    }

    /// The message that a receive request got: the next one, where they arrive in order and once.
    fn find_message(
        &self,
        number: usize,
        completion: &Completion,
        claim: Option<ClaimId>,
        what: &str,
    ) -> Message {
        let end = &self.ends[number];
        let sender = &self.ends[end.peer];
        let header = if end.transport() == Transport::Ud { GRH } else { 0 };
        let len = completion.len as usize;
        let found = claim.map(|claim| self.memories[claim.memory].bytes(claim.start, len));
        if let (Transport::Ud, Some(found)) = (end.transport(), found) {
            assert_eq!((completion.source_qp, completion.grh), (Some(sender.qpn), true), "{what}");
            check_header(found, [sender.machine, end.machine], what);
        }
        let is_it = |message: &Message| {
            let says = (completion.kind, completion.immediate, completion.invalidated, completion.solicited);
            says == (message.kind, message.immediate, message.invalidated, message.solicited)
                && len == message.len as usize + header
                && found.is_none_or(|found| {
                    message.bytes.is_empty() || found.get(header..) == Some(&message.bytes[..])
                })
        };
        if end.is_reliable() {
            let next = usize::try_from(end.received).ok().and_then(|place| sender.messages.get(place));
            let Some(message) = next else { panic!("{what} got a message that nobody has sent") };
            assert!(
                is_it(message),
                "{what} got another message than was sent: {completion:?}, not {message:?}"
            );
            return message.clone();
        }
        // Any, also one that was there before: the network may have repeated it.
        let Some(message) = sender.messages.iter().find(|message| is_it(message)) else {
            panic!("{what} got a message that nobody has sent: {completion:?}")
        };
        message.clone()
    }

    /// The queue pair of that end is in the error state.
    pub(crate) fn note_error(&mut self, number: usize) {
        if self.ends[number].in_error {
            return;
        }
        self.ends[number].in_error = true;
        // One more request now and then, which is flushed.
        self.ends[number].quota = self.ends[number].quota.min(2);
        // The send queue of an unreliable queue pair fails alone.
        if self.ends[number].is_reliable() {
            self.freeze_remote(number);
        }
        let connection = self.ends[number].connection;
        let delay = self.rng.below(5_000_000);
        if self.connections[connection] == Connection::Works {
            let told_at = self.now() + delay;
            self.connections[connection] = Connection::Failed { told_at };
        }
    }

    /// The queue pair takes nothing more from its peer: what that one was writing stays as it is.
    pub(crate) fn freeze_remote(&mut self, number: usize) {
        let peer = self.ends[number].peer;
        for claim in self.ends[peer].remote_claims() {
            self.memories[claim.memory].freeze(claim);
        }
    }

    /// What is done to a connection excuses the failures of both its ends.
    pub(crate) fn allow_failure(&mut self, number: usize) {
        let peer = self.ends[number].peer;
        self.ends[number].may_fail = true;
        self.ends[peer].may_fail = true;
    }
}

/// The header before a datagram: 20 zero bytes, and an IPv4 header with the addresses and a right checksum.
fn check_header(bytes: &[u8], machines: [usize; 2], what: &str) {
    let (zero, header) = bytes[..GRH].split_at(20);
    assert!(zero.iter().all(|byte| *byte == 0), "{what}: {zero:?} before the IPv4 header");
    let addresses = machines.map(|machine| platform::address(machine).to_string());
    let found =
        [12, 16].map(|at| format!("{}.{}.{}.{}", header[at], header[at + 1], header[at + 2], header[at + 3]));
    assert_eq!(found, addresses, "{what}");
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    assert_eq!(folded, 0xffff, "{what}: the IPv4 header's checksum");
}

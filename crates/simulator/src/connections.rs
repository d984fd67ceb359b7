//! Connections: how they are made, disturbed and taken down.

use crate::end::{Drain, End, WINDOWS, Window, WindowState};
use crate::memory::Memory;
use crate::plan::{ConnectionPlan, Disturbance, MS, SHARED_MESSAGE};
use crate::simulation::{Connection, Shared, Simulation, completion_queue};
use crate::tally::Fault;
use rocev2::wire::Transport;
use rocev2::work::{Attributes, PeerRights, RemoteAddress, State, Transition};
use rocev2_device::memory::{Access, WindowType};
use rocev2_device::{PathAttributes, ProtectionDomain, QueuePairOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Bytes before each datagram.
pub(crate) const GRH: usize = 40;

/// What datagrams are sent with.
pub(crate) const QKEY: u32 = 0x1234_5678;

/// Requests of a shared receive queue.
pub(crate) const SHARED: usize = 6;

/// Everything that a region may give.
const OPEN: Access = Access::LOCAL_WRITE.union(Access::REMOTE).union(Access::MW_BIND);

impl Disturbance {
    /// How long it lasts.
    pub(crate) fn lasts(&self) -> u64 {
        match self {
            Self::Stall { ns, .. } | Self::ShutEgress { ns, .. } => *ns,
            _ => 0,
        }
    }
}

impl Simulation {
    pub(crate) fn add_counter(&mut self, machine: usize, domain: &ProtectionDomain) -> usize {
        let number = self.memories.len();
        let taken = self.taken(machine);
        let access = Access::LOCAL_WRITE | Access::REMOTE;
        let mut memory = Memory::new(number, &taken, domain, 64, access, &mut self.rng);
        memory.write(0, &0u64.to_ne_bytes());
        memory.claim_counter();
        self.memories.push(memory);
        number
    }

    /// Counts the packets that a machine takes.
    fn taken(&self, machine: usize) -> Arc<AtomicU64> {
        Arc::clone(&self.network.lock().machines[machine].taken)
    }

    fn add_memory(&mut self, machine: usize, domain: usize, len: usize, access: Access) -> usize {
        let number = self.memories.len();
        let (taken, domain) = (self.taken(machine), &self.machines[machine].domains[domain]);
        self.memories.push(Memory::new(number, &taken, domain, len, access, &mut self.rng));
        number
    }

    /// Two connected ends.
    pub(crate) fn connect(&mut self, plan: &ConnectionPlan) {
        let (connection, first) = (self.connections.len(), self.ends.len());
        self.connections.push(Connection::Works);
        for side in 0..2 {
            let machine = plan.machines[side];
            let domain = self.rng.index(self.machines[machine].domains.len());
            let queues = [0, 1].map(|_| self.rng.index(self.machines[machine].queues.len()));
            let mut own = plan.ends[side];
            // What a shared receive queue has given and nobody is told of would be missing for ever.
            own.shares &= queues.iter().all(|queue| !self.machines[machine].small.contains(queue));
            let memory = self.add_memory(machine, domain, memory_len(plan), OPEN);
            let inbox_len = (own.recv_depth + 1) * slot(plan);
            let inbox = self.add_memory(machine, domain, inbox_len, Access::LOCAL_WRITE);
            if own.shares {
                self.add_shared(machine, domain);
            }
            let it = &self.machines[machine];
            let [send, recv] = queues.map(|queue| &it.queues[queue]);
            let domain_of = &it.domains[domain];
            let options = QueuePairOptions {
                transport: plan.transport,
                send_queue: send,
                recv_queue: recv,
                shared: it.shared[domain].as_ref().filter(|_| own.shares).map(|shared| &shared.queue),
                max_send_requests: own.send_depth,
                max_recv_requests: own.recv_depth,
            };
            let queue_pair = domain_of.queue_pair(options).expect("a queue pair");
            let kinds: [_; WINDOWS] = [WindowType::One, WindowType::Two, WindowType::Two];
            let windows = kinds.map(|kind| Window {
                window: Some(domain_of.window(kind).expect("a window")),
                kind,
                state: WindowState::Free,
                claim: None,
                len: 0,
                remote: RemoteAddress { va: 0, rkey: 0 },
            });
            let qpn = queue_pair.qpn();
            self.by_qpn.insert((machine, qpn), first + side);
            self.ends.push(End {
                machine,
                peer: first + 1 - side,
                connection,
                domain,
                plan: own,
                common: *plan,
                queue_pair: Some(queue_pair),
                qpn,
                queues,
                association: None,
                handle: None,
                quota: own.quota,
                next_id: 0,
                works: Default::default(),
                receives: Default::default(),
                posted_receives: 0,
                received: 0,
                messages: Vec::new(),
                acknowledged: 0,
                loose: Vec::new(),
                memory,
                inbox,
                word: None,
                windows: windows.into(),
                deallocates: false,
                unsignaled: 0,
                in_error: false,
                send_failed: false,
                receive_failed: false,
                may_fail: self.harsh,
                drain: Drain::No,
                untold: false,
            });
            self.tally.queue_pairs += 1;
        }
        self.seal(first);
        for side in 0..2 {
            self.bring_up(first + side, first + 1 - side, side);
        }
    }

    /// The shared receive queue of a domain.
    fn add_shared(&mut self, machine: usize, domain: usize) {
        if self.machines[machine].shared[domain].is_none() {
            let len = SHARED * (SHARED_MESSAGE + GRH);
            let inbox = self.add_memory(machine, domain, len, Access::LOCAL_WRITE);
            let queue = self.machines[machine].domains[domain].shared_receive_queue(SHARED).expect("a queue");
            queue.set_limit(2).expect("less than its capacity");
            let shared = Shared { queue, inbox, next_id: 0, receives: BTreeMap::new() };
            self.machines[machine].shared[domain] = Some(shared);
        }
    }

    /// RESET to RTS.
    fn bring_up(&mut self, number: usize, peer: usize, side: usize) {
        let (own, peer) = (&self.ends[number], &self.ends[peer]);
        let plan = own.common;
        let [connected, reliable] = [plan.transport != Transport::Ud, plan.transport == Transport::Rc];
        let (machine, there) = (&self.machines[own.machine], &self.machines[peer.machine]);
        let (peer_gid, port) = there.machine.device.bind_gid(there.machine.gid_index).expect("a port");
        let path = PathAttributes {
            peer_port: Some(port),
            ..PathAttributes::new(machine.machine.gid_index, peer_gid)
        };
        let queue_pair = own.queue_pair.as_ref().expect("it is new");
        let rights = PeerRights { read: true, write: true, atomic: true };
        let init = Attributes {
            state: Some(State::Init),
            pkey_index: Some(0),
            port: Some(1),
            rights: connected.then_some(rights),
            qkey: (!connected).then_some(QKEY),
            ..Attributes::default()
        };
        let receive = Attributes {
            state: Some(State::ReadyToReceive),
            path_mtu: connected.then_some(plan.mtu),
            peer_qpn: connected.then_some(peer.qpn),
            rq_psn: connected.then_some(plan.psn[1 - side]),
            max_dest_rd_atomic: reliable.then_some(plan.rd_atomic),
            min_rnr_timer: reliable.then_some(plan.min_rnr_timer),
            ..Attributes::default()
        };
        let send = Attributes {
            state: Some(State::ReadyToSend),
            sq_psn: Some(plan.psn[side]),
            timeout: reliable.then_some(plan.timeout),
            retry_count: reliable.then_some(plan.retry_count),
            rnr_retry: reliable.then_some(plan.rnr_retry),
            max_rd_atomic: reliable.then_some(plan.rd_atomic),
            ..Attributes::default()
        };
        for (attributes, path) in [(init, None), (receive, connected.then_some(path)), (send, None)] {
            queue_pair.set_attributes(attributes, path).expect("a transition");
        }
        if !connected {
            let handle = machine.domains[own.domain].address_handle(path).expect("an address handle");
            self.ends[number].handle = Some(handle);
        }
    }

    pub(crate) fn disturb(&mut self, disturbance: Disturbance) {
        let now = self.now();
        match disturbance {
            Disturbance::Cut { from, to } => {
                self.tally.fault(Fault::Partition);
                self.network.lock().cut(from, to, true);
                self.record("cut", &[("from", from as u64), ("to", to as u64)]);
            }
            Disturbance::Heal { from, to } => {
                self.network.lock().cut(from, to, false);
                self.record("heal", &[("from", from as u64), ("to", to as u64)]);
            }
            Disturbance::Stall { machine, ns } => {
                self.tally.fault(Fault::Stall);
                self.machines[machine].machine.stall(now + ns);
                self.record("stall", &[("machine", machine as u64), ("ns", ns)]);
            }
            Disturbance::ShutEgress { machine, ns } => {
                self.network.lock().machines[machine].egress.shut_until = now + ns;
                self.record("shut", &[("machine", machine as u64), ("ns", ns)]);
            }
            Disturbance::RefuseWatches { machine, count } => {
                self.network.lock().machines[machine].refuse_watches = count;
            }
            Disturbance::Drain { end } => self.drain(end),
            Disturbance::Destroy { end } => {
                if self.ends[end].queue_pair.is_some() {
                    self.tally.fault(Fault::Destroyed);
                    self.allow_failure(end);
                    self.destroy(end);
                    self.note_error(end);
                }
            }
            Disturbance::SetToError { end } => {
                if self.ends[end].queue_pair.is_some() && !self.ends[end].in_error {
                    self.tally.fault(Fault::SetToError);
                    self.allow_failure(end);
                    self.set_to_error(end);
                }
            }
            Disturbance::Deregister { end, inbox } => self.deregister(end, inbox),
            Disturbance::Deallocate { end } => self.deallocate(end),
            Disturbance::Rekey { end } => self.rekey(end),
            Disturbance::Replay { count } => self.replay(count),
            Disturbance::Overflow { machine, queue } => self.shrink_queue(machine, queue),
        }
    }

    fn drain(&mut self, end: usize) {
        let it = &mut self.ends[end];
        if it.drain == Drain::No
            && let Some(queue_pair) = &it.queue_pair
            && queue_pair.modify(Transition::Drain).is_ok()
        {
            it.drain = Drain::Draining;
            self.tally.fault(Fault::Drained);
            self.record("drain", &[("end", end as u64)]);
        }
    }

    fn set_to_error(&mut self, end: usize) {
        self.record("set_to_error", &[("end", end as u64)]);
        if let Some(queue_pair) = &self.ends[end].queue_pair {
            queue_pair.modify(Transition::Error).expect("from any state but RESET");
        }
        // Completions of before may still wait: what they say is true.
        self.freeze_remote(end);
        let (connection, now) = (self.ends[end].connection, self.now());
        if self.connections[connection] == Connection::Works {
            self.connections[connection] = Connection::Failed { told_at: now + 1_000_000 };
        }
    }

    fn destroy(&mut self, end: usize) {
        self.record("destroy", &[("end", end as u64)]);
        self.ends[end].queue_pair = None;
        self.ends[end].association = None;
        for claim in self.ends[end].local_claims() {
            self.memories[claim.memory].freeze(claim);
        }
        self.freeze_remote(end);
    }

    /// Plans a completion queue that is too small, now and then.
    pub(crate) fn plan_overflow(&mut self) {
        let rng = &mut self.sealing.rng;
        if !self.harsh || !rng.percent(15) {
            return;
        }
        let machine = rng.index(self.machines.len());
        let (at, queue) = (rng.below(MS), rng.index(self.machines[machine].queues.len()));
        self.disturb_at(at, Disturbance::Overflow { machine, queue });
    }

    /// A completion queue has room for what it holds, and for nothing more.
    fn shrink_queue(&mut self, machine: usize, queue: usize) {
        let shares = |end: &End| end.machine == machine && end.queues.contains(&queue) && end.plan.shares;
        if self.ends.iter().any(shares) {
            return;
        }
        let host = &mut self.machines[machine];
        let shrinks = |capacity: usize| host.queues[queue].resize(capacity).is_ok();
        if (0..8).map(|power| 1 << power).any(shrinks) {
            host.small.push(queue);
            self.record("shrink", &[("machine", machine as u64), ("queue", queue as u64)]);
        }
    }

    /// A completion queue has overflowed: what had no room is lost with its queue pairs. Another takes its place.
    pub(crate) fn replace_queue(&mut self, machine: usize, queue: usize) {
        self.tally.fault(Fault::QueueOverflowed);
        self.record("overflowed", &[("machine", machine as u64), ("queue", queue as u64)]);
        for end in 0..self.ends.len() {
            let it = &self.ends[end];
            if it.machine == machine && it.queues.contains(&queue) && it.queue_pair.is_some() {
                self.allow_failure(end);
                self.destroy(end);
                self.note_error(end);
                self.ends[end].untold = true;
            }
        }
        let host = &mut self.machines[machine];
        host.queues[queue] = completion_queue(&host.machine, &host.channel);
        host.small.retain(|small| *small != queue);
    }

    fn deregister(&mut self, end: usize, inbox: bool) {
        // What others share is left alone.
        if self.ends[end].queue_pair.is_none() || (inbox && self.ends[end].plan.shares) {
            return;
        }
        self.tally.fault(Fault::Deregistered);
        self.record("deregister", &[("end", end as u64), ("inbox", inbox.into())]);
        self.allow_failure(end);
        let it = &self.ends[end];
        let (machine, domain) = (it.machine, it.domain);
        if inbox {
            self.memories[it.inbox].deregister();
            let len = (it.plan.recv_depth + 1) * slot(&it.common);
            self.ends[end].inbox = self.add_memory(machine, domain, len, Access::LOCAL_WRITE);
        } else {
            self.memories[it.memory].deregister();
            let len = memory_len(&it.common);
            self.ends[end].memory = self.add_memory(machine, domain, len, OPEN);
            for window in &mut self.ends[end].windows {
                if window.claim.is_some() {
                    window.state = WindowState::Dead;
                }
            }
        }
    }

    fn deallocate(&mut self, end: usize) {
        let in_use = |window: &Window| {
            matches!(window.state, WindowState::Used | WindowState::UsedAndInvalidated)
                && window.window.is_some()
        };
        let halfway = |window: &Window| {
            in_use(window) && window.claim.is_some_and(|claim| self.memories[claim.memory].is_halfway(claim))
        };
        let windows = &self.ends[end].windows;
        let Some(number) = windows.iter().position(halfway).or_else(|| windows.iter().position(in_use))
        else {
            self.ends[end].deallocates = true;
            return;
        };
        self.tally.fault(Fault::Deallocated);
        self.record("deallocate", &[("end", end as u64)]);
        self.allow_failure(end);
        let window = &mut self.ends[end].windows[number];
        window.window = None;
        window.state = WindowState::Dead;
        if let Some(claim) = window.claim {
            self.memories[claim.memory].freeze(claim);
        }
    }

    /// Deallocates windows of a machine through which a part of a message has been written.
    pub(crate) fn deallocate_halfway(&mut self, machine: usize) {
        for number in 0..self.ends.len() {
            let end = &self.ends[number];
            if end.machine == machine && end.deallocates && end.queue_pair.is_some() {
                let claims = end.windows.iter().filter_map(|window| window.claim);
                if claims.into_iter().any(|claim| self.memories[claim.memory].is_halfway(claim)) {
                    self.ends[number].deallocates = false;
                    self.deallocate(number);
                }
            }
        }
    }

    /// Ends connections that have done their work or have failed.
    pub(crate) fn conclude(&mut self, now: u64) {
        for number in 0..self.connections.len() {
            let ends = [2 * number, 2 * number + 1];
            match self.connections[number] {
                Connection::Over => {}
                Connection::Works => {
                    let [a, b] = ends.map(|end| &self.ends[end]);
                    let all =
                        |from: &End, to: &End| from.is_done() && to.received == from.messages.len() as u64;
                    if !a.is_reliable() {
                        if a.is_done() && b.is_done() {
                            // What is under way may still arrive, and then all is flushed.
                            self.allow_failure(ends[0]);
                            let told_at = now + self.rng.below(10_000_000);
                            self.connections[number] = Connection::Failed { told_at };
                        }
                    } else if all(a, b) && all(b, a) {
                        ends.into_iter().for_each(|end| self.destroy(end));
                        self.over(number);
                    }
                }
                Connection::Failed { told_at } if told_at <= now => {
                    for end in ends {
                        if self.ends[end].queue_pair.is_some() {
                            self.set_to_error(end);
                        }
                    }
                    self.connections[number] = Connection::Ending { hasty: self.rng.percent(20) };
                }
                Connection::Failed { .. } => {}
                Connection::Ending { hasty } => {
                    for end in ends {
                        let it = &self.ends[end];
                        let flushed = it.works.is_empty() && it.receives.is_empty();
                        if it.queue_pair.is_some() && (hasty || flushed) {
                            self.destroy(end);
                        }
                    }
                    if ends.iter().all(|end| self.ends[*end].queue_pair.is_none()) {
                        self.over(number);
                    }
                }
            }
        }
    }

    fn over(&mut self, number: usize) {
        self.connections[number] = Connection::Over;
        if self.replacements > 0 {
            self.replacements -= 1;
            let plan = ConnectionPlan::draw(&mut self.rng, self.machines.len(), self.harsh);
            self.connect(&plan);
            for machine in plan.machines {
                self.machines[machine].program_at = 0;
                self.machines[machine].waiting = false;
            }
        }
    }

    /// What must be true when every connection is over and every completion has been taken.
    pub(crate) fn check_the_end(&self) {
        for (number, end) in self.ends.iter().enumerate() {
            let acknowledged = self.ends[end.peer].acknowledged;
            if !end.is_reliable() {
                continue;
            }
            assert!(
                end.untold || end.received >= acknowledged,
                "end {number}: {acknowledged} messages were acknowledged, {} were received",
                end.received
            );
        }
        for (memory, counter) in &self.counters {
            let value = self.memories[*memory].counter();
            assert!(
                (counter.succeeded..=counter.posted).contains(&value),
                "{value} additions, {} succeeded and {} were posted",
                counter.succeeded,
                counter.posted
            );
            assert!(
                counter.found.iter().all(|found| *found < value),
                "an addition found more than there were"
            );
        }
    }
}

/// Bytes of a receive request.
pub(crate) fn slot(plan: &ConnectionPlan) -> usize {
    plan.max_message + if plan.transport == Transport::Ud { GRH } else { 0 }
}

fn memory_len(plan: &ConnectionPlan) -> usize {
    (plan.max_message * 8).clamp(2_000, 50_000)
}

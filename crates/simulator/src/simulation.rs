//! The run: machines stepped one after another, in virtual time, until all has been done or has failed.

use crate::end::{Drain, End};
use crate::machine::Machine;
use crate::memory::{ClaimId, Memory};
use crate::network::{Egress, MachineState, Network};
use crate::plan::{Disturbance, MS, Plan};
use crate::rng::Rng;
use crate::sealing::Sealing;
use crate::tally::Tally;
use crate::trace::Trace;
use rocev2::Qpn;
use rocev2_device::{CompletionChannel, CompletionQueue, ProtectionDomain, SharedReceiveQueue, Usage};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// How long a run may take after everything has been healed. A queue pair that hears nothing gives up after half a
/// second; the rest is for links that are slow and lose a lot.
const PATIENCE: u64 = 120_000 * MS;

/// Steps after which a run doesn't end.
const STEPS: u64 = 3_000_000;

/// After so many steps all memory is compared, and not only that of a machine that has taken a packet.
const OFTEN: u64 = 32;

/// Deadlines of a queue pair at most: as a round trip that was long for once is forgotten, each is a bit earlier than
/// the one before.
const DEADLINES: usize = 64;

/// Entries of a completion queue: more than all requests that a run posts.
const QUEUE: usize = 4096;

/// A machine with its program.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) machine: Machine,
    pub(crate) domains: Vec<ProtectionDomain>,
    pub(crate) queues: Vec<CompletionQueue>,
    /// Those that may overflow.
    pub(crate) small: Vec<usize>,
    pub(crate) channel: Arc<CompletionChannel>,
    /// For each domain, once an end needs it.
    pub(crate) shared: Vec<Option<Shared>>,
    /// A region with a word for each domain that many add to.
    pub(crate) counters: Vec<usize>,
    pub(crate) pace_ns: u64,
    pub(crate) waits: bool,
    pub(crate) batch: usize,
    /// When the program looks again.
    pub(crate) program_at: u64,
    /// It waits for its channel, and doesn't poll before.
    pub(crate) waiting: bool,
    /// Looks at which nothing happened.
    pub(crate) idle: u32,
}

/// A shared receive queue, and where its requests lie.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: SharedReceiveQueue,
    pub(crate) inbox: usize,
    pub(crate) next_id: u64,
    /// Requests that have not ended.
    pub(crate) receives: BTreeMap<u64, ClaimId>,
}

/// A counter that many add to, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    pub(crate) posted: u64,
    pub(crate) succeeded: u64,
    /// What each of them found.
    pub(crate) found: HashSet<u64>,
}

/// A completion queue that has room for everything.
pub(crate) fn completion_queue(machine: &Machine, channel: &Arc<CompletionChannel>) -> CompletionQueue {
    machine.device.completion_queue(QUEUE, Some(Arc::clone(channel))).expect("a queue")
}

/// Two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    Works,
    /// It has failed, and the other end is told at that time.
    Failed {
        told_at: u64,
    },
    /// Both ends are in the error state. The queue pairs are destroyed at once, or when all has been flushed.
    Ending {
        hasty: bool,
    },
    Over,
}

#[derive(Debug)]
pub(crate) struct Simulation {
    pub(crate) network: Arc<Network>,
    pub(crate) rng: Rng,
    pub(crate) harsh: bool,
    pub(crate) machines: Vec<Host>,
    pub(crate) connections: Vec<Connection>,
    /// Two for each connection.
    pub(crate) ends: Vec<End>,
    pub(crate) memories: Vec<Memory>,
    pub(crate) counters: HashMap<usize, Counter>,
    pub(crate) by_qpn: HashMap<(usize, Qpn), usize>,
    pub(crate) replacements: usize,
    pub(crate) sealing: Sealing,
    disturbances: VecDeque<(u64, Disturbance)>,
    healed_at: u64,
    pub(crate) tally: Tally,
}

impl Simulation {
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        if trace.is_printed() {
            eprintln!("{plan:#?}");
        }
        let network = Arc::new(Network::new(trace));
        let mut links = rng.fork();
        {
            let mut state = network.lock();
            for machine in &plan.machines {
                state.machines.push(MachineState {
                    random: rng.fork(),
                    clock_offset: machine.clock_offset,
                    alarm: Some(0),
                    refuse_watches: 0,
                    refuse_allocations: 0,
                    taken: Arc::default(),
                    egress: Egress {
                        capacity: machine.send_buffer,
                        ns_per_byte: machine.ns_per_byte,
                        shut_until: 0,
                    },
                    receive_buffer: machine.receive_buffer,
                    overflowed: 0,
                    blocked: 0,
                    watches_refused: 0,
                });
            }
            for (from, row) in plan.links.iter().enumerate() {
                for (to, config) in row.iter().enumerate() {
                    state.connect(from, to, *config, links.next());
                }
            }
        }
        let healed_at = plan.disturbances.iter().map(|(at, what)| at + what.lasts()).max().unwrap_or(0);
        let mut simulation = Self {
            network,
            rng,
            harsh: plan.harsh,
            machines: Vec::new(),
            connections: Vec::new(),
            ends: Vec::new(),
            memories: Vec::new(),
            counters: HashMap::new(),
            by_qpn: HashMap::new(),
            replacements: plan.replacements,
            sealing: Sealing::new(seed),
            disturbances: plan.disturbances.into(),
            healed_at,
            tally: Tally { seeds: 1, ..Tally::default() },
        };
        for (number, machine) in plan.machines.iter().enumerate() {
            simulation.add_machine(number, machine);
        }
        for connection in &plan.connections {
            simulation.connect(connection);
        }
        simulation.plan_overflow();
        simulation
    }

    fn add_machine(&mut self, number: usize, plan: &crate::plan::MachinePlan) {
        let machine = Machine::new(&self.network, number, plan.engine);
        let device = &machine.device;
        let channel = device.completion_channel().expect("a channel");
        let queue = || completion_queue(&machine, &channel);
        let queues = (0..plan.queues).map(|_| queue()).collect();
        let domains: Vec<_> = (0..plan.domains).map(|_| device.protection_domain()).collect();
        let counters = domains.iter().map(|domain| self.add_counter(number, domain)).collect();
        self.tally.devices += 1;
        self.machines.push(Host {
            shared: domains.iter().map(|_| None).collect(),
            machine,
            domains,
            queues,
            small: Vec::new(),
            channel,
            counters,
            pace_ns: plan.pace_ns,
            waits: plan.waits,
            batch: plan.batch,
            program_at: 0,
            waiting: false,
            idle: 0,
        });
    }

    pub(crate) fn now(&self) -> u64 {
        self.network.lock().now
    }

    pub(crate) fn record(&self, what: &'static str, values: &[(&'static str, u64)]) {
        self.network.lock().record(what, values);
    }

    /// Runs until everything has ended; the trace's hash.
    pub(crate) fn run(mut self) -> (u64, Tally) {
        while self.connections.iter().any(|connection| *connection != Connection::Over) {
            self.step();
            let now = self.now();
            assert!(
                now <= self.healed_at + PATIENCE && self.tally.steps <= STEPS,
                "after {} s and {} steps there is no end: {}",
                now / 1_000_000_000,
                self.tally.steps,
                self.describe()
            );
        }
        self.tally.longest_end_ns = self.now().saturating_sub(self.healed_at);
        self.finish()
    }

    /// Goes on to the next moment at which something happens, and does it.
    fn step(&mut self) {
        let next = self.next();
        {
            let mut state = self.network.lock();
            state.now = state.now.max(next);
            state.deliver();
        }
        let now = self.now();
        while let Some((_, disturbance)) = self.disturbances.pop_front_if(|(at, _)| *at <= now) {
            self.disturb(disturbance);
        }
        for number in 0..self.machines.len() {
            self.step_machine(number, now);
        }
        self.conclude(now);
    }

    fn step_machine(&mut self, number: usize, now: u64) {
        if self.machines[number].machine.is_busy(now) {
            return;
        }
        if self.machines[number].machine.step(now) {
            self.tally.steps += 1;
            self.check(number);
        }
        let host = &mut self.machines[number];
        if host.waiting && host.channel.try_event().is_some() {
            host.waiting = false;
            host.program_at = now;
        }
        if host.program_at <= now {
            self.tally.steps += 1;
            self.run_program(number, now);
            self.check(number);
        }
    }

    /// When something happens next.
    fn next(&self) -> u64 {
        let now = self.now();
        let machines = self.machines.iter().flat_map(|host| {
            let program = host.program_at.max(host.machine.busy_until());
            [host.machine.next(), Some(program)].into_iter().flatten()
        });
        let disturbance = self.disturbances.front().map(|(at, _)| *at);
        let told = self.connections.iter().filter_map(|connection| match connection {
            Connection::Failed { told_at } if *told_at > now => Some(*told_at),
            _ => None,
        });
        // Time goes on with each step.
        machines.chain(disturbance).chain(told).min().unwrap_or(u64::MAX).max(now + 1)
    }

    /// Something happens in the next moments.
    pub(crate) fn disturb_soon(&mut self, disturbance: Disturbance) {
        let at = self.now() + self.rng.below(MS / 2);
        self.disturb_at(at, disturbance);
    }

    /// Something happens at that time.
    pub(crate) fn disturb_at(&mut self, at: u64, disturbance: Disturbance) {
        let place = self.disturbances.partition_point(|(other, _)| *other <= at);
        self.disturbances.insert(place, (at, disturbance));
    }

    /// Compares all memory of a machine with its model.
    fn check(&mut self, number: usize) {
        let Self { memories, ends, machines, .. } = self;
        for end in ends.iter().filter(|end| end.machine == number) {
            let all = self.tally.steps.is_multiple_of(OFTEN);
            for memory in [end.memory, end.inbox] {
                if all { memories[memory].compare() } else { memories[memory].check() }
            }
        }
        let machine = &machines[number];
        let shared = machine.shared.iter().flatten().map(|shared| shared.inbox);
        for memory in machine.counters.iter().copied().chain(shared) {
            memories[memory].check();
        }
        self.check_limits(number);
        self.deallocate_halfway(number);
    }

    /// What a queue pair holds is bounded by what it was made for.
    fn check_limits(&self, number: usize) {
        let usage = self.machines[number].machine.device.usage();
        // Those of queue pairs that were destroyed last among them.
        let most = DEADLINES * (usage.queue_pairs + 2);
        assert!(usage.deadlines <= most, "{} deadlines, {usage:?}", usage.deadlines);
        // Those that were destroyed meanwhile among them.
        assert!(usage.turns <= 2 * self.ends.len(), "{usage:?}");
        for end in self.ends.iter().filter(|end| end.machine == number) {
            let Some(queue_pair) = &end.queue_pair else { continue };
            let seen = queue_pair.query();
            let works = end.works.len();
            assert!(
                seen.send_outstanding <= works,
                "{} of {works} requests outstanding",
                seen.send_outstanding
            );
            // One answer for each read or atomic, an ACK behind each, those that are repeated, and a NAK.
            let most = 4 * usize::from(end.common.rd_atomic) + 4;
            assert!(seen.answers_waiting <= most, "{} answers wait", seen.answers_waiting);
        }
    }

    /// Takes everything down, and looks whether anything is left.
    fn finish(mut self) -> (u64, Tally) {
        // What completed before its queue pair was destroyed is still there.
        for number in 0..self.machines.len() {
            self.drain_queues(number);
        }
        // What arrived may have been taken since the last step, when a queue pair was told to fail.
        self.memories.iter_mut().for_each(Memory::compare);
        self.check_the_end();
        self.check_sealing();
        for memory in &mut self.memories {
            memory.compare();
            memory.deregister();
        }
        self.ends.iter_mut().for_each(|end| {
            end.windows.clear();
            end.handle = None;
            end.association = None;
        });
        self.machines.iter_mut().for_each(|machine| machine.shared.clear());
        self.settle_down();
        for memory in &mut self.memories {
            memory.compare();
            assert!(memory.is_alone(), "somebody holds memory of a region that was deregistered");
        }
        for machine in &self.machines {
            let held = machine.machine.device.usage();
            assert_eq!(
                held,
                Usage { delayed_acks: held.delayed_acks.min(self.ends.len()), ..Usage::default() }
            );
        }
        let engines: Vec<_> = self.machines.iter().map(|host| host.machine.engine()).collect();
        self.machines.clear();
        assert!(engines.iter().all(|engine| engine.upgrade().is_none()), "an engine outlives its device");
        let state = self.network.lock();
        assert!(state.sockets.is_empty(), "a socket outlives its device");
        for (fault, count) in state.faults() {
            self.tally.faults[fault as usize] += count;
        }
        self.tally.virtual_ns = state.now;
        self.tally.packets = state.packets;
        (state.trace.digest(), self.tally)
    }

    /// Steps the devices until nothing is under way and no alarm is set.
    fn settle_down(&mut self) {
        for _ in 0..STEPS {
            let arrivals = {
                let state = self.network.lock();
                (0..self.machines.len()).filter_map(|number| state.next_arrival(number)).min()
            };
            let steps = self.machines.iter().filter_map(|host| host.machine.next());
            let Some(next) = steps.chain(arrivals).min() else { break };
            let now = {
                let mut state = self.network.lock();
                state.now = next.max(state.now + 1);
                state.deliver();
                state.now
            };
            for host in &mut self.machines {
                if !host.machine.is_busy(now) {
                    host.machine.step(now);
                }
            }
        }
        let state = self.network.lock();
        assert!(state.machines.iter().all(|machine| machine.alarm.is_none()), "an alarm is set for nobody");
        assert_eq!(state.in_flight(), 0);
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (number, end) in self.ends.iter().enumerate() {
            let state = end.queue_pair.as_ref().map(rocev2_device::QueuePair::query);
            text += &format!(
                "\nend {number} on machine {}: quota {}, {} send and {} receive requests, {state:?}",
                end.machine,
                end.quota,
                end.works.len(),
                end.receives.len()
            );
            if end.drain != Drain::No {
                text += &format!(", {:?}", end.drain);
            }
        }
        text
    }
}

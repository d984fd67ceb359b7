//! All processes of a seed, one step after another, and what must hold at its end.

use crate::chronicle::Chronicle;
use crate::client;
use crate::ledger::{Ended, Entry, Ledger};
use crate::liar;
use crate::pki::{self, Certificates};
use crate::plan::{Disturbance, EDITIONS, MS, Plan, Rules, ServerPlan};
use crate::process::Process;
use crate::server;
use crate::tally::Tally;
use crate::verdict::{self, Done};
use crate::wire::{Death, Wires};
use rocev2_device::Usage;
use secure_rdma::certs::Clock;
use secure_rdma::{Held, Server};
use simulator::{Network, Rng};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;

/// How long after the last disturbance everything has ended: operations of the longest plan, and all time limits.
const PATIENCE: u64 = 120_000 * MS;

/// How long what is left of sessions may take to go: the deadlines of queue pairs that are gone.
const SETTLING: u64 = 20_000 * MS;

/// How often processes look at their timers, at least and at most.
const TICK: (u64, u64) = (MS, 16 * MS);

/// Bytes that have arrived and that a socket holds.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A process, and the server in it if there is one.
#[derive(Debug)]
struct Running {
    process: Process,
    server: Option<Arc<Server>>,
}

#[derive(Debug)]
pub(crate) struct World {
    network: Arc<Network>,
    wires: Arc<Wires>,
    ledger: Arc<Ledger>,
    plan: Plan,
    rng: Rng,
    running: BTreeMap<usize, Running>,
    disturbances: VecDeque<(u64, Disturbance)>,
    healed_at: u64,
    certificates: Arc<Certificates>,
    /// By server: what it goes by, and how many revocation lists it was given.
    rules: Vec<Rules>,
    lists: Vec<u64>,
    done: Done,
    tick_at: u64,
    tick: u64,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, print: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        Self::of(plan, rng, print)
    }

    /// The world of a plan.
    fn of(plan: Plan, mut rng: Rng, print: bool) -> Self {
        if print {
            eprintln!("{plan:#?}");
        }
        let network = Network::without_machines(print);
        let machines = plan.machines();
        for _ in 0..machines {
            network.add_machine(rng.fork(), RECEIVE_BUFFER);
        }
        for from in 0..machines {
            for to in (0..machines).filter(|to| *to != from) {
                network.link(from, to, plan.link, rng.next());
            }
        }
        let wires = Wires::new(&network, rng.fork());
        let clocks: Vec<_> = plan.clocks.iter().map(|ahead| ahead * MS.cast_signed()).collect();
        let rules: Vec<_> = plan.servers.iter().map(ServerPlan::rules).collect();
        let chronicle = Chronicle::new(plan.windows.clone(), &clocks, &rules);
        let mut world = Self {
            network,
            wires,
            ledger: Ledger::new(chronicle),
            certificates: Arc::new(Certificates::new(&plan.windows)),
            lists: vec![0; rules.len()],
            rules,
            rng,
            running: BTreeMap::new(),
            healed_at: plan.disturbances.last().map_or(0, |(at, _)| *at),
            disturbances: plan.disturbances.iter().cloned().collect(),
            plan,
            done: Done::default(),
            tick_at: 0,
            tick: TICK.0,
            tally: Tally { seeds: 1, ..Tally::default() },
        };
        for server in 0..world.rules.len() {
            let lasts = world.plan.servers[server].list_lasts;
            world.rules[server].list_ends = lasts.map(|lasts| world.second(server) + lasts);
        }
        for machine in 0..machines {
            world.start(machine);
        }
        world
    }

    /// What a machine's clock shows, in seconds since the beginning.
    fn second(&self, machine: usize) -> i64 {
        self.ledger.lock().chronicle.second(machine, self.network.now())
    }

    /// The clock that a machine's certificates go by.
    fn clock(&self, machine: usize) -> Clock {
        let (network, ledger) = (Arc::clone(&self.network), Arc::clone(&self.ledger));
        Clock::new(move || pki::moment(ledger.lock().chronicle.second(machine, network.now())))
    }

    /// Starts a machine's process, unless it runs.
    fn start(&mut self, machine: usize) {
        if self.running.contains_key(&machine) {
            return;
        }
        self.network.note("start", &[("machine", machine as u64)]);
        let servers = self.plan.servers.len();
        let timing = match self.plan.servers.get(machine) {
            Some(server) => server.timing,
            None => self.plan.clients[machine - servers].timing,
        };
        let clock = self.clock(machine);
        let mut process = Process::start(&self.network, &self.wires, (machine, timing), clock);
        let (host, ledger) = (process.host.clone(), Arc::clone(&self.ledger));
        let mut server = None;
        if let Some(plan) = self.plan.servers.get(machine) {
            let now = self.second(machine);
            let rules = &mut self.rules[machine];
            if rules.list_ends.is_some_and(|end| end < now) {
                // With a list that has ended it doesn't start: it is given another.
                rules.list_ends = Some(now + 3_600);
            }
            self.lists[machine] += 1;
            ledger.reloaded(machine, rules, self.network.now());
            let identity = self.certificates.server(machine, rules.edition);
            let asked = self.certificates.asked(rules, self.lists[machine]);
            match plan.lies {
                Some(lie) => {
                    process.spawn(liar::as_server(host, identity.clone(), asked, lie));
                }
                None => {
                    server = Some(process.enter(|| server::start(&host, plan, (identity, asked), &ledger)));
                }
            }
        } else {
            let lies: Vec<_> = self.plan.servers.iter().map(|server| server.lies.is_some()).collect();
            let plan = &self.plan.clients[machine - servers];
            let mut rng = self.rng.fork();
            let known = (&ledger, &self.certificates);
            process.enter(|| client::start(&host, plan, &lies, known, &mut rng));
        }
        self.running.insert(machine, Running { process, server });
    }

    /// Runs until everything has ended; the trace's hash.
    pub(crate) fn run(mut self) -> Result<(u64, Tally), String> {
        while !(self.disturbances.is_empty() && self.ledger.is_over()) {
            self.step();
            if self.network.now() > self.healed_at + PATIENCE {
                return Err(format!("there is no end: {}", self.describe()));
            }
        }
        let settled = self.network.now() + SETTLING;
        while self.network.now() < settled {
            self.step();
        }
        self.check_what_is_held()?;
        verdict::judge(&mut self.ledger.lock(), &self.plan, &self.done);
        let text = self.describe();
        for (machine, Running { process, server }) in core::mem::take(&mut self.running) {
            drop(server);
            self.ledger.killed(machine, self.network.now());
            process.kill(Death::Reset);
        }
        self.count();
        let book = self.ledger.lock();
        if !book.violations.is_empty() {
            return Err(format!("{}{text}", book.violations.join("; ")));
        }
        Ok((self.network.digest(), self.tally))
    }

    /// Goes on to the next moment at which something happens, and does it.
    fn step(&mut self) {
        let now = self.network.now();
        let processes = self.running.values().filter_map(|running| running.process.next());
        let disturbance = self.disturbances.front().map(|(at, _)| *at);
        let next = processes.chain(self.wires.next()).chain(disturbance).min().unwrap_or(u64::MAX);
        self.network.advance(next.min(self.tick_at).max(now + 1));
        let now = self.network.now();
        self.wires.deliver();
        while let Some((_, disturbance)) = self.disturbances.pop_front_if(|(at, _)| *at <= now) {
            self.disturb(disturbance);
        }
        let tick = self.tick_at <= now;
        let woken = self.wires.take_woken();
        let mut active = false;
        for Running { process, .. } in self.running.values_mut() {
            active |= process.step(&woken, tick);
        }
        if active {
            // Something may come of it soon.
            self.tick = TICK.0;
            self.tick_at = self.tick_at.min(now + TICK.0);
        }
        if tick {
            self.tick_at = now + self.tick;
            self.tick = (2 * self.tick).min(TICK.1);
        }
    }

    fn disturb(&mut self, disturbance: Disturbance) {
        let now = self.network.now();
        match disturbance {
            Disturbance::Crash { machine, death } => {
                self.done.touched.insert(machine);
                if let Some(Running { process, server }) = self.running.remove(&machine) {
                    self.tally.crashes += 1;
                    self.network.note("crash", &[("machine", machine as u64)]);
                    self.ledger.killed(machine, now);
                    drop(server);
                    process.kill(death);
                }
            }
            Disturbance::Start { machine } => self.start(machine),
            Disturbance::Stall { machine, ns } => {
                self.done.touched.insert(machine);
                self.healed_at = self.healed_at.max(now + ns);
                if let Some(running) = self.running.get_mut(&machine) {
                    self.tally.stalls += 1;
                    self.network.note("stall", &[("machine", machine as u64), ("ns", ns)]);
                    running.process.stall(now + ns);
                    self.ledger.lock().chronicle.stalled(machine, now, now + ns);
                }
            }
            Disturbance::Part { from, to, packets, streams, cut } => {
                self.done.parted.insert([from.min(to), from.max(to)]);
                self.tally.partitions += u64::from(cut);
                let values = [("from", from as u64), ("to", to as u64), ("cut", cut.into())];
                self.network.note("part", &values);
                if packets {
                    self.network.cut(from, to, cut);
                }
                if streams {
                    self.wires.cut(from, to, cut);
                }
            }
            Disturbance::Rules { server, absent } => {
                self.reload(server, |rules| rules.absent = absent);
            }
            Disturbance::Renew { server } => {
                self.reload(server, |rules| rules.edition = (rules.edition + 1).min(EDITIONS - 1));
            }
            Disturbance::Revoke { server, certificate, lasts } => {
                self.tally.revoked += 1;
                let ends = self.second(server) + lasts;
                self.reload(server, |rules| {
                    rules.revoked.push(certificate);
                    rules.list_ends = Some(ends);
                });
            }
            Disturbance::List { server, lasts } => {
                let ends = self.second(server) + lasts;
                self.reload(server, |rules| rules.list_ends = Some(ends));
            }
            Disturbance::Reissue { identity } => {
                self.tally.reissued += 1;
                self.network.note("reissue", &[("identity", identity as u64)]);
                let edition = &mut self.ledger.lock().editions[identity];
                *edition = (*edition + 1).min(EDITIONS - 1);
            }
            Disturbance::Memory { machine, refused } => {
                self.done.touched.insert(machine);
                self.done.scarce.insert(machine);
                self.tally.scarce += 1;
                self.network.note("memory", &[("machine", machine as u64), ("refused", refused)]);
                self.network.refuse_memory(machine, refused);
            }
            Disturbance::Clock { machine, ahead_ms } => {
                self.tally.clocks += 1;
                self.network.note("clock", &[("machine", machine as u64), ("ms", ahead_ms.cast_unsigned())]);
                self.ledger.lock().chronicle.set_clock(machine, now, ahead_ms * MS.cast_signed());
            }
        }
    }

    /// Has a server, if it runs, go by other rules. Where their list has ended it stays with those that it has.
    fn reload(&mut self, machine: usize, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules[machine].clone();
        change(&mut rules);
        self.tally.reloads += 1;
        self.lists[machine] += 1;
        let (now, second) = (self.network.now(), self.second(machine));
        let has_ended = !rules.open && rules.list_ends.is_some_and(|end| end < second);
        if let Some(Running { process, server: Some(server) }) = self.running.get_mut(&machine) {
            let identity = self.certificates.server(machine, rules.edition);
            let asked = self.certificates.asked(&rules, self.lists[machine]);
            let reloaded = process.enter(|| server.reload(identity, &asked));
            assert_eq!(reloaded.is_err(), has_ended, "{reloaded:?}");
            let ended = reloaded.as_ref().map_or(u64::MAX, |reloaded| reloaded.ended as u64);
            self.network.note("reload", &[("server", machine as u64), ("ended", ended)]);
        }
        if !has_ended {
            self.ledger.reloaded(machine, &rules, now);
            self.rules[machine] = rules;
        }
    }

    /// Where all sessions have ended, nothing is left of them.
    fn check_what_is_held(&self) -> Result<(), String> {
        for (machine, Running { process, server }) in &self.running {
            let held = server.as_ref().map(|server| server.held()).unwrap_or_default();
            if held != Held::default() {
                return Err(format!("machine {machine} holds {held:?}{}", self.describe()));
            }
            let usage = process.host.device.usage().unwrap_or_default();
            let none = Usage { delayed_acks: usage.delayed_acks, ..Usage::default() };
            if usage != none {
                return Err(format!("the device of machine {machine} holds {usage:?}{}", self.describe()));
            }
            let streams = self.wires.streams(*machine);
            if streams > 0 {
                return Err(format!("machine {machine} holds {streams} connections{}", self.describe()));
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        let Self { ledger, network, tally, .. } = self;
        let book = ledger.lock();
        tally.operations += book.operations;
        tally.packets += network.packets();
        tally.virtual_ns += network.now();
        for entry in &book.entries {
            tally.sessions += 1;
            tally.liars += u64::from(entry.lies);
            tally.messages += entry.received as u64;
            tally.attempts += entry.attempts.len() as u64;
            let turned_away = entry.attempts.iter().filter(|attempt| attempt.was_refused_for_room());
            tally.turned_away += turned_away.count() as u64;
            match &entry.client_end {
                Some(Ended::Failed(kind, _)) => *tally.failed.entry(format!("{kind:?}")).or_default() += 1,
                Some(Ended::Killed) => tally.killed += 1,
                _ => tally.well += 1,
            }
        }
        for (kind, count) in &book.refused {
            *tally.refused.entry(kind.clone()).or_default() += count;
        }
    }

    /// How it stands, for whoever looks for what is wrong.
    fn describe(&self) -> String {
        let mut text = format!("\nat {} ms", self.network.now() / MS);
        for (number, entry) in self.ledger.lock().entries.iter().enumerate() {
            let Entry { client, server, sent, acknowledged, received, .. } = entry;
            let _ = write!(
                text,
                "\nsession {number}, from {client} to {server}: {} sent, {acknowledged} acknowledged, {received} \
                 received{}{}; client: {:?}; {:#?}",
                sent.len(),
                if entry.lies { ", a liar" } else { "" },
                if entry.rude { ", without a goodbye" } else { "" },
                entry.client_end,
                entry.attempts
            );
        }
        text
    }
}

#[cfg(test)]
mod tests;

//! All processes of a seed, one step after another, and what must hold at its end.

use crate::client;
use crate::ledger::{Ended, Entry, Ledger};
use crate::liar;
use crate::pki::pki;
use crate::plan::{Disturbance, MS, Plan};
use crate::process::Process;
use crate::server;
use crate::tally::Tally;
use crate::wire::{Death, Wires};
use rocev2_device::Usage;
use secure_rdma::{Held, Server, SessionErrorKind};
use simulator::{Network, Rng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// By server: who isn't let in, and whether its certificate was renewed.
    absent: Vec<Vec<usize>>,
    renewed: Vec<bool>,
    /// Machines that something was done to.
    touched: BTreeSet<usize>,
    /// Pairs that were parted, the smaller number first.
    parted: BTreeSet<[usize; 2]>,
    /// Servers with the clients that they haven't let in at some time.
    withdrawn: BTreeSet<(usize, usize)>,
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
        let mut world = Self {
            network,
            wires,
            ledger: Ledger::new(),
            rng,
            running: BTreeMap::new(),
            healed_at: plan.disturbances.last().map_or(0, |(at, _)| *at),
            disturbances: plan.disturbances.iter().cloned().collect(),
            absent: vec![Vec::new(); plan.servers.len()],
            renewed: vec![false; plan.servers.len()],
            plan,
            touched: BTreeSet::new(),
            parted: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            tick_at: 0,
            tick: TICK.0,
            tally: Tally { seeds: 1, ..Tally::default() },
        };
        for machine in 0..machines {
            world.start(machine);
        }
        world
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
        let mut process = Process::start(&self.network, &self.wires, machine, timing);
        let (host, ledger) = (process.host.clone(), Arc::clone(&self.ledger));
        let mut server = None;
        if let Some(plan) = self.plan.servers.get(machine) {
            match plan.lies {
                Some(lie) => process.spawn(liar::as_server(host, lie)),
                None => {
                    let (renewed, absent) = (self.renewed[machine], &self.absent[machine]);
                    server = Some(process.enter(|| server::start(&host, plan, renewed, absent, &ledger)));
                }
            }
        } else {
            let lies: Vec<_> = self.plan.servers.iter().map(|server| server.lies.is_some()).collect();
            let plan = &self.plan.clients[machine - servers];
            let mut rng = self.rng.fork();
            process.enter(|| client::start(&host, plan, &lies, &ledger, &mut rng));
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
        self.check_sessions();
        let text = self.describe();
        for (machine, Running { process, server }) in core::mem::take(&mut self.running) {
            drop(server);
            self.ledger.killed(machine);
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
                self.touched.insert(machine);
                if let Some(Running { process, server }) = self.running.remove(&machine) {
                    self.tally.crashes += 1;
                    self.network.note("crash", &[("machine", machine as u64)]);
                    self.ledger.killed(machine);
                    drop(server);
                    process.kill(death);
                }
            }
            Disturbance::Start { machine } => self.start(machine),
            Disturbance::Stall { machine, ns } => {
                self.touched.insert(machine);
                self.healed_at = self.healed_at.max(now + ns);
                if let Some(running) = self.running.get_mut(&machine) {
                    self.tally.stalls += 1;
                    self.network.note("stall", &[("machine", machine as u64), ("ns", ns)]);
                    running.process.stall(now + ns);
                }
            }
            Disturbance::Part { from, to, packets, streams, cut } => {
                self.parted.insert([from.min(to), from.max(to)]);
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
                self.withdrawn.extend(absent.iter().map(|client| (server, *client)));
                self.absent[server] = absent;
                self.tally.reloads += 1;
                self.reload(server);
                self.ledger.reloaded(server, &self.absent[server], now);
            }
            Disturbance::Renew { server } => {
                self.renewed[server] = true;
                self.tally.reloads += 1;
                self.reload(server);
            }
        }
    }

    /// Has a server, if it runs, go by its certificate and list of today.
    fn reload(&mut self, machine: usize) {
        let Some(Running { process, server: Some(server) }) = self.running.get_mut(&machine) else { return };
        let (identity, rules) =
            (pki().server(machine, self.renewed[machine]), pki().all_but(&self.absent[machine]));
        let reloaded = process.enter(|| server.reload(identity, &rules)).expect("good rules");
        self.network.note("reload", &[("server", machine as u64), ("ended", reloaded.ended as u64)]);
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

    fn check_sessions(&self) {
        let mut book = self.ledger.lock();
        let found = book.entries.iter().enumerate().filter_map(|(number, entry)| {
            let result = self.check_session(entry);
            result.err().map(|what| format!("session {number}: {what}"))
        });
        let found: Vec<_> = found.collect();
        book.violations.extend(found);
    }

    fn check_session(&self, entry: &Entry) -> Result<(), String> {
        let Some(client_end) = &entry.client_end else { return Err("its client has no end".into()) };
        let server_end = entry.server_end.as_ref();
        let (sent, received) = (entry.sent.len(), entry.received);
        let pair = [entry.client.min(entry.server), entry.client.max(entry.server)];
        let withdrawn = self.withdrawn.contains(&(entry.server, entry.identity));
        let disturbed = self.touched.contains(&entry.client)
            || self.touched.contains(&entry.server)
            || self.parted.contains(&pair)
            || withdrawn;
        let keeps = !entry.lies && !entry.rude && entry.server_leaves.is_none();
        if !disturbed && keeps {
            let all = entry.opened && *client_end == Ended::Well && server_end == Some(&Ended::Well);
            if !all || received != sent {
                return Err("nothing was done to it, and it didn't end well".into());
            }
        }
        for end in [Some(client_end), server_end].into_iter().flatten() {
            let Ended::Failed(kind, text) = end else { continue };
            let known = match kind {
                SessionErrorKind::Unreachable | SessionErrorKind::TimedOut | SessionErrorKind::Closed => true,
                SessionErrorKind::Refused => withdrawn || entry.lies,
                SessionErrorKind::Protocol | SessionErrorKind::NotAuthentic => entry.lies,
                _ => false,
            };
            if !known {
                return Err(format!("no end that was to be expected: {kind:?}, {text}"));
            }
        }
        if entry.lies || entry.server_leaves.is_some() {
            return Ok(());
        }
        if *client_end == Ended::Well && !entry.rude && (received != sent || !entry.served) {
            return Err(format!("it was closed, and {received} of {sent} messages were received"));
        }
        if server_end == Some(&Ended::Well) && !matches!(client_end, Ended::Well | Ended::Killed) {
            return Err("the server closed it, and its client knows nothing of that".into());
        }
        let closed = matches!(server_end, Some(Ended::Failed(SessionErrorKind::Closed, _)));
        let acknowledged = entry.acknowledged;
        if closed && received < acknowledged {
            return Err(format!("{acknowledged} messages are acknowledged, and {received} were received"));
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
                 received{}{}; client: {:?}; server: {:?}",
                sent.len(),
                if entry.lies { ", a liar" } else { "" },
                if entry.rude { ", without a goodbye" } else { "" },
                entry.client_end,
                entry.server_end
            );
        }
        text
    }
}

#[cfg(test)]
mod tests;

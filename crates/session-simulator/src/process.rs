//! A process: a runtime of its own whose clock is moved, and a device that is stepped.

use crate::wire::{Death, Wires};
use rdma_verbs::Device;
use rocev2_device::Engine;
use secure_rdma::certs::Clock;
use simulator::{Network, Steps, Timing};
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// What a process' programs work with.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) machine: usize,
    pub(crate) network: Arc<Network>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) device: Arc<Device>,
    /// What its certificates go by.
    pub(crate) clock: Clock,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) host: Host,
    runtime: Runtime,
    steps: Steps,
    engine: Weak<Engine>,
    /// The time that its clock shows, in nanoseconds since the beginning.
    clock: u64,
    stalled_until: u64,
    /// Something waits for it.
    due: bool,
}

impl Process {
    pub(crate) fn start(
        network: &Arc<Network>,
        wires: &Arc<Wires>,
        (machine, timing): (usize, Timing),
        clock: Clock,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let (device, engine) = Device::stepped(network.platform(machine)).expect("a device");
        wires.start(machine);
        let (network, wires) = (Arc::clone(network), Arc::clone(wires));
        Self {
            runtime: runtime.expect("a runtime"),
            steps: Steps::new(&network, machine, Arc::clone(&engine), timing),
            engine: Arc::downgrade(&engine),
            clock: network.now(),
            stalled_until: 0,
            due: true,
            host: Host { machine, network, wires, device, clock },
        }
    }

    /// Adds a program.
    pub(crate) fn spawn(&mut self, program: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(program);
        self.due = true;
    }

    /// Does something in the process, from outside of its programs.
    pub(crate) fn enter<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let _guard = self.runtime.enter();
        self.due = true;
        act()
    }

    /// It gets no processor time until then.
    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
        self.steps.stall(until);
    }

    /// When it has something to do, as far as is known.
    pub(crate) fn next(&self) -> Option<u64> {
        let now = self.host.network.now();
        let next = if self.due { Some(now) } else { self.steps.next() };
        next.map(|at| at.max(self.stalled_until))
    }

    /// Does what there is to do; `woken` are the machines for which something has arrived, and with each `tick` it
    /// looks at its timers. Returns whether it did more than that.
    pub(crate) fn step(&mut self, woken: &BTreeSet<usize>, tick: bool) -> bool {
        let now = self.host.network.now();
        self.due |= woken.contains(&self.host.machine);
        if self.stalled_until > now {
            return false;
        }
        let stepped = !self.steps.is_busy(now) && self.steps.step(now);
        let due = core::mem::take(&mut self.due);
        if !(stepped || due || tick) {
            return false;
        }
        self.run(now) || stepped || due
    }

    /// Runs all programs as far as they come without waiting; whether they did anything.
    fn run(&mut self, now: u64) -> bool {
        let passed = Duration::from_nanos(now - self.clock);
        self.clock = now;
        let (network, wires) = (&self.host.network, &self.host.wires);
        let activity = || network.asked() + wires.touched();
        let before = activity();
        self.runtime.block_on(async {
            if !passed.is_zero() {
                tokio::time::advance(passed).await;
            }
            loop {
                let before = activity();
                // All that can run does, and then descriptors are looked at; twice, because what they wake runs then.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
                if activity() == before {
                    break;
                }
            }
        });
        activity() != before
    }

    /// Kills it: nothing of it runs any more, and nothing leaves it any more but what the system says of its
    /// connections.
    pub(crate) fn kill(self, death: Death) {
        let Self { host, runtime, steps, engine, .. } = self;
        let Host { machine, network, wires, device, .. } = host;
        network.kill(machine);
        wires.kill(machine, death);
        drop(runtime);
        drop((steps, device));
        assert!(engine.upgrade().is_none(), "an engine outlives its process");
        assert_eq!(network.sockets(machine), 0, "a socket outlives its process");
        assert_eq!(wires.streams(machine), 0, "a connection outlives its process");
    }
}

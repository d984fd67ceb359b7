//! A machine: a device, and when its engine is stepped.

use crate::network::Network;
use crate::plan::Timing;
use crate::platform;
use rocev2_device::{Config, Device, Engine, Pause, Progress, Ready};
use std::sync::{Arc, Weak};

/// A device that is stepped.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) device: Device,
    pub(crate) gid_index: usize,
    steps: Steps,
}

/// When a machine's engine makes its steps.
#[derive(Debug)]
pub struct Steps {
    network: Arc<Network>,
    number: usize,
    engine: Arc<Engine>,
    progress: Progress,
    timing: Timing,
    /// When it is awake, and what for.
    woken: Option<(u64, Vec<Ready>)>,
    /// The next step, if it asked for one.
    again_at: Option<u64>,
    /// It is at work, or stalled, until then.
    busy_until: u64,
}

impl Machine {
    pub(crate) fn new(network: &Arc<Network>, number: usize, timing: Timing) -> Self {
        let platform = Arc::new(platform::Machine { network: Arc::clone(network), number });
        let (device, engine) = Device::stepped(Config::default(), platform).expect("a device");
        let gid_index = device.gid_index(platform::address(number)).expect("its address");
        device.bind_gid(gid_index).expect("its port");
        Self { device, gid_index, steps: Steps::new(network, number, engine, timing) }
    }

    pub(crate) fn engine(&self) -> Weak<Engine> {
        Arc::downgrade(&self.steps.engine)
    }

    pub(crate) fn is_busy(&self, now: u64) -> bool {
        self.steps.is_busy(now)
    }

    pub(crate) fn stall(&mut self, until: u64) {
        self.steps.stall(until);
    }

    pub(crate) fn step(&mut self, now: u64) -> bool {
        self.steps.step(now)
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.steps.next()
    }

    pub(crate) fn busy_until(&self) -> u64 {
        self.steps.busy_until
    }
}

impl Steps {
    /// The steps of `engine`, the device's of machine `number`.
    #[must_use]
    pub fn new(network: &Arc<Network>, number: usize, engine: Arc<Engine>, timing: Timing) -> Self {
        Self {
            network: Arc::clone(network),
            number,
            engine,
            progress: Progress::default(),
            timing,
            woken: None,
            again_at: None,
            busy_until: 0,
        }
    }

    /// Whether it does nothing yet.
    #[must_use]
    pub fn is_busy(&self, now: u64) -> bool {
        self.busy_until > now
    }

    /// It does nothing for a while.
    pub fn stall(&mut self, until: u64) {
        self.busy_until = self.busy_until.max(until);
    }

    /// Makes the engine's step, if there is a reason to; whether it did.
    pub fn step(&mut self, now: u64) -> bool {
        let again = self.again_at.take_if(|at| *at <= now).is_some();
        let ready = match self.woken.take() {
            Some((at, ready)) if at <= now => ready,
            Some(woken) => {
                self.woken = Some(woken);
                return false;
            }
            None => {
                let ready = self.ready();
                let due = self.network.lock().machines[self.number].alarm.take_if(|at| *at <= now).is_some();
                if ready.is_empty() && !due && !again {
                    return false;
                }
                if !again && self.timing.wake_ns > 0 {
                    self.woken = Some((now + self.timing.wake_ns, ready));
                    return false;
                }
                ready
            }
        };
        let pause = self.progress.step(&self.engine, &ready);
        let (number, after) = match pause {
            Pause::Yield => (1, Some(self.timing.yield_ns)),
            Pause::Busy(span) => (2, u64::try_from(span.as_nanos()).ok()),
            Pause::Sleep => (0, None),
        };
        self.again_at = after.map(|after| now + after);
        self.busy_until = now + self.timing.step_ns;
        self.network.lock().record("step", &[("machine", self.number as u64), ("pause", number)]);
        true
    }

    /// When the next step is to be made, as far as is known.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        if let Some((at, _)) = self.woken {
            return Some(at.max(self.busy_until));
        }
        let state = self.network.lock();
        let sockets = state.sockets.values().filter(|socket| socket.machine == self.number);
        let (mut readable, mut arrived, mut writable) = (false, false, false);
        for socket in sockets {
            readable |= socket.interest.readable;
            arrived |= socket.interest.readable && !socket.arrived.is_empty();
            writable |= socket.interest.writable;
        }
        let arrival = if arrived { Some(0) } else { state.next_arrival(self.number).filter(|_| readable) };
        let room = writable.then(|| state.writable_at(self.number));
        let next = [arrival, room, state.machines[self.number].alarm, self.again_at];
        next.into_iter().flatten().min().map(|at| at.max(self.busy_until))
    }

    fn ready(&self) -> Vec<Ready> {
        let state = self.network.lock();
        let sockets = state.sockets.values().filter(|socket| socket.machine == self.number);
        let ready = sockets.map(|socket| Ready {
            token: socket.token,
            readable: socket.interest.readable && !socket.arrived.is_empty(),
            writable: socket.interest.writable && state.writable_at(self.number) <= state.now,
        });
        ready.filter(|ready| ready.readable || ready.writable).collect()
    }
}

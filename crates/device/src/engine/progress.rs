//! What the progress thread does: it works where nobody polls, and keeps the time.
//!
//! Each step looks at what is ready and what is due, and says until when there is nothing more. A step never waits
//! and asks for nothing but the time, so that whole devices can be stepped in virtual time.

use super::Engine;
use super::poll_mode::LOOK_IN;
use super::port::{BUSY, CatchUp, Port};
use core::time::Duration;
use rocev2::{Qpn, Time};
use std::sync::Arc;

/// How long to look for further packets before sleeping. A stream of them comes at shorter intervals, and waking a
/// thread costs its sender more than the packet.
const LINGER: Duration = Duration::from_micros(50);

/// If it takes so long until this thread has its turn again, another one needs the core and doesn't sleep: it looks at
/// its memory until its time slice is over. A program that is woken on this core and answers takes less.
const CROWDED: Duration = Duration::from_micros(300);

/// For how long then not to look for further packets, the first time and at most: it doubles each time on end.
const MODEST: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// What to do until the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Let other threads go first, then step again: more may come at once.
    Yield,
    /// Step again after so long, whatever happens: another thread is at work on what is ready. Without the pause this
    /// one would go round and round, and where that thread needs the same core, keep it from its work.
    Busy(Duration),
    /// Sleep until a port is ready or the alarm rings.
    Sleep,
}

/// A link that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token that it was made with.
    pub token: u64,
    /// Something has arrived.
    pub readable: bool,
    /// There is room to send.
    pub writable: bool,
}

/// What is remembered from step to step.
#[derive(Debug, Default)]
pub struct Progress {
    /// When packets came last.
    arrived: Option<Time>,
    /// When the last step ended with [`Pause::Yield`].
    yielded: Option<Time>,
    /// Until when not to, and for how long that was.
    modest: (Time, Duration),
    /// Queue pairs whose deadlines have passed, and the ports where what they wait for may be.
    due: Vec<Qpn>,
    catching_up: Vec<CatchUp>,
}

impl Progress {
    /// Does what is due. `ready` are the links that have said so since the last step.
    pub fn step(&mut self, engine: &Engine, ready: &[Ready]) -> Pause {
        let now = engine.now();
        engine.wake(now);
        if let Some(yielded) = self.yielded.take() {
            let span = if now.since(yielded) > CROWDED {
                (self.modest.1 * 2).clamp(MODEST[0], MODEST[1])
            } else {
                Duration::ZERO
            };
            self.modest = (now + span, span);
        }
        let (mut busy, mut more) = (false, false);
        for port in engine.ports().iter() {
            let ready = ready.iter().find(|ready| ready.token == port.token());
            if ready.is_some_and(|ready| ready.writable) {
                port.unblock();
            }
            busy |= self.look_at(engine, port, ready.is_some_and(|ready| ready.readable), now);
            engine.give_turns(port);
            more |= port.has_turns();
        }
        busy |= self.run_deadlines(engine);
        if more {
            return Pause::Yield;
        }
        let now = engine.now();
        if self.arrived.is_some_and(|arrived| now.since(arrived) < LINGER) && now >= self.modest.0 {
            self.yielded = Some(now);
            return Pause::Yield;
        }
        if busy {
            return Pause::Busy(BUSY);
        }
        engine.sleep();
        Pause::Sleep
    }

    /// Takes what has arrived at a port, unless somebody polls it. Returns whether another thread was at it.
    fn look_at(&mut self, engine: &Engine, port: &Arc<Port>, ready: bool, now: Time) -> bool {
        let mode = port.mode();
        let look_in = mode.look_in();
        if look_in.is_some_and(|at| at > now) {
            return false;
        }
        port.arm(true);
        let found = engine.receive(port);
        if look_in.is_some() {
            mode.looked_in();
        } else if ready && mode.woken(found == Some(true)) {
            // Somebody else takes these packets: no need to be woken for them.
            mode.leave_alone(now);
            port.arm(false);
            if !mode.is_waited_for() {
                return false;
            }
            port.arm(true);
        }
        if found == Some(true) {
            self.arrived = Some(engine.now());
        }
        port.flush_overdue_acks();
        found.is_none()
    }

    /// Wakes the queue pairs whose time has come. Returns whether some have to wait for another thread.
    fn run_deadlines(&mut self, engine: &Engine) -> bool {
        let now = engine.now();
        if self.due.is_empty() {
            self.due.extend(engine.take_due(now));
            if self.due.is_empty() {
                return false;
            }
            // What is awaited may have arrived: on a busy machine whoever polls may not have run for long.
            self.catching_up = engine.ports().iter().map(Port::begin_catch_up).collect();
        }
        self.catching_up.retain_mut(|port| !engine.catch_up(port));
        if !self.catching_up.is_empty() {
            return true;
        }
        let now = engine.now();
        for qpn in self.due.drain(..) {
            engine.handle_timeout(qpn, now);
        }
        false
    }
}

const _: () = assert!(LINGER.as_nanos() < LOOK_IN.as_nanos());

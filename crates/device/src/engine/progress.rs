//! What the progress thread does: it works where nobody polls, and keeps the time.
//!
//! Each step looks at what is ready and what is due, and says until when there is nothing more. A step never waits
//! and asks for nothing but the time, so that whole devices can be stepped in virtual time.

use super::Engine;
use super::linger::{LINGER, Linger};
use super::poll_mode::LOOK_IN;
use super::port::{BUSY, CatchUp, Port};
use core::time::Duration;
use rocev2::{Qpn, Time};
use std::sync::Arc;

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
    linger: Linger,
    /// Queue pairs whose deadlines have passed, and the ports where what they wait for may be.
    due: Vec<Qpn>,
    catching_up: Vec<CatchUp>,
}

impl Progress {
    /// Does what is due. `ready` are the links that have said so since the last step.
    pub fn step(&mut self, engine: &Engine, ready: &[Ready]) -> Pause {
        let now = engine.now();
        engine.wake(now);
        self.linger.resume(now, engine.last_poll());
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
        if self.linger.look_again(engine.now()) {
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
            self.linger.arrived(engine.now());
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

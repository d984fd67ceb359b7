//! Who takes what arrives at a port: threads of the application that poll, or the progress thread.
//!
//! As in Linux' NAPI, a port is either *armed*, and packets wake the progress thread, or it is left to those who
//! poll. Then the progress thread comes only where they have stayed away for a while: while they poll they keep
//! putting its alarm off, so that nothing interrupts them. The while is as long as they have polled on end, within
//! [`LOOK_IN`] and [`LOOK_IN_LATEST`]: to set a timer costs more than a round trip where a hypervisor has to be asked.

use super::sync::{AtomicBool, AtomicU32, AtomicU64, fence};
use core::time::Duration;
use rocev2::Time;
use std::sync::atomic::Ordering;

/// How long those who poll may stay away at first before the progress thread takes their place.
pub(crate) const LOOK_IN: Duration = Duration::from_millis(1);

/// How long they may at most. Packets wait so long at most.
const LOOK_IN_LATEST: Duration = Duration::from_millis(8);

/// How exactly it is known when somebody polled: a poller shouldn't take the cache line from others every time.
const POLL_STEP: Duration = Duration::from_micros(50);

/// How often, at most, the progress thread has to be woken for nothing before a port is left to those who poll.
const MOST_RELUCTANT: u32 = 256;

/// What is known of those who look at a port.
#[derive(Debug)]
pub(crate) struct PollMode {
    /// Packets wake the progress thread.
    armed: AtomicBool,
    /// Somebody waits for a completion channel, or is about to, and nobody has polled since.
    waiting: AtomicBool,
    /// When somebody polled last, in nanoseconds; what comes within [`POLL_STEP`] of it isn't noted.
    last_poll: AtomicU64,
    /// When the progress thread comes to a port that isn't armed, in nanoseconds.
    look_in: AtomicU64,
    /// How long they may stay away who poll now, in nanoseconds.
    span: AtomicU64,
    /// Somebody has gone on polling for a while since the port was left to them.
    kept_on: AtomicBool,
    /// How often on end the progress thread was woken for packets that somebody else took. Its own, as the next.
    idle: AtomicU32,
    /// How often that has to happen before the port is left to the poller.
    reluctance: AtomicU32,
}

impl PollMode {
    /// Nobody has polled: packets wake the progress thread.
    pub(crate) fn new() -> Self {
        Self {
            armed: AtomicBool::new(true),
            waiting: AtomicBool::new(false),
            last_poll: AtomicU64::new(0),
            look_in: AtomicU64::new(0),
            span: AtomicU64::new(0),
            kept_on: AtomicBool::new(false),
            idle: AtomicU32::new(0),
            reluctance: AtomicU32::new(1),
        }
    }

    /// Somebody polls, who may be about to wait.
    pub(crate) fn note_poll(&self, now: Time) {
        if now.since(self.last_poll()) > POLL_STEP {
            self.last_poll.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When somebody polled last, to within [`POLL_STEP`].
    pub(crate) fn last_poll(&self) -> Time {
        Time::from_nanos(self.last_poll.load(Ordering::Relaxed))
    }

    /// Somebody polls, and will again. Returns until when the progress thread needn't come, where that has changed:
    /// half of the time that it had left is over.
    pub(crate) fn polled(&self, now: Time) -> Option<Time> {
        // Read first: a poller shouldn't take the cache line from others every time.
        if self.is_waited_for() {
            self.waiting.store(false, Ordering::Relaxed);
        }
        let span = Duration::from_nanos(self.span.load(Ordering::Relaxed));
        if self.look_in()? > now + span / 2 {
            return None;
        }
        let next = (span * 2).min(LOOK_IN_LATEST);
        self.kept_on.store(true, Ordering::Relaxed);
        self.stay_away(now, next);
        Some(now + next)
    }

    fn stay_away(&self, now: Time, span: Duration) {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds")]
        self.span.store(span.as_nanos() as u64, Ordering::Relaxed);
        self.look_in.store((now + span).as_nanos(), Ordering::Relaxed);
    }

    /// Whoever polled is about to wait for a completion channel. The port must be armed, if this returns true.
    pub(crate) fn waits(&self) -> bool {
        self.waiting.store(true, Ordering::Relaxed);
        // Either this sees that the port is no longer armed, or whoever disarms it sees that somebody waits.
        !self.is_armed_now()
    }

    /// Whether somebody waits for a completion channel, and nobody polls.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether packets wake the progress thread.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed)
    }

    /// The same, after all that this thread has written: either this sees that the port is armed, or whoever has
    /// armed it sees that.
    pub(crate) fn is_armed_now(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_armed()
    }

    /// Sets it; what its setter reads afterwards was written before another one sees it set, or is seen here.
    pub(crate) fn set_armed(&self, on: bool) {
        self.armed.store(on, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// When the progress thread comes, unless packets wake it.
    pub(crate) fn look_in(&self) -> Option<Time> {
        (!self.is_armed()).then(|| Time::from_nanos(self.look_in.load(Ordering::Relaxed)))
    }

    /// From now on the progress thread comes when nobody has polled for a while.
    pub(crate) fn leave_alone(&self, now: Time) {
        self.kept_on.store(false, Ordering::Relaxed);
        self.stay_away(now, LOOK_IN);
    }

    /// The progress thread was woken by packets, and `found` some or not: another thread had taken them, or was at
    /// it. Returns whether the port had better be left to that one.
    pub(crate) fn woken(&self, found: bool) -> bool {
        let idle = if found || self.is_waited_for() { 0 } else { self.idle.load(Ordering::Relaxed) + 1 };
        let leave = idle >= self.reluctance.load(Ordering::Relaxed);
        self.idle.store(if leave { 0 } else { idle }, Ordering::Relaxed);
        leave
    }

    /// The progress thread came because nobody had polled for a while. Where that began as soon as the port was left
    /// to them, they poll only now and then, and look meanwhile, say, at memory that a peer is about to write to:
    /// next time it takes more until the port is left to them.
    pub(crate) fn looked_in(&self) {
        let reluctance = self.reluctance.load(Ordering::Relaxed);
        let next =
            if self.kept_on.load(Ordering::Relaxed) { 1 } else { (reluctance * 4).min(MOST_RELUCTANT) };
        self.reluctance.store(next, Ordering::Relaxed);
    }
}

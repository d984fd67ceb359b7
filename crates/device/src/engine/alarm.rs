//! When the progress thread has to run next, and the timer that makes it.
//!
//! Any thread may move the alarm: to an earlier time when it announces a deadline, to a later one when it has
//! just done what the progress thread would have come for. Neither wakes that thread, nor switches to it.
//!
//! While threads poll, they keep the time: deadlines are *attended*, and the alarm isn't set for them, since they
//! mostly move on before they pass.

use super::Host;
use super::sync::{AtomicU64, Mutex, fence, lock};
use rocev2::Time;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The alarm of one device.
pub(crate) struct Alarm {
    /// When the sleep ends, in nanoseconds: [`NEVER`], or [`AWAKE`] while there is none.
    at: AtomicU64,
    /// What the host's timer is set to.
    set: Mutex<u64>,
    /// Until when threads that poll look after the deadlines, in nanoseconds; 0 if none does.
    attended: AtomicU64,
    host: Arc<dyn Host>,
}

const NEVER: u64 = u64::MAX;
const AWAKE: u64 = 0;

impl Alarm {
    /// An alarm whose thread is awake.
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        Self { at: AtomicU64::new(AWAKE), set: Mutex::new(NEVER), attended: AtomicU64::new(0), host }
    }

    /// The progress thread is awake: whatever is announced from now on, it looks at before it sleeps.
    pub(crate) fn awake(&self, now: Time) {
        let mut set = lock(&self.set);
        if *set <= now.as_nanos() {
            // The timer has done what it was set for.
            *set = NEVER;
        }
        self.at.store(AWAKE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The progress thread has to run by `at`. What it will look at must have been written before.
    pub(crate) fn by(&self, at: Time) {
        // Either this sees that the thread sleeps too long, or `sleep` and `postpone`, which look once more at what
        // there is to wait for, see what the caller has written.
        fence(Ordering::SeqCst);
        if at.as_nanos() < self.at.load(Ordering::Relaxed) {
            let mut set = lock(&self.set);
            if at.as_nanos() < self.at.load(Ordering::Relaxed) {
                self.at.store(at.as_nanos(), Ordering::Relaxed);
                self.set_timer(&mut set, at.as_nanos());
            }
        }
    }

    /// The same for a deadline: where it is attended, the alarm rings when it no longer is.
    pub(crate) fn by_deadline(&self, at: Time) {
        // Either this sees that it isn't attended any more, or whoever has said so sees the deadline.
        fence(Ordering::SeqCst);
        self.by(at.max(self.attended()));
    }

    /// Threads that poll look after the deadlines until `until`.
    pub(crate) fn attend(&self, until: Time) {
        self.attended.fetch_max(until.as_nanos(), Ordering::Relaxed);
    }

    /// Until when deadlines are attended; [`Time::ZERO`] if they aren't.
    pub(crate) fn attended(&self) -> Time {
        Time::from_nanos(self.attended.load(Ordering::Relaxed))
    }

    /// Nobody looks after the deadlines any more: the progress thread has to run by the `earliest`.
    pub(crate) fn unattended(&self, earliest: impl FnOnce() -> Option<Time>) {
        self.attended.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if let Some(at) = earliest() {
            self.by(at);
        }
    }

    /// The progress thread is about to sleep until what `next` says.
    pub(crate) fn sleep(&self, next: impl Fn() -> Option<Time>) {
        let mut set = lock(&self.set);
        self.sleep_until(&mut set, &next);
    }

    /// The same, said by another thread that has changed what `next` says, unless the progress thread is awake.
    pub(crate) fn postpone(&self, next: impl Fn() -> Option<Time>) {
        let mut set = lock(&self.set);
        if self.at.load(Ordering::Relaxed) != AWAKE {
            self.sleep_until(&mut set, &next);
        }
    }

    fn sleep_until(&self, set: &mut u64, next: &impl Fn() -> Option<Time>) {
        // `AWAKE` is what 0 says.
        let next = || next().map_or(NEVER, |at| at.as_nanos().max(1));
        let mut at = next();
        loop {
            self.at.store(at, Ordering::Relaxed);
            // Whoever announced something in between may have seen the time before.
            fence(Ordering::SeqCst);
            let again = next();
            if again >= at {
                break;
            }
            at = again;
        }
        self.set_timer(set, at);
    }

    fn set_timer(&self, set: &mut u64, at: u64) {
        if *set != at {
            *set = at;
            self.host.set_alarm((at != NEVER).then(|| Time::from_nanos(at)));
        }
    }
}

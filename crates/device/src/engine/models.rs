//! Models of what threads tell each other without a lock: loom tries every order in which they can be seen to act.

use super::alarm::Alarm;
use super::completion_queue::{Arm, Bell, CompletionQueue, WorkCompletion};
use super::deadlines::Deadlines;
use super::delayed_acks::DelayedAcks;
use super::poll_mode::PollMode;
use super::{EventChannel, Host, Signal};
use loom::thread;
use rocev2::work::{Completion, CompletionKind, Status};
use rocev2::{Qpn, Time};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Remembers what the timer was set to last. No thread is interrupted in it.
struct Timer(AtomicU64);

impl Host for Timer {
    fn now(&self) -> Time {
        Time::from_nanos(1)
    }

    fn random(&self, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_alarm(&self, at: Option<Time>) {
        self.0.store(at.map_or(u64::MAX, Time::as_nanos), Ordering::Relaxed);
    }
}

struct Raised(AtomicU64);

impl Signal for Raised {
    fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn lower(&self) -> bool {
        self.0.swap(0, Ordering::Relaxed) > 0
    }
}

const LATE: Time = Time::from_nanos(1000);
const EARLY: Time = Time::from_nanos(100);

#[test]
fn no_deadline_is_slept_through() {
    loom::model(|| {
        let timer = Arc::new(Timer(AtomicU64::new(u64::MAX)));
        let host: Arc<dyn Host> = Arc::<Timer>::clone(&timer);
        let all = Arc::new((Deadlines::new(), Alarm::new(host)));
        all.0.add(LATE, Qpn::truncate(1));
        let announces = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                let (deadlines, alarm) = &*all;
                if deadlines.add(EARLY, Qpn::truncate(2)) {
                    alarm.by(EARLY);
                }
            }
        });
        let polls = thread::spawn({
            let all = Arc::clone(&all);
            move || all.1.postpone(|| all.0.earliest())
        });
        all.1.sleep(|| all.0.earliest());
        announces.join().unwrap();
        polls.join().unwrap();
        assert_eq!(timer.0.load(Ordering::Relaxed), EARLY.as_nanos());
    });
}

#[test]
fn no_deadline_is_left_to_threads_that_no_longer_poll() {
    loom::model(|| {
        let timer = Arc::new(Timer(AtomicU64::new(u64::MAX)));
        let host: Arc<dyn Host> = Arc::<Timer>::clone(&timer);
        let all = Arc::new((Deadlines::new(), Alarm::new(host)));
        all.1.attend(LATE);
        all.1.sleep(|| Some(LATE));
        let announces = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                let (deadlines, alarm) = &*all;
                if deadlines.add(EARLY, Qpn::truncate(1)) {
                    alarm.by_deadline(EARLY);
                }
            }
        });
        all.1.unattended(|| all.0.earliest());
        announces.join().unwrap();
        assert_eq!(timer.0.load(Ordering::Relaxed), EARLY.as_nanos());
    });
}

#[test]
fn no_delayed_ack_is_forgotten_when_its_port_is_armed() {
    loom::model(|| {
        let all = Arc::new((PollMode::new(), DelayedAcks::new()));
        all.0.set_armed(false);
        let polls = thread::spawn({
            let all = Arc::clone(&all);
            move || {
                let (mode, acks) = &*all;
                if !mode.is_armed() {
                    acks.add([1]);
                }
                if mode.is_armed_now() {
                    acks.take();
                }
            }
        });
        all.0.set_armed(true);
        all.1.take();
        polls.join().unwrap();
        assert!(all.1.take().is_none_or(|left| left.is_empty()));
    });
}

#[test]
fn who_waits_is_woken_by_packets() {
    loom::model(|| {
        let mode = Arc::new(PollMode::new());
        let waits = thread::spawn({
            let mode = Arc::clone(&mode);
            move || mode.waits()
        });
        // As the progress thread does when it leaves a port to those who poll.
        mode.set_armed(false);
        let again = mode.is_waited_for();
        assert!(waits.join().unwrap() || again, "nobody arms the port");
    });
}

#[test]
fn who_arms_a_completion_queue_sees_a_completion_or_gets_an_event() {
    loom::model(|| {
        let signal = Arc::new(Raised(AtomicU64::new(0)));
        let channel = Arc::new(EventChannel::new(Arc::<Raised>::clone(&signal)));
        let queue = Arc::new(CompletionQueue::new(7, 4, Some(Bell::Channel(channel))));
        let completes = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                let completion = Completion::new(1, Status::Success, CompletionKind::Send);
                queue.push(WorkCompletion { qpn: Qpn::truncate(2), completion }).unwrap();
                queue.ring();
            }
        });
        queue.arm(Arm::Any);
        let mut out = Vec::new();
        let seen = queue.take(&mut out, 4).unwrap() > 0;
        completes.join().unwrap();
        assert!(seen || signal.0.load(Ordering::Relaxed) == 1);
    });
}

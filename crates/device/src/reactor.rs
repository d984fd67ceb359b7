//! What wakes the progress thread: sockets that have packets, by epoll, and one timer.

use crate::alarm::Timer;
use crate::device::Inner;
use crate::net::Socket;
use crate::progress::{Pause, Progress};
use rocev2::Time;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Marks the timer among what epoll watches; sockets have their port's token.
const TIMER: u64 = u64::MAX;

/// How long to sleep where epoll fails.
const BLIND: Duration = Duration::from_millis(1);

/// An epoll and a timer.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    timer: OwnedFd,
    clock: Instant,
    stop: AtomicBool,
}

impl Reactor {
    /// A reactor whose time begins at `clock`.
    pub(crate) fn new(clock: Instant) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Once for each time that it goes off: so nobody has to read it.
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, timer, clock, stop: AtomicBool::new(false) })
    }

    /// Watches a socket, which is reported as `token`, or no longer.
    ///
    /// A socket that isn't watched is no part of the epoll: else the kernel would call there twice for each
    /// datagram that it sends, which takes 0.4 µs, measured.
    pub(crate) fn watch(&self, socket: &Socket, token: u64, on: bool) -> io::Result<()> {
        if on {
            epoll::add(&self.epoll, socket, EventData::new_u64(token), EventFlags::IN)?;
        } else {
            epoll::delete(&self.epoll, socket)?;
        }
        Ok(())
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.set(Some(Time::ZERO));
    }

    /// Sleeps until something happens, and adds the tokens of the sockets that have packets to `ready`.
    fn sleep(&self, ready: &mut Vec<u64>) {
        let mut events: [epoll::Event; 16] = core::array::from_fn(|_| epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(TIMER),
        });
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok(count) => {
                ready.extend(
                    events.iter().take(count).map(|event| event.data.u64()).filter(|token| *token != TIMER),
                );
            }
            Err(Errno::INTR) => {}
            // Nothing that could be done about it: the thread goes on with what it can see without epoll.
            Err(_) => std::thread::sleep(BLIND),
        }
    }

    /// Starts the progress thread of `device`.
    pub(crate) fn start(self: Arc<Self>, device: Weak<Inner>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("rdma-progress".into()).spawn(move || self.run(&device))
    }

    fn run(&self, device: &Weak<Inner>) {
        // Else the kernel adds 50 µs to each short sleep.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let mut progress = Progress::default();
        let mut ready = Vec::new();
        loop {
            let Some(device) = device.upgrade().filter(|_| !self.stop.load(Ordering::SeqCst)) else { return };
            let pause = progress.step(&device, &ready);
            drop(device);
            ready.clear();
            match pause {
                Pause::Yield => std::thread::yield_now(),
                Pause::Busy(span) => std::thread::sleep(span),
                Pause::Sleep => self.sleep(&mut ready),
            }
        }
    }
}

impl Timer for Reactor {
    fn set(&self, at: Option<Time>) {
        let left = at.map_or(Duration::ZERO, |at| {
            // Zero would stop the timer.
            at.since(Time::ZERO + self.clock.elapsed()).max(Duration::from_nanos(1))
        });
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval: zero, it_value: timespec(left) };
        // It fails only for arguments that are wrong.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value);
    }
}

/// `span` as the system takes it; what doesn't fit is as good as for ever.
fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

//! What wakes the progress thread: sockets that are ready, by epoll, and one timer.

use crate::engine::Ready;
use crate::link::Interest;
use rocev2::Time;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Marks the timer among what epoll watches; sockets have their tokens.
const TIMER: u64 = u64::MAX;

/// How long to sleep where epoll fails.
const BLIND: Duration = Duration::from_millis(1);

/// A clock, an epoll and a timer.
#[derive(Debug)]
pub(crate) struct Reactor {
    clock: Instant,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// Whether the thread is to end. Held while the timer is set: the last one that is set makes it end.
    stopped: Mutex<bool>,
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Once for each time that it goes off: so nobody has to read it.
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { clock: Instant::now(), epoll, timer, stopped: Mutex::new(false) })
    }

    pub(crate) fn now(&self) -> Time {
        Time::ZERO + self.clock.elapsed()
    }

    /// Watches a socket, which is reported as `token`, for something else than before.
    ///
    /// A socket of which nothing is watched is no part of the epoll: else the kernel would call there twice for each
    /// datagram that it sends, which takes 0.4 µs, measured.
    pub(crate) fn watch(
        &self,
        socket: impl AsFd,
        token: u64,
        before: Interest,
        now: Interest,
    ) -> io::Result<()> {
        let nothing = Interest::default();
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, now.readable);
        flags.set(EventFlags::OUT, now.writable);
        let data = EventData::new_u64(token);
        if now == nothing {
            epoll::delete(&self.epoll, &socket)?;
        } else if before == nothing {
            epoll::add(&self.epoll, &socket, data, flags)?;
        } else {
            epoll::modify(&self.epoll, &socket, data, flags)?;
        }
        Ok(())
    }

    /// Has the thread wake at `at`.
    pub(crate) fn set_alarm(&self, at: Option<Time>) {
        let stopped = crate::lock(&self.stopped);
        if !*stopped {
            self.set_timer(at);
        }
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        let mut stopped = crate::lock(&self.stopped);
        *stopped = true;
        self.set_timer(Some(Time::ZERO));
    }

    /// Whether the thread is to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *crate::lock(&self.stopped)
    }

    /// What the calling thread needs once that is going to sleep here.
    pub(crate) fn enter(&self) {
        // Else the kernel adds 50 µs to each short sleep.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
    }

    fn set_timer(&self, at: Option<Time>) {
        // Zero would stop the timer.
        let left = at.map_or(Duration::ZERO, |at| at.since(self.now()).max(Duration::from_nanos(1)));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Itimerspec { it_interval: zero, it_value: timespec(left) };
        // It fails only for arguments that are wrong.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value);
    }

    /// Sleeps until something happens, and adds the sockets that are ready to `ready`.
    pub(crate) fn sleep(&self, ready: &mut Vec<Ready>) {
        let mut events: [epoll::Event; 16] = core::array::from_fn(|_| epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(TIMER),
        });
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok(count) => ready.extend(
                events.iter().take(count).filter(|event| event.data.u64() != TIMER).map(|event| {
                    let (token, flags) = (event.data.u64(), event.flags);
                    let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                    let readable = flags.contains(EventFlags::IN) || failed;
                    Ready { token, readable, writable: flags.contains(EventFlags::OUT) || failed }
                }),
            ),
            Err(Errno::INTR) => {}
            // Nothing that could be done about it: the thread goes on with what it can see without epoll.
            Err(_) => std::thread::sleep(BLIND),
        }
    }
}

/// `span` as the system takes it; what doesn't fit is as good as for ever.
fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

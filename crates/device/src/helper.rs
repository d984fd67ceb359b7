//! The helper thread: it works where nobody polls, and keeps the time.
//!
//! It sleeps in epoll on the sockets, but not before it has looked for more for a moment: packets mostly come in streams. A thread that polls a completion queue empties the sockets itself, and each packet would wake
//! the helper for nothing; so when the helper is woken and sees that somebody has polled since, it stops watching the sockets and
//! only looks in now and then, until the polling has stopped or somebody waits on a completion channel.

use crate::device::Inner;
use crate::port::Port;
use rocev2::Time;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the helper looks in while somebody else polls. When the polling stops without a word, packets wait this long at most.
const LOOK_IN: Duration = Duration::from_millis(1);

/// How long the helper looks for further packets before it sleeps. A stream of them comes at shorter intervals, and waking a thread costs
/// its sender more than the packet.
const LINGER: Duration = Duration::from_micros(50);

/// Marks the waker among the descriptors that epoll watches; sockets have the index of their port.
const WAKER: u64 = u64::MAX;

/// What the helper thread shares with the threads of the application.
pub(crate) struct Waker {
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    /// Somebody polled since the helper last looked, and doesn't wait on a completion channel now.
    polled: AtomicBool,
    /// Whether the sockets are watched.
    watching: AtomicBool,
    /// The sockets, to switch watching on and off.
    ports: Mutex<Vec<Arc<Port>>>,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKER), EventFlags::IN)?;
        Ok(Self {
            epoll,
            wake,
            stop: AtomicBool::new(false),
            polled: AtomicBool::new(false),
            watching: AtomicBool::new(true),
            ports: Mutex::default(),
        })
    }

    /// Makes the helper look at deadlines and sockets now.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Somebody looks at the sockets, and will again.
    pub(crate) fn polled(&self) {
        // Read first: a poller shouldn't take the cache line from others every time.
        if !self.polled.load(Ordering::Relaxed) {
            self.polled.store(true, Ordering::Relaxed);
        }
    }

    /// Somebody is about to wait for a completion channel: the sockets must be watched.
    pub(crate) fn about_to_wait(&self) {
        self.polled.store(false, Ordering::SeqCst);
        if !self.watching.load(Ordering::SeqCst) {
            self.watch(true);
            self.wake();
        }
    }

    /// Watches another socket.
    pub(crate) fn add(&self, port: &Arc<Port>) -> io::Result<()> {
        let mut ports = crate::lock(&self.ports);
        let data = EventData::new_u64(ports.len() as u64);
        epoll::add(&self.epoll, port.socket(), data, self.interest())?;
        ports.push(Arc::clone(port));
        Ok(())
    }

    fn interest(&self) -> EventFlags {
        if self.watching.load(Ordering::SeqCst) { EventFlags::IN } else { EventFlags::empty() }
    }

    fn watch(&self, on: bool) {
        let ports = crate::lock(&self.ports);
        if self.watching.swap(on, Ordering::SeqCst) == on {
            return;
        }
        let interest = self.interest();
        for (index, port) in ports.iter().enumerate() {
            // A socket that can't be watched is looked at with the others, every time the helper wakes.
            let _ = epoll::modify(&self.epoll, port.socket(), EventData::new_u64(index as u64), interest);
        }
    }

    /// Ends the helper thread.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Sleeps until something happens, or for `span`; returns whether it was packets.
    fn sleep(&self, span: Option<Duration>) -> bool {
        let mut events: [epoll::Event; 16] = core::array::from_fn(|_| epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(WAKER),
        });
        match epoll::wait(&self.epoll, &mut events, span.map(timespec).as_ref()) {
            Ok(count) => {
                let mut packets = false;
                for event in events.iter().take(count) {
                    match event.data.u64() {
                        WAKER => self.clear_wake(),
                        _ => packets = true,
                    }
                }
                packets
            }
            Err(Errno::INTR) => false,
            // Nothing that the helper could do about it: it goes on with what it can see without epoll.
            Err(_) => {
                std::thread::sleep(LOOK_IN);
                true
            }
        }
    }

    fn clear_wake(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

/// Starts the helper thread of `device`.
pub(crate) fn start(waker: Arc<Waker>, device: Weak<Inner>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("rdma-helper".into()).spawn(move || run(&waker, &device))
}

fn run(waker: &Waker, device: &Weak<Inner>) {
    let mut span = None;
    // When packets came last, as long as it is worth looking for more.
    let mut lingering: Option<Instant> = None;
    loop {
        let packets = match lingering {
            Some(since) if since.elapsed() < LINGER => {
                std::thread::yield_now();
                // Nobody was woken for packets: no reason to stop watching.
                false
            }
            _ => {
                lingering = None;
                waker.sleep(span)
            }
        };
        if waker.stop.load(Ordering::SeqCst) {
            return;
        }
        let Some(device) = device.upgrade() else { return };
        let polled = waker.polled.swap(false, Ordering::SeqCst);
        if polled && packets {
            // Somebody else takes these packets: no need to be woken for them.
            waker.watch(false);
            lingering = None;
        } else if !polled {
            waker.watch(true);
            if device.progress() {
                lingering = Some(Instant::now());
            }
        }
        let mut now = device.now();
        if device.earliest_deadline().is_some_and(|deadline| deadline <= now) {
            device.run_deadlines(now);
            now = device.now();
        }
        span = span_until(device.earliest_deadline(), now);
        if !waker.watching.load(Ordering::SeqCst) {
            span = Some(span.map_or(LOOK_IN, |span| span.min(LOOK_IN)));
        }
    }
}

fn span_until(deadline: Option<Time>, now: Time) -> Option<Duration> {
    deadline.map(|deadline| deadline.since(now))
}

/// `span` as the system takes it; what doesn't fit is as good as for ever.
fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}

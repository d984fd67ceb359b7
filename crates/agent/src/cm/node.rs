//! A manager on queue pair 1.

use super::gsi::Gsi;
use super::random::Random;
use super::rate::Rates;
use rocev2::Time;
use rocev2_cm::{Config, Event, Manager};
use rocev2_device::{Device, DeviceError};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A [`Manager`] whose datagrams come and go by a device's queue pair 1. Whoever has it calls [`turn`](Self::turn) when
/// its descriptor is readable, when [`timeout`](Self::timeout) has passed, and after calls of the manager.
#[derive(Debug)]
pub struct Node {
    /// The manager, for calls.
    pub manager: Manager,
    gsi: Gsi,
    rates: Rates,
    origin: Instant,
    dropped: u64,
}

impl Node {
    /// A manager on queue pair 1 of `device`.
    ///
    /// # Errors
    /// Somebody has that queue pair, or the system refuses what it needs.
    pub fn new(device: Arc<Device>, config: Config) -> Result<Self, DeviceError> {
        let mut random = Random::new()?;
        Ok(Self {
            manager: Manager::new(config, Box::new(move || random.u64())),
            gsi: Gsi::new(device)?,
            rates: Rates::new(),
            origin: Instant::now(),
            dropped: 0,
        })
    }

    /// The time, for calls of the manager.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.origin.elapsed()
    }

    /// When to call [`turn`](Self::turn) next, at the latest.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.manager.poll_timeout().map(|at| at.since(self.now()))
    }

    /// Datagrams that were too many from their source.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what has arrived, does what is due, and sends what there is to send.
    pub fn turn(&mut self) {
        let now = self.now();
        let Self { manager, gsi, rates, dropped, .. } = self;
        gsi.receive(|path, mad| {
            if rates.admit(now, path.remote) {
                // What changes nothing has been answered if it had to be.
                let _ = manager.handle(now, path, mad);
            } else {
                *dropped += 1;
            }
        });
        manager.handle_timeout(now);
        while gsi.has_room()
            && let Some(transmit) = manager.poll_transmit()
        {
            // Where there is no way to the peer it gets no answer, and this side's request ends by its timeout.
            let _ = gsi.send(&transmit);
        }
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        self.manager.poll_event()
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.gsi.as_fd()
    }
}

//! A manager on queue pair 1.

use super::gsi::Gsi;
use super::random::Random;
use super::rate::Rates;
use super::sealing::Sealing;
use rocev2::Time;
use rocev2_cm::{Config, Event, Manager};
use rocev2_device::{Device, DeviceError};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A [`Manager`] whose datagrams come and go by a device's queue pair 1. Whoever has it calls [`turn`](Self::turn) when
/// one of its [`descriptors`](Self::descriptors) is readable, when [`timeout`](Self::timeout) has passed, and after
/// calls of the manager.
#[derive(Debug)]
pub struct Node {
    /// The manager, for calls.
    pub manager: Manager,
    gsi: Gsi,
    /// Where datagrams are sealed.
    sealing: Option<Sealing>,
    rates: Rates,
    origin: Instant,
    dropped: u64,
}

impl Node {
    /// A manager on queue pair 1 of `device`; with `sealing` one of a device that sends nothing in clear.
    ///
    /// # Errors
    /// Somebody has that queue pair, or the system refuses what it needs.
    pub fn new(device: Arc<Device>, config: Config, sealing: Option<Sealing>) -> Result<Self, DeviceError> {
        let mut random = Random::new()?;
        Ok(Self {
            manager: Manager::new(config, Box::new(move || random.u64())),
            gsi: Gsi::new(device)?,
            sealing,
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
        let Self { manager, gsi, sealing, rates, dropped, .. } = self;
        gsi.receive(|path, mad| {
            if rates.admit(now, path.remote) {
                // What changes nothing has been answered if it had to be.
                let _ = manager.handle(now, path, mad);
            } else {
                *dropped += 1;
            }
        });
        manager.handle_timeout(now);
        if let Some(sealing) = sealing {
            sealing.turn(now, gsi);
        }
        while gsi.has_room()
            && let Some(transmit) = manager.poll_transmit()
        {
            match sealing {
                Some(sealing) => sealing.send(now, transmit, gsi),
                // Where there is no way to the peer it gets no answer, and this side's request ends by its timeout.
                None => drop(gsi.send(&transmit)),
            }
        }
    }

    /// What datagrams are sealed by, if they are.
    #[must_use]
    pub fn sealing(&self) -> Option<&Sealing> {
        self.sealing.as_ref()
    }

    /// The next peer for whom there are no keys, and why: nothing that was for it was sent.
    pub fn refused(&mut self) -> Option<(IpAddr, String)> {
        self.sealing.as_mut()?.refused()
    }

    /// Those that are readable when [`turn`](Self::turn) may have something to do.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.gsi.as_fd()].into_iter().chain(self.sealing.as_ref().map(AsFd::as_fd))
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        self.manager.poll_event()
    }
}

//! Sealed datagrams of queue pair 1: they wait until there are keys for the peer's.

use super::gsi::Gsi;
use crate::pairs::{Instance, Pairs, PairsError};
use rocev2::{Qpn, Time};
use rocev2_cm::Transmit;
use rocev2_device::Device;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long a datagram waits at most: longer than it takes until a request is repeated.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams that wait for one peer's keys, and for all peers', at most. More are as if lost.
const PER_PEER: usize = 1024;
const IN_ALL: usize = 4 * PER_PEER;

/// Whom queue pair 1 has keys for, and what waits for some.
#[derive(Debug)]
pub struct Sealing {
    pairs: Pairs,
    /// Counts when something has changed about keys.
    wake: OwnedFd,
    waiting: HashMap<IpAddr, VecDeque<(Time, Transmit)>>,
    /// Datagrams that wait.
    count: usize,
    /// Peers for whom there are no keys, and why.
    refused: VecDeque<(IpAddr, String)>,
}

impl Sealing {
    /// Has who is at the other end of `keys` agree on keys for queue pair 1 of `device`, which is the first of those
    /// at `address`, by those settings.
    ///
    /// # Errors
    /// The other end has ended, or the system refuses what it needs.
    pub fn new(
        keys: OwnedFd,
        device: Arc<Device>,
        address: IpAddr,
        settings: String,
    ) -> Result<Self, PairsError> {
        let refused = |error: Errno| PairsError::Refused(error.to_string());
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(refused)?;
        let waker = wake.try_clone().map_err(|error| PairsError::Refused(error.to_string()))?;
        let Instance { slot, .. } = Instance::of(address, Qpn::GSI);
        let pairs = Pairs::attach(keys, device, (address, slot), settings, Some(waker))?;
        let (waiting, refused) = (HashMap::new(), VecDeque::new());
        Ok(Self { pairs, wake, waiting, count: 0, refused })
    }

    /// Whether keys are agreed on by now.
    ///
    /// # Errors
    /// They aren't and won't be.
    pub fn is_attached(&self) -> Result<bool, PairsError> {
        self.pairs.is_attached()
    }

    /// Sends a datagram, or has it wait for keys.
    pub(super) fn send(&mut self, now: Time, transmit: Transmit, gsi: &mut Gsi) {
        let peer = transmit.path.remote.to_ip().to_canonical();
        if !self.waiting.contains_key(&peer) {
            match self.pairs.is_ready(Instance::of(peer, Qpn::GSI)) {
                Ok(true) => {
                    // Where there is no way to the peer it gets nothing, and this side's request ends by its timeout.
                    let _ = gsi.send(&transmit);
                    return;
                }
                Ok(false) => {}
                Err(error) => {
                    self.refused.push_back((peer, error.to_string()));
                    return;
                }
            }
        }
        let of_peer = self.waiting.entry(peer).or_default();
        if of_peer.len() < PER_PEER && self.count < IN_ALL {
            of_peer.push_back((now, transmit));
            self.count += 1;
        }
    }

    /// Sends what there are keys for by now, and drops what there won't be any for.
    pub(super) fn turn(&mut self, now: Time, gsi: &mut Gsi) {
        // What has changed is looked at below.
        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        let Self { pairs, waiting, count, refused, .. } = self;
        waiting.retain(|peer, datagrams| {
            let before = datagrams.len();
            match pairs.is_ready(Instance::of(*peer, Qpn::GSI)) {
                Ok(true) => {
                    while gsi.has_room()
                        && let Some((_, transmit)) = datagrams.pop_front()
                    {
                        let _ = gsi.send(&transmit);
                    }
                }
                Ok(false) => {
                    while datagrams.front().is_some_and(|(since, _)| now.since(*since) >= PATIENCE) {
                        datagrams.pop_front();
                    }
                }
                Err(error) => {
                    refused.push_back((*peer, error.to_string()));
                    datagrams.clear();
                }
            }
            *count -= before - datagrams.len();
            !datagrams.is_empty()
        });
    }

    /// The next peer for whom there are no keys, and why: nothing that was for it was sent.
    pub(super) fn refused(&mut self) -> Option<(IpAddr, String)> {
        self.refused.pop_front()
    }
}

impl AsFd for Sealing {
    /// Readable when something has changed about keys.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

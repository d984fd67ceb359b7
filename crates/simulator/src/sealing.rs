//! Connections whose packets are sealed: their keys, new ones in mid-transfer, and somebody on the way who sends old
//! packets again, as they were, changed or by another's SPI.

use crate::plan::{Disturbance, MS, US};
use crate::platform;
use crate::rng::Rng;
use crate::simulation::Simulation;
use crate::tally::Fault;
use rocev2::wire::Transport;
use rocev2_device::Receiver;
use rocev2_device::esp::replay::{DEFAULT_WINDOW, ReplayWindow};
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound};
use std::net::SocketAddr;

/// Connections whose packets are sealed, in percent.
const SEALED: u64 = 30;

/// Inside, each packet names its usual port.
const INNER: Inner = Inner { source_port: rocev2::UDP_PORT, checksum: None };

/// Counters of what can't be, whatever the network does.
const NEVER: [&str; 5] = ["esp_clear", "esp_sealed", "esp_other_association", "esp_format", "esp_not_sent"];

/// What a seed decides of sealing. It has a generator of its own, so that seeds without it are what they were.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) rng: Rng,
}

impl Sealing {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0x5ea1_ed00_0000_0000) }
    }
}

impl Simulation {
    /// Has the packets of two new ends sealed, now and then, and plans what is done to them meanwhile.
    pub(crate) fn seal(&mut self, first: usize) {
        let rng = &mut self.sealing.rng;
        // Datagrams can't be sealed yet.
        if self.ends[first].transport() == Transport::Ud || !rng.percent(SEALED) {
            return;
        }
        let span = rng.pick(&[200 * US, 2 * MS, 20 * MS]);
        let later: Vec<_> = (0..rng.below(6)).map(|_| (rng.below(span), rng.percent(60))).collect();
        for end in [first, first + 1] {
            let machine = &self.machines[self.ends[end].machine].machine;
            let association = machine.device.security_association();
            let queue_pair = self.ends[end].queue_pair.as_ref().expect("it is new");
            queue_pair.seal_by(&association).expect("it receives nothing yet");
            self.ends[end].association = Some(association);
            let (_, port) = machine.device.bind_gid(machine.gid_index).expect("a port");
            let socket = SocketAddr::new(platform::address(self.ends[end].machine), port);
            self.network.lock().seals.insert((socket, self.ends[end].qpn));
        }
        [first, first + 1].into_iter().for_each(|end| self.rekey(end));
        for (after, rekeys) in later {
            let end = first + self.sealing.rng.index(2);
            let count = 1 + self.sealing.rng.index(8);
            let what = if rekeys { Disturbance::Rekey { end } } else { Disturbance::Replay { count } };
            self.disturb_at(self.now() + after, what);
        }
    }

    /// The peer seals what it sends to that end by a new key from now on. What the key before has sealed is taken until
    /// there is another one.
    pub(crate) fn rekey(&mut self, end: usize) {
        let peer = self.ends[end].peer;
        let [Some(own), Some(peers)] = [end, peer].map(|end| &self.ends[end].association) else { return };
        let rng = &mut self.sealing.rng;
        let material = rng.bytes(36);
        // Also across the end of a number's lower half.
        let first = rng.pick(&[1, (1 << 32) - 20]);
        let key = || Key::new(Algorithm::Aes256Gcm, &material).expect("the right length");
        let old = own.inbound();
        for old in &old[..old.len().saturating_sub(1)] {
            own.release(old.spi);
        }
        let again = !old.is_empty();
        let spi = own.allocate_spi().expect("few are taken");
        let window = ReplayWindow::after(DEFAULT_WINDOW, first - 1);
        own.install_inbound(Inbound::with_window(spi, key(), window)).expect("a new SPI");
        let out = Outbound::with_numbers(spi, key(), INNER, first, u64::MAX);
        peers.install_outbound(out, Receiver::Embedded);
        if again {
            self.tally.fault(Fault::Rekeyed);
            self.record("rekey", &[("end", end as u64)]);
        }
    }

    /// Somebody on the way sends so many old packets again.
    pub(crate) fn replay(&mut self, count: usize) {
        for _ in 0..count {
            let sent = self.network.lock().replay(&mut self.sealing.rng);
            if sent {
                self.tally.fault(Fault::Replayed);
            }
        }
    }

    /// Nothing was taken, or left, that isn't sealed as it has to be.
    pub(crate) fn check_sealing(&self) {
        for host in &self.machines {
            for (name, count) in host.machine.device.counters() {
                assert!(count == 0 || !NEVER.contains(&name), "{name}: {count}");
            }
        }
    }
}

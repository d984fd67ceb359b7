//! A process's side: the security associations of its device, one for each peer.

use super::Instance;
use super::protocol::{Event, Material, Request, receive, send};
use crate::lease::{LeaseError, connection};
use crate::protocol::{Message, VERSION, receive as receive_fixed, send as send_fixed};
use core::time::Duration;
use rocev2::UDP_PORT;
use rocev2_device::esp::replay::DEFAULT_WINDOW;
use rocev2_device::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi};
use rocev2_device::{Device, Peer, Receiver, SecurityAssociation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use zeroize::Zeroizing;

/// How long a pair may take to get keys, longer than its agent gives it: then that one says why there are none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon keys are asked for again that there were none of: who sends datagrams doesn't wait each time.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is looked at how much has been sealed.
const LOOK: Duration = Duration::from_secs(1);

/// How long packets that were sealed with the key before may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// So many times as many packets as a key is to be used for may be sealed with it. Then this side falls silent.
const NUMBERS: u64 = 16;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// There is no agent, or none that fits.
    #[error(transparent)]
    Agent(#[from] LeaseError),
    /// The agent doesn't seal, or not for this process.
    #[error("the agent doesn't seal for this program: {0}")]
    Refused(String),
    /// The connection to the agent has ended.
    #[error("the agent has ended")]
    Ended,
    /// There are no keys for that peer.
    #[error("{0}")]
    Peer(String),
}

/// The pairs that a process's device is one of.
#[derive(Debug)]
pub struct Pairs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    agent: OwnedFd,
    device: Arc<Device>,
    own: Instance,
    rekey_after: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// How often a pair has ended.
    endings: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pairs: HashMap<Instance, Entry>,
    /// The agent has ended.
    ended: bool,
}

#[derive(Debug)]
enum Entry {
    Has(Pair),
    /// There are none, since then.
    Failed(String, Instant),
}

/// A pair, whose keys may still be under way.
#[derive(Debug)]
struct Pair {
    association: Arc<SecurityAssociation>,
    /// Its name, the first SPI by which packets are taken.
    name: Spi,
    /// By which packets of the newest key come.
    newest: Spi,
    /// The one before, and since when nothing new comes by it.
    old: Option<(Spi, Option<Instant>)>,
    /// A new SPI whose key is under way.
    asked: bool,
    /// Packets both ways have keys.
    is_ready: bool,
}

impl Pairs {
    /// Has the agent at `place` agree on keys for `device`, which has `slot` at `address`, by those settings. A thread
    /// serves it, which inherits the caller's signal mask.
    ///
    /// # Errors
    /// The agent isn't there or doesn't.
    pub fn start(
        place: &Path,
        device: Arc<Device>,
        (address, slot): (IpAddr, u8),
        settings: String,
    ) -> Result<Self, PairsError> {
        let failed = |error: Errno| LeaseError::NoAgent { place: place.into(), source: error.into() };
        let agent = connection(place).map_err(failed)?;
        send_fixed(&agent, Message::Seal, &[]).map_err(failed)?;
        match receive_fixed(&agent).map_err(failed)? {
            Some((Message::Seals, _)) => {}
            Some((Message::Failed(number), _)) => {
                return Err(PairsError::Refused(std::io::Error::from_raw_os_error(number).to_string()));
            }
            Some((Message::Version(version), _)) if version != VERSION => {
                return Err(LeaseError::Version(version).into());
            }
            _ => return Err(LeaseError::Answer.into()),
        }
        let own = Instance { address: address.to_canonical(), slot };
        send(&agent, &Request::Attach { own, settings }).map_err(failed)?;
        let rekey_after = loop {
            wait(&agent, PATIENCE).map_err(failed)?;
            match receive(&agent) {
                Err(Errno::INTR) => {}
                Ok(Some(Event::Attached { rekey_after })) => break rekey_after,
                Ok(Some(Event::Refused { reason })) => return Err(PairsError::Refused(reason)),
                Err(Errno::AGAIN) => return Err(PairsError::Refused("it doesn't answer".into())),
                _ => return Err(PairsError::Ended),
            }
        };
        let (state, changed, endings) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { agent, device, own, rekey_after, state, changed, endings });
        let served = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("rdma-keys".into())
            .spawn(move || served.serve())
            .map_err(|error| PairsError::Refused(error.to_string()))?;
        Ok(Self(shared))
    }

    /// What seals this device's packets for `peer`, and opens that one's. Where there is nothing yet, keys are agreed
    /// on now, which takes two round trips to the peer's host and as much computation as a handshake of TLS.
    ///
    /// # Errors
    /// There are no keys.
    pub fn association(&self, peer: Instance) -> Result<Arc<SecurityAssociation>, PairsError> {
        self.0.association(peer)
    }

    /// How often a pair has ended: while it doesn't change, whom there were keys for there are still.
    #[must_use]
    pub fn endings(&self) -> u64 {
        self.0.endings.load(Ordering::Acquire)
    }
}

/// Waits until there is something to read, or for so long.
fn wait(agent: &OwnedFd, span: Duration) -> Result<(), Errno> {
    let timeout = Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() };
    match poll(&mut [PollFd::new(agent, PollFlags::IN)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn association(&self, peer: Instance) -> Result<Arc<SecurityAssociation>, PairsError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        let mut opened = false;
        loop {
            if state.ended {
                return Err(PairsError::Ended);
            }
            match state.pairs.get(&peer) {
                Some(Entry::Has(pair)) if pair.is_ready => return Ok(Arc::clone(&pair.association)),
                Some(Entry::Failed(reason, since)) if opened || since.elapsed() < RETRY => {
                    return Err(PairsError::Peer(reason.clone()));
                }
                Some(Entry::Has(_)) => opened = true,
                // What failed before may succeed now.
                Some(Entry::Failed(..)) | None => {
                    self.open(&mut state, peer).map_err(PairsError::Peer)?;
                    opened = true;
                    continue;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if let Some(Entry::Has(pair)) = state.pairs.remove(&peer) {
                    pair.association.close();
                    let _ = send(&self.agent, &Request::Close { pair: pair.name.number() });
                }
                return Err(PairsError::Peer(format!("there was no answer within {PATIENCE:?}")));
            }
            let (next, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }

    /// Asks for keys for a peer.
    fn open(&self, state: &mut State, peer: Instance) -> Result<(), String> {
        let association = Arc::new(self.device.security_association());
        let spi = association.allocate_spi().map_err(|error| error.to_string())?;
        association.for_datagrams(Peer { address: peer.address, slot: peer.slot });
        let mut pair = Pair { association, name: spi, newest: spi, old: None, asked: false, is_ready: false };
        if peer == self.own {
            // Nobody has to be asked.
            pair.take_own_key(spi, self.numbers())?;
            pair.is_ready = true;
        } else {
            send(&self.agent, &Request::Open { peer, spi: spi.number() })
                .map_err(|error| error.to_string())?;
        }
        state.pairs.insert(peer, Entry::Has(pair));
        Ok(())
    }

    /// Numbers of one key.
    fn numbers(&self) -> u64 {
        self.rekey_after.saturating_mul(NUMBERS)
    }

    /// Does what the agent says, for as long as it is there.
    fn serve(&self) {
        let mut looked = Instant::now();
        'agent: loop {
            let _ = wait(&self.agent, LOOK.saturating_sub(looked.elapsed()));
            loop {
                match receive(&self.agent) {
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Ok(Some(event)) => self.take(event),
                    Ok(None) | Err(_) => break 'agent,
                }
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look(looked);
            }
        }
        // Nobody gives new keys any more, nor says when a peer's are withdrawn.
        let mut state = self.state();
        state.ended = true;
        self.endings.fetch_add(1, Ordering::Release);
        for (_, entry) in state.pairs.drain() {
            if let Entry::Has(pair) = entry {
                pair.association.close();
            }
        }
        self.changed.notify_all();
    }

    fn take(&self, event: Event) {
        let mut state = self.state();
        match event {
            Event::Wanted { peer } => {
                let known = matches!(state.pairs.get(&peer), Some(Entry::Has(_)));
                if !known && let Err(reason) = self.open(&mut state, peer) {
                    state.pairs.insert(peer, Entry::Failed(reason, Instant::now()));
                }
            }
            Event::Inbound { pair, spi, key } => {
                if let Some(known) = state.named(pair)
                    && known.take_inbound(spi, &key).is_ok()
                {
                    let _ = send(&self.agent, &Request::Installed { pair, spi });
                }
            }
            Event::Outbound { pair, spi, key } => {
                if let Some(known) = state.named(pair)
                    && known.take_outbound(spi, &key, self.numbers()).is_ok()
                {
                    known.is_ready = true;
                }
            }
            Event::Ended { pair, reason } => {
                let found = state.pairs.iter_mut().find(|(_, entry)| entry.is(pair));
                if let Some((_, entry)) = found {
                    let before = std::mem::replace(entry, Entry::Failed(reason, Instant::now()));
                    if let Entry::Has(pair) = before {
                        pair.association.close();
                        self.endings.fetch_add(1, Ordering::Release);
                    }
                }
            }
            Event::Attached { .. } | Event::Refused { .. } => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Looks whether peers need new keys, and which SPIs aren't needed any more.
    fn look(&self, now: Instant) {
        let (limit, numbers) = (self.rekey_after, self.numbers());
        let mut state = self.state();
        for (peer, entry) in &mut state.pairs {
            let Entry::Has(pair) = entry else { continue };
            let Some(spi) = pair.look(now, limit) else { continue };
            if *peer == self.own {
                // It stays as it is, should that fail, and falls silent in the end.
                let _ = pair.take_own_key(spi, numbers);
            } else {
                let request = Request::Rekey { pair: pair.name.number(), spi: spi.number() };
                pair.asked = send(&self.agent, &request).is_ok();
            }
        }
    }
}

impl State {
    /// The pair with that name.
    fn named(&mut self, name: u32) -> Option<&mut Pair> {
        self.pairs.values_mut().find_map(|entry| match entry {
            Entry::Has(pair) if pair.name.number() == name => Some(pair),
            _ => None,
        })
    }
}

impl Entry {
    fn is(&self, name: u32) -> bool {
        matches!(self, Self::Has(pair) if pair.name.number() == name)
    }
}

impl Pair {
    /// Whether the peer needs a new key: the SPI by which packets under it will be taken.
    fn look(&mut self, now: Instant, limit: u64) -> Option<Spi> {
        let inbound = self.association.inbound();
        let packets = inbound.iter().find(|sa| sa.spi == self.newest).map_or(0, |sa| sa.packets);
        match &mut self.old {
            Some((spi, since)) => {
                if packets > 0 && now.duration_since(*since.get_or_insert(now)) >= LINGER {
                    self.association.release(*spi);
                    self.old = None;
                }
                None
            }
            None if packets >= limit && !self.asked => self.association.allocate_spi().ok(),
            None => None,
        }
    }

    fn take_inbound(&mut self, spi: u32, key: &Material) -> Result<(), ()> {
        let spi = Spi::new(spi).ok_or(())?;
        let sa = Inbound::new(spi, esp_key(key)?, DEFAULT_WINDOW);
        self.association.install_inbound(sa).map_err(drop)?;
        if spi != self.newest {
            self.old = Some((std::mem::replace(&mut self.newest, spi), None));
            self.asked = false;
        }
        Ok(())
    }

    fn take_outbound(&mut self, spi: u32, key: &Material, numbers: u64) -> Result<(), ()> {
        let inner = Inner { source_port: UDP_PORT, checksum: None };
        let sa = Outbound::with_numbers(Spi::new(spi).ok_or(())?, esp_key(key)?, inner, 1, numbers);
        self.association.install_outbound(sa, Receiver::Embedded);
        Ok(())
    }

    /// Seals and opens by a key that nobody else has: for queue pairs of one device that are connected to each other.
    fn take_own_key(&mut self, spi: Spi, numbers: u64) -> Result<(), String> {
        let mut bytes = Zeroizing::new(vec![0; Algorithm::Aes256Gcm.material_len()]);
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        let key = Material::new(bytes);
        let refused = |()| "the cryptographic library refuses a key".to_owned();
        self.take_inbound(spi.number(), &key).map_err(refused)?;
        self.take_outbound(spi.number(), &key, numbers).map_err(refused)
    }
}

fn esp_key(material: &Material) -> Result<Key, ()> {
    let algorithms = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];
    let fits = |algorithm: &Algorithm| algorithm.material_len() == material.bytes().len();
    let algorithm = algorithms.into_iter().find(fits).ok_or(())?;
    Key::new(algorithm, material.bytes()).map_err(drop)
}

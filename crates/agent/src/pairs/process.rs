//! A process's side: the security associations of its device, one for each peer.

use super::Instance;
use super::pair::Pair;
use super::protocol::{Event, Request, receive, send};
use crate::lease::{LeaseError, connection};
use crate::protocol::{Message, VERSION, receive as receive_fixed, send as send_fixed};
use core::time::Duration;
use rocev2_device::{Device, Peer, SecurityAssociation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// How long a pair may take to get keys, longer than its agent gives it: then that one says why there are none.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon keys are asked for again that there were none of: who sends datagrams doesn't wait each time.
const RETRY: Duration = Duration::from_secs(1);

/// How often it is looked at how much has been sealed.
const LOOK: Duration = Duration::from_secs(1);

/// How long what a peer sent before it ended is taken: its datagrams may be waiting here to be read, and nobody sends
/// them again.
const FAREWELL: Duration = Duration::from_secs(1);

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

/// The pairs that a process's device is one of. When they are dropped, the agent and peers learn that it is over.
#[derive(Debug)]
pub struct Pairs {
    shared: Arc<Shared>,
    /// It has a part of the device, until it has ended.
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    agent: OwnedFd,
    device: Arc<Device>,
    own: Instance,
    state: Mutex<State>,
    changed: Condvar,
    /// An eventfd(2) of who doesn't wait for what has changed.
    wake: Option<OwnedFd>,
    /// How often a pair has ended.
    endings: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pairs: HashMap<Instance, Entry>,
    /// Associations of pairs that have ended since: what their peers sent before may be on its way.
    leaving: Vec<(Arc<SecurityAssociation>, Instant)>,
    attachment: Attachment,
    /// The addresses for whose programs the kernel seals, as far as that is known beforehand.
    kernels: HashSet<IpAddr>,
}

/// Whether the agent agrees on keys for this process.
#[derive(Debug, Default)]
enum Attachment {
    /// It hasn't said.
    #[default]
    Asked,
    /// It does; a key is replaced after so many packets.
    Attached(u64),
    /// It doesn't, and says why.
    Refused(String),
    /// The agent has ended.
    Ended,
}

impl Attachment {
    /// After how many packets a key is replaced; `None` while that isn't known.
    fn rekey_after(&self) -> Result<Option<u64>, PairsError> {
        match self {
            Self::Asked => Ok(None),
            Self::Attached(packets) => Ok(Some(*packets)),
            Self::Refused(reason) => Err(PairsError::Refused(reason.clone())),
            Self::Ended => Err(PairsError::Ended),
        }
    }
}

#[derive(Debug)]
enum Entry {
    Has(Pair),
    /// There are none, since then.
    Failed(String, Instant),
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
        let pairs = Self::attach(agent, device, (address, slot), settings, None)?;
        pairs.shared.attached()?;
        Ok(pairs)
    }

    /// The same on a connection to who agrees on keys, without waiting for its answer: [`is_attached`] has it.
    /// `wake` is an eventfd(2) that counts whenever something has changed.
    ///
    /// # Errors
    /// The connection has ended, or there can't be a thread.
    ///
    /// [`is_attached`]: Self::is_attached
    pub fn attach(
        agent: OwnedFd,
        device: Arc<Device>,
        (address, slot): (IpAddr, u8),
        settings: String,
        wake: Option<OwnedFd>,
    ) -> Result<Self, PairsError> {
        let own = Instance { address: address.to_canonical(), slot };
        send(&agent, &Request::Attach { own, settings }).map_err(|_| PairsError::Ended)?;
        let (state, changed, endings) = (Mutex::default(), Condvar::new(), AtomicU64::new(0));
        let shared = Arc::new(Shared { agent, device, own, state, changed, wake, endings });
        let served = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("rdma-keys".into()).spawn(move || served.serve());
        let thread = thread.map_err(|error| PairsError::Refused(error.to_string()))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether keys are agreed on for this device by now.
    ///
    /// # Errors
    /// They aren't and won't be.
    pub fn is_attached(&self) -> Result<bool, PairsError> {
        self.shared.state().attachment.rekey_after().map(|packets| packets.is_some())
    }

    /// What seals this device's packets for `peer`, and opens that one's. Where there is nothing yet, keys are agreed
    /// on now, which takes two round trips to the peer's host and as much computation as a handshake of TLS.
    ///
    /// # Errors
    /// There are no keys.
    pub fn association(&self, peer: Instance) -> Result<Arc<SecurityAssociation>, PairsError> {
        self.shared.association(peer)
    }

    /// Whether packets for `peer` can be sealed, and that one's opened. Where there is nothing yet, keys are asked for
    /// now, and come later or don't.
    ///
    /// # Errors
    /// There are no keys.
    pub fn is_ready(&self, peer: Instance) -> Result<bool, PairsError> {
        self.shared.is_ready(peer)
    }

    /// Whether it is known that the kernel seals for programs at `address`. It doesn't ask for keys: who has named one
    /// of them asks, since they may be the first to send.
    #[must_use]
    pub fn is_kernel(&self, address: IpAddr) -> bool {
        self.shared.state().kernels.contains(&address.to_canonical())
    }

    /// How often a pair has ended: while it doesn't change, whom there were keys for there are still.
    #[must_use]
    pub fn endings(&self) -> u64 {
        self.shared.endings.load(Ordering::Acquire)
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        let _ = shutdown(&self.shared.agent, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why the agent has refused what this process has asked for by another message.
pub(crate) fn refusal(agent: &OwnedFd) -> String {
    let _ = wait(agent, PATIENCE);
    match receive(agent) {
        Ok(Some(Event::Refused { reason })) => reason,
        _ => "it doesn't say why".into(),
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

    /// Waits until it is known whether the agent agrees on keys for this process.
    fn attached(&self) -> Result<u64, PairsError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(packets) = state.attachment.rekey_after()? {
                return Ok(packets);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(PairsError::Refused("it doesn't answer".into()));
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_ready(&self, peer: Instance) -> Result<bool, PairsError> {
        let mut state = self.state();
        if state.attachment.rekey_after()?.is_none() {
            return Ok(false);
        }
        let peer = state.sealed_with(peer);
        match state.pairs.get(&peer) {
            Some(Entry::Has(pair)) => Ok(pair.is_ready),
            Some(Entry::Failed(reason, since)) if since.elapsed() < RETRY => {
                Err(PairsError::Peer(reason.clone()))
            }
            Some(Entry::Failed(..)) | None => {
                self.open(&mut state, peer).map_err(PairsError::Peer)?;
                Ok(matches!(state.pairs.get(&peer), Some(Entry::Has(pair)) if pair.is_ready))
            }
        }
    }

    fn association(&self, named: Instance) -> Result<Arc<SecurityAssociation>, PairsError> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        let mut opened = false;
        loop {
            state.attachment.rekey_after()?;
            let peer = state.sealed_with(named);
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
        let mut pair = Pair::new(association, spi);
        if peer == self.own {
            // Nobody has to be asked.
            pair.take_own_key(spi, state.numbers())?;
            pair.is_ready = true;
        } else {
            send(&self.agent, &Request::Open { peer, spi: spi.number() })
                .map_err(|error| error.to_string())?;
        }
        state.pairs.insert(peer, Entry::Has(pair));
        Ok(())
    }

    /// Tells who waits that something has changed.
    fn tell(&self) {
        self.changed.notify_all();
        if let Some(wake) = &self.wake {
            // Where it can't count further, it is readable already.
            let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
        }
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
        if !matches!(state.attachment, Attachment::Refused(_)) {
            state.attachment = Attachment::Ended;
        }
        self.endings.fetch_add(1, Ordering::Release);
        for (association, _) in state.leaving.drain(..) {
            association.close();
        }
        for (_, entry) in state.pairs.drain() {
            if let Entry::Has(pair) = entry {
                pair.association.close();
            }
        }
        drop(state);
        self.tell();
    }

    fn take(&self, event: Event) {
        let mut state = self.state();
        let numbers = state.numbers();
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
            Event::Outbound { pair, spi, key, esp_port } => {
                if let Some(known) = state.named(pair)
                    && known.take_outbound(spi, &key, numbers, esp_port).is_ok()
                {
                    known.is_ready = true;
                }
            }
            Event::Ended { pair, reason } => {
                let found = state.pairs.iter_mut().find(|(_, entry)| entry.is(pair));
                if let Some((_, entry)) = found {
                    let before = std::mem::replace(entry, Entry::Failed(reason, Instant::now()));
                    if let Entry::Has(pair) = before {
                        state.leaving.push((pair.association, Instant::now()));
                        self.endings.fetch_add(1, Ordering::Release);
                    }
                }
            }
            Event::Attached { rekey_after, kernels } => {
                if matches!(state.attachment, Attachment::Asked) {
                    state.attachment = Attachment::Attached(rekey_after);
                    state.kernels = kernels.into_iter().collect();
                }
            }
            Event::Refused { reason } => state.attachment = Attachment::Refused(reason),
        }
        drop(state);
        self.tell();
    }

    /// Looks whether peers need new keys, and which SPIs aren't needed any more.
    fn look(&self, now: Instant) {
        let mut state = self.state();
        state.leaving.retain(|(association, since)| {
            let stays = now.duration_since(*since) < FAREWELL;
            if !stays {
                association.close();
            }
            stays
        });
        let (Ok(Some(limit)), numbers) = (state.attachment.rekey_after(), state.numbers()) else { return };
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
    /// Numbers of one key.
    fn numbers(&self) -> u64 {
        let rekey_after = self.attachment.rekey_after().ok().flatten();
        rekey_after.unwrap_or(1).saturating_mul(NUMBERS)
    }

    /// Whose keys are those for `peer`: where its kernel has some, those are for all queue pairs at its address.
    fn sealed_with(&self, peer: Instance) -> Instance {
        let of_kernel = |(other, entry): (&Instance, &Entry)| {
            let is_kernels = matches!(entry, Entry::Has(pair) if pair.is_kernel);
            (is_kernels && other.address == peer.address).then_some(*other)
        };
        self.pairs.iter().find_map(of_kernel).unwrap_or(peer)
    }

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

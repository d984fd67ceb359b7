//! An agent for programs on devices whose packets the kernel seals: Soft-RoCE, or a card.
//!
//! Nobody asks it for keys here: those programs don't know of it. It is told who its peers are, has the kernel block
//! RoCEv2 to and from them before anything else, and waits until their agents ask for keys, as a peer's does when a
//! program of `secure-rdma run --seal` names this host. The kernel gets the keys, and seals what goes between the two
//! addresses until the peer's program has ended; then it blocks again.
//!
//! The kernel has one state on the way out between two addresses, whatever queue pair sends. So it seals for one device
//! of a peer's address at a time, and for all queue pairs here.

use crate::settings::{Settings, SettingsError};
use rdma_verbs::esp::Spi;
use secure_rdma::Report;
use secure_rdma::pair::{Asked, Heard, Instance, NextKey, Pair, PairAgent, PairError, PairListener, Refusal};
use secure_rdma::xfrm::helper::{Helper, Sealing};
use secure_rdma::xfrm::{Encapsulation, Error as KernelError, Material, ROCE_PORT};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

/// How often it is looked at how much a key has opened.
const LOOK: Duration = Duration::from_secs(1);

/// How long packets that were sealed with the key before may be on their way.
const LINGER: Duration = Duration::from_secs(5);

/// How often it is looked whether the peer would still be let in.
const JUDGE: Duration = Duration::from_secs(8);

/// How long another device of a peer's address waits for the one before to end: ends are told a moment late. Shorter
/// than its agent waits for an answer.
const TURN: Duration = Duration::from_secs(3);

/// How long an agent before this one may take to be gone, which was killed.
const GONE: Duration = Duration::from_secs(5);

/// Requests of one peer's agent that wait.
const WAITING: usize = 16;

/// Why the kernel doesn't seal for programs here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelAgentError {
    /// The settings can't be gone by.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There can be no agent.
    #[error(transparent)]
    Agent(#[from] PairError),
    /// The kernel doesn't seal, or not any more.
    #[error("having the kernel seal")]
    Kernel(#[from] KernelError),
}

/// What has become of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// RoCEv2 to and from that device is sealed.
    Sealed(Instance),
    /// RoCEv2 to and from that address is blocked, because of this.
    Blocked(IpAddr, String),
}

/// The agent. When it is dropped, RoCEv2 to and from its peers is blocked, and stays so.
#[derive(Debug)]
pub struct KernelAgent {
    own: IpAddr,
    listener: PairListener,
    peers: Vec<(IpAddr, Sealing)>,
    rekey_after: u64,
}

impl KernelAgent {
    /// Blocks RoCEv2 between `own` and each of `peers`, and listens for their agents.
    ///
    /// # Errors
    /// The settings can't be gone by: then nothing was blocked. Or the kernel refuses.
    pub async fn start(
        own: IpAddr,
        peers: &[IpAddr],
        settings: &Settings,
        helper: &Arc<Helper>,
    ) -> Result<Self, KernelAgentError> {
        let own = own.to_canonical();
        let agent = PairAgent::new(settings.options(own)?)?;
        let listener = agent.listen(SocketAddr::new(own, settings.port)).await?;
        let encapsulation = Arc::new(Encapsulation::open(own)?);
        let mut sealings = Vec::new();
        for peer in peers.iter().map(IpAddr::to_canonical) {
            if sealings.iter().all(|(other, _)| *other != peer) {
                sealings.push((peer, open(helper, &encapsulation, peer).await?));
            }
        }
        Ok(Self { own, listener, peers: sealings, rekey_after: settings.rekey_after() })
    }

    /// Serves peers' agents, and tells what becomes of them, for as long as the kernel seals.
    ///
    /// # Errors
    /// It doesn't any more.
    pub async fn run(self, changes: mpsc::UnboundedSender<Change>) -> Result<(), KernelAgentError> {
        let Self { own, mut listener, peers, rekey_after } = self;
        let (mut tasks, mut queues) = (JoinSet::new(), HashMap::new());
        for (peer, sealing) in peers {
            let (queue, asked) = mpsc::channel(WAITING);
            queues.insert(peer, queue);
            let task = Peer { peer, sealing, asked, rekey_after, changes: changes.clone(), next: None };
            tasks.spawn(Box::pin(task.serve()));
        }
        loop {
            tokio::select! {
                asked = listener.next() => match queues.get(&asked.peer().address) {
                    _ if asked.own().address != own => drop(tokio::spawn(asked.refuse(Refusal::NoDevice))),
                    None => drop(tokio::spawn(asked.refuse(Refusal::NotNamed))),
                    // Whoever asks more often than it is answered is hung up on.
                    Some(queue) => drop(queue.try_send(asked)),
                },
                Some(ended) = tasks.join_next() => {
                    if let Ok(Err(error)) = ended {
                        return Err(error.into());
                    }
                }
            }
        }
    }
}

/// Blocks what is between this host and a peer. An agent that was killed may be about to leave that.
async fn open(
    helper: &Arc<Helper>,
    encapsulation: &Arc<Encapsulation>,
    peer: IpAddr,
) -> Result<Sealing, KernelError> {
    let deadline = Instant::now() + GONE;
    loop {
        match helper.open_at(encapsulation, peer) {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(100)).await,
            result => return result,
        }
    }
}

/// A peer's address.
struct Peer {
    peer: IpAddr,
    sealing: Sealing,
    asked: mpsc::Receiver<Asked>,
    rekey_after: u64,
    changes: mpsc::UnboundedSender<Change>,
    /// Who is served next.
    next: Option<Asked>,
}

/// Why the kernel has keys for a peer no longer.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Pair(#[from] PairError),
    #[error("another program of that host's has taken its place")]
    Replaced,
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Peer {
    /// Has the kernel seal for one device after another.
    async fn serve(mut self) -> Result<(), KernelError> {
        loop {
            let asked = match self.next.take() {
                Some(asked) => asked,
                None => match self.asked.recv().await {
                    Some(asked) => asked,
                    None => return Ok(()),
                },
            };
            let Err(end) = self.seal(asked).await;
            // First of all: the states go with it.
            self.sealing.block()?;
            let _ = self.changes.send(Change::Blocked(self.peer, Report::new(&end).to_string()));
        }
    }

    /// Has the kernel seal for a device until that has ended.
    async fn seal(&mut self, asked: Asked) -> Result<core::convert::Infallible, End> {
        let device = asked.peer();
        let esp_port = NonZeroU16::new(self.sealing.port());
        let spi = self.allocate()?;
        let mut pair = asked.accept(spi, esp_port)?;
        // Both, before the peer may send: a program here whose packet were blocked would lose its queue pair.
        self.take_by(spi, &pair.next_inbound()?)?;
        self.seal_for(pair.spi(), &pair.next_outbound()?)?;
        pair.welcome(spi, esp_port).await?;
        let _ = self.changes.send(Change::Sealed(device));
        let (mut look, mut judge) = (interval(LOOK), interval(JUDGE));
        judge.reset();
        let mut inbound = Inbound { newest: spi, old: None };
        let mut turn: Option<Instant> = None;
        loop {
            let late = async {
                match turn {
                    Some(turn) => sleep_until(turn).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = pair.next() => {
                    let Heard::Spi(spi) = heard?;
                    self.seal_for(spi, &pair.next_outbound()?)?;
                }
                Some(asked) = self.asked.recv() => {
                    if asked.peer() == device {
                        // What it had before is gone: its program, or its agent, is another one.
                        self.next = Some(asked);
                        return Err(End::Replaced);
                    }
                    if let Some(before) = self.next.replace(asked) {
                        tokio::spawn(before.refuse(Refusal::Busy));
                    }
                    turn = Some(Instant::now() + TURN);
                }
                () = late => {
                    turn = None;
                    if let Some(asked) = self.next.take() {
                        tokio::spawn(asked.refuse(Refusal::Busy));
                    }
                }
                _ = look.tick() => self.look(&mut inbound, &mut pair).await?,
                _ = judge.tick() => pair.judge().await?,
            }
        }
    }

    /// Looks whether the peer needs a new key, and which SPI isn't needed any more.
    async fn look(&self, inbound: &mut Inbound, pair: &mut Pair) -> Result<(), End> {
        let packets = self.sealing.packets(inbound.newest.number())?;
        let now = Instant::now();
        if let Some((spi, since)) = &mut inbound.old {
            if packets > 0 && now.duration_since(*since.get_or_insert(now)) >= LINGER {
                self.sealing.release(spi.number())?;
                inbound.old = None;
            }
        } else if packets >= self.rekey_after {
            let (spi, key) = (self.allocate()?, pair.next_inbound()?);
            self.take_by(spi, &key)?;
            inbound.old = Some((std::mem::replace(&mut inbound.newest, spi), None));
            pair.tell_spi(key.epoch, spi).await?;
        }
        Ok(())
    }

    fn allocate(&self) -> Result<Spi, End> {
        let number = self.sealing.allocate_spi()?;
        Ok(Spi::new(number).ok_or(PairError::Protocol)?)
    }

    fn take_by(&self, spi: Spi, key: &NextKey) -> Result<(), End> {
        Ok(self.sealing.install_inbound(spi.number(), ROCE_PORT, Material::new(&key.material)?)?)
    }

    fn seal_for(&self, spi: Spi, key: &NextKey) -> Result<(), End> {
        Ok(self.sealing.install_outbound(spi.number(), ROCE_PORT, Material::new(&key.material)?)?)
    }
}

/// By what the peer's packets come.
struct Inbound {
    newest: Spi,
    /// The SPI before, and since when nothing new comes by it.
    old: Option<(Spi, Option<Instant>)>,
}

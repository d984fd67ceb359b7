//! What an agent proves itself with and asks of others; connecting and listening.

use super::channel::{Channel, STEP};
use super::established::Pair;
use super::message::{self, Message, VERSION};
use super::vetting::PairRules;
use super::{Instance, PairError, Peers, Refusal};
use crate::accepting::{HandshakeLimits, accept_each, listen, secure};
use crate::admission::{Dismissal, Place, Pool};
use crate::certs::{Fingerprint, Name, Store, Timestamp};
use crate::control::Role;
use crate::seal::{PacketKeys, PairContext, PairEnd};
use crate::tls::{self, Secured, Shown, TlsError};
use rdma_verbs::esp::Spi;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Handshakes at a time that others have begun: as many as a server has.
const MAX_HANDSHAKES: usize = 512;

/// Their time limits: a server's.
const LIMITS: HandshakeLimits =
    HandshakeLimits { first_byte: Duration::from_secs(2), whole: Duration::from_secs(5) };

/// How old what was read of the files may be.
const FRESH: Duration = Duration::from_secs(1);

/// Pairs that wait to be taken.
const ASKED: usize = 64;

/// What an agent proves itself with, and asks of others.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// The directory with the CA that is trusted and the agent's own certificate.
    pub store: Store,
    /// This host's names, for one of which at least that certificate has to be.
    pub names: Vec<Name>,
    /// The file of revocation lists, if peers are checked against any.
    pub revocations: Option<PathBuf>,
    /// The file of who is allowed, if not all are.
    #[cfg(feature = "toml")]
    pub allowed: Option<PathBuf>,
    /// Where others' agents are, where that isn't the usual.
    pub peers: Peers,
    /// The TCP port that others' agents listen on, where nothing else is said.
    pub port: u16,
}

/// An agent. Its files are read anew for handshakes, so that what changes in them counts.
#[derive(Debug)]
pub struct PairAgent {
    options: PairOptions,
    rules: Mutex<(Instant, Arc<PairRules>)>,
}

impl PairAgent {
    /// An agent. It reads files.
    ///
    /// # Errors
    /// A file is missing or wrong.
    pub fn new(options: PairOptions) -> Result<Arc<Self>, PairError> {
        let rules = Arc::new(PairRules::load(&options, None)?);
        Ok(Arc::new(Self { options, rules: Mutex::new((Instant::now(), rules)) }))
    }

    /// The peers for whose programs the kernel seals, as the file of peers says.
    #[must_use]
    pub fn kernels(&self) -> Vec<IpAddr> {
        self.options.peers.kernels().collect()
    }

    /// What handshakes go by now. Where the files have become wrong there are none.
    pub(super) fn rules(&self) -> Result<Arc<PairRules>, PairError> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, known) = &mut *rules;
        if read.elapsed() > FRESH {
            *known = Arc::new(PairRules::load(&self.options, Some(known))?);
            *read = Instant::now();
        }
        Ok(Arc::clone(known))
    }

    pub(super) async fn rules_now(self: &Arc<Self>) -> Result<Arc<PairRules>, PairError> {
        let own = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || own.rules()).await;
        read.unwrap_or_else(|error| Err(PairError::Closed(Some(error.into()))))
    }

    /// Meets the agent of `peer`, for keys of it and `own`, which takes its first packets by `spi`. Whoever has the
    /// result installs the first key of what arrives and says [`ready`](Pair::ready).
    ///
    /// # Errors
    /// The agent can't be reached, isn't who it has to be, or refuses.
    pub async fn connect(
        self: &Arc<Self>,
        own: Instance,
        peer: Instance,
        spi: Spi,
    ) -> Result<Pair, PairError> {
        let rules = self.rules_now().await?;
        let at =
            SocketAddr::new(peer.address, self.options.peers.port(peer.address).unwrap_or(self.options.port));
        let stream = reach(own.address, at).await?;
        let secured =
            rules.client.connect(stream, &rules.expected(peer.address), STEP).await.map_err(Arc::new)?;
        let shown = shown(&secured);
        rules.vet(&shown, peer.address)?;
        let mut channel = Channel::new(secured.stream);
        let hello = Message::Hello { version: VERSION, from: own.into(), to: peer.into(), spi: spi.number() };
        channel.send(hello).await?;
        let (theirs, esp_port) = match channel.answer().await {
            Ok(Message::Welcome { spi, esp_port }) => (message::spi(spi)?, esp_port),
            Ok(Message::Refused { code }) => {
                return Err(PairError::Refused(Refusal::from_code(code).ok_or(PairError::Protocol)?));
            }
            Ok(_) => return Err(PairError::Protocol),
            // With TLS 1.3 the peer refuses a certificate after this side is done.
            Err(PairError::Closed(Some(error))) => {
                return Err(Arc::new(TlsError::from_io(error, tls::Peer::Server)).into());
            }
            Err(error) => return Err(error),
        };
        let context = Context { initiator: (own, spi), responder: (peer, theirs), esp_port };
        let certificates = [secured.client_certificate, shown.fingerprint];
        let keys = context.keys(channel.tls(), certificates, Role::Client)?;
        Ok(Pair { agent: Arc::clone(self), channel, keys, spi: theirs, esp_port, peer: peer.address, shown })
    }

    /// Listens for others' agents at `address`.
    ///
    /// # Errors
    /// The address can't be had.
    pub async fn listen(self: &Arc<Self>, address: SocketAddr) -> Result<PairListener, PairError> {
        let listener = listen(address).await?;
        let local = listener.local_addr().map_err(|error| PairError::Closed(Some(error)))?;
        let (sender, asked) = mpsc::channel(ASKED);
        let (agent, pool) = (Arc::clone(self), Arc::new(Pool::new(MAX_HANDSHAKES)));
        let accepting = tokio::spawn(async move {
            accept_each(listener, &pool, |stream, from, held| {
                let (agent, sender) = (Arc::clone(&agent), sender.clone());
                tokio::spawn(Box::pin(async move {
                    match agent.admit(stream, held).await {
                        Ok(asked) => drop(sender.send(asked).await),
                        Err(error) => tracing::warn!("refused {from}: {}", crate::Report::new(&error)),
                    }
                }));
            })
            .await;
        });
        Ok(PairListener { address: local, asked, accepting })
    }

    /// Takes a connection as far as the other side says what it wants.
    async fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        held: (Place, Dismissal),
    ) -> Result<Asked, PairError> {
        let since = Instant::now();
        prepare(&stream).map_err(|error| PairError::Closed(Some(error)))?;
        let rules = self.rules_now().await?;
        let secured = secure(&rules.server, stream, since, held, LIMITS).await?;
        let shown = shown(&secured);
        let mut channel = Channel::new(secured.stream);
        let Message::Hello { version, from, to, spi } = channel.answer().await? else {
            return Err(PairError::Protocol);
        };
        if version != VERSION {
            channel.send(Message::Refused { code: Refusal::Version.code() }).await?;
            return Err(PairError::Refused(Refusal::Version));
        }
        let (peer, own): (Instance, Instance) = (from.into(), to.into());
        if let Err(error) = rules.vet(&shown, peer.address) {
            channel.send(Message::Refused { code: Refusal::NotAllowed.code() }).await?;
            return Err(error);
        }
        let certificate = rules.own_certificate;
        Ok(Asked {
            agent: Arc::clone(self),
            channel,
            own,
            peer,
            theirs: message::spi(spi)?,
            certificates: [shown.fingerprint, Some(certificate)],
            shown,
        })
    }
}

/// Where an agent listens. It stops when this is dropped.
#[derive(Debug)]
pub struct PairListener {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
    accepting: JoinHandle<()>,
}

impl PairListener {
    /// Where.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who asks next for keys. Whoever isn't let in is logged. Cancelling loses nobody.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // The accepting task holds a sender and never ends by itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for PairListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Another agent that has proved who it is, and asks for keys of one of its devices and one of this side's.
#[derive(Debug)]
pub struct Asked {
    agent: Arc<PairAgent>,
    channel: Channel,
    own: Instance,
    peer: Instance,
    theirs: Spi,
    certificates: [Option<Fingerprint>; 2],
    shown: Shown,
}

impl Asked {
    /// The device that it asks for. Whether there is such a device here isn't checked.
    #[must_use]
    pub const fn own(&self) -> Instance {
        self.own
    }

    /// Its own device, whose address it has proved.
    #[must_use]
    pub const fn peer(&self) -> Instance {
        self.peer
    }

    /// The SPI by which its device takes the first packets.
    #[must_use]
    pub const fn spi(&self) -> Spi {
        self.theirs
    }

    /// Says no.
    pub async fn refuse(mut self, why: Refusal) {
        // Nobody may listen any more.
        let _ = self.channel.send(Message::Refused { code: why.code() }).await;
    }

    /// Derives the keys: this side's device takes its first packets by `spi`, or its kernel for it, at the UDP port
    /// `esp_port`. Whoever has the result installs the first key of what arrives and then
    /// [`welcome`](Pair::welcome)s the peer.
    ///
    /// # Errors
    /// TLS or the cryptographic library refuses.
    pub fn accept(self, spi: Spi, esp_port: Option<NonZeroU16>) -> Result<Pair, PairError> {
        let Self { agent, channel, own, peer, theirs, certificates, shown } = self;
        let context = Context { initiator: (peer, theirs), responder: (own, spi), esp_port };
        let keys = context.keys(channel.tls(), certificates, Role::Server)?;
        // Who connects has no kernel open its packets.
        Ok(Pair { agent, channel, keys, spi: theirs, esp_port: None, peer: peer.address, shown })
    }
}

impl Pair {
    /// Tells the peer's agent by which SPI this side's device takes packets, or at which port its kernel does, now that
    /// it has the first key of what arrives, and waits until the peer's does too.
    ///
    /// # Errors
    /// The connection has ended, or the peer isn't ready in time.
    pub async fn welcome(&mut self, spi: Spi, esp_port: Option<NonZeroU16>) -> Result<(), PairError> {
        self.channel.send(Message::Welcome { spi: spi.number(), esp_port }).await?;
        match self.channel.answer().await? {
            Message::Ready => Ok(()),
            _ => Err(PairError::Protocol),
        }
    }
}

/// What the keys depend on.
struct Context {
    initiator: (Instance, Spi),
    responder: (Instance, Spi),
    /// The UDP port at which the latter's kernel opens packets, if it does.
    esp_port: Option<NonZeroU16>,
}

impl Context {
    fn keys(
        &self,
        tls: &impl crate::seal::Exporter,
        certificates: [Option<Fingerprint>; 2],
        own: Role,
    ) -> Result<PacketKeys, PairError> {
        let end = |(Instance { address, slot }, spi)| PairEnd { address, slot, spi };
        let [Some(initiators), Some(responders)] = certificates else {
            // Both are required to show one.
            return Err(PairError::Protocol);
        };
        let context = PairContext {
            version: VERSION,
            initiator: end(self.initiator),
            responder: end(self.responder),
            esp_port: self.esp_port,
            certificates: [initiators, responders],
        };
        Ok(PacketKeys::of_pair(tls, &context, own)?)
    }
}

/// What the other side has shown.
fn shown(secured: &Secured<TcpStream>) -> Shown {
    let connection = secured.stream.get_ref().1;
    Shown::new(connection.peer_certificates(), secured.negotiated.peer_names.clone(), Timestamp::now())
}

/// A connection from `own` to the agent at `address`.
async fn reach(own: IpAddr, address: SocketAddr) -> Result<TcpStream, PairError> {
    let failed = |source| PairError::Reach { address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(failed)?;
    // The address that the peer sees is the device's.
    socket.bind(SocketAddr::new(own, 0)).map_err(failed)?;
    let late =
        |_| failed(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("nothing within {STEP:?}")));
    let stream = timeout(STEP, socket.connect(address)).await.map_err(late)?.map_err(failed)?;
    prepare(&stream).map_err(failed)?;
    Ok(stream)
}

/// Messages are small and each is waited for; and a host that has gone without a word is noticed in a while.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    Ok(())
}

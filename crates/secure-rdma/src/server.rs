//! Serving clients: accepting, limits, and one session for each.

mod builder;
mod options;

pub use builder::ServerBuilder;
pub use options::ServerOptions;

use crate::SessionError;
use crate::accepting::{HandshakeLimits, accept_each, secure};
use crate::admission::{Dismissal, Place, Pool, Sessions};
use crate::certs::{Identity, Timestamp};
use crate::control::{Access, ControlChannel};
use crate::guests::{Grant, Guests};
use crate::report::Report;
use crate::session::{Associations, CounterPolicy, Local, Offer, Session, as_server, client_ack_timeout};
use crate::tls::{ClientAuth, Rules, ServerTls, Shown, TlsError};
use crate::transport::{Connection, Listener};
use core::fmt;
use rdma_verbs::Device;
use secure_rdma_xfrm::helper::Helper;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Who came.
#[derive(Debug)]
pub enum Arrival {
    /// A client whose session is open.
    Session(Box<Session>),
    /// A connection that didn't become a session.
    Refused {
        /// Where it came from.
        peer: SocketAddr,
        /// Why.
        error: SessionError,
    },
}

/// How often all sessions are judged again, and how often it is looked whether one's time is over.
const JUDGE_PERIOD: Duration = Duration::from_secs(60 * 60);
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Arrivals that wait to be taken.
const ARRIVALS: usize = 64;

/// A server. Handshakes go on in the background, concurrently; [`accept`](Self::accept) hands out the sessions that
/// come of them.
///
/// It needs a tokio runtime, and can be shared by tasks. When it is dropped it stops listening; open sessions go on.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    arrivals: Mutex<mpsc::Receiver<Arrival>>,
    accepting: JoinHandle<()>,
    keeping: JoinHandle<()>,
    host: Arc<Host>,
}

/// What [`Server::reload`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// How many sessions it has ended.
    pub ended: usize,
    /// When the first of the revocation lists ends, if there are any: from then on nobody is let in.
    pub revocations_until: Option<Timestamp>,
}

/// What a server holds at the moment: nothing, when nobody is there.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Places of connections whose TLS handshake isn't done.
    pub handshakes: usize,
    /// Places of those whose session isn't open yet.
    pub bootstraps: usize,
    /// Seats of sessions.
    pub sessions: usize,
    /// Sessions in the book of those that are judged when the rules change.
    pub guests: usize,
}

/// Rules that were read and not applied yet.
#[derive(Debug)]
pub struct NewRules(Rules);

/// What every handshake needs.
struct Host {
    device: Arc<Device>,
    /// What has the kernel seal packets for a device that can't.
    kernel: Option<Arc<Helper>>,
    /// Those that its sessions share, where a kernel seals or opens packets.
    associations: Associations,
    tls: ServerTls,
    guests: Arc<Guests>,
    /// Tells the handshakes under way that the rules have changed.
    changed: watch::Sender<()>,
    /// Whether nobody is let in because the rules are older than their files.
    turning_away: AtomicBool,
    options: ServerOptions,
    sessions: Arc<Sessions>,
    /// Connections whose TLS handshake isn't done: whoever reaches the port can have one.
    handshakes: Arc<Pool>,
    /// Those whose TLS handshake is done, and whose session isn't open yet.
    bootstraps: Arc<Pool>,
    arrivals: mpsc::Sender<Arrival>,
    /// Connections that were refused and that nobody had the time to hear of.
    untold: AtomicU64,
}

impl Server {
    /// A server that proves itself with `identity` and asks `client_auth` of its clients.
    pub fn builder(identity: Identity, client_auth: ClientAuth) -> ServerBuilder {
        ServerBuilder::new(identity, client_auth)
    }

    fn start(
        listener: impl Listener,
        (host, arrivals): (Host, mpsc::Receiver<Arrival>),
    ) -> Result<Self, SessionError> {
        let address =
            listener.local_addr().map_err(SessionError::system("reading the server's own address"))?;
        let host = Arc::new(host);
        let accepting = tokio::spawn(Arc::clone(&host).accept(listener));
        let keeping = tokio::spawn(Arc::clone(&host).keep_to_the_rules());
        Ok(Self { address, arrivals: Mutex::new(arrivals), accepting, keeping, host })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Proves itself with `identity` from the next handshake on.
    ///
    /// # Errors
    /// The identity can't be used; the old one stays.
    pub fn renew(&self, identity: &Identity) -> Result<(), SessionError> {
        Ok(self.host.tls.renew(identity).map_err(Arc::new)?)
    }

    /// Proves itself with `identity` and goes by `client_auth` from now on, all of whose files are read
    /// again: CAs, revocation lists and the list of allowed clients. All of it, or nothing if anything is
    /// wrong.
    ///
    /// An open session whose client would not be let in by the new rules, or not to do as much, is ended at
    /// once: whoever uses it gets [`SessionError::Withdrawn`], and the client is told. All others go on as
    /// they are. Without new rules, too, sessions are looked at every hour, and when a certificate or a revocation
    /// list ends.
    ///
    /// It reads files: from asynchronous code, call it where blocking is allowed.
    ///
    /// # Errors
    /// As [`bind`](ServerBuilder::bind); everything then stays as it was.
    pub fn reload(&self, identity: &Identity, client_auth: &ClientAuth) -> Result<Reloaded, SessionError> {
        Ok(self.apply(self.read_rules(identity, client_auth)?))
    }

    /// The first half of [`reload`](Self::reload): reads the files, and changes nothing. Who reads several
    /// files that have to be from one moment ([`FileWatch::read_at_rest`](crate::FileWatch::read_at_rest)) may
    /// read them again before [`apply`](Self::apply).
    ///
    /// # Errors
    /// As [`bind`](ServerBuilder::bind).
    pub fn read_rules(
        &self,
        identity: &Identity,
        client_auth: &ClientAuth,
    ) -> Result<NewRules, SessionError> {
        let rules = self.host.tls.read(identity, client_auth).map_err(Arc::new)?;
        check_regions(&rules, self.host.options.region_len)?;
        Ok(NewRules(rules))
    }

    /// The second half of [`reload`](Self::reload): goes by these rules from now on, and lets new clients in if
    /// they were [turned away](Self::turn_away).
    pub fn apply(&self, rules: NewRules) -> Reloaded {
        let host = &self.host;
        let NewRules(rules) = rules;
        let revocations_until = rules.vetting.next_update;
        // In this order: a session that is just being opened is either in the book already, or will be judged
        // by the new rules.
        host.tls.install(rules);
        host.changed.send_replace(());
        let ended = host.guests.judge(&host.tls.rules().vetting, host.most());
        host.turning_away.store(false, Ordering::Release);
        Reloaded { ended, revocations_until }
    }

    /// Lets no new client in until rules are [applied](Self::apply), because those in use are older than their
    /// files, which couldn't be read: who comes is told so ([`SessionError::Stale`]). Open sessions go on.
    pub fn turn_away(&self) {
        self.host.turning_away.store(true, Ordering::Release);
    }

    /// When the first of the revocation lists ends that clients are checked against, if there are any: from
    /// then on nobody is let in.
    #[must_use]
    pub fn revocations_until(&self) -> Option<Timestamp> {
        self.host.tls.rules().vetting.next_update
    }

    /// What it holds at the moment.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            handshakes: self.host.handshakes.taken(),
            bootstraps: self.host.bootstraps.taken(),
            sessions: self.host.sessions.open(),
            guests: self.host.guests.present(),
        }
    }

    /// How many connections were refused that [`next`](Self::next) will not tell of, since it wasn't called often
    /// enough; counted from the last call on. Sessions are never left out.
    #[must_use]
    pub fn untold(&self) -> u64 {
        self.host.untold.swap(0, Ordering::Relaxed)
    }

    /// The next client's session. Connections that are refused are no reason to stop, and no error here: anybody who
    /// reaches the port can make one. They are logged; [`next`](Self::next) tells of them too.
    ///
    /// Several tasks may wait, each gets another session. Cancelling loses nobody.
    pub async fn accept(&self) -> Session {
        loop {
            match self.next().await {
                Arrival::Session(session) => return *session,
                Arrival::Refused { peer, error } => tracing::info!("refused {peer}: {}", Report::new(&error)),
            }
        }
    }

    /// Who came next, be it let in or refused. Cancelling loses nobody.
    pub async fn next(&self) -> Arrival {
        match self.arrivals.lock().await.recv().await {
            Some(arrival) => arrival,
            // The accepting task holds the sender and never ends by itself.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.keeping.abort();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("options", &self.options).finish_non_exhaustive()
    }
}

/// Whether a server whose regions have so many bytes can give each client on the list what it says.
fn check_regions(rules: &Rules, region_len: u64) -> Result<(), SessionError> {
    if let Some(list) = &rules.vetting.allowed {
        list.check_regions(region_len).map_err(|error| Arc::new(TlsError::from(error)))?;
    }
    Ok(())
}

impl Host {
    /// What handshakes need, and where they hand out who came.
    fn new(
        device: Arc<Device>,
        kernel: Option<Arc<Helper>>,
        tls: ServerTls,
        options: ServerOptions,
    ) -> (Self, mpsc::Receiver<Arrival>) {
        let (sender, arrivals) = mpsc::channel(ARRIVALS);
        let host = Self {
            device,
            kernel,
            associations: Associations::default(),
            tls,
            guests: Arc::default(),
            changed: watch::Sender::new(()),
            turning_away: AtomicBool::new(false),
            sessions: Arc::new(Sessions::new(options.max_clients, options.quota)),
            handshakes: Arc::new(Pool::new(options.max_handshakes)),
            bootstraps: Arc::new(Pool::new(options.max_handshakes)),
            options,
            arrivals: sender,
            untold: AtomicU64::new(0),
        };
        (host, arrivals)
    }

    /// The most that a client may have.
    fn most(&self) -> Grant {
        let one_sided = Access::READ | Access::WRITE | Access::SEND;
        let operations = if self.options.counters == CounterPolicy::Off { one_sided } else { Access::ALL };
        Grant { operations, region: self.options.region_len }
    }

    async fn accept(self: Arc<Self>, listener: impl Listener) {
        let pool = Arc::clone(&self.handshakes);
        accept_each(listener, &pool, |stream, peer, held| {
            // In a box: tokio moves a task several times, and this one is large.
            tokio::spawn(Box::pin(Arc::clone(&self).receive(stream, peer, held)));
        })
        .await;
    }

    /// Makes a session of a connection, and tells who came.
    async fn receive(self: Arc<Self>, stream: impl Connection, peer: SocketAddr, held: (Place, Dismissal)) {
        let since = Instant::now();
        match self.shake_hands(stream, peer, since, held).await {
            // Where nobody takes arrivals any more, the session ends here.
            Ok((session, _place)) => {
                let _ = self.arrivals.send(Arrival::Session(Box::new(session))).await;
            }
            // Of these there may be any number, and nothing of them is kept for whoever takes arrivals slowly.
            Err(error) => {
                if let Err(mpsc::error::TrySendError::Full(_)) =
                    self.arrivals.try_send(Arrival::Refused { peer, error })
                {
                    self.untold.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Ends sessions whose time is over: of themselves, of their client's certificate, or of the revocation list that
    /// speaks for it. Once an hour all of them are looked at, whatever has changed that isn't thought of here.
    async fn keep_to_the_rules(self: Arc<Self>) {
        let mut all = Instant::now() + JUDGE_PERIOD;
        loop {
            // The clock that certificates go by may be set at any time, so that it isn't computed how long to wait.
            tokio::time::sleep(LOOK_PERIOD).await;
            if let Some(age) = self.options.max_session_age {
                self.guests.retire(age);
            }
            let rules = self.tls.rules();
            let now = rules.vetting.clock.now();
            let ended = rules.vetting.next_update.is_some_and(|end| end < now);
            let due = Instant::now() >= all;
            if due || ended || self.guests.has_expired(now) {
                self.guests.judge(&rules.vetting, self.most());
            }
            if due {
                all = Instant::now() + JUDGE_PERIOD;
            }
        }
    }

    /// Waits until the rules don't allow any more what a client was granted; says why.
    async fn withdrawn(
        &self,
        mut changes: watch::Receiver<()>,
        client: &Shown,
        granted: Option<Grant>,
    ) -> SessionError {
        loop {
            let (Ok(()), Some(granted)) = (changes.changed().await, granted) else {
                // It is refused already.
                return std::future::pending().await;
            };
            if let Err(reason) = granted.holds(client, &self.tls.rules().vetting, self.most()) {
                return reason;
            }
        }
    }

    async fn shake_hands(
        &self,
        stream: impl Connection,
        peer: SocketAddr,
        since: Instant,
        held: (Place, Dismissal),
    ) -> Result<(Session, Place), SessionError> {
        let address =
            stream.local_addr().map_err(SessionError::system("reading the connection's own address"))?;
        stream.prepare().map_err(SessionError::system("setting TCP_NODELAY"))?;
        // Before the rules are taken that the handshake goes by: no change of them is missed.
        let changes = self.changed.subscribe();
        let limits = HandshakeLimits { first_byte: self.options.first_byte, whole: self.options.handshake };
        let secured = secure(&self.tls, stream, since, held, limits).await?;
        let local = Local {
            device: &self.device,
            options: self.options.session,
            kernel: self.kernel.as_ref(),
            associations: &self.associations,
            address,
            peer,
            tls: secured.negotiated,
            client_certificate: secured.client_certificate,
            since,
        };
        let Some((shown, rules)) = secured.vetted else {
            return Err(SessionError::Closed);
        };
        let granted = match self.turning_away.load(Ordering::Acquire) {
            false => Grant::of(&shown, &rules.vetting, self.most()),
            true => Err(SessionError::Stale),
        };
        let (source, quota) = Grant::counted(&shown, &rules.vetting, peer.ip());
        // Unless something is said of it, whoever uses the server's own account may have all that it offers.
        let own = self.options.quota.per_identity.is_none() && rules.is_own_account(&shown.names);
        let quota = quota.or_else(|| own.then_some(usize::MAX));
        let (place, mut dismissal) = self.bootstraps.enter(&source);
        let offer = granted.clone().map(|granted| Offer {
            data_len: granted.region,
            allowed: granted.operations,
            counters: self.options.counters,
            ack_timeout: client_ack_timeout(self.options.max_clients),
            sessions: Arc::clone(&self.sessions),
            source,
            quota,
        });
        // Its queue pair can be used before the client has said its last word, for which it may take its time.
        let withdrawn = self.withdrawn(changes, &shown, granted.as_ref().ok().copied());
        let control = ControlChannel::new(secured.stream);
        let mut session = tokio::select! {
            biased;
            session = as_server(control, local, offer, withdrawn) => session?,
            () = dismissal.lost() => return Err(SessionError::Crowded),
        };
        session.register(self.guests.enter(shown, granted?, session.abort_handle()));
        // The rules may have changed while this client was being let in by the old ones.
        let now = self.tls.rules();
        if !Arc::ptr_eq(&now, &rules) {
            self.guests.judge(&now.vetting, self.most());
        }
        Ok((session, place))
    }
}

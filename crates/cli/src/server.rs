//! `secure-rdma server`.

mod departure;
mod files;
mod metrics;
pub(crate) mod refusals;
mod visit;

use crate::advice::Told;
use crate::args::{ClientAuthMode, Counters, SealMode, ServerArgs};
use crate::echo;
use crate::failure::Failure;
use crate::kernel::Kernel;
use crate::place::PORT;
use crate::rules::{Credentials, Rules, warn_of_end};
use crate::runtime::{self, Hangup, Interruption};
use crate::{descriptors, logging, output};
use departure::{Departure, End};
use files::{offer, offered};
use metrics::Metrics;
use rdma_verbs::{Device, DeviceSelector};
use refusals::Refusals;
use sd_notify::NotifyState;
use secure_rdma::certs::{Identity, Store, host_names};
use secure_rdma::control::Access;
use secure_rdma::tls::ClientAuth;
use secure_rdma::{
    Arrival, SealedBy, Server, ServerBuilder, ServerOptions, Session, SessionInfo, SessionOptions,
    SessionQuota,
};
use secure_rdma_files::Service;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use visit::Visit;

/// How long clients have to say goodbye when the server ends.
const GOODBYE: Duration = Duration::from_secs(5);

/// The descriptors that the server takes beside those of its clients: its files, its device, one for each of
/// this host's addresses, and what connections leave free.
const OWN_DESCRIPTORS: u64 = 128;

/// The descriptors that a place for unfinished connections takes: one in its TLS handshake, and one behind it.
const HANDSHAKE_DESCRIPTORS: u64 = 2;

/// The descriptors that a client takes: its connection and, of libibverbs' devices, its completion channel.
fn client_descriptors(device: &Device) -> u64 {
    match device.name() {
        DeviceSelector::Embedded { .. } => 1,
        _ => 2,
    }
}

pub(crate) fn run(args: &ServerArgs) -> Result<(), Failure> {
    logging::start_as(args.verbose, args.log_format);
    check(args)?;
    if args.check {
        return try_out(args);
    }
    output::detach(args.log_format)?;
    let files = offer(args)?;
    let mut names = host_names()?;
    names.extend(args.names.iter().cloned());
    let credentials = Credentials { store: args.certs.store()?, names };
    let identity = credentials.identity()?;
    let fingerprint = credentials.store.authority_fingerprint()?;
    let clients = client_auth(args, &credentials.store);
    let mut rules = Rules::new(credentials, clients.clone(), args.on_reload_failure);
    let server = builder(args, identity, clients);
    let listen = args.listen.unwrap_or_else(default_listen);
    let kernel = Kernel::prepare(&args.seal, &args.device.device);
    let runtime = runtime::start()?;
    let result = runtime.block_on(async {
        let (interruption, hangup) = (Interruption::watch()?, Hangup::watch()?);
        let device = Device::open(&args.device.device)?;
        raise_descriptors(args, client_descriptors(&device), files.as_ref())?;
        let name = device.name().to_string();
        take_ports(&device, listen.ip());
        // Before the lists are read: what changes from here on is read again.
        rules.watch();
        let metrics = Metrics::new(Arc::clone(&device));
        let server = match kernel.for_device(&device)? {
            Some(helper) => server.kernel(helper),
            None => server,
        };
        let may_seal_packets = args.seal.seal != SealMode::Off && kernel.is_idle(&device);
        let server = server.device(device).bind(listen).await?;
        let (address, most) = (server.local_addr(), args.max_clients);
        output::event(
            "listening",
            &[("address", address.to_string().into()), ("device", name.as_str().into())],
            format_args!("listening on {address}, device {name}, for at most {most} clients"),
        )?;
        output::event("ca", &[], format_args!("CA fingerprint: {fingerprint}"))?;
        output::event("clients", &[], format_args!("clients: {}", args.client_auth.promise()))?;
        output::event("data_path", &[], format_args!("data path: {}", promise(args)))?;
        if may_seal_packets {
            output::note(format_args!("the kernel can seal {name}'s packets, whole: --seal packets"));
        }
        if let Some(promise) = offered(args) {
            output::event("files", &[], format_args!("files: {promise}"))?;
        }
        if let Some(address) = args.metrics {
            let at = metrics::serve(address, Arc::clone(&metrics)).await?;
            let address = [("address", at.to_string().into())];
            output::event("metrics", &address, format_args!("metrics: http://{at}/metrics"))?;
        }
        tell_systemd(NotifyState::Ready);
        let mut hall = Hall {
            metrics,
            files,
            drain: Duration::from_secs(args.drain.into()),
            verbose: args.verbose,
            arrived: 0,
            guests: JoinSet::new(),
            refusals: Refusals::new(Instant::now()),
        };
        hall.keep(server, &mut rules, interruption, hangup).await
    });
    // A client that doesn't say goodbye in time isn't waited for.
    runtime.shutdown_background();
    result
}

/// Whether the files that the arguments name can be used. None is made.
fn try_out(args: &ServerArgs) -> Result<(), Failure> {
    offer(args)?;
    let store = args.certs.store()?;
    let mut names = host_names()?;
    names.extend(args.names.iter().cloned());
    if store.server_files().iter().all(|file| file.exists()) {
        let identity = store.current_server(&names)?;
        builder(args, identity, client_auth(args, &store)).check()?;
        output::line(format_args!("options, certificates and lists are right"))
    } else {
        // The first start makes them; whoever has none yet has no clients' lists to check against them either.
        output::line(format_args!(
            "options are right; the first start will make certificates in {}",
            store.dir().display()
        ))
    }
}

/// Tells the service manager that started this process, if one did and wants to know.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("telling systemd how the server is: {error}");
    }
}

/// What the arguments' own rules can't say.
fn check(args: &ServerArgs) -> Result<(), Failure> {
    let needs = |file: &str, why: &str, modes: &str| {
        Err(Failure::Usage(format!("{file} needs --client-auth {modes}: {why}")))
    };
    if args.allow.is_some() && args.client_auth.mode != ClientAuthMode::Required {
        return needs(
            "--allow",
            "a client without a certificate can't be on a list, and would be refused",
            "required",
        );
    }
    if args.crl.is_some() && args.client_auth.mode == ClientAuthMode::Off {
        return needs(
            "--crl",
            "otherwise no client shows a certificate that could be revoked",
            "required or optional",
        );
    }
    files::check(args)
}

/// Has the process have as many descriptors as it may, which have to be enough for so many clients that take `each`:
/// without any left it could neither accept clients nor read the files that it goes by.
fn raise_descriptors(args: &ServerArgs, each: u64, files: Option<&Service>) -> Result<(), Failure> {
    let count = |number: NonZeroUsize| number.get() as u64;
    let beside = OWN_DESCRIPTORS
        .saturating_add(count(args.max_handshakes).saturating_mul(HANDSHAKE_DESCRIPTORS))
        .saturating_add(files.map_or(0, Service::descriptors));
    let need = each.saturating_mul(count(args.max_clients)).saturating_add(beside);
    descriptors::ensure(need, |maximum| {
        let fit = maximum.saturating_sub(beside) / each.max(1);
        format!(
            "{} clients and {} handshakes need {need} file descriptors, and at most {maximum} are allowed here: \
             raise the limit (ulimit -Hn {need}, or LimitNOFILE= of a systemd unit), or give {}",
            args.max_clients,
            args.max_handshakes,
            if fit == 0 { "fewer --max-handshakes".to_owned() } else { format!("--max-clients {fit}") }
        )
    })
}

/// What clients have to know of the data path.
fn promise(args: &ServerArgs) -> String {
    const CLEAR: &str = "NOT sealed (what clients send, write and read travels in clear)";
    let promise = match args.seal.seal {
        SealMode::Packets => return "sealed by packets".to_owned(),
        SealMode::Required => "sealed".to_owned(),
        SealMode::Optional => format!("sealed, but for clients that have it off: {CLEAR}"),
        SealMode::Off => return CLEAR.to_owned(),
    };
    match args.counters {
        Counters::Auto => {
            format!("{promise}; counters (add, swap): only where packets are sealed, or nothing is")
        }
        Counters::On => format!("{promise}; counters (add, swap): NOT sealed, unless packets are"),
        Counters::Off => promise,
    }
}

/// What the arguments make of a server with that `identity`.
fn builder(args: &ServerArgs, identity: Identity, client_auth: ClientAuth) -> ServerBuilder {
    let session = SessionOptions::default()
        .max_message(args.max_message.0)
        .seal(args.seal.policy())
        .packets(Some(args.seal.packets()));
    let handshake = Duration::from_secs(args.handshake_limit.into());
    let mut options = ServerOptions::default()
        .max_clients(args.max_clients.get())
        .quota(SessionQuota {
            per_identity: args.max_clients_per_identity.map(NonZeroUsize::get),
            per_address: args.max_clients_per_address.map(NonZeroUsize::get),
        })
        .max_handshakes(args.max_handshakes.get())
        .handshake(handshake)
        .first_byte(handshake * 2 / 5)
        .region_len(args.region.0)
        .counters(args.counters.policy())
        .session(session);
    options.max_session_age = args.max_session_age.map(Duration::from_secs);
    Server::builder(identity, client_auth).options(options)
}

/// What the arguments ask of clients.
fn client_auth(args: &ServerArgs, store: &Store) -> ClientAuth {
    args.client_auth.client_auth(store, args.crl.as_ref(), args.allow.as_ref())
}

/// Every address: the IPv6 wildcard takes IPv4 connections too. Where there is no IPv6, or it is kept apart,
/// every IPv4 address.
pub(crate) fn default_listen() -> SocketAddr {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
    let v6_only =
        std::fs::read_to_string("/proc/sys/net/ipv6/bindv6only").is_ok_and(|value| value.trim() == "1");
    if !v6_only && TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
        v6
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT))
    }
}

/// Has the device take its UDP ports now, so that they are the usual ones, which firewalls know, if these are
/// free at all; otherwise a client on this host might take them first.
pub(crate) fn take_ports(device: &Device, listen: IpAddr) {
    let wanted = |address: IpAddr| match listen.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => true,
        listen => address == listen,
    };
    for address in device.gids().into_iter().filter_map(|gid| gid.address).filter(|address| wanted(*address))
    {
        // Nobody may ever use this address: the client that does will be told.
        if let Err(error) = device.gid_for(address) {
            tracing::warn!("{address}: {error}");
        }
    }
}

/// Where the clients are served.
#[derive(Debug)]
struct Hall {
    verbose: bool,
    /// Clients so far: each is called by its number.
    arrived: u64,
    guests: JoinSet<Departure>,
    refusals: Refusals,
    metrics: Arc<Metrics>,
    /// The directory that is offered, if one is.
    files: Option<Service>,
    /// How long clients may stay when the process is asked to end.
    drain: Duration,
}

impl Hall {
    /// Serves clients until the process is asked to end.
    async fn keep(
        &mut self,
        server: Server,
        rules: &mut Rules,
        mut interruption: Interruption,
        mut hangup: Hangup,
    ) -> Result<(), Failure> {
        warn_of_end(server.revocations_until());
        let (closing, closed) = watch::channel(());
        let mut second = tokio::time::interval(refusals::SUMMARY_EVERY);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = interruption.arrived() => break,
                arrival = server.next() => self.welcome(arrival, &closed)?,
                Some(departure) = self.guests.join_next() => self.report(departure)?,
                () = hangup.arrived() => {
                    tokio::task::block_in_place(|| rules.reload(&server, &"SIGHUP"))?;
                }
                cause = rules.due() => {
                    tokio::task::block_in_place(|| rules.reload(&server, &cause))?;
                }
                _ = second.tick() => {
                    let untold = server.untold();
                    self.metrics.untold(untold);
                    if let Some(summary) = self.refusals.summary(untold) {
                        output::event("refused_more", &[], format_args!("{summary}"))?;
                    }
                    rules.renew_daily(&server).await;
                }
            }
        }
        tell_systemd(NotifyState::Stopping);
        drop(server);
        let connected = self.guests.len();
        output::event(
            "ending",
            &[("clients", connected.into())],
            format_args!("ending; {connected} clients are connected"),
        )?;
        self.wait_for_guests(&mut interruption).await?;
        drop(closing);
        let farewell = async {
            while let Some(departure) = self.guests.join_next().await {
                self.report(departure)?;
            }
            Ok(())
        };
        let farewell = tokio::time::timeout(GOODBYE, farewell).await;
        farewell.unwrap_or_else(|_| {
            output::note(format_args!(
                "{} clients did not say goodbye within {GOODBYE:?}",
                self.guests.len()
            ));
            Ok(())
        })
    }

    /// Waits until all have left, or for as long as they may stay, or until the process is asked to end again.
    async fn wait_for_guests(&mut self, interruption: &mut Interruption) -> Result<(), Failure> {
        if self.drain.is_zero() {
            return Ok(());
        }
        let over = tokio::time::sleep(self.drain);
        tokio::pin!(over);
        loop {
            tokio::select! {
                departure = self.guests.join_next() => match departure {
                    Some(departure) => self.report(departure)?,
                    None => return Ok(()),
                },
                () = &mut over => return Ok(()),
                () = interruption.arrived() => return Ok(()),
            }
        }
    }

    fn welcome(&mut self, arrival: Arrival, closed: &watch::Receiver<()>) -> Result<(), Failure> {
        match arrival {
            Arrival::Session(session) => {
                self.arrived += 1;
                let number = self.arrived;
                let info = session.info();
                self.metrics.arrived(info.setup);
                let fields = [
                    ("client", number.into()),
                    ("peer", canonical(info.peer).to_string().into()),
                    (
                        "identity",
                        info.tls.peer_certificate_sha256.map(|_| info.tls.peer_names.to_string()).into(),
                    ),
                    ("sealed", info.sealed.is_sealed().into()),
                    ("seal", info.sealed.name().into()),
                    ("counters", session.counters().into()),
                ];
                let welcome = Welcome(info, self.verbose);
                output::event("arrived", &fields, format_args!("client {number}: {welcome}"))?;
                self.guests.spawn(entertain(*session, number, closed.clone(), self.files.clone()));
                Ok(())
            }
            Arrival::Refused { peer, error } => {
                let peer = canonical(peer);
                self.metrics.refused(&error);
                if self.refusals.tells(peer.ip(), Instant::now()) {
                    let told = Told(&error);
                    let fields = [("peer", peer.to_string().into()), ("reason", told.to_string().into())];
                    output::event("refused", &fields, format_args!("refused {peer}: {told}"))?;
                }
                Ok(())
            }
        }
    }
}

/// Serves a client until one side wants to end it.
async fn entertain(
    mut session: Session,
    number: u64,
    mut closed: watch::Receiver<()>,
    files: Option<Service>,
) -> Departure {
    let (since, sealed) = (Instant::now(), session.info().sealed);
    let mut visit = Visit::default();
    let served = tokio::select! {
        result = visit.serve(&mut session, files.as_ref()) => result.map(|()| End::Left),
        _ = closed.changed() => Ok(End::Dismissed),
    };
    let naks = echo::refused(&session).unwrap_or(0);
    let end = match served {
        Ok(end) => session.close().await.map_or_else(End::Failed, |()| end),
        Err(error) => {
            session.abort(error.clone()).await;
            End::Failed(error)
        }
    };
    Departure { number, sealed, stayed: since.elapsed(), visit, naks, end }
}

impl Hall {
    fn report(&self, departure: Result<Departure, JoinError>) -> Result<(), Failure> {
        match departure {
            Ok(departure) => {
                self.metrics.left(&departure);
                let Departure { number, stayed, visit, naks, .. } = &departure;
                let mut fields = vec![
                    ("client", (*number).into()),
                    ("outcome", departure.outcome().into()),
                    ("seconds", stayed.as_secs_f64().into()),
                    ("messages", visit.echoed.messages.into()),
                    ("bytes", visit.echoed.bytes.into()),
                    ("requests_refused", (*naks).into()),
                ];
                fields.extend(visit.fields());
                output::event("left", &fields, format_args!("{departure}"))
            }
            // A panic in a client's task has ended that task only; the panic itself was printed.
            Err(error) => output::event(
                "bug",
                &[],
                format_args!("a client's task ended: {error}; this is a bug in secure-rdma"),
            ),
        }
    }
}

/// A client's arrival, with its PSNs if they are wanted.
struct Welcome<'a>(&'a SessionInfo, bool);

impl fmt::Display for Welcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(info, verbose) = self;
        write!(
            f,
            "arrived from {}; {}; device {}; QPN {:#08x} there ({}), {:#08x} here ({}); path MTU {}",
            canonical(info.peer),
            info.peer_software,
            info.device,
            info.remote.qpn.get(),
            info.remote.address,
            info.own.qpn.get(),
            info.own.address,
            info.path_mtu
        )?;
        if *verbose {
            write!(
                f,
                "; PSN {:#08x} there, {:#08x} here",
                info.remote.psn.get().get(),
                info.own.psn.get().get()
            )?;
        }
        match &info.tls.peer_certificate_sha256 {
            Some(certificate) => write!(f, "; identity {}; certificate {certificate}", info.tls.peer_names)?,
            None => f.write_str("; no client certificate")?,
        }
        if info.allowed != Access::ALL {
            write!(f, "; allowed: {}", info.allowed)?;
        }
        write!(f, "; {} {} {}", info.tls.version, info.tls.suite, info.tls.group)?;
        match info.sealed {
            SealedBy::Nothing => f.write_str("; data path: NOT sealed"),
            by => write!(f, "; data path: sealed by {}", by.name()),
        }?;
        match (info.sealed, info.allowed.allows(Access::ATOMIC)) {
            (SealedBy::Messages, true) => f.write_str("; counters: NOT sealed"),
            (SealedBy::Messages, false) => f.write_str("; counters: none"),
            _ => Ok(()),
        }
    }
}

/// An IPv4 client of an IPv6 socket has a mapped address, which nobody would recognise.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

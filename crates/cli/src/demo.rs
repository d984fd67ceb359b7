//! `secure-rdma demo`: a server and many clients in this process, for real. Everything goes through sockets,
//! as between machines; and with `--connect` the server is another process, on this machine or another.
//!
//! Each client opens a device of its own (with `--connect`, all share one), and has its own TLS session,
//! PSNs, queue pair, protection domain and region. The phases below follow each other for all clients
//! together, so that all are connected at once, and no client's region rests while the others work.

mod client;
mod report;
mod server;

use crate::args::DemoArgs;
use crate::descriptors;
use crate::failure::Failure;
use crate::runtime::{self, Interruption};
use crate::trust::server_name;
use crate::{logging, output};
use client::{Devices, Participant, Stage};
use rdma_verbs::{Device, DeviceSelector};
use report::Report;
use secure_rdma::certs::{Name, Store};
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{SessionOptions, Timeouts};
use server::Host;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// What a client takes, on its side and on the server's: its device (an epoll instance, two event
/// descriptors, a UDP socket for each of two addresses), and for each of two sessions a TCP socket and a
/// completion channel at both ends.
const PER_CLIENT: u64 = 16;

/// What the rest of the process takes.
const BASE: u64 = 64;

pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    if args.connect.is_none() && args.trust.is_given() {
        let what = "--ca, --pin, --certs, --identity and --cert are for --connect HOST; the demo's own server \
            brings its certificates along";
        return Err(Failure::Usage(what.into()));
    }
    logging::start(args.verbose);
    let need = BASE + PER_CLIENT * u64::from(args.clients);
    descriptors::ensure(need, |maximum| {
        format!(
            "{} clients in one process need {need} file descriptors, and at most {maximum} are allowed here: raise the \
             limit (ulimit -Hn {need}), or try fewer --clients",
            args.clients
        )
    })?;
    let runtime = runtime::start()?;
    let report = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        tokio::select! {
            report = perform(args) => report,
            () = interruption.arrived() => Err(Failure::interrupted()),
        }
    });
    runtime.shutdown_background();
    let report = report?;
    let shown = if args.json { output::json(&report) } else { report.print() };
    match shown {
        _ if !report.ok => Err(Failure::Told),
        shown => shown,
    }
}

async fn perform(args: &DemoArgs) -> Result<Report, Failure> {
    let begin = Instant::now();
    let device = Device::open(&args.device.device)?;
    let name = device.name().to_string();
    let timeouts = Timeouts::DEFAULT.connect(client::PATIENCE).step(client::PATIENCE);
    let options = SessionOptions::default().seal(args.seal.policy()).packets(Some(args.seal.packets()));
    let options = options.timeouts(timeouts);
    // Certificates of a CA that nobody else will ever trust, gone when this returns.
    let state = tempfile::tempdir().map_err(Failure::system("making a temporary directory"))?;
    let (host, stage) = match &args.connect {
        Some(place) => {
            let stage = Stage {
                server: place.clone(),
                server_name: server_name(args.server_name.as_ref(), place)?,
                trust: args.trust.trust()?,
                identity: args.trust.own()?,
                options,
                devices: Devices::Shared(device),
            };
            (None, stage)
        }
        None => {
            let address = address(&device, &args.device.device);
            let names = [Name::from(address)];
            let store = Store::open(state.path())?;
            let identity = store.ensure_server(&names)?;
            let account = store.ensure_account(&names)?;
            let auth = ClientAuth::Required(store.certificate_file("ca").into());
            let host = Host::start(device, identity, auth, address, args.clients, options).await?;
            let [server_name] = names;
            let stage = Stage {
                server: host.place(),
                server_name,
                trust: Trust::State(state.path().into()),
                identity: account,
                options,
                devices: Devices::Own(args.device.device.clone()),
            };
            (Some(host), stage)
        }
    };
    let stage = Arc::new(stage);

    let clients = (1..=args.clients).map(Participant::new).collect();
    let clients = together(clients, |mut client| {
        let stage = Arc::clone(&stage);
        async move {
            client.connect(&stage).await;
            client
        }
    });
    let clients = together(clients.await, |mut client| async move {
        client.work().await;
        client
    });
    let mut clients = clients.await;
    // The server has answered each of them, and none has left yet.
    let at_once = host.as_ref().map(Host::present);
    client::introduce(&mut clients);
    let clients = together(clients, |mut client| {
        let stage = Arc::clone(&stage);
        async move {
            client.attack(&stage).await;
            client
        }
    });
    let clients = together(clients.await, |mut client| async move {
        client.leave().await;
        client
    });
    let clients = clients.await;
    let guests = match host {
        Some(host) => Some(host.finish().await),
        None => None,
    };
    Ok(Report::new(&name, args.clients, &clients, at_once, guests.as_ref(), begin.elapsed()))
}

/// Lets every client do its part of a phase, all at the same time, and waits for the last one.
async fn together<F>(clients: Vec<Participant>, part: impl Fn(Participant) -> F) -> Vec<Participant>
where
    F: Future<Output = Participant> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(part(client));
    }
    // A client whose task panicked is missing afterwards, which the report notices.
    let mut clients = Vec::with_capacity(tasks.len());
    while let Some(done) = tasks.join_next().await {
        clients.extend(done.ok());
    }
    clients.sort_by_key(Participant::id);
    clients
}

/// The address that all meet at: the device's, if the user chose one, else this host's own.
fn address(device: &Device, selector: &DeviceSelector) -> IpAddr {
    let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match selector {
        DeviceSelector::Embedded { address: Some(address), .. } => *address,
        _ => {
            let addresses: Vec<_> = device.gids().into_iter().filter_map(|gid| gid.address).collect();
            if addresses.contains(&own) { own } else { addresses.first().copied().unwrap_or(own) }
        }
    }
}

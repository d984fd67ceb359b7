//! A million sealed messages over a network that loses packets, with new keys all the time.

use crate::gate::{self, NETWORK, Need};
use crate::network::{End, Network};
use crate::process::Process;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::certs::{Name, Store};
use secure_rdma::seal::Limits;
use secure_rdma::tls::{ClientAuth, Trust};
use secure_rdma::{Arrival, Client, Server, ServerOptions, Session, SessionOptions, SessionQuota};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// In one half of the sessions the client sends, in the other the server.
const SESSIONS: u32 = 32;

/// Messages of a session: those of all together are a million.
const MESSAGES: u32 = 1_000_000 / SESSIONS;

/// Messages that one key seals.
const KEY: u32 = 300;

/// The epoch of a session's last message, and how many are of it.
const LAST_EPOCH: u32 = (MESSAGES - 1) / KEY;
const OF_LAST_EPOCH: u32 = MESSAGES - LAST_EPOCH * KEY;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(1500);

#[test]
fn a_million_messages_arrive_through_thousands_of_new_keys_though_1_percent_of_packets_is_lost() {
    let needs = [NETWORK.as_slice(), &[Need::Tool("nft"), Need::Tool("ethtool")]].concat();
    if !gate::provides(&needs, "that keys change under traffic while packets are lost") {
        return;
    }
    let network = Network::new(1500).without_offloads().with_loss();
    for end in End::BOTH {
        watch(&network, end);
    }
    let begin = Instant::now();
    let state = tempfile::tempdir().unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let (network, state) = (&network, state.path());
        scope.spawn(move || network.inside(End::Server, || run(serve(state, tell))));
        scope.spawn(move || network.inside(End::Client, || run(connect(state, told.recv().unwrap()))));
    });
    println!("{} messages in {:?}", SESSIONS * MESSAGES, begin.elapsed());
    for end in End::BOTH {
        let counted = network.counted(end);
        println!("{end:?}: {} of {} packets dropped", counted.dropped, counted.arrived);
        // Each message takes a packet there and one back. A hundredth of a million is 10,000, give or take a hundred.
        assert!(counted.arrived > 1_000_000 && counted.dropped > 9_000, "{end:?}: {counted:?}");
        // On the wire every message says which key it has. A receiver takes the next key only: who came so
        // far, changed as often.
        let [last, beyond] = ["last_epoch", "beyond"].map(|counter| network.packets(end, "keys", counter));
        println!("{end:?}: {} new keys, {last} messages with the last", LAST_EPOCH * SESSIONS / 2);
        assert!(
            last >= u64::from(OF_LAST_EPOCH * SESSIONS / 2),
            "{end:?}: {last} messages with the last key"
        );
        assert_eq!(beyond, 0, "{end:?}: there are no more keys");
    }
}

/// Counts the messages that arrive with the last key, and with one beyond it: SENDs (opcode 4 in the BTH,
/// behind 8 bytes of UDP) whose sealed header, behind 12 bytes of BTH, has the mark of a message's last
/// fragment and that epoch.
fn watch(network: &Network, end: End) {
    let header = 1 << 31 | LAST_EPOCH;
    let rules = format!(
        "table inet keys {{
            counter last_epoch {{ }}
            counter beyond {{ }}
            chain input {{
                type filter hook input priority -1;
                meta l4proto udp @th,64,8 4 @th,160,32 {header} counter name last_epoch
                meta l4proto udp @th,64,8 4 @th,160,32 > {header} counter name beyond
            }}
        }}"
    );
    Process::run(network.command(end, "nft").args(["-f", "-"]), &rules).succeeded();
}

/// Runs one end, in this thread and those that it starts.
fn run(end: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, end).await.expect("in time") });
}

fn device() -> Arc<Device> {
    Device::open(&"embedded".parse::<DeviceSelector>().unwrap()).unwrap()
}

fn options() -> SessionOptions {
    // Of messages: packets have keys of their own.
    SessionOptions::default().key_limits(Limits { records: KEY.into(), bytes: u64::MAX }).packets(None)
}

fn name() -> Name {
    "localhost".parse().unwrap()
}

async fn serve(state: &Path, tell: mpsc::Sender<SocketAddr>) {
    let identity = Store::open(state.join("certs")).unwrap().ensure_server(&[name()]).unwrap();
    let options = ServerOptions::default()
        .max_clients(SESSIONS as usize)
        .quota(SessionQuota::UNLIMITED)
        .max_handshakes(2 * SESSIONS as usize)
        .region_len(1)
        .session(options());
    let server = Server::builder(identity, ClientAuth::Off).device(device()).options(options);
    let server = server.bind((End::Server.ipv4(), 0)).await.unwrap();
    tell.send(server.local_addr()).unwrap();
    let mut sessions = JoinSet::new();
    for number in 0..SESSIONS {
        let session = match server.next().await {
            Arrival::Session(session) => *session,
            Arrival::Refused { error, .. } => panic!("refused: {error}"),
        };
        // They come one after the other.
        if sends(End::Server, number) {
            sessions.spawn(send(session, number));
        } else {
            sessions.spawn(receive(session, number));
        }
    }
    sessions.join_all().await;
}

async fn connect(state: &Path, server: SocketAddr) {
    let trust = Trust::State(state.join("certs"));
    let client = Client::builder(trust).device(device()).options(options()).build().unwrap();
    let mut sessions = JoinSet::new();
    for number in 0..SESSIONS {
        let session = client.connect(&server.ip().to_string(), server.port(), &name()).await.unwrap();
        if sends(End::Client, number) {
            sessions.spawn(send(session, number));
        } else {
            sessions.spawn(receive(session, number));
        }
    }
    sessions.join_all().await;
}

fn sends(end: End, session: u32) -> bool {
    (end == End::Client) == session.is_multiple_of(2)
}

/// A message that no other is like.
fn message(session: u32, number: u32) -> Vec<u8> {
    let mut state = u64::from(session) << 32 | u64::from(number);
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    let filler = number % 120;
    [session.to_be_bytes(), number.to_be_bytes()]
        .concat()
        .into_iter()
        .chain((0..filler).map(|_| next()))
        .collect()
}

async fn send(mut session: Session, number: u32) {
    for at in 0..MESSAGES {
        session.send(&message(number, at)).await.unwrap_or_else(|error| panic!("{number}, {at}: {error}"));
    }
    session.close().await.unwrap_or_else(|error| panic!("{number}: {error}"));
}

async fn receive(mut session: Session, number: u32) {
    for at in 0..MESSAGES {
        let found = session.recv().await.unwrap_or_else(|error| panic!("{number}, {at}: {error}"));
        assert!(found == Some(message(number, at)), "{number}, {at}: {found:?}");
    }
    assert!(session.recv().await.unwrap_or_else(|error| panic!("{number}: {error}")).is_none());
    session.close().await.unwrap_or_else(|error| panic!("{number}: {error}"));
}

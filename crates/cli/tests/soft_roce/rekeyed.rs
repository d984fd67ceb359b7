//! New keys for a session that the kernel seals at one end, while it is used: the library's, with keys that last for
//! some packets only. The program's last for 16 million.

use crate::guest::{End, SECURE_RDMA, SLOW, run};
use crate::process::wait_until;
use crate::sealed::wait_until_no_ipsec_is_left;
use rdma_verbs::Device;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use secure_rdma::certs::{Name, Store};
use secure_rdma::seal::Limits;
use secure_rdma::xfrm::helper::Helper;
use secure_rdma::{
    Arrival, Client, ClientAuth, PacketPolicy, SealedBy, Server, ServerOptions, Session, SessionOptions,
};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use tempfile::TempDir;
use tokio::runtime::Builder;

/// Keys that are seen in each direction.
const KEYS: usize = 3;

/// What runs at one end, in a thread of its own there.
pub(crate) fn at<T: Send + 'static>(
    end: End,
    what: impl AsyncFnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        if end == End::Peer {
            let namespace = File::open("/var/run/netns/peer").unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        }
        Builder::new_current_thread().enable_all().build().unwrap().block_on(what())
    })
}

/// What has the kernel seal at the near end. A thread of its own gives the right up.
pub(crate) fn helper() -> Arc<Helper> {
    let started = thread::spawn(|| {
        let mut command = Command::new(SECURE_RDMA);
        command.arg("--xfrm-helper");
        let helper = Helper::start(command).unwrap();
        helper.check().unwrap();
        helper
    });
    started.join().unwrap()
}

pub(crate) fn options() -> SessionOptions {
    let limits = Limits { records: 100, bytes: u64::MAX };
    SessionOptions::default().packets(Some(PacketPolicy::Required)).key_limits(limits)
}

/// The SPIs of the kernel's states for an address.
pub(crate) fn spis(states: &str, destination: &str) -> BTreeSet<String> {
    let mut lines = states.lines();
    let mut found = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line.ends_with(&format!("dst {destination}")) {
            let spi = lines.next().and_then(|line| line.split_whitespace().nth(3)).unwrap_or_default();
            found.insert(spi.to_owned());
        }
    }
    found
}

/// Every operation, again and again.
async fn work(mut session: Session, over: &AtomicBool, rounds: &AtomicU64) {
    assert_eq!(session.info().sealed, SealedBy::Packets);
    while !over.load(Ordering::Relaxed) {
        let round = rounds.load(Ordering::Relaxed);
        let text: Vec<u8> = (0..9000_u64).map(|at| at.wrapping_mul(round + 1).to_le_bytes()[0]).collect();
        session.send(&text).await.unwrap();
        assert!(session.recv().await.unwrap().unwrap() == text);
        session.write(round % 1000, &text).await.unwrap();
        assert!(session.read(round % 1000, text.len()).await.unwrap() == text);
        assert_eq!(session.fetch_add(0, 1).await.unwrap(), round);
        rounds.store(round + 1, Ordering::Relaxed);
    }
    session.close().await.unwrap();
}

#[track_caller]
fn check(server_end: End, client_end: End) {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path().join("state")).unwrap();
    let names: [Name; 1] = ["localhost".parse().unwrap()];
    let identity = store.ensure_server(&names).unwrap();
    let clients = ClientAuth::Required(store.authority().unwrap().into());
    let (trust, own) = (store.authority().unwrap(), store.ensure_account(&names).unwrap().unwrap());
    let kernel = helper();
    let (tell, told) = mpsc::channel();
    let of = |end: End| (end == End::Near).then(|| Arc::clone(&kernel));

    let at_server = of(server_end);
    let server = at(server_end, async move || {
        let mut server = Server::builder(identity, clients)
            .device(Device::open(&server_end.device().parse().unwrap()).unwrap())
            .options(ServerOptions::default().session(options()));
        if let Some(helper) = at_server {
            server = server.kernel(helper);
        }
        let server = server.bind((server_end.ipv4(), 0)).await.unwrap();
        tell.send(server.local_addr().port()).unwrap();
        let mut session = match server.next().await {
            Arrival::Session(session) => session,
            Arrival::Refused { error, .. } => panic!("{error:?}"),
        };
        while let Some(message) = session.recv().await.unwrap() {
            session.send(&message).await.unwrap();
        }
        session.close().await.unwrap();
    });
    let port = told.recv().unwrap();

    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ends, counted, at_client) = (Arc::clone(&over), Arc::clone(&rounds), of(client_end));
    let client = at(client_end, async move || {
        let mut client = Client::builder(trust)
            .identity(own)
            .device(Device::open(&client_end.device().parse().unwrap()).unwrap())
            .options(options());
        if let Some(helper) = at_client {
            client = client.kernel(helper);
        }
        let session = client.connect(server_end.ipv4(), port, &names[0]).await.unwrap();
        work(session, &ends, &counted).await;
    });

    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let changed = wait_until(SLOW, || {
        let states = run("ip", &["xfrm", "state"]);
        for (seen, end) in seen.iter_mut().zip([End::Near, End::Peer]) {
            seen.extend(spis(&states, end.ipv4()));
        }
        client.is_finished() || seen.iter().all(|seen| seen.len() >= KEYS)
    });
    over.store(true, Ordering::Relaxed);
    client.join().unwrap();
    server.join().unwrap();
    assert!(changed.is_some(), "after {} rounds only {seen:?}", rounds.load(Ordering::Relaxed));
    assert!(seen.iter().all(|seen| seen.len() >= KEYS), "{seen:?}");
    wait_until_no_ipsec_is_left();
}

#[test]
fn keys_change_under_traffic_when_the_server_is_on_soft_roce() {
    check(End::Near, End::Peer);
}

#[test]
fn keys_change_under_traffic_when_the_client_is_on_soft_roce() {
    check(End::Peer, End::Near);
}

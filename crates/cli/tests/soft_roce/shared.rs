//! Several sessions between the kernel's device and one embedded device: all are sealed by what the kernel has for the
//! two addresses.

use crate::guest::{End, SLOW, run};
use crate::process::wait_until;
use crate::rekeyed::{at, helper, options, spis};
use rdma_verbs::Device;
use secure_rdma::certs::{Name, Store};
use secure_rdma::{Arrival, Client, ClientAuth, SealedBy, Server, ServerOptions, Session};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// New keys that are seen in each direction after the first session has ended.
const KEYS: usize = 2;

/// Every operation once: `session` is one of those at the server that send back what they get.
async fn use_it(session: &mut Session, round: u64) {
    let text: Vec<u8> = (0..9000_u64).map(|at| at.wrapping_mul(round + 1).to_le_bytes()[0]).collect();
    session.send(&text).await.unwrap();
    assert!(session.recv().await.unwrap().unwrap() == text);
    session.write(round % 1000, &text).await.unwrap();
    assert!(session.read(round % 1000, text.len()).await.unwrap() == text);
    assert_eq!(session.fetch_add(0, 1).await.unwrap(), round);
}

/// Uses a session that was used once, until it is over.
async fn work(mut session: Session, over: &AtomicBool) {
    let mut round = 1;
    while !over.load(Ordering::Relaxed) {
        use_it(&mut session, round).await;
        round += 1;
    }
    session.close().await.unwrap();
}

async fn echo(mut session: Session) {
    while let Some(message) = session.recv().await.unwrap() {
        session.send(&message).await.unwrap();
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
    let of = |end: End| (end == End::Near).then(|| Arc::clone(&kernel));

    let (tell_port, port) = mpsc::channel();
    let at_server = of(server_end);
    let server = at(server_end, async move || {
        let mut server = Server::builder(identity, clients)
            .device(Device::open(&server_end.device().parse().unwrap()).unwrap())
            .options(ServerOptions::default().session(options()));
        if let Some(helper) = at_server {
            server = server.kernel(helper);
        }
        let server = server.bind((server_end.ipv4(), 0)).await.unwrap();
        tell_port.send(server.local_addr().port()).unwrap();
        let mut sessions = Vec::new();
        while sessions.len() < 3 {
            match server.next().await {
                Arrival::Session(session) => sessions.push(tokio::spawn(echo(*session))),
                Arrival::Refused { error, .. } => panic!("{error:?}"),
            }
        }
        for session in sessions {
            session.await.unwrap();
        }
    });
    let port = port.recv().unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let (ends, at_client) = (Arc::clone(&over), of(client_end));
    let (tell_open, open) = oneshot::channel();
    let (tell_seen, seen) = oneshot::channel::<()>();
    let (tell_closed, closed) = oneshot::channel();
    let client = at(client_end, async move || {
        let mut client = Client::builder(trust)
            .identity(own)
            .device(Device::open(&client_end.device().parse().unwrap()).unwrap())
            .options(options());
        if let Some(helper) = at_client {
            client = client.kernel(helper);
        }
        let client = client.build().unwrap();
        // At once: two of them wait until there is something that they can join.
        let connect = || client.connect(server_end.ipv4(), port, &names[0]);
        let (first, second, third) = tokio::join!(connect(), connect(), connect());
        let mut sessions = [first.unwrap(), second.unwrap(), third.unwrap()];
        for session in &mut sessions {
            assert_eq!(session.info().sealed, SealedBy::Packets);
            use_it(session, 0).await;
        }
        tell_open.send(()).unwrap();
        seen.await.unwrap();
        let [first, second, third] = sessions;
        first.close().await.unwrap();
        tell_closed.send(()).unwrap();
        tokio::join!(work(second, &ends), work(third, &ends));
    });

    open.blocking_recv().expect("three sessions");
    let policies = run("ip", &["xfrm", "policy"]);
    assert_eq!(policies.matches("proto esp").count(), 2, "{policies}");
    assert!(!policies.contains("block"), "{policies}");
    tell_seen.send(()).unwrap();
    closed.blocking_recv().expect("one of them ends");
    let spis_of = |end: End| spis(&run("ip", &["xfrm", "state"]), end.ipv4());
    let before = [End::Near, End::Peer].map(spis_of);
    let mut new = [BTreeSet::new(), BTreeSet::new()];
    let changed = wait_until(SLOW, || {
        for ((new, before), end) in new.iter_mut().zip(&before).zip([End::Near, End::Peer]) {
            new.extend(spis_of(end).difference(before).cloned());
        }
        client.is_finished() || new.iter().all(|new| new.len() >= KEYS)
    });
    over.store(true, Ordering::Relaxed);
    client.join().unwrap();
    server.join().unwrap();
    assert!(changed.is_some() && new.iter().all(|new| new.len() >= KEYS), "{new:?}");
    assert_eq!(run("ip", &["xfrm", "state"]) + &run("ip", &["xfrm", "policy"]), "");
}

#[test]
fn sessions_of_one_embedded_client_share_what_the_servers_kernel_has() {
    check(End::Near, End::Peer);
}

#[test]
fn sessions_of_one_client_on_soft_roce_share_what_its_kernel_has() {
    check(End::Peer, End::Near);
}

//! Both sides begin at the same time, over TLS, in the order that a test chooses.

use super::{Event, Input, Instance, PairAgent, PairError, Refusal, Side, Spi, pair, run};
use secure_rdma::certs::{Kind, Name, Store, Validity};
use secure_rdma::pair::{Heard, PairListener, PairOptions, PeerEntry, Peers};
use std::net::IpAddr;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// The address that comes first, whose handshake goes on, and the other.
fn address(last: u8) -> IpAddr {
    [127, 83, 92, last].into()
}

fn device(last: u8) -> Instance {
    Instance { address: address(last), slot: 1 }
}

fn instance(last: u8) -> pair::Instance {
    pair::Instance { address: address(last), slot: 1 }
}

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

/// Certificates of the agents of both addresses, by the CA of the first.
fn certificates() -> [(Store, TempDir); 2] {
    let [first, second] = [(); 2].map(|()| {
        let dir = TempDir::new().unwrap();
        (Store::open(dir.path().join("state")).unwrap(), dir)
    });
    first.0.ensure_agent(&[Name::from(address(1))]).unwrap();
    first.0.issue("peer", &[Name::from(address(2))], Kind::Agent, Validity::days(1)).unwrap();
    std::fs::create_dir(second.0.dir()).unwrap();
    for (file, own) in [("peer.pem", "agent.pem"), ("peer-key.pem", "agent-key.pem"), ("ca.pem", "ca.pem")] {
        std::fs::copy(first.0.dir().join(file), second.0.dir().join(own)).unwrap();
    }
    [first, second]
}

/// An agent that knows where the other one listens.
fn agent(last: u8, store: &Store, peer: Option<&PairListener>) -> Arc<PairAgent> {
    let peers: Peers = peer
        .map(PairListener::local_addr)
        .map(|at| (at.ip(), PeerEntry { port: Some(at.port()), ..PeerEntry::default() }))
        .into_iter()
        .collect();
    let names = vec![Name::from(address(last))];
    let options =
        PairOptions { store: store.clone(), names, revocations: None, allowed: None, peers, port: 1 };
    PairAgent::new(options).unwrap()
}

/// When the handshake that gave way arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrives {
    BeforeTheKeysAreInstalled,
    AfterThat,
}

/// A pair whose peer has begun, too, and given way: nothing that it began arrives before `arrives`.
async fn a_handshake_that_gave_way_ends_nothing(arrives: Arrives) {
    let [(first, _one), (second, _other)] = certificates();
    // Listening needs nothing of what is known of others.
    let mut listens = agent(1, &first, None).listen((address(1), 0).into()).await.unwrap();
    let mut peers = agent(2, &second, None).listen((address(2), 0).into()).await.unwrap();
    let (own, peer) = (agent(1, &first, Some(&peers)), agent(2, &second, Some(&listens)));

    let (events, mut told) = mpsc::unbounded_channel();
    let (inputs, queue) = mpsc::unbounded_channel();
    let side = Side { own: device(1), peer: device(2), agent: own, events };
    let task = tokio::spawn(run(side, queue));

    let connect = |number| {
        let peer = Arc::clone(&peer);
        tokio::spawn(async move { peer.connect(instance(2), instance(1), spi(number)).await })
    };
    let gave_way = connect(0xb0b0_0001);
    let mut crossed = Some(Box::new(listens.next().await));
    inputs.send(Input::Opened(spi(0xa0a0_0001))).unwrap();
    let mut answered = peers.next().await.accept(spi(0xb0b0_0001), None).unwrap();
    let welcome = tokio::spawn(async move {
        answered.welcome(spi(0xb0b0_0001), None).await.unwrap();
        answered
    });
    assert!(matches!(told.recv().await, Some(Event::Inbound { spi: 0xa0a0_0001, .. })));
    if arrives == Arrives::BeforeTheKeysAreInstalled {
        inputs.send(Input::Asked(crossed.take().unwrap())).unwrap();
    }
    inputs.send(Input::Installed(spi(0xa0a0_0001))).unwrap();
    assert!(matches!(told.recv().await, Some(Event::Outbound { spi: 0xb0b0_0001, .. })));
    let mut answered = welcome.await.unwrap();
    if let Some(crossed) = crossed {
        inputs.send(Input::Asked(crossed)).unwrap();
    }
    let refused = gave_way.await.unwrap();
    assert!(matches!(refused, Err(PairError::Refused(Refusal::Crossed))), "{refused:?}");

    // The pair goes on.
    inputs.send(Input::Rekey(spi(0xa0a0_0002))).unwrap();
    assert!(matches!(told.recv().await, Some(Event::Inbound { spi: 0xa0a0_0002, .. })));
    inputs.send(Input::Installed(spi(0xa0a0_0002))).unwrap();
    // The peer's key has to be the next one.
    answered.next_outbound().unwrap();
    assert_eq!(answered.next().await.unwrap(), Heard::Spi(spi(0xa0a0_0002)));

    // Until the peer's program is another one.
    let anew = connect(0xb0b0_0002);
    inputs.send(Input::Asked(Box::new(listens.next().await))).unwrap();
    assert!(matches!(told.recv().await, Some(Event::Ended { pair: 0xa0a0_0001, .. })));
    assert!(matches!(told.recv().await, Some(Event::Wanted { peer }) if peer == device(2)));
    drop(inputs);
    task.await.unwrap();
    assert!(anew.await.unwrap().is_err());
}

#[tokio::test]
async fn a_handshake_that_gave_way_and_arrives_with_the_keys_ends_nothing() {
    a_handshake_that_gave_way_ends_nothing(Arrives::BeforeTheKeysAreInstalled).await;
}

#[tokio::test]
async fn a_handshake_that_gave_way_and_arrives_after_the_keys_ends_nothing() {
    a_handshake_that_gave_way_ends_nothing(Arrives::AfterThat).await;
}

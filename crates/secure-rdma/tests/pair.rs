//! Two agents agree on keys for a pair of devices, or don't.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use rdma_verbs::esp::{Algorithm, Inbound, Inner, Key, Outbound, Spi, layout};
use secure_rdma::certs::{Kind, Name, Store, Validity};
use secure_rdma::pair::{
    Asked, Heard, Instance, NextKey, Pair, PairAgent, PairError, PairOptions, PeerEntry, Peers, Refusal,
};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use tempfile::TempDir;

/// An agent with a certificate for `address` by the CA in `authority`, or with one of its own CA.
fn agent(authority: Option<&Store>, address: IpAddr, peers: Peers) -> (Arc<PairAgent>, Store, TempDir) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path().join("state")).unwrap();
    let names = [Name::from(address)];
    match authority {
        None => drop(store.ensure_agent(&names).unwrap()),
        Some(authority) => {
            authority.issue("peer", &names, Kind::Agent, Validity::days(1)).unwrap();
            std::fs::create_dir(store.dir()).unwrap();
            for (file, own) in
                [("peer.pem", "agent.pem"), ("peer-key.pem", "agent-key.pem"), ("ca.pem", "ca.pem")]
            {
                std::fs::copy(authority.dir().join(file), store.dir().join(own)).unwrap();
            }
        }
    }
    let options = PairOptions {
        store: store.clone(),
        names: names.into(),
        revocations: None,
        allowed: None,
        peers,
        port: 1,
    };
    (PairAgent::new(options).unwrap(), store, dir)
}

fn address(last: u8) -> IpAddr {
    [127, 83, 91, last].into()
}

fn device(last: u8, slot: u8) -> Instance {
    Instance { address: address(last), slot }
}

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

/// Where the agent of a peer listens.
fn at(peer: SocketAddr) -> Peers {
    [(peer.ip(), PeerEntry { port: Some(peer.port()), ..PeerEntry::default() })].into_iter().collect()
}

/// Two agents, of which the first listens, that meet for `own` (the connecting one's) and `peer`, whose kernel opens
/// packets if it has a port for that.
async fn meet(
    own: Instance,
    peer: Instance,
    esp_port: Option<NonZeroU16>,
) -> (Result<Pair, PairError>, Option<Pair>, [TempDir; 2]) {
    let (responder, store, one) = agent(None, address(1), Peers::default());
    let mut listener = responder.listen((address(1), 0).into()).await.unwrap();
    let (initiator, _, other) = agent(Some(&store), address(2), at(listener.local_addr()));
    let answer = async {
        let asked: Asked = listener.next().await;
        assert_eq!((asked.own(), asked.peer()), (peer, own));
        let mut pair = asked.accept(spi(0xc1c2_0102), esp_port).unwrap();
        pair.welcome(spi(0xc1c2_0102), esp_port).await.unwrap();
        pair
    };
    let ask = async {
        let mut pair = initiator.connect(own, peer, spi(0xd1d2_0201)).await?;
        pair.ready().await?;
        Ok(pair)
    };
    let (answered, asked) = tokio::select! {
        both = async { tokio::join!(answer, ask) } => (Some(both.0), both.1),
        // Where it is refused there is nothing to answer.
        error = tokio::time::sleep(std::time::Duration::from_secs(20)) => panic!("{error:?}"),
    };
    (asked, answered, [one, other])
}

/// What one key seals, the other opens.
fn fit(sealing: &NextKey, opening: &NextKey) -> bool {
    let key = |of: &NextKey| Key::new(of.algorithm, &of.material).unwrap();
    let inner = Inner { source_port: 4791, checksum: None };
    let outbound = Outbound::with_numbers(spi(0xc1c2_0000), key(sealing), inner, 1, 100);
    let mut sealer = rdma_verbs::esp::Sealer::new(Arc::new(outbound));
    let mut datagram = vec![0; layout::sealed_len(20)];
    sealer.seal(&mut datagram, 20).unwrap();
    Inbound::new(spi(0xc1c2_0000), key(opening), 64).open(&mut datagram).is_ok()
}

#[tokio::test]
async fn both_sides_have_the_same_keys_and_new_ones_when_they_are_told() {
    for esp_port in [None, NonZeroU16::new(4500)] {
        have_the_same_keys(esp_port).await;
    }
}

async fn have_the_same_keys(esp_port: Option<NonZeroU16>) {
    let (asked, answered, _dirs) = meet(device(2, 7), device(1, 9), esp_port).await;
    let (mut asked, mut answered) = (asked.unwrap(), answered.unwrap());
    assert_eq!((asked.esp_port(), answered.esp_port()), (esp_port, None));
    assert_eq!((asked.spi(), answered.spi()), (spi(0xc1c2_0102), spi(0xd1d2_0201)));
    let mut seen = Vec::new();
    for epoch in 0..3 {
        for (sends, takes) in [
            (asked.next_outbound().unwrap(), answered.next_inbound().unwrap()),
            (answered.next_outbound().unwrap(), asked.next_inbound().unwrap()),
        ] {
            assert_eq!((sends.epoch, takes.epoch), (epoch, epoch));
            assert_eq!(sends.algorithm, Algorithm::Aes256Gcm);
            assert!(fit(&sends, &takes));
            assert!(!seen.contains(&sends.material));
            seen.push(sends.material);
        }
    }
    answered.tell_spi(3, spi(0xc1c2_0103)).await.unwrap();
    assert_eq!(asked.next().await.unwrap(), Heard::Spi(spi(0xc1c2_0103)));
    // A key that isn't the next one makes no sense.
    answered.tell_spi(5, spi(0xc1c2_0104)).await.unwrap();
    assert!(matches!(asked.next().await, Err(PairError::Protocol)));
    asked.judge().await.unwrap();
    drop(asked);
    assert!(matches!(answered.next().await, Err(PairError::Closed(_))));
}

#[tokio::test]
async fn an_agent_that_claims_an_address_which_its_certificate_has_not_is_refused() {
    let (responder, store, _one) = agent(None, address(3), Peers::default());
    let mut listener = responder.listen((address(3), 0).into()).await.unwrap();
    let (initiator, _, _other) = agent(Some(&store), address(4), at(listener.local_addr()));
    let claimed = device(5, 1);
    let refused = tokio::select! {
        refused = initiator.connect(claimed, device(3, 1), spi(0xd1d2_0201)) => refused,
        asked = listener.next() => panic!("{asked:?}"),
    };
    assert!(matches!(refused, Err(PairError::Refused(Refusal::NotAllowed))), "{refused:?}");
}

#[tokio::test]
async fn whoever_has_a_servers_or_a_clients_certificate_is_no_agent() {
    for kind in [Kind::Server, Kind::Client] {
        let (responder, store, _one) = agent(None, address(6), Peers::default());
        let mut listener = responder.listen((address(6), 0).into()).await.unwrap();
        let (initiator, own, _other) = agent(Some(&store), address(7), at(listener.local_addr()));
        drop(initiator);
        store.issue("peer", &[address(7).into()], kind, Validity::days(1)).unwrap();
        for (file, named) in [("peer.pem", "agent.pem"), ("peer-key.pem", "agent-key.pem")] {
            std::fs::copy(store.dir().join(file), own.dir().join(named)).unwrap();
        }
        let options = PairOptions {
            store: own,
            names: vec![address(7).into()],
            revocations: None,
            allowed: None,
            peers: at(listener.local_addr()),
            port: 1,
        };
        // A client's proves no address; a server's does, and isn't taken from who connects.
        let Ok(initiator) = PairAgent::new(options) else {
            assert_eq!(kind, Kind::Client);
            continue;
        };
        let refused = tokio::select! {
            refused = initiator.connect(device(7, 1), device(6, 1), spi(0xd1d2_0201)) => refused,
            asked = listener.next() => panic!("{asked:?}"),
        };
        let said = refused.unwrap_err();
        assert!(matches!(said, PairError::Tls(_)), "{said}");
    }
}

//! Whether the data path is sealed, as users choose it.

use crate::harness::{Program, SECURE_CLIENT, Server, State, secure_rdma, text};
use secure_rdma::certs::Store;
use secure_rdma::tls::ClientAuth;
use secure_rdma::{Client, Server as Libraries, ServerOptions, SessionOptions};
use serde_json::Value;

#[test]
fn required_against_off_is_refused_at_both_ends_which_say_what_to_do() {
    let server = Server::start(&[]);
    let client = server.client(&["--seal", "off", "--exec", "send secret"]);
    let ended =
        client.end().failed(1, &["the peer requires it to be sealed", "start this side without --seal off"]);
    assert_eq!(ended.out, [""; 0]);
    server.program.says("start the peer without --seal off");
    server.serves();

    let server = Server::start(&["--seal", "off"]);
    server.program.says("data path: NOT sealed");
    let client = server.client(&["--exec", "send secret"]);
    let ended =
        client.end().failed(1, &["this side requires it to be sealed", "start the peer without --seal off"]);
    assert_eq!(ended.out, [""; 0]);
    server.program.says("refused 127.0.0.1:");
}

#[test]
fn what_both_take_is_what_they_have_and_both_say_it() {
    for (at_server, at_client, sealed) in [
        ("optional", "optional", true),
        ("optional", "required", true),
        ("required", "optional", true),
        ("packets", "optional", true),
        ("required", "packets", true),
        ("optional", "off", false),
        ("off", "optional", false),
        ("off", "off", false),
    ] {
        let server = Server::start(&["--seal", at_server]);
        let lines = "send hello\nwrite some data\nread 9\nadd 5\nstats\nquit\n";
        let mut client = server.client(&["--seal", at_client]);
        for line in lines.lines() {
            client.type_line(line);
        }
        let ended = client.end().succeeded();
        assert_eq!(ended.out[..4], ["hello", "9 bytes written", "some data", "0 + 5 = 5"]);
        let said = if sealed { "data path: sealed, TLS13_" } else { "data path: NOT sealed" };
        assert!(ended.err.contains(said), "{at_server}, {at_client}: {ended:?}");
        assert!(ended.out.iter().any(|line| line.starts_with(said)), "{at_server}, {at_client}: {ended:?}");
        let arrival = server.program.says("client 1: arrived");
        assert!(
            arrival.ends_with(if sealed { "data path: sealed by packets" } else { "data path: NOT sealed" }),
            "{arrival}"
        );
    }
}

#[test]
fn counters_can_be_withheld_and_the_client_says_what_to_do() {
    let server = Server::start(&["--counters", "off"]);
    let line = server.program.says("data path: ");
    assert_eq!(line, "data path: sealed");
    let ended = server.client_with("write some data\nread\nadd 5\n");
    let ended = ended.failed(1, &["no counters", "--counters on", "data path: sealed, TLS13_"]);
    assert!(!ended.err.contains("NOT sealed"), "{ended:?}");
    assert_eq!(ended.out, ["9 bytes written", "some data"]);
    server.program.says("client 1: left");
}

/// A state directory whose client certificate in-process clients show, and what they trust.
fn client_of(server: &Server, options: SessionOptions) -> Client {
    let store = Store::open(server.state.path()).unwrap();
    let identity = store.ensure_account(&["localhost".parse().unwrap()]).unwrap().unwrap();
    Client::builder(store.authority().unwrap()).identity(identity).options(options).build().unwrap()
}

/// Where messages are sealed, as on network cards, counters couldn't be.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_no_counters_for_clients_whose_messages_are_sealed_and_says_so() {
    for (arguments, promised, arrived, count) in [
        (&[][..], "counters (add, swap): only where packets are sealed, or nothing is", "none", 0),
        (&["--counters", "on"], "counters (add, swap): NOT sealed, unless packets are", "NOT sealed", 8),
    ] {
        let server = Server::start(arguments);
        assert_eq!(server.program.says("data path: "), format!("data path: sealed; {promised}"));
        let client = client_of(&server, SessionOptions::default().packets(None));
        let name = "localhost".parse().unwrap();
        let mut session = client.connect("127.0.0.1", server.address.port(), &name).await.unwrap();
        assert_eq!(session.counters(), count);
        assert_eq!(session.fetch_add(0, 1).await.is_ok(), count > 0);
        let line = server.program.says("client 1: arrived");
        assert!(line.ends_with(&format!("; data path: sealed by messages; counters: {arrived}")), "{line}");
        session.close().await.unwrap();
    }
}

/// The other side of it: a server whose device can't seal packets, as far as its clients can see.
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_server_that_withholds_counters_say_so_and_the_demo_does_without() {
    let state = State::new();
    let certs = state.path();
    let store = Store::open(&certs).unwrap();
    let identity = store.ensure_server(&["localhost".parse().unwrap()]).unwrap();
    store.ensure_account(&["localhost".parse().unwrap()]).unwrap();
    let clients = ClientAuth::Required(store.authority().unwrap().into());
    let options = ServerOptions::default().session(SessionOptions::default().packets(None));
    let server = Libraries::builder(identity, clients).options(options).bind("127.0.0.1:0").await.unwrap();
    let place = server.local_addr().to_string();
    let serving = tokio::spawn(async move {
        loop {
            let mut session = server.accept().await;
            tokio::spawn(async move {
                while let Ok(Some(message)) = session.recv().await {
                    session.send(&message).await?;
                }
                session.close().await
            });
        }
    });
    let ended = tokio::task::spawn_blocking(move || {
        let client = [place.as_str(), "localhost", "--certs", text(&certs), "--exec", "add 5"];
        let client = Program::start(SECURE_CLIENT, &client).end();
        let demo = [
            "demo",
            "--json",
            "--clients",
            "2",
            "--connect",
            &place,
            "--server-name",
            "localhost",
            "--certs",
        ];
        (client, secure_rdma(&[&demo[..], &[text(&certs)]].concat()))
    });
    let (client, demo) = ended.await.unwrap();
    client.failed(1, &["by messages; counters (add, swap): none", "no counters", "--counters on"]);
    let document: Value = serde_json::from_str(&demo.succeeded().out.join("\n")).unwrap();
    assert_eq!((&document["ok"], &document["counters"]), (&true.into(), &false.into()), "{document}");
    for operation in ["fetch_add", "compare_swap"] {
        assert_eq!(document["clients"][0]["ops"][operation], "withheld", "{document}");
    }
    serving.abort();
}

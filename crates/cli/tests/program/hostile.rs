//! Clients that don't keep to the protocol: what the server says of each, and that it goes on serving.

use crate::harness::{PATIENCE, Server};
use rdma_verbs::{Mtu, Psn, Qpn};
use secure_rdma::certs::Store;
use secure_rdma::control::{
    ControlChannel, Endpoint, Fragments, Hello, MAX_RECORD, Record, Redacted, Role, SealPolicy, Text, VERSION,
};
use secure_rdma::tls::{ClientTls, Trust};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream as BlockingStream};
use std::num::NonZeroU16;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes over plain TCP, and waits until the server closes the connection; returns what it answered.
fn plain(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = BlockingStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // The server may close with a reset, before it has taken all of it.
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// A ClientHello as clients of TLS 1.2 send it: without supported_versions (RFC 5246, section 7.4.1.2).
fn tls_1_2_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.push(0);
    // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, and no compression.
    body.extend([0, 2, 0xc0, 0x2b, 1, 0]);
    // signature_algorithms: ecdsa_secp256r1_sha256; supported_groups: secp256r1.
    let extensions = [0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23];
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut hello = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    hello.extend(body);
    hello
}

#[test]
fn what_is_not_tls_1_3_is_turned_away() {
    let server = Server::start(&[]);
    plain(&server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.program.says("sent what is not TLS");
    let garbage: Vec<u8> =
        (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3] | 0x80).collect();
    plain(&server, &garbage);
    server.program.says_times("sent what is not TLS", 2);
    let alert = plain(&server, &tls_1_2_hello());
    // A fatal alert, protocol_version (RFC 8446, section 6.2).
    assert_eq!(alert.get(..2).map(|start| start[0]), Some(21), "{alert:?}");
    assert_eq!(alert.get(5..7), Some(&[2, 70][..]), "{alert:?}");
    server.program.says("doesn't speak TLS 1.3");
    drop(BlockingStream::connect(server.address).unwrap());
    server.program.says("closed the connection before the TLS handshake was done");
    server.serves();
}

/// The control channel of a client that does as it likes.
type Control = ControlChannel<tokio_rustls::TlsStream<TcpStream>>;

async fn tls(server: &Server) -> tokio_rustls::TlsStream<TcpStream> {
    let identity = Store::open(server.state.path()).unwrap().account_identity().unwrap();
    let client = ClientTls::new(Trust::State(server.state.path()), identity).unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    client.connect(stream, &"localhost".parse().unwrap(), PATIENCE).await.unwrap().stream
}

async fn control(server: &Server) -> Control {
    ControlChannel::new(tls(server).await)
}

fn hello() -> Hello {
    Hello {
        version: VERSION,
        role: Role::Client,
        seal: SealPolicy::Required,
        max_message: 1 << 20,
        heartbeat_ms: 5000,
        software: Text::lossy("hostile"),
        packets: None,
    }
}

fn endpoint() -> Endpoint {
    Endpoint {
        qpn: Qpn::new(0x1234).unwrap(),
        psn: Redacted::new(Psn::truncate(0x5678)),
        gid: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
        // Discard (RFC 863): nobody is there.
        udp_port: NonZeroU16::new(1024).unwrap(),
        mtu: Mtu::from_bytes(1024).unwrap(),
        max_rd_atomic: 1,
        recv_depth: 1,
        recv_size: 4096,
        min_rnr_timer: 1,
        ack_timeout: 14,
        retry_count: 7,
        rnr_retry: 7,
        lid: None,
        spi: None,
        esp_port: None,
        joins: None,
    }
}

/// Sends `records`, and returns what the server says of the last.
async fn answer(server: &Server, records: &[Record]) -> Record {
    let mut control = control(server).await;
    for record in records {
        control.send_within(record, PATIENCE).await.unwrap();
    }
    loop {
        match control.recv_within(PATIENCE).await.unwrap() {
            Record::Hello(_) | Record::Endpoint(_) | Record::Region(_) | Record::Ready => {}
            // Where this client is late.
            Record::Ping { .. } => {}
            other => return other,
        }
    }
}

fn assert_error(record: &Record, words: &str) {
    match record {
        Record::Error { text, .. } => assert!(text.as_str().contains(words), "{words:?}: {text}"),
        other => panic!("{words:?}: {other:?}"),
    }
}

#[tokio::test]
async fn records_that_break_the_rules_are_answered_and_end_the_connection() {
    let server = Server::start(&[]);
    let ahead = Hello { version: VERSION + 1, ..hello() };
    assert_error(&answer(&server, &[Record::Hello(ahead)]).await, "version");
    let open = Hello { seal: SealPolicy::Off, ..hello() };
    assert_error(&answer(&server, &[Record::Hello(open)]).await, "has sealing off");
    let server_too = Hello { role: Role::Server, ..hello() };
    assert_error(&answer(&server, &[Record::Hello(server_too)]).await, "hello");
    assert_error(&answer(&server, &[Record::Ready]).await, "ready");
    let twice = [Record::Hello(hello()), Record::Hello(hello())];
    assert_error(&answer(&server, &twice).await, "hello");
    let bye = [Record::Hello(hello()), Record::Endpoint(endpoint()), Record::Bye(Fragments::default())];
    assert_error(&answer(&server, &bye).await, "bye");
    // Packets are sent to nobody but the host that is connected.
    let elsewhere = Endpoint { gid: Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets(), ..endpoint() };
    let elsewhere = [Record::Hello(hello()), Record::Endpoint(elsewhere)];
    assert_error(&answer(&server, &elsewhere).await, "192.0.2.1");
    server.program.says_times("refused 127.0.0.1:", 7);
    server.serves();
}

#[tokio::test]
async fn frames_that_are_too_long_cut_short_or_no_record_end_the_connection() {
    let server = Server::start(&[]);
    let length = |len: usize| u32::try_from(len).unwrap().to_be_bytes().to_vec();
    let framed = |bytes: &[u8]| [length(bytes.len()), bytes.to_vec()].concat();
    let oversized = [u32::MAX.to_be_bytes().to_vec(), length(MAX_RECORD + 1)];
    let no_records =
        [framed(b""), framed(b"\xff\xff\xff\xff"), framed(&[0x5f; MAX_RECORD]), framed(b"\xa1\x18\x63\xf6")];
    let cut_short = [length(100), [length(100), vec![0; 50]].concat(), vec![0, 0]];
    let mut refused = 0;
    for (frames, words) in [
        (&oversized[..], "the most is 16384"),
        (&no_records[..], "not a record"),
        (&cut_short[..], "ended inside a record"),
    ] {
        for frame in frames {
            let mut stream = tls(&server).await;
            stream.write_all(frame).await.unwrap();
            // The end of the stream: nothing more will come. The server may have refused it already.
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
            refused += 1;
            let lines = server.program.says_times("refused 127.0.0.1:", refused);
            assert!(lines.last().unwrap().contains(words), "{words:?}: {lines:?}");
        }
    }
    server.serves();
}

#[tokio::test]
async fn unexpected_records_in_an_open_session_end_that_session_only() {
    let server = Server::start(&["--max-clients", "1"]);
    let open = [Record::Hello(hello()), Record::Endpoint(endpoint()), Record::Ready];
    for (number, record) in
        [Record::Hello(hello()), Record::Fin, Record::Endpoint(endpoint())].into_iter().enumerate()
    {
        let records = [&open[..], &[record]].concat();
        let answer = answer(&server, &records).await;
        assert!(matches!(answer, Record::Error { .. }), "{answer:?}");
        server.program.says(&format!("client {}: lost: ", 2 * number + 1));
        server.serves();
    }
}

/// Clients that stop at every step of the bootstrap, all at the same time: none of them holds up others, and
/// each is given up when its step's time is over.
#[tokio::test]
async fn clients_that_stop_in_the_middle_of_the_bootstrap_are_given_up() {
    let server = Server::start(&["--max-clients", "3", "--handshake-limit", "10"]);
    let connected = TcpStream::connect(server.address).await.unwrap();
    let mut half_hello = TcpStream::connect(server.address).await.unwrap();
    half_hello.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
    let secured = tls(&server).await;
    let mut half_record = tls(&server).await;
    half_record.write_all(&[0, 0, 0, 100, 1, 2, 3]).await.unwrap();
    let mut greeted = control(&server).await;
    greeted.send_within(&Record::Hello(hello()), PATIENCE).await.unwrap();
    let mut described = control(&server).await;
    for record in [Record::Hello(hello()), Record::Endpoint(endpoint())] {
        described.send_within(&record, PATIENCE).await.unwrap();
    }
    // Two of them hold places; the third is free. A client waits for 10 s, which one of these alone may take: others
    // are served in the meantime.
    server.serves();
    for words in [
        "not a byte came within 4s",
        "TLS handshake",
        "waiting for the peer's greeting",
        "waiting for the peer's queue pair",
        "waiting for the peer to be ready",
    ] {
        assert!(server.program.says(words).starts_with("refused 127.0.0.1:"), "{words:?}");
    }
    server.program.says_times("refused 127.0.0.1:", 6);
    drop((connected, half_hello, secured, half_record, greeted, described));
    // All places are free again.
    let mut clients: Vec<_> = (0..3).map(|_| server.client(&[])).collect();
    for client in &mut clients {
        client.type_line("send hello");
        client.says("hello");
    }
}

/// A session whose client says nothing more, not even a heartbeat, is given up too. Its client is stopped,
/// not killed: its sockets stay open.
#[test]
fn a_client_that_is_stopped_is_given_up() {
    let server = Server::start(&["--max-clients", "1"]);
    let mut client = server.client(&[]);
    client.type_line("send hello");
    client.says("hello");
    client.signal(rustix::process::Signal::STOP);
    server.program.says("nothing was heard from the peer");
    server.serves();
}

//! What a process still holds in its memory when a session is over: neither what was said nor the keys that sealed it.
//!
//! Looked at is all readable memory of a process that goes on running: what a core dump would show, and more.
//! To know every secret of the server's session, its client is made by hand. The IVs aren't asked for: they
//! are copied with each nonce, by the library too, and are of no use without the key.

use crate::harness::{PATIENCE, Server};
use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rdma_verbs::{Device, Mtu, Psn, Qpn};
use rocev2::icrc::{self, PseudoHeader};
use rocev2::wire::{Aeth, Bth, Headers, Opcode, Operation, Packet, Syndrome};
use rustls::{KeyLog, RootCertStore};
use secure_rdma::certs::Store;
use secure_rdma::control::{
    Access, ControlChannel, Endpoint, Fragments, Hello, Record, Redacted, Region, Role, SealPolicy, Text,
    VERSION,
};
use secure_rdma::seal::{
    self, Context, Exporter, Format, Layout, Limits, OVERHEAD, SealError, SessionKeys, Suite,
};
use secure_rdma::tls::{ALPN, Trust};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};
use zeroize::Zeroizing;

/// Something to look for, under the name that it is reported by.
#[derive(Debug, Default)]
struct Secrets(BTreeMap<String, Vec<u8>>);

impl Secrets {
    /// Kept otherwise than it is, so that this test's own memory has no copy of it.
    const MASK: u8 = 0x5a;

    fn add(&mut self, name: &str, secret: &[u8]) {
        self.0.insert(name.to_owned(), secret.iter().map(|byte| byte ^ Self::MASK).collect());
    }

    /// A new one, of 32 random bytes.
    fn random(&mut self, name: &str) -> Zeroizing<Vec<u8>> {
        let mut secret = Zeroizing::new(vec![0; 32]);
        getrandom::fill(&mut secret).unwrap();
        self.add(name, &secret);
        secret
    }
}

/// TLS's secrets.
#[derive(Debug, Default)]
struct Log(Mutex<Secrets>);

impl KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().add(&format!("TLS {label}"), secret);
    }
}

/// TLS, and what was exported from it.
struct Watched<'a> {
    tls: &'a TlsStream<TcpStream>,
    exported: RefCell<Vec<u8>>,
}

impl Exporter for Watched<'_> {
    fn suite(&self) -> Result<Suite, SealError> {
        self.tls.suite()
    }

    fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Result<(), SealError> {
        self.tls.export(label, context, out)?;
        self.exported.replace(out.to_vec());
        Ok(())
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// `Expand` of docs/sealing.md.
fn expand(suite: Suite, secret: &[u8], label: &str, context: &[u8], length: usize) -> Vec<u8> {
    let hash = if suite == Suite::Aes256Gcm { HKDF_SHA384 } else { HKDF_SHA256 };
    let label = format!("srdma1 {label}");
    let byte = |len: usize| u8::try_from(len).unwrap();
    let mut info = u16::try_from(length).unwrap().to_be_bytes().to_vec();
    info.push(byte(label.len()));
    info.extend(label.bytes());
    info.push(byte(context.len()));
    info.extend(context);
    let mut out = vec![0; length];
    Prk::new_less_safe(hash, secret).expand(&[&info], Length(length)).unwrap().fill(&mut out).unwrap();
    out
}

/// The secrets that docs/sealing.md derives from the session's, and their first keys.
fn derived(suite: Suite, session: &[u8]) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add("session's secret", session);
    for label in ["c message", "s message", "c slot", "s slot"] {
        let secret = expand(suite, session, label, &[], session.len());
        if label.ends_with("message") {
            let key = if suite == Suite::Aes128Gcm { 16 } else { 32 };
            secrets.add(&format!("{label} key"), &expand(suite, &secret, "key", &[], key));
        }
        secrets.add(&format!("{label} secret"), &secret);
    }
    secrets
}

/// Which of `secrets` the process has in its memory, and where, one line each.
fn found(pid: u32, secrets: &Secrets) -> Vec<String> {
    const PIECE: u64 = 1 << 20;
    let longest = secrets.0.values().map(Vec::len).max().unwrap_or(1) as u64;
    let memory =
        File::open(format!("/proc/{pid}/mem")).expect("its memory, which needs yama/ptrace_scope 0 or 1");
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut buffer = vec![0; usize::try_from(PIECE + longest).unwrap()];
    for mapping in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let fields: Vec<_> = mapping.split_whitespace().collect();
        let (start, end) = fields[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        // The kernel's own pages aren't to be had.
        if !fields[1].starts_with('r') || fields.last().is_some_and(|name| name.starts_with("[v")) {
            continue;
        }
        let mut at = start;
        while at < end {
            let len = usize::try_from((end - at).min(PIECE + longest)).unwrap();
            // A page of a file that was cut since can't be read, nor what lies behind it.
            let Ok(len) = memory.read_at(&mut buffer[..len], at) else { break };
            for (name, masked) in &secrets.0 {
                let is_it = |window: &&[u8]| {
                    window.iter().zip(masked).all(|(byte, masked)| byte ^ Secrets::MASK == *masked)
                };
                let here = buffer[..len].windows(masked.len()).filter(is_it).count();
                if here > 0 {
                    *found.entry(format!("{name} in {}", fields.get(5).unwrap_or(&"memory"))).or_default() +=
                        here;
                }
            }
            at += PIECE;
        }
    }
    found.into_iter().map(|(what, times)| format!("{what}, {times} times")).collect()
}

/// The server's memory, while it stands still. A client of its own says that it is there, for it may take as long as
/// the server waits for a word.
async fn look(server: &Server, secrets: &Secrets, client: Option<&mut Client>) -> Vec<String> {
    use rustix::process::Signal;
    server.program.signal(Signal::STOP);
    let found = found(server.program.id(), secrets);
    if let Some(client) = client {
        client.control.send_within(&Record::Ping { n: 1 }, PATIENCE).await.unwrap();
    }
    server.program.signal(Signal::CONT);
    found
}

/// A client's end of a session, made by hand.
struct Client {
    control: ControlChannel<TlsStream<TcpStream>>,
    socket: UdpSocket,
    path: PseudoHeader,
    own: Endpoint,
    server: Endpoint,
    keys: SessionKeys,
    secrets: Secrets,
    sent: u32,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let log = Arc::new(Log::default());
        let mut roots = RootCertStore::empty();
        roots.add(Store::open(server.state.path()).unwrap().authority().unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.key_log = Arc::<Log>::clone(&log);
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let mut control = ControlChannel::new(TlsStream::from(tls));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let here = socket.local_addr().unwrap();

        let hello = Hello {
            version: VERSION,
            role: Role::Client,
            seal: SealPolicy::Required,
            max_message: 1 << 20,
            heartbeat_ms: 60_000,
            software: Text::lossy("made by hand"),
            packets: None,
        };
        control.send_within(&Record::Hello(hello), PATIENCE).await.unwrap();
        let Record::Hello(hello) = control.recv_within(PATIENCE).await.unwrap() else { panic!("no hello") };
        let own = Endpoint {
            qpn: Qpn::new(0x1234).unwrap(),
            psn: Redacted::new(Psn::truncate(0x5678)),
            gid: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
            udp_port: NonZeroU16::new(here.port()).unwrap(),
            mtu: Mtu::from_bytes(4096).unwrap(),
            max_rd_atomic: 1,
            recv_depth: 8,
            recv_size: 4096,
            min_rnr_timer: 1,
            ack_timeout: 18,
            retry_count: 7,
            rnr_retry: 7,
            lid: None,
            spi: None,
            esp_port: None,
            joins: None,
        };
        control.send_within(&Record::Endpoint(own.clone()), PATIENCE).await.unwrap();
        let record = control.recv_within(PATIENCE).await.unwrap();
        let Record::Endpoint(theirs) = record else { panic!("{record:?}") };
        let record = control.recv_within(PATIENCE).await.unwrap();
        let Record::Region(region) = record else { panic!("{record:?}") };
        assert_eq!(control.recv_within(PATIENCE).await.unwrap(), Record::Ready);
        control.send_within(&Record::Ready, PATIENCE).await.unwrap();

        let tls = Watched { tls: control.get_ref(), exported: RefCell::default() };
        let context = context(&hello, &own, &theirs, &region);
        let keys = SessionKeys::new(&tls, &context, Role::Client, Limits::DEFAULT).unwrap();
        let suite = tls.suite().unwrap();
        let mut secrets = derived(suite, &tls.exported.take());
        secrets.0.append(&mut log.0.lock().unwrap().0);
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), theirs.udp_port.get());
        let path = PseudoHeader::new(here, to).unwrap();
        Self { control, socket, path, own, server: theirs, keys, secrets, sent: 0 }
    }

    /// Sends a packet.
    fn packet(&self, headers: &Headers, payload: &[u8]) {
        let mut out = vec![0; 5000];
        let frame = headers.frame(&mut out, payload.len()).unwrap();
        frame.payload.copy_from_slice(payload);
        let end = frame.len + icrc::LEN;
        self.path.write(0, &mut out[..end]).unwrap();
        self.socket.send_to(&out[..end], (Ipv4Addr::LOCALHOST, self.server.udp_port.get())).unwrap();
    }

    /// The next packet that comes.
    fn next<'a>(&self, datagram: &'a mut [u8]) -> Packet<'a> {
        let (len, _) = self.socket.recv_from(datagram).unwrap();
        Packet::parse(&datagram[..len - icrc::LEN]).unwrap()
    }

    /// Sends a message of these fragments, and waits until it has come back.
    fn echoed(&mut self, fragments: &[Vec<u8>]) {
        for (at, fragment) in fragments.iter().enumerate() {
            let mut sealed = vec![0; fragment.len() + OVERHEAD];
            self.keys.sealer.seal(at + 1 == fragments.len(), fragment, &mut sealed).unwrap();
            let psn = self.own.psn.expose().plus(self.sent);
            let bth =
                Bth { ack_req: true, ..Bth::new(Opcode::rc(Operation::SendOnly), self.server.qpn, psn) };
            // One after the other: the server has room for a few only, and asks for time when it has none.
            self.packet(&Headers::new(bth), &sealed);
            loop {
                let answer = self.next(&mut [0; 5000]).headers;
                match answer.aeth.map(|aeth| aeth.syndrome) {
                    Some(Syndrome::Ack { .. }) if answer.bth.psn == psn => break,
                    Some(Syndrome::RnrNak { .. }) => self.packet(&Headers::new(bth), &sealed),
                    // Said again, where this test was late to acknowledge it.
                    None => {}
                    other => panic!("{other:?}"),
                }
            }
            self.sent += 1;
        }
        let (message, mut echo, mut last) = (fragments.concat(), Vec::new(), false);
        while !last {
            let mut datagram = [0; 5000];
            let packet = self.next(&mut datagram);
            let bth = packet.headers.bth;
            if bth.opcode != Opcode::rc(Operation::SendOnly) {
                continue;
            }
            let expected = self.server.psn.expose().plus(u32::try_from(self.keys.opener.count()).unwrap());
            if bth.psn == expected {
                let mut out = [0; 4096];
                let fragment = self.keys.opener.open(packet.payload, &mut out).unwrap();
                echo.extend_from_slice(fragment.bytes);
                last = fragment.last;
            }
            let ack = Bth::new(Opcode::rc(Operation::Acknowledge), self.server.qpn, bth.psn);
            let aeth = Some(Aeth { syndrome: Syndrome::Ack { credits: Syndrome::NO_CREDITS }, msn: 0 });
            self.packet(&Headers { aeth, ..Headers::new(ack) }, &[]);
        }
        assert!(echo == message, "the echo is another");
    }

    /// Ends the session in the orderly way.
    async fn close(mut self) {
        let fragments = Fragments { sent: self.keys.sealer.count(), arrived: self.keys.opener.count() };
        self.control.send_within(&Record::Bye(fragments), PATIENCE).await.unwrap();
        loop {
            match self.control.recv_within(PATIENCE).await.unwrap() {
                Record::ByeAck(theirs) => {
                    assert_eq!((theirs.arrived, theirs.sent), (fragments.sent, fragments.arrived));
                    break;
                }
                Record::Ping { .. } | Record::Pong { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.control.send_within(&Record::Fin, PATIENCE).await.unwrap();
        self.control.shutdown_within(PATIENCE).await.unwrap();
    }
}

fn context(hello: &Hello, client: &Endpoint, server: &Endpoint, region: &Region) -> Context {
    let end = |end: &Endpoint| seal::Endpoint {
        qpn: end.qpn,
        psn: end.psn.expose(),
        gid: end.gid,
        udp_port: end.udp_port.get(),
        lid: 0,
    };
    Context {
        version: VERSION,
        client_policy: SealPolicy::Required,
        server_policy: hello.seal,
        client: end(client),
        server: end(server),
        region: Some(seal::Region {
            addr: region.addr,
            rkey: region.rkey.expose(),
            len: region.len,
            layout: Layout::for_area(region.data_len, Format::DEFAULT).unwrap(),
            counters: region.counters,
            access: region.access | Access::NONE,
        }),
        client_certificate: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_memory_holds_neither_plaintext_nor_keys_of_a_session_that_is_over() {
    let server = Server::start(&["--client-auth", "off"]);
    let mut client = Client::connect(&server).await;
    let mut secrets = std::mem::take(&mut client.secrets);
    // One in each fragment of a long message, and one alone.
    let long = secrets.random("a long message");
    let long: Vec<_> =
        (0..40_u8).map(|at| [&vec![at; 1000][..], &long, &vec![at; 3000][..]].concat()).collect();
    let short = secrets.random("a short message");
    client.echoed(&long);
    client.echoed(&[short.to_vec()]);
    let open = look(&server, &secrets, Some(&mut client)).await;
    for needed in ["TLS EXPORTER_SECRET", "c message key", "s message secret", "c slot secret"] {
        assert!(open.iter().any(|line| line.contains(needed)), "it finds what there is: {needed}, {open:#?}");
    }
    assert!(!open.iter().any(|line| line.contains("session's secret")), "wiped as soon as it was used");
    client.close().await;
    server.program.says("client 1: left");
    let over = look(&server, &secrets, None).await;
    assert!(over.is_empty(), "{over:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_memory_holds_nothing_of_what_was_sent_written_and_read_when_the_session_is_over() {
    let server = Server::start(&[]);
    let trust = Trust::State(server.state.path());
    let identity = Store::open(server.state.path()).unwrap().account_identity().unwrap();
    let device = Device::open(&"embedded".parse().unwrap()).unwrap();
    let client =
        secure_rdma::Client::builder(trust).identity(identity.unwrap()).device(device).build().unwrap();
    let address = server.address;
    let mut session = client
        .connect(&address.ip().to_string(), address.port(), &"localhost".parse().unwrap())
        .await
        .unwrap();

    let mut secrets = Secrets::default();
    let [sent, written] = ["a message", "what was written"].map(|name| secrets.random(name));
    // Long enough for many fragments and slots, with a part of a slot at both ends.
    let [sent, written] = [sent, written].map(|secret| Zeroizing::new(secret.repeat(3000)));
    session.send(&sent).await.unwrap();
    let echo = Zeroizing::new(session.recv().await.unwrap().unwrap());
    session.write(100, &written).await.unwrap();
    let read = Zeroizing::new(session.read(100, written.len()).await.unwrap());
    assert!(*echo == *sent && *read == *written);
    let own = std::process::id();
    assert_eq!(found(own, &secrets).len(), 2, "it finds what there is");
    // What is the program's is the program's to wipe.
    drop((sent, written, echo, read));
    session.close().await.unwrap();
    let over = found(own, &secrets);
    assert!(over.is_empty(), "{over:#?}");
    server.program.says("client 1: left");
    let there = look(&server, &secrets, None).await;
    assert!(there.is_empty(), "at the server: {there:#?}");
}

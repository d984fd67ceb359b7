//! Attackers that come again and again, and clients who want to get in meanwhile.

use crate::harness::{Program, SECURE_CLIENT, Server, State, secure_rdma, text};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connects from one address again and again, and says nothing.
struct Attacker {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Attacker {
    /// How many connections a second.
    const RATE: u32 = 500;

    /// So many are kept at a time; what is older the server has closed.
    const HELD: usize = 600;

    fn start(from: [u8; 4], to: SocketAddr) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = thread::spawn(move || {
            let mut held = VecDeque::new();
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                held.push_front(dial(from, to));
                held.truncate(Self::HELD);
                // At this rate and never faster, also when this thread had to wait for its turn: who comes meanwhile
                // relies on it that not too many others come before its first byte.
                next = next.max(Instant::now()) + Duration::from_secs(1) / Self::RATE;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Self { enough, thread: Some(thread) }
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn dial(from: [u8; 4], to: SocketAddr) -> OwnedFd {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    connect(&socket, &to).unwrap();
    socket
}

/// A server that lets in only clients with a certificate, one of which is issued.
fn server(arguments: &[&str]) -> (Server, [String; 2]) {
    let state = State::new();
    let certs = state.path();
    secure_rdma(&["certs", "init", "--certs", text(&certs)]).succeeded();
    secure_rdma(&["certs", "issue", "w.example", "--client", "--as", "w", "--certs", text(&certs)])
        .succeeded();
    let identity = ["w.pem", "w-key.pem"].map(|file| certs.join(file).to_str().unwrap().to_owned());
    let arguments = [&["--client-auth", "required"], arguments].concat();
    (Server::start_in(state, "127.0.0.1:0", &arguments), identity)
}

fn client(server: &Server, identity: &[String; 2]) -> Program {
    client_with(server, identity, &[])
}

fn client_with(server: &Server, [cert, key]: &[String; 2], more: &[&str]) -> Program {
    let (place, certs) = (server.address.to_string(), server.state.path());
    let own = [place.as_str(), "localhost", "--certs", text(&certs), "--cert", cert, "--key", key];
    Program::start(SECURE_CLIENT, &[&own[..], more].concat())
}

/// Whether a client gets in: not if so many others come between its connection and its first byte that it is the oldest
/// one that has said nothing, because this machine is too busy to give it its turn.
#[track_caller]
fn gets_in(server: &Server, identity: &[String; 2]) -> bool {
    let ended = client_with(server, identity, &["--exec", "send in"]).end();
    if ended.status.success() {
        assert_eq!(ended.out, ["in"]);
        return true;
    }
    ended.failed(1, &["the server closed the connection before the TLS handshake was done"]);
    false
}

/// With 26 connections a second this server once let nobody in.
#[test]
fn idle_connections_500_a_second_keep_nobody_out() {
    let (server, identity) = server(&[]);
    for attacker in [[127, 0, 0, 2], [127, 0, 0, 1]] {
        let attacking = Attacker::start(attacker, server.address);
        // It has as many places as it can have.
        server.program.says("its handshake was dropped");
        let mut late = 0;
        for _ in 0..10 {
            while !gets_in(&server, &identity) {
                late += 1;
                assert!(late <= 10, "{attacker:?} keeps clients out");
            }
        }
        drop(attacking);
    }
}

#[test]
fn of_too_many_handshakes_the_oldest_silent_one_is_closed() {
    let server = Server::start(&["--max-handshakes", "4"]);
    // One address may have half of them.
    let mut idle: Vec<_> = (0..3).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let line = server.program.says("its handshake was dropped");
    assert!(line.contains(&idle[0].local_addr().unwrap().to_string()), "{line}");
    server.serves();
    idle.clear();
}

#[test]
fn one_identity_leaves_places_to_others() {
    let (server, identity) = server(&["--max-clients", "16"]);
    let mut clients: Vec<_> = (0..4).map(|_| client(&server, &identity)).collect();
    for client in &mut clients {
        client.type_line("send in");
        client.says("in");
    }
    client(&server, &identity).ends().failed(1, &["dns:w.example has 4 sessions"]);
    let certs = server.state.path();
    secure_rdma(&["certs", "issue", "v.example", "--client", "--as", "v", "--certs", text(&certs)])
        .succeeded();
    let other = ["v.pem", "v-key.pem"].map(|file| certs.join(file).to_str().unwrap().to_owned());
    let mut other = client(&server, &other);
    other.type_line("send in");
    other.says("in");
    drop(clients.pop());
    other.end().succeeded();
}

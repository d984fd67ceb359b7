//! `kill -9` and SIGSTOP of either side at each step of the bootstrap, of a transfer, of a new key and of the close.

use super::proxy::Proxy;
use crate::harness::{Ended, PATIENCE, Program, SECURE_CLIENT, Server, text};
use rustix::process::{Pid, Signal, kill_process};
use secure_rdma::certs::Store;
use secure_rdma::{Client, Limits, Session, SessionError, SessionOptions};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces that both sides say, until a session is open and a little longer: from ClientHello to the client's Ready.
const BOOTSTRAP: usize = 7;

/// The same of a goodbye: Bye, ByeAck, Fin, and the ends of TLS.
const GOODBYE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Client,
    Server,
}

/// The program with that id, once it is known.
#[derive(Clone, Default)]
struct Process(Arc<OnceLock<Pid>>);

impl Process {
    fn is(&self, program: &Program) {
        self.0.set(Pid::from_raw(program.id().try_into().unwrap()).unwrap()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let deadline = Instant::now() + PATIENCE;
        let id = loop {
            match self.0.get() {
                Some(id) => break *id,
                None => assert!(Instant::now() < deadline, "no process"),
            }
            thread::sleep(Duration::from_millis(1));
        };
        kill_process(id, signal).unwrap();
    }
}

/// A server for one client, and this client behind a proxy.
struct Stage {
    server: Server,
    client: Program,
    proxy: Proxy,
    at_client: Process,
    at_server: Process,
}

impl Stage {
    /// With `signal` for `victim` before so many pieces have passed, if it says so.
    fn new(fault: Option<(Victim, Signal, usize)>) -> Self {
        let server = Server::start_alone(&["--max-clients", "1"]);
        let proxy = Proxy::start(server.address);
        let (at_client, at_server) = (Process::default(), Process::default());
        at_server.is(&server.program);
        if let Some((victim, signal, step)) = fault {
            let process = if victim == Victim::Client { &at_client } else { &at_server }.clone();
            proxy.arm(step, move || process.signal(signal));
        }
        let (place, certs) = (proxy.address.to_string(), server.state.path());
        let client = Program::start(SECURE_CLIENT, &[&place, "localhost", "--certs", text(&certs)]);
        at_client.is(&client);
        Self { server, client, proxy, at_client, at_server }
    }

    /// Waits until the fault has happened.
    #[track_caller]
    fn wait_for_fault(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.proxy.is_done() {
            assert!(Instant::now() < deadline, "there are fewer steps");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Looks what becomes of both sides after `signal` for `victim`.
    fn survives(self, victim: Victim, signal: Signal) {
        self.wait_for_fault();
        let Self { server, client, at_client, at_server, .. } = self;
        match (victim, signal) {
            (Victim::Client, Signal::KILL) => {
                drop(client);
                // Its place is free: it was the only one.
                server.serves();
            }
            (Victim::Client, _) => {
                server.serves();
                at_client.signal(Signal::CONT);
                // As long as it had no place, it may still get one.
                let ended = client.end();
                if !ended.status.success() {
                    noticed(ended);
                }
            }
            (Victim::Server, Signal::KILL) => {
                noticed(client.end());
                let Server { program, address, state } = server;
                drop(program);
                Server::start_in(state, &address.to_string(), &[]).serves();
            }
            (Victim::Server, _) => {
                // It doesn't wait for the server to go on.
                noticed(client.end());
                at_server.signal(Signal::CONT);
                server.serves();
            }
        }
    }
}

/// A side that was left says so, in one line, and with its exit code.
#[track_caller]
fn noticed(ended: Ended) {
    let ended = ended.failed(1, &["error: "]);
    let reason = ended.err.lines().last().unwrap();
    assert!(reason.starts_with("error: ") && reason.len() > 30, "{ended:?}");
}

/// Each of these by itself, all at once: most of the time they wait.
fn at_each_step(steps: usize, scene: impl Fn(usize) + Send + Copy + 'static) {
    let scenes: Vec<_> = (0..steps).map(|step| (step, thread::spawn(move || scene(step)))).collect();
    let failed: Vec<_> =
        scenes.into_iter().filter_map(|(step, scene)| scene.join().err().map(|_| step)).collect();
    assert!(failed.is_empty(), "at steps {failed:?}");
}

fn during_the_bootstrap(victim: Victim, signal: Signal) {
    at_each_step(BOOTSTRAP, move |step| {
        Stage::new(Some((victim, signal, step))).survives(victim, signal);
    });
}

#[test]
fn a_client_killed_at_any_step_of_the_bootstrap_leaves_its_place() {
    during_the_bootstrap(Victim::Client, Signal::KILL);
}

#[test]
fn a_client_that_stands_still_at_any_step_of_the_bootstrap_loses_its_place() {
    during_the_bootstrap(Victim::Client, Signal::STOP);
}

#[test]
fn a_server_killed_at_any_step_of_the_bootstrap_is_missed() {
    during_the_bootstrap(Victim::Server, Signal::KILL);
}

#[test]
fn a_server_that_stands_still_at_any_step_of_the_bootstrap_is_not_waited_for() {
    during_the_bootstrap(Victim::Server, Signal::STOP);
}

/// Large messages are on their way all the time, in packets that the proxy doesn't see.
fn during_a_transfer(victim: Victim, signal: Signal) {
    let mut stage = Stage::new(None);
    let mut input = stage.client.take_input();
    thread::spawn(move || {
        use std::io::Write as _;
        let line = format!("send {}\n", "x".repeat(500_000));
        while input.write_all(line.as_bytes()).is_ok() {}
    });
    stage.client.says("xxxx");
    let process = if victim == Victim::Client { &stage.at_client } else { &stage.at_server };
    process.signal(signal);
    stage.survives(victim, signal);
}

#[test]
fn a_client_that_stands_still_in_mid_transfer_loses_its_place() {
    during_a_transfer(Victim::Client, Signal::STOP);
}

#[test]
fn a_server_that_stands_still_in_mid_transfer_is_given_up() {
    during_a_transfer(Victim::Server, Signal::STOP);
}

/// A client of this process's own, behind a proxy, whose server needs a new key every 50 packets. What passes the proxy
/// next is that the client takes packets under it.
async fn before_a_new_key(server: &Server, signal: Signal) -> (Session, Proxy) {
    let store = Store::open(server.state.path()).unwrap();
    let name = "localhost".parse().unwrap();
    let identity = store.account_identity().unwrap().unwrap();
    let proxy = Proxy::start(server.address);
    let options = SessionOptions::default().key_limits(Limits { records: 50, bytes: u64::MAX });
    let client =
        Client::builder(store.authority().unwrap()).identity(identity).options(options).build().unwrap();
    let session = client.connect("127.0.0.1", proxy.address.port(), &name).await.unwrap();
    let process = Process::default();
    process.is(&server.program);
    proxy.arm(0, move || process.signal(signal));
    (session, proxy)
}

async fn echo(session: &mut Session, number: u32) -> Result<(), SessionError> {
    session.send(&number.to_be_bytes()).await?;
    assert_eq!(session.recv().await?.unwrap(), number.to_be_bytes());
    session.write(0, &number.to_be_bytes()).await?;
    assert_eq!(session.read(0, 4).await?, number.to_be_bytes());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_while_it_is_given_a_new_key_goes_on_with_it() {
    let server = Server::start(&[]);
    let (mut session, proxy) = before_a_new_key(&server, Signal::STOP).await;
    let echoes = async {
        for number in 0.. {
            echo(&mut session, number).await.unwrap();
        }
    };
    // In the middle of one, most likely. Much shorter than a queue pair waits for an answer, as machines may be slow.
    let stands_still = async {
        while !proxy.is_done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        () = echoes => {}
        stood_still = tokio::time::timeout(PATIENCE, stands_still) => stood_still.expect("no new key"),
    }
    server.program.signal(Signal::CONT);
    // What was cancelled in its middle is ended first; its echo comes before the next one's.
    let read = tokio::time::timeout(PATIENCE, session.read(0, 4)).await.unwrap();
    read.unwrap();
    session.write(0, b"goes on").await.unwrap();
    assert_eq!(session.read(0, 7).await.unwrap(), b"goes on");
    session.close().await.unwrap();
    server.program.says("client 1: left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_is_given_a_new_key_is_missed() {
    let server = Server::start(&[]);
    let (mut session, _proxy) = before_a_new_key(&server, Signal::KILL).await;
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match tokio::time::timeout(PATIENCE, echo(&mut session, 7)).await.unwrap() {
            Ok(()) => assert!(Instant::now() < deadline, "no new key"),
            Err(error) => break error,
        }
    };
    assert!(error.is_closed() || error.is_timeout(), "{error}");
}

fn during_the_close(victim: Victim, signal: Signal) {
    at_each_step(GOODBYE, move |step| {
        let mut stage = Stage::new(None);
        stage.client.type_line("send hello");
        stage.client.says("hello");
        let process = if victim == Victim::Client { &stage.at_client } else { &stage.at_server }.clone();
        stage.proxy.arm(step, move || process.signal(signal));
        stage.client.type_line("quit");
        stage.wait_for_fault();
        let Stage { server, client, at_client, at_server, .. } = stage;
        match victim {
            Victim::Client => {
                if signal == Signal::KILL {
                    drop(client);
                    server.serves();
                } else {
                    server.serves();
                    at_client.signal(Signal::CONT);
                    drop(client.ends());
                }
            }
            Victim::Server => {
                // After the server's last word nothing is missing.
                let ended = client.ends();
                assert!(ended.status.success() || ended.err.contains("error: "), "{ended:?}");
                assert!(!ended.err.contains("panicked"), "{ended:?}");
                if signal == Signal::STOP {
                    at_server.signal(Signal::CONT);
                    server.serves();
                }
            }
        }
    });
}

#[test]
fn a_client_killed_at_any_step_of_the_close_leaves_its_place() {
    during_the_close(Victim::Client, Signal::KILL);
}

#[test]
fn a_client_that_stands_still_at_any_step_of_the_close_loses_its_place() {
    during_the_close(Victim::Client, Signal::STOP);
}

#[test]
fn a_server_that_goes_at_any_step_of_the_close_keeps_no_client() {
    during_the_close(Victim::Server, Signal::KILL);
    during_the_close(Victim::Server, Signal::STOP);
}

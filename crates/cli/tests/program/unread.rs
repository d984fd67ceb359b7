//! A server whose output nobody reads.

use crate::harness::{PATIENCE, Program, SECURE_CLIENT, SECURE_SERVER, State, secure_rdma, text};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A server, and its output up to where it says that it listens: nobody reads on.
struct Unread {
    child: Child,
    output: BufReader<ChildStdout>,
    place: String,
    state: State,
}

impl Unread {
    fn start() -> Self {
        let state = State::new();
        let certs = state.path();
        let issue = ["certs", "issue", "w.example", "--client", "--as", "w", "--certs", text(&certs)];
        secure_rdma(&issue).succeeded();
        secure_rdma(&["certs", "revoke", "--certs", text(&certs)]).succeeded();
        let crl = certs.join("crl.pem");
        let mut child = Command::new(SECURE_SERVER)
            .args(["--listen", "127.0.0.1:0", "--device", "embedded", "--certs", text(&certs)])
            .args(["--client-auth", "required", "--crl", text(&crl), "--handshake-limit", "60"])
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        // A page: the server's last lines don't fit.
        rustix::pipe::fcntl_setpipe_size(&output, 4096).unwrap();
        let mut output = BufReader::with_capacity(1, output);
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let place = line.split([' ', ',']).nth(2).unwrap().to_owned();
        Self { child, output, place, state }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn client(&self) -> Program {
        let certs = self.state.path();
        let files = ["w.pem", "w-key.pem"].map(|file| certs.join(file));
        let mut client = Program::start(
            SECURE_CLIENT,
            &[
                &self.place,
                "localhost",
                "--device",
                "embedded",
                "--certs",
                text(&certs),
                "--cert",
                text(&files[0]),
                "--key",
                text(&files[1]),
            ],
        );
        client.type_line("send in");
        client.says("in");
        client
    }

    /// Bytes of memory in use.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    /// Strangers come and go: each is a line of the server's, or counted.
    fn annoy(&self, times: usize) {
        for _ in 0..times {
            drop(TcpStream::connect(&self.place).unwrap());
        }
    }

    /// It ends, and what it has said to nobody since.
    fn end(mut self) -> String {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it runs on");
            thread::sleep(Duration::from_millis(5));
        }
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nobody_who_reads_is_no_reason_to_stop_to_grow_or_to_forget_a_revocation() {
    let server = Unread::start();
    let first = server.client();
    server.annoy(1000);
    let before = server.memory();
    server.annoy(4000);
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for 4000 connections");
    // The pipe has been full for long: others are served, and who is revoked isn't.
    let second = server.client();
    let certs = server.state.path();
    secure_rdma(&["certs", "revoke", "w", "--certs", text(&certs)]).succeeded();
    kill_process(server.pid(), Signal::HUP).unwrap();
    for client in [first, second] {
        client.ends().failed(1, &["revoked"]);
    }
    server.end();
}

#[test]
fn an_output_that_is_closed_does_not_end_the_server() {
    let mut server = Unread::start();
    let (reader, _writer) = std::io::pipe().unwrap();
    let closed = std::mem::replace(
        &mut server.output,
        BufReader::new(ChildStdout::from(std::os::fd::OwnedFd::from(reader))),
    );
    drop(closed);
    server.annoy(100);
    server.client().end().succeeded();
    kill_process(server.pid(), Signal::TERM).unwrap();
    assert!(server.child.wait().unwrap().success());
}

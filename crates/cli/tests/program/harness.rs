//! Processes that are never waited for without a limit, and never outlive their test.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that should happen at once. Long, because the machine may be busy, and longer than what
/// the programs wait for themselves: 15 s for a silent peer, 30 s between two attempts to connect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How long a server gives a client for its TLS handshake: a client that doesn't get its turn isn't what tests are
/// about.
const HANDSHAKE: [&str; 2] = ["--handshake-limit", "60"];

pub(crate) const SECURE_RDMA: &str = env!("CARGO_BIN_EXE_secure-rdma");
pub(crate) const SECURE_SERVER: &str = env!("CARGO_BIN_EXE_secure_server");
pub(crate) const SECURE_CLIENT: &str = env!("CARGO_BIN_EXE_secure_client");

/// The lines that a process has written to one of its outputs.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Default)]
struct Collected {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn collect(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            let (collected, changed) = &*shared.0;
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                collected.lock().unwrap().lines.push(line);
                changed.notify_all();
            }
            collected.lock().unwrap().ended = true;
            changed.notify_all();
        });
        lines
    }

    /// Waits until `found` finds something in the lines so far.
    fn wait<T>(&self, patience: Duration, mut found: impl FnMut(&Collected) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let (collected, changed) = &*self.0;
        let mut guard = collected.lock().unwrap();
        loop {
            if let Some(value) = found(&guard) {
                return Some(value);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if guard.ended {
                return None;
            }
            guard = changed.wait_timeout(guard, left).unwrap().0;
        }
    }

    fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap().lines.clone()
    }

    fn all(&self) -> Vec<String> {
        self.wait(PATIENCE, |collected| collected.ended.then_some(()));
        self.so_far()
    }
}

/// A running program.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Lines,
    err: Lines,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<String>,
    pub(crate) err: String,
}

impl Ended {
    /// It was done.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        self
    }

    /// It failed with that exit code, and said so in these words; no panic, and no success on its standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is missing: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
        self
    }
}

impl Program {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        Self::spawn(Command::new(program).args(arguments))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        // Nothing of the account that runs the tests may matter.
        Self::spawn_with_state(command, Path::new("/nonexistent/secure-rdma-tests"))
    }

    /// The same with another place for the account's state.
    pub(crate) fn spawn_with_state(command: &mut Command, state: &Path) -> Self {
        command.env_remove("RUST_LOG").env("XDG_STATE_HOME", state);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (out, err) = (Lines::collect(out), Lines::collect(err));
        Self { stdin: child.stdin.take(), child, out, err }
    }

    /// Gives it a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Takes its input away, to be filled by another thread.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    /// Waits for a line on standard output that contains `part`.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> String {
        let found = self.out.wait(PATIENCE, |collected| find(&collected.lines, part));
        found.unwrap_or_else(|| {
            panic!("{part:?} was not said: {:?} {:?}", self.out.so_far(), self.err.so_far())
        })
    }

    /// The same, so many times.
    #[track_caller]
    pub(crate) fn says_times(&self, part: &str, times: usize) -> Vec<String> {
        let enough = |collected: &Collected| {
            let lines: Vec<_> = collected.lines.iter().filter(|line| line.contains(part)).cloned().collect();
            (lines.len() >= times).then_some(lines)
        };
        let found = self.out.wait(PATIENCE, enough);
        found.unwrap_or_else(|| panic!("{part:?} was not said {times} times: {:?}", self.out.so_far()))
    }

    /// Waits until it has written so many lines to standard output.
    #[track_caller]
    pub(crate) fn says_lines(&self, count: usize) {
        let found = self.out.wait(PATIENCE, |collected| (collected.lines.len() >= count).then_some(()));
        found.unwrap_or_else(|| {
            panic!("{} lines of {count}: {:?}", self.out.so_far().len(), self.err.so_far())
        });
    }

    /// Waits for a line on standard error that contains `part`.
    #[track_caller]
    pub(crate) fn warns(&self, part: &str) -> String {
        let found = self.err.wait(PATIENCE, |collected| find(&collected.lines, part));
        found.unwrap_or_else(|| {
            panic!("{part:?} was not said: {:?} {:?}", self.out.so_far(), self.err.so_far())
        })
    }

    /// Waits for a line on standard output that contains `part`, or until there is no more to come; whether it came.
    pub(crate) fn says_before_its_end(&self, part: &str) -> bool {
        self.out.wait(PATIENCE, |collected| find(&collected.lines, part)).is_some()
    }

    /// Whether a line on standard error contains `part`, so far.
    pub(crate) fn has_warned(&self, part: &str) -> bool {
        find(&self.err.so_far(), part).is_some()
    }

    /// Waits until that many lines on standard error contain `part`.
    #[track_caller]
    pub(crate) fn warns_times(&self, part: &str, times: usize) {
        let enough = |collected: &Collected| {
            let lines = collected.lines.iter().filter(|line| line.contains(part)).count();
            (lines >= times).then_some(())
        };
        self.err.wait(PATIENCE, enough).unwrap_or_else(|| {
            panic!("{part:?} was not said {times} times: {:?} {:?}", self.out.so_far(), self.err.so_far())
        });
    }

    /// How many lines it has written to standard output so far.
    pub(crate) fn lines(&self) -> usize {
        self.out.0.0.lock().unwrap().lines.len()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal. One that is to stop it has stopped all of its threads then.
    #[track_caller]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
        if signal == rustix::process::Signal::STOP {
            let deadline = Instant::now() + PATIENCE;
            while !self.stands_still() {
                assert!(Instant::now() < deadline, "it goes on");
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn stands_still(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        threads.map(|entry| entry.unwrap().path().join("stat")).all(|stat| {
            // The name, in parentheses, may have any character. A thread that has ended has no file.
            std::fs::read_to_string(stat)
                .map_or(true, |text| text.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
        })
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends its input and waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        drop(self.stdin.take());
        self.ends()
    }

    /// Waits for its end, its input still being open.
    #[track_caller]
    pub(crate) fn ends(self) -> Ended {
        self.ends_within(PATIENCE)
    }

    /// The same, with a limit of its own.
    #[track_caller]
    pub(crate) fn ends_within(mut self, limit: Duration) -> Ended {
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it runs on: {:?} {:?}", self.out.so_far(), self.err.so_far());
            thread::sleep(Duration::from_millis(5));
        };
        Ended { status, out: self.out.all(), err: self.err.all().join("\n") }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find(lines: &[String], part: &str) -> Option<String> {
    lines.iter().find(|line| line.contains(part)).cloned()
}

/// A UDP socket at port 4791 of an address that only this test uses.
pub(crate) fn rocev2_socket(address: [u8; 4]) -> UdpSocket {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UdpSocket::bind((Ipv4Addr::from(address), 4791)) {
            Ok(socket) => return socket,
            // `doctor` tries the port of all addresses, for a moment.
            Err(error) => {
                assert!(error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline, "{error}");
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs `secure-rdma` to its end.
#[track_caller]
pub(crate) fn secure_rdma(arguments: &[&str]) -> Ended {
    Program::start(SECURE_RDMA, arguments).end()
}

/// A directory of certificates that is gone with its test.
pub(crate) struct State {
    dir: TempDir,
}

impl State {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("state")
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What a server says of each client that has left in the orderly way.
const LEFT: &str = ": left; ";

/// A `secure_server` on a port of its own.
pub(crate) struct Server {
    pub(crate) program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) state: State,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    /// The same at an address of its own: another server can take the port again, which no other test's connection has
    /// taken meanwhile.
    pub(crate) fn start_alone(arguments: &[&str]) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        Self::start_at(&format!("127.86.1.{}:0", NUMBER.fetch_add(1, Ordering::Relaxed)), arguments)
    }

    pub(crate) fn start_at(listen: &str, arguments: &[&str]) -> Self {
        Self::start_in(State::new(), listen, arguments)
    }

    /// A server with the certificates that are in `state`.
    pub(crate) fn start_in(state: State, listen: &str, arguments: &[&str]) -> Self {
        Self::start_as(&mut Command::new(SECURE_SERVER), state, listen, arguments)
    }

    /// The same by a command that has to have the arguments yet.
    pub(crate) fn start_as(command: &mut Command, state: State, listen: &str, arguments: &[&str]) -> Self {
        let certs = state.path();
        let mut all = vec!["--listen", listen, "--certs", text(&certs)];
        if !arguments.contains(&HANDSHAKE[0]) {
            all.extend(HANDSHAKE);
        }
        all.extend(arguments);
        let program = Program::spawn(command.args(all));
        let line = program.says("listening on ");
        let address = line.split([' ', ',']).nth(2).unwrap().parse().unwrap();
        Self { program, address, state }
    }

    /// The address as a client takes it, with this host's own address for an unspecified one.
    pub(crate) fn place(&self, host: &str) -> String {
        format!("{host}:{}", self.address.port())
    }

    /// A client of this server, whose standard input is open.
    pub(crate) fn client(&self, arguments: &[&str]) -> Program {
        self.client_as(&mut Command::new(SECURE_CLIENT), arguments)
    }

    /// The same by a command that has to have the arguments yet.
    pub(crate) fn client_as(&self, command: &mut Command, arguments: &[&str]) -> Program {
        let (place, certs) = (self.address.to_string(), self.state.path());
        let mut all = vec![place.as_str(), "localhost", "--certs", text(&certs)];
        all.extend(arguments);
        Program::spawn(command.args(all))
    }

    /// What a client does with these lines on its standard input.
    #[track_caller]
    pub(crate) fn client_with(&self, lines: &str) -> Ended {
        let mut client = self.client(&[]);
        // A client that ended before may leave some unread.
        let _ = client.stdin.as_mut().unwrap().write_all(lines.as_bytes());
        client.end()
    }

    /// The server goes on serving: a client can do everything, at the latest when the ones before it have
    /// been given up. When this returns, its place is free again.
    #[track_caller]
    pub(crate) fn serves(&self) {
        let left = self.left();
        let ended = self.once_there_is_room(|| {
            self.client_with("send still here\nwrite some data\nread 9\nadd 5\nquit\n")
        });
        assert_eq!(ended.succeeded().out, ["still here", "9 bytes written", "some data", "0 + 5 = 5"]);
        self.program.says_times(LEFT, left + 1);
    }

    /// How many clients have left in the orderly way so far.
    fn left(&self) -> usize {
        self.program.out.so_far().iter().filter(|line| line.contains(LEFT)).count()
    }

    /// What became of a client that the server wasn't too full for.
    #[track_caller]
    pub(crate) fn once_there_is_room(&self, client: impl Fn() -> Ended) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        // Each attempt is a process: not so many that those that are waited for don't get their turn.
        let mut pause = Duration::from_millis(50);
        loop {
            let ended = client();
            if !ended.err.contains("the server is full") {
                return ended;
            }
            assert!(Instant::now() < deadline, "{ended:?}");
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

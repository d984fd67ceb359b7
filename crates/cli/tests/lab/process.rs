//! Processes whose every wait has a limit, and that never outlive their test.

use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take that should happen at once. Long, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often something is looked at that can't be waited for.
const PAUSE: Duration = Duration::from_millis(10);

/// A running process. Its input and outputs are files: it never waits for the test to read them.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    files: TempDir,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Process {
    /// Starts it with this text as its standard input.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, input: &str) -> Self {
        let files = TempDir::new().unwrap();
        fs::write(files.path().join("in"), input).unwrap();
        let input = File::open(files.path().join("in")).unwrap();
        Self::spawn(command.stdin(input), files)
    }

    /// Starts it with a standard input on which nothing comes until it is taken ([`take_input`](Self::take_input)).
    #[track_caller]
    pub(crate) fn start_waiting(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()), TempDir::new().unwrap())
    }

    #[track_caller]
    fn spawn(command: &mut Command, files: TempDir) -> Self {
        let path = |name| files.path().join(name);
        // Nothing of the account that runs the tests may matter.
        command.env_remove("RUST_LOG").env("XDG_STATE_HOME", path("state"));
        command.stdout(File::create(path("out")).unwrap()).stderr(File::create(path("err")).unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, files }
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(command: &mut Command, input: &str) -> Ended {
        Self::start(command, input).end_within(PATIENCE)
    }

    /// The standard input of one that was started waiting, to be filled by another thread.
    pub(crate) fn take_input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("out")).unwrap()).into_owned()
    }

    /// What it has written to standard error so far.
    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("err")).unwrap()).into_owned()
    }

    /// Waits until its outputs satisfy a condition.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, limit: Duration, met: impl Fn(&Self) -> bool) {
        wait_until(limit, || met(self))
            .unwrap_or_else(|| panic!("no {what}: {} {}", ends_of(&self.out()), self.err()));
    }

    /// Waits until a line of its standard output contains `part`, and returns it.
    #[track_caller]
    pub(crate) fn says(&self, part: &str) -> String {
        self.wait_until(part, PATIENCE, |process| process.out().lines().any(|line| line.contains(part)));
        self.out().lines().find(|line| line.contains(part)).unwrap_or_default().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end_within(mut self, limit: Duration) -> Ended {
        let child = &mut self.child;
        let mut status = None;
        wait_until(limit, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let Some(status) = status else {
            panic!("it runs on after {limit:?}: {} {}", ends_of(&self.out()), self.err());
        };
        Ended { status, out: self.out(), err: self.err() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// It was done.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        let Self { status, out, err } = &self;
        assert_eq!(status.code(), Some(0), "{} {err}", ends_of(out));
        self
    }
}

/// Waits until a condition is met; `None` if it isn't within the limit.
pub(crate) fn wait_until(limit: Duration, mut met: impl FnMut() -> bool) -> Option<()> {
    let deadline = Instant::now() + limit;
    while !met() {
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
    Some(())
}

/// The text, without the middle of long lines.
pub(crate) fn ends_of(text: &str) -> String {
    let short = |line: &str| match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}… ({} bytes)", &line[..end], line.len()),
        None => line.to_owned(),
    };
    text.lines().map(short).collect::<Vec<_>>().join("\n")
}

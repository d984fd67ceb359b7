//! The client at a terminal: line editing, history, and a terminal that is as before when it ends.

use crate::harness::{PATIENCE, SECURE_CLIENT, Server, text};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const UP: &str = "\x1b[A";
const LEFT: &str = "\x1b[D";
const CONTROL_C: &str = "\x03";
const CONTROL_D: &str = "\x04";

/// A client at a terminal of its own.
struct Session {
    client: Child,
    keyboard: File,
    device: File,
    screen: Arc<Mutex<String>>,
    /// How much of the screen was looked at.
    seen: usize,
}

impl Session {
    fn start(server: &Server) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let device = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let end = || Stdio::from(device.try_clone().unwrap());
        let mut command = Command::new(SECURE_CLIENT);
        command.args([&server.address.to_string(), "localhost", "--certs", text(&server.state.path())]);
        command.env("TERM", "xterm").env_remove("RUST_LOG");
        let client = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().unwrap();
        let screen: Arc<Mutex<String>> = Arc::default();
        let shared = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shared.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { client, keyboard, device, screen, seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this has appeared, after what appeared before.
    #[track_caller]
    fn sees(&mut self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen.lock().unwrap().clone();
            if let Some(at) = screen[self.seen..].find(part) {
                self.seen += at + part.len();
                return;
            }
            assert!(Instant::now() < deadline, "{part:?} doesn't appear: {screen:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the client has ended; returns its exit code and whether lines are edited by the terminal again.
    fn end(mut self) -> (Option<i32>, bool) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.client.try_wait().unwrap() {
                return (status.code(), self.is_usual());
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it runs on: {:?}", self.screen.lock().unwrap());
    }

    fn is_usual(&self) -> bool {
        tcgetattr(&self.device).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

#[test]
fn lines_are_edited_recalled_and_corrected() {
    let server = Server::start(&[]);
    let mut session = Session::start(&server);
    session.sees("secure-rdma> ");
    session.press(&format!("send helo{LEFT}l\r"));
    session.sees("\nhello");
    session.sees("secure-rdma> ");
    // What fails is no reason to stop, since it can be corrected.
    session.press("read 9999999999\r");
    session.sees("error: 9999999999 bytes at offset 0 reach outside the region");
    session.sees("secure-rdma> ");
    session.press("nonsense\r");
    session.sees("error: \"nonsense\" is no command");
    session.sees("secure-rdma> ");
    session.press(&format!("not this{CONTROL_C}"));
    session.sees("secure-rdma> ");
    session.press(&format!("{UP}{UP}{UP}\r"));
    session.sees("\nhello");
    session.sees("secure-rdma> ");
    session.press(CONTROL_D);
    assert_eq!(session.end(), (Some(0), true));
    server.program.says("client 1: left");

    // The next client knows what was typed.
    let mut session = Session::start(&server);
    session.sees("secure-rdma> ");
    session.press(&format!("{UP}\r"));
    session.sees("\nhello");
    session.sees("secure-rdma> ");
    session.press("quit\r");
    assert_eq!(session.end(), (Some(0), true));
}

#[test]
fn a_server_that_dies_at_the_prompt_leaves_a_usable_terminal() {
    let server = Server::start(&[]);
    let mut session = Session::start(&server);
    session.sees("secure-rdma> ");
    session.press("half a line");
    session.sees("half a line");
    assert!(!session.is_usual(), "the line is being edited");
    server.program.signal(Signal::KILL);
    session.sees("\nerror: ");
    assert_eq!(session.end(), (Some(1), true));
}

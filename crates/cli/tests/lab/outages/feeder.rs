//! Traffic: lines for a client, as long as it takes them.

use std::io::Write;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Between two lines: so that many clients at once have their turn. There is always one under way when a fault comes.
const PAUSE: Duration = Duration::from_millis(5);

/// Of so many lines one writes that many bytes; the others send a message.
const WRITES: usize = 20;
const BYTES: usize = 100_000;

pub(super) struct Feeder {
    enough: Arc<AtomicBool>,
    lines: JoinHandle<usize>,
}

impl Feeder {
    pub(super) fn start(mut input: ChildStdin) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let lines = thread::spawn(move || {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) && input.write_all(line(count).as_bytes()).is_ok() {
                count += 1;
                thread::sleep(PAUSE);
            }
            count
        });
        Self { enough, lines }
    }

    /// Ends the client's input. Returns how many lines it was given.
    pub(super) fn stop(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        self.lines.join().unwrap()
    }
}

fn is_write(at: usize) -> bool {
    at % WRITES == WRITES - 1
}

fn line(at: usize) -> String {
    if is_write(at) { format!("write {}\n", "x".repeat(BYTES)) } else { format!("send {at}.\n") }
}

/// Whether that is what the line with this number comes to.
pub(super) fn is_answer(at: usize, answer: &str) -> bool {
    if is_write(at) { answer == format!("{BYTES} bytes written") } else { answer == format!("{at}.") }
}

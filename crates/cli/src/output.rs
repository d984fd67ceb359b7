//! Lines for people and programs. The macros of the standard library panic when the other end of a pipe is
//! closed; these don't.
//!
//! A command that is done soon writes as it goes, and waits for whoever reads. A server must not: before it
//! serves it calls [`detach`], and from then on a thread of its own writes, and what nobody reads in time is
//! left out and counted.

use crate::args::LogFormat;
use crate::failure::Failure;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Lines that wait for their reader.
const WAITING: usize = 1024;

/// How long a server that ends waits for whoever reads its last lines; the thread that writes them may have to wait for
/// its turn, too.
const LAST_LINES: Duration = Duration::from_secs(5);

static DETACHED: OnceLock<Detached> = OnceLock::new();

/// The outputs, with a thread each.
struct Detached {
    out: Lines,
    err: Lines,
    format: LogFormat,
}

/// From now on nothing waits for whoever reads standard output and standard error. Events are written as
/// `format` has it.
///
/// # Errors
/// No thread can be started.
pub(crate) fn detach(format: LogFormat) -> Result<(), Failure> {
    let start = |name, sink| Lines::start(name, sink).map_err(Failure::system("starting a thread"));
    let detached = Detached {
        out: start("standard output", Box::new(io::stdout()))?,
        err: start("standard error", Box::new(io::stderr()))?,
        format,
    };
    // If it has been done before, those two threads end.
    let _ = DETACHED.set(detached);
    Ok(())
}

/// Waits until what was said has been written, if somebody reads it soon.
pub(crate) fn finish() {
    if let Some(Detached { out, err, .. }) = DETACHED.get() {
        let deadline = Instant::now() + LAST_LINES;
        out.flush(deadline);
        err.flush(deadline);
    }
}

/// Writes a line of results to standard output, at once, even into a pipe.
pub(crate) fn line(text: Arguments<'_>) -> Result<(), Failure> {
    if let Some(detached) = DETACHED.get() {
        detached.out.put(format!("{text}\n").into_bytes());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Tells what has happened: as `text`, or as a JSON object with the time, the event's name, `fields` and the text.
pub(crate) fn event(name: &str, fields: &[(&str, Value)], text: Arguments<'_>) -> Result<(), Failure> {
    if DETACHED.get().is_none_or(|detached| detached.format == LogFormat::Text) {
        return line(text);
    }
    let mut object = Map::new();
    let mut time = String::new();
    // Into a string nothing fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    object.insert("timestamp".into(), time.into());
    object.insert("event".into(), name.into());
    object.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    object.insert("message".into(), text.to_string().into());
    line(format_args!("{}", Value::Object(object)))
}

/// Writes `document` to standard output as JSON.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)
        .map_err(|error| Failure::Other(format!("writing JSON: {error}")))?;
    line(format_args!("{text}"))
}

/// Writes a line that isn't a result to standard error.
pub(crate) fn note(text: Arguments<'_>) {
    let _ = writeln!(StandardError, "{text}");
}

/// Standard error, whether a thread writes it or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match DETACHED.get() {
            Some(detached) => detached.err.put(bytes.to_vec()),
            None => io::stderr().lock().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|source| match source.kind() {
        ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::System { what: "writing to standard output", source },
    })
}

/// What a thread writes to one output, if it is read.
struct Lines {
    waiting: SyncSender<Item>,
    left_out: &'static AtomicU64,
}

enum Item {
    Text(Vec<u8>),
    /// Everything before it has been written when this is told.
    Mark(SyncSender<()>),
}

impl Lines {
    fn start(name: &'static str, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let (waiting, items) = sync_channel(WAITING);
        let left_out: &'static AtomicU64 = Box::leak(Box::default());
        std::thread::Builder::new().name(name.into()).spawn(move || write(name, sink, &items, left_out))?;
        Ok(Self { waiting, left_out })
    }

    fn put(&self, text: Vec<u8>) {
        if self.waiting.try_send(Item::Text(text)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, deadline: Instant) {
        let (mark, done) = sync_channel(1);
        let mut item = Item::Mark(mark);
        while let Err(TrySendError::Full(back)) = self.waiting.try_send(item) {
            if Instant::now() >= deadline {
                return;
            }
            item = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// Writes what comes, until nothing can come any more. When the output is closed, what comes is thrown away: a
/// server goes on without a reader.
fn write(name: &str, mut sink: Box<dyn Write + Send>, items: &Receiver<Item>, left_out: &AtomicU64) {
    let mut closed = false;
    for item in items {
        let text = match item {
            Item::Text(_) if closed => continue,
            Item::Text(text) => text,
            Item::Mark(written) => {
                // Who waits may have given up.
                let _ = written.try_send(());
                continue;
            }
        };
        let missing = left_out.swap(0, Ordering::Relaxed);
        let result = match missing {
            0 => Ok(()),
            missing => writeln!(sink, "({missing} lines are left out here: nobody read them in time)"),
        };
        if let Err(error) = result.and_then(|()| sink.write_all(&text)).and_then(|()| sink.flush()) {
            closed = true;
            if name != "standard error" {
                note(format_args!("{name} can't be written to ({error}): nothing more is said there"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Arc, Mutex};

    /// An output whose reader reads a line only when it is told to.
    struct Slow {
        may: Receiver<()>,
        read: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may.recv().map_err(|_| ErrorKind::BrokenPipe)?;
            self.read.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Lines, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (allow, may) = channel();
        let read = Arc::default();
        let sink = Slow { may, read: Arc::clone(&read) };
        (Lines::start("a test's output", Box::new(sink)).unwrap(), allow, read)
    }

    #[test]
    fn what_nobody_reads_in_time_is_left_out_and_counted() {
        let (lines, allow, read) = slow();
        // One is being written, so many wait, and the rest is left out.
        for n in 0..3 * WAITING {
            lines.put(format!("{n}\n").into_bytes());
        }
        lines.flush(Instant::now());
        for _ in 0..2 * WAITING {
            allow.send(()).unwrap();
        }
        lines.flush(Instant::now() + Duration::from_secs(30));
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        // Each line says what is missing before it: there may be several that do.
        let notes = read.lines().filter(|line| line.contains("left out"));
        let count: usize = notes
            .map(|note| note.trim_start_matches('(').split(' ').next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert!(count > 0);
        let written = read.lines().filter(|line| line.parse::<usize>().is_ok()).count();
        assert_eq!(written + count, 3 * WAITING);
        assert!((WAITING..=WAITING + 2).contains(&written), "{written}");
    }

    #[test]
    fn a_closed_output_is_no_reason_to_stop_or_to_keep_anything() {
        let (lines, allow, read) = slow();
        drop(allow);
        for _ in 0..10 * WAITING {
            lines.put(b"lost\n".to_vec());
        }
        lines.flush(Instant::now() + Duration::from_secs(30));
        assert!(read.lock().unwrap().is_empty());
    }
}

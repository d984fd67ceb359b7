//! The asynchronous runtime, and signals.

use crate::failure::Failure;
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Descriptors that a runtime and a session of a client's take, and a few more.
const DESCRIPTORS: usize = 20;

/// Bytes of stack: more than a session takes, a debug build's too.
const STACK: usize = 1 << 20;

/// A runtime with as many threads as cores.
pub(crate) fn start() -> Result<Runtime, Failure> {
    grow_stack()?;
    check_descriptors()?;
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // One more is the device's, and one for what blocks.
    check_threads(workers + 2)?;
    Builder::new_multi_thread().enable_all().build().map_err(Failure::system("starting threads"))
}

/// A runtime whose tasks are carried out by the thread that waits for them.
pub(crate) fn start_current() -> Result<Runtime, Failure> {
    grow_stack()?;
    check_descriptors()?;
    // The device's, and one for what blocks.
    check_threads(2)?;
    Builder::new_current_thread().enable_all().build().map_err(Failure::system("starting a runtime"))
}

/// Has this thread's stack grow now. Where there is no memory for that later, the kernel ends the program without a
/// word.
fn grow_stack() -> Result<(), Failure> {
    let mut room = Vec::<u8>::new();
    // This much is mapped, and unmapped again: then there is room for the stack.
    room.try_reserve_exact(2 * STACK)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
        .map_err(Failure::system("getting as much memory as is needed (ulimit -v says how much may be)"))?;
    drop(room);
    touch_stack();
    Ok(())
}

#[inline(never)]
fn touch_stack() {
    black_box(&mut [0_u8; STACK]);
}

/// Tries whether there are descriptors: where the runtime finds none it panics.
fn check_descriptors() -> Result<(), Failure> {
    let tried: io::Result<Vec<_>> = (0..DESCRIPTORS).map(|_| File::open("/dev/null")).collect();
    tried
        .map(drop)
        .map_err(Failure::system("opening as many files as are needed (ulimit -n says how many may be)"))
}

/// Tries whether so many threads can run at once: where the runtime can't start one it panics, and waits for ever for
/// the others to end.
fn check_threads(count: usize) -> Result<(), Failure> {
    let (keep, kept) = mpsc::channel::<()>();
    let kept = Arc::new(Mutex::new(kept));
    let tried: io::Result<Vec<_>> = (0..count)
        .map(|_| {
            let kept = Arc::clone(&kept);
            thread::Builder::new().spawn(move || drop(kept.lock().map(|kept| kept.recv())))
        })
        .collect();
    drop(keep);
    let threads = tried.map_err(Failure::system(
        "starting as many threads as are needed (the limits of processes, ulimit -u, and of memory, ulimit -v)",
    ))?;
    // None panics; and all are gone before others are started.
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

/// The signals that ask a program to end.
#[derive(Debug)]
pub(crate) struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    /// From now on these signals don't kill the process.
    pub(crate) fn watch() -> Result<Self, Failure> {
        let watch = |kind| signal(kind).map_err(Failure::system("watching signals"));
        Ok(Self { interrupt: watch(SignalKind::interrupt())?, terminate: watch(SignalKind::terminate())? })
    }

    /// Waits for SIGINT or SIGTERM.
    pub(crate) async fn arrived(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that asks a server to read its files again.
#[derive(Debug)]
pub(crate) struct Hangup(Signal);

impl Hangup {
    /// From now on this signal doesn't kill the process.
    pub(crate) fn watch() -> Result<Self, Failure> {
        signal(SignalKind::hangup()).map(Self).map_err(Failure::system("watching signals"))
    }

    /// Waits for SIGHUP.
    pub(crate) async fn arrived(&mut self) {
        self.0.recv().await;
    }
}

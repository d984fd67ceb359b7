//! The asynchronous runtime, and signals.

use crate::failure::Failure;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A runtime with as many threads as cores.
pub(crate) fn start() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(Failure::system("starting threads"))
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

//! A bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use secure_rdma_files::{FilePath, Observer};
use std::time::Duration;

/// How often it is drawn anew.
const TICK: Duration = Duration::from_millis(200);

/// Characters of a path that are shown.
const PATH: usize = 32;

/// How far all files have come, and which was begun last.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Of so many bytes.
    pub(super) fn start(bytes: u64) -> Self {
        let bar = ProgressBar::new(bytes);
        let template = "{msg} {bar:24} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        bar.set_style(
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        bar.enable_steady_tick(TICK);
        Self(bar)
    }
}

impl Observer for Progress {
    fn begun(&self, path: &FilePath, _: u64) {
        let path = path.to_string();
        let skipped = path.chars().count().saturating_sub(PATH);
        let end: String = path.chars().skip(skipped).collect();
        self.0.set_message(format!("{end:PATH$}"));
    }

    fn moved(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

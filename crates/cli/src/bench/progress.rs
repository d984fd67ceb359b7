//! A bar on standard error, if that is a terminal.

use super::request::Request;
use super::run::Course;
use super::task::Limit;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often it moves.
const TICK: Duration = Duration::from_millis(100);

/// How far the measurement of one size has come.
pub(super) struct Progress {
    pub(super) course: Arc<Course>,
    bar: ProgressBar,
    moving: JoinHandle<()>,
}

impl Progress {
    pub(super) fn start(request: &Request, size: u32) -> Self {
        let steps = match request.limit {
            Limit::Messages(messages) => messages.saturating_mul(request.queue_pairs.into()),
            Limit::Time(time) => millis(time),
        };
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{msg} {bar:40} {percent:>3} %");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(format!("{} {size} bytes", request.operation.name()));
        let course = Arc::new(Course::default());
        let (shared, moved) = (Arc::clone(&course), bar.clone());
        let (begun, limit) = (Instant::now(), request.limit);
        let moving = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                moved.set_position(match limit {
                    Limit::Messages(_) => shared.messages.load(Ordering::Relaxed),
                    Limit::Time(_) => millis(begun.elapsed()),
                });
            }
        });
        Self { course, bar, moving }
    }

    /// It has ended: the line is free again.
    pub(super) fn end(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.moving.abort();
        // Whoever still measures has nobody to measure for.
        self.course.end();
        self.bar.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

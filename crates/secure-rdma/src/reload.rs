//! When a server reads its files again.

use crate::watch::{FileWatch, FilesChanging};
use core::fmt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How long after a reading that failed the next one comes: doubled each time, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// Files that a server goes by, and when it has to read them: when one has changed, and after a reading that
/// failed again and again, with growing pauses, until one succeeds. No change is lost because it couldn't be
/// read when it was noticed.
#[derive(Debug)]
pub struct ReloadSchedule {
    watch: FileWatch,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    attempts: u32,
    since: Instant,
    pause: Duration,
    next: Instant,
}

/// Why the files have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadCause {
    /// One of them has changed.
    Changed,
    /// The last reading failed.
    Retry,
}

impl fmt::Display for ReloadCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Changed => "files have changed",
            Self::Retry => "tried again",
        })
    }
}

/// A reading that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadFailed<E> {
    /// Why.
    pub error: E,
    /// How many have failed since the last that didn't, this one included.
    pub attempts: u32,
    /// How long the files haven't been read: since the first of these failures.
    pub stale: Duration,
    /// When the next one comes, if no file changes before.
    pub next: Duration,
}

impl<E: fmt::Display> fmt::Display for ReloadFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, attempts, stale, next } = self;
        write!(
            f,
            "{error}; failures: {attempts}, for {} s; next try in {} s",
            stale.as_secs(),
            next.as_secs()
        )
    }
}

impl ReloadSchedule {
    /// For these files, which need not exist. What changes from now on is read again.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { watch: FileWatch::new(paths), failing: None }
    }

    /// Waits until the files have to be read. Cancelling loses nothing.
    pub async fn due(&mut self) -> ReloadCause {
        let Some(next) = self.failing.as_ref().map(|failing| failing.next) else {
            self.watch.changed().await;
            return ReloadCause::Changed;
        };
        tokio::select! {
            () = self.watch.changed() => ReloadCause::Changed,
            () = tokio::time::sleep_until(next) => ReloadCause::Retry,
        }
    }

    /// Has `read` read the files, all from one moment ([`FileWatch::read_at_rest`]), and remembers whether it
    /// could. It blocks.
    ///
    /// # Errors
    /// As `read`; or that the files are never left alone.
    pub fn attempt<T, E: From<FilesChanging>>(
        &mut self,
        read: impl FnMut() -> Result<T, E>,
    ) -> Result<T, ReloadFailed<E>> {
        let error = match self.watch.read_at_rest(read) {
            Ok(done) => {
                self.failing = None;
                return Ok(done);
            }
            Err(error) => error,
        };
        let now = Instant::now();
        let [first, longest] = PAUSES;
        let failing = match self.failing.take() {
            None => Failing { attempts: 1, since: now, pause: first, next: now + first },
            Some(before) => {
                let pause = (before.pause * 2).min(longest);
                Failing { attempts: before.attempts.saturating_add(1), pause, next: now + pause, ..before }
            }
        };
        let Failing { attempts, since, pause, .. } = failing;
        self.failing = Some(failing);
        Err(ReloadFailed { error, attempts, stale: now - since, next: pause })
    }

    /// Whether the last reading failed: what is gone by is older than the files.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.failing.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Debug, PartialEq)]
    struct Why(&'static str);

    impl From<FilesChanging> for Why {
        fn from(_: FilesChanging) -> Self {
            Self("changing")
        }
    }

    /// The file doesn't change after the reading that failed: nothing but the schedule brings the next one.
    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_read_is_read_again_without_a_further_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut reloads = ReloadSchedule::new([file.clone()]);
        fs::write(&file, "new").unwrap();
        assert_eq!(reloads.due().await, ReloadCause::Changed);
        let mut pauses = Vec::new();
        let begin = Instant::now();
        for attempts in 1..=9 {
            let failed = reloads.attempt(|| Err::<(), _>(Why("no descriptors"))).unwrap_err();
            assert!(reloads.is_stale());
            assert_eq!((failed.error, failed.attempts), (Why("no descriptors"), attempts));
            assert_eq!(failed.stale, begin.elapsed());
            let before = Instant::now();
            assert_eq!(reloads.due().await, ReloadCause::Retry);
            assert_eq!(before.elapsed(), failed.next);
            pauses.push(failed.next.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(reloads.attempt(|| Ok::<_, Why>(1)), Ok(1));
        assert!(!reloads.is_stale());
        // And it is at rest.
        assert!(tokio::time::timeout(Duration::from_secs(600), reloads.due()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_read_before_the_pause_after_a_failure_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let mut reloads = ReloadSchedule::new([file.clone()]);
        for _ in 0..8 {
            reloads.attempt(|| Err::<(), _>(Why("wrong"))).unwrap_err();
        }
        fs::write(&file, "mended").unwrap();
        let before = Instant::now();
        assert_eq!(reloads.due().await, ReloadCause::Changed);
        assert!(before.elapsed() <= Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_cancelled_again_and_again_comes_to_the_next_try() {
        let mut reloads = ReloadSchedule::new([]);
        reloads.attempt(|| Err::<(), _>(Why("wrong"))).unwrap_err();
        for _ in 0..20 {
            if let Ok(cause) = tokio::time::timeout(Duration::from_millis(100), reloads.due()).await {
                assert_eq!(cause, ReloadCause::Retry);
                return;
            }
        }
        panic!("it was never tried again");
    }
}

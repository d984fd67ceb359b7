//! What is offered, and its limits.

use std::time::Duration;

/// What a [`Service`](super::Service) offers, and its limits. It begins with the defaults:
///
/// ```
/// use secure_rdma_files::ServiceOptions;
///
/// let options = ServiceOptions::default().writable(true).max_file(1 << 30);
/// assert_eq!(options.max_open_per_session, 16);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Whether clients may put files there. By default they may not.
    pub writable: bool,
    /// Bytes of the largest file that is taken. By default 1 TiB.
    pub max_file: u64,
    /// Bytes of the file system that no client gets to fill. By default 64 MiB.
    pub keep_free: u64,
    /// Files that one session may have open. By default 16.
    pub max_open_per_session: u16,
    /// Files that all sessions may have open. By default 256.
    pub max_open: usize,
    /// Disk jobs that are carried out at a time. By default 8.
    pub disk_jobs: usize,
    /// How long a session may ask for nothing. By default 10 minutes.
    pub idle: Duration,
}

impl ServiceOptions {
    /// Lets clients put files there, or not.
    #[must_use]
    pub const fn writable(mut self, writable: bool) -> Self {
        self.writable = writable;
        self
    }

    /// Takes files of so many bytes at most.
    #[must_use]
    pub const fn max_file(mut self, bytes: u64) -> Self {
        self.max_file = bytes;
        self
    }

    /// Keeps so many bytes of the file system free.
    #[must_use]
    pub const fn keep_free(mut self, bytes: u64) -> Self {
        self.keep_free = bytes;
        self
    }

    /// Has so many files open for one session.
    #[must_use]
    pub const fn max_open_per_session(mut self, files: u16) -> Self {
        self.max_open_per_session = files;
        self
    }

    /// Has so many files open for all sessions.
    #[must_use]
    pub const fn max_open(mut self, files: usize) -> Self {
        self.max_open = files;
        self
    }

    /// Carries out so many disk jobs at a time.
    #[must_use]
    pub const fn disk_jobs(mut self, jobs: usize) -> Self {
        self.disk_jobs = jobs;
        self
    }

    /// Lets a session ask for nothing for so long.
    #[must_use]
    pub const fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            writable: false,
            max_file: 1 << 40,
            keep_free: 64 << 20,
            max_open_per_session: 16,
            max_open: 256,
            disk_jobs: 8,
            idle: Duration::from_secs(600),
        }
    }
}

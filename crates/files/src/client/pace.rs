//! How fast bytes may be moved.

use std::time::Duration;
use tokio::time::Instant;

/// A limit on bytes a second, or none.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Option<u64>,
    next: Instant,
}

impl Pace {
    /// No limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { rate: None, next: Instant::now() }
    }

    /// At most `rate` bytes a second, 1 or more.
    #[must_use]
    pub fn at_most(rate: u64) -> Self {
        Self { rate: Some(rate.max(1)), next: Instant::now() }
    }

    /// When something may be begun, if that isn't now.
    pub(super) fn wait(&self) -> Option<Instant> {
        self.rate.is_some().then_some(self.next).filter(|next| *next > Instant::now())
    }

    /// `bytes` were begun.
    pub(super) fn spend(&mut self, bytes: usize) {
        if let Some(rate) = self.rate {
            let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
            // What wasn't used before isn't made up for.
            self.next = self.next.max(Instant::now()) + time;
        }
    }
}

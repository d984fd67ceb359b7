//! The clock that certificates go by.

use core::fmt;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::Timestamp;

/// The clock that certificates and revocation lists go by: the system's, unless it is told otherwise. It says what time
/// it is; that certificates are checked at that time, nothing turns off.
///
/// Another one than the system's is for machines whose own clock isn't to be trusted, or isn't set yet when they start,
/// and whose program has the time from elsewhere, and for tests. It may be asked at any time, from any thread, and once
/// a second at least: it answers at once. **Whoever can set it can have certificates taken that have ended.**
///
/// ```
/// use secure_rdma::certs::{Clock, Timestamp};
/// use std::time::Duration;
///
/// // What a trusted source said of the system's clock.
/// let behind = Duration::from_secs(90);
/// let clock = Clock::new(move || Timestamp::now().plus(behind));
/// assert!(clock.now() > Timestamp::now());
/// ```
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The clock that shows what `now` says.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.now().to_unix_time())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

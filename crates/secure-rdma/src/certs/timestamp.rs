//! Points in time, as certificates have them.

use core::fmt;
use core::time::Duration;
use std::time::SystemTime;

use rustls::pki_types::UnixTime;
use time::OffsetDateTime;

/// A moment to the second, from 1970 on. It prints as `2026-08-11 12:34:56 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Now, by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The moment so many seconds after the beginning of 1970.
    #[must_use]
    pub const fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }

    /// Seconds since the beginning of 1970.
    #[must_use]
    pub const fn as_unix(self) -> u64 {
        self.0
    }

    /// The moment `span` later.
    #[must_use]
    pub const fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }

    /// The moment `span` earlier, at the earliest the beginning of 1970.
    #[must_use]
    pub const fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }

    /// How much later it is than `earlier`; nothing where it isn't.
    #[cfg(feature = "ca")]
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// The same as rustls has it.
    pub(crate) fn to_unix_time(self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.0))
    }

    /// The same as a date, up to the end of the year 9999, after which X.509 has none (RFC 5280, section 4.1.2.5).
    pub(crate) fn to_date(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp(i64::try_from(self.0).ok()?)
            .ok()
            .filter(|date| date.year() <= 9999)
    }
}

impl From<UnixTime> for Timestamp {
    fn from(time: UnixTime) -> Self {
        Self(time.as_secs())
    }
}

impl From<SystemTime> for Timestamp {
    /// The second that `time` is in; the beginning of 1970 for whatever is earlier.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_date() {
            Some(date) => {
                let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
                let (hour, minute, second) = date.to_hms();
                write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
            }
            None => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_prints_as_a_date_in_utc() {
        assert_eq!(Timestamp::from_unix(0).to_string(), "1970-01-01 00:00:00 UTC");
        assert_eq!(Timestamp::from_unix(951_827_696).to_string(), "2000-02-29 12:34:56 UTC");
        assert_eq!(Timestamp::from_unix(253_402_300_799).to_string(), "9999-12-31 23:59:59 UTC");
        assert_eq!(Timestamp::from_unix(u64::MAX).to_string(), "18446744073709551615 s after 1970");
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let day = Duration::from_secs(86_400);
        assert_eq!(Timestamp::from_unix(1).minus(day), Timestamp::from_unix(0));
        assert_eq!(Timestamp::from_unix(u64::MAX).plus(day), Timestamp::from_unix(u64::MAX));
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH - day), Timestamp::from_unix(0));
    }
}

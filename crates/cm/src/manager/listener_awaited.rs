//! A service that nobody listens to yet: its peer is asked again for a while before the caller is told.

use core::time::Duration;

use rocev2::Time;

/// Before a request is sent again; each pause is twice as long as the one before it.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// A request that is sent again though it was refused, since nobody listens.
///
/// What is sent is the same datagram each time: ids, transaction and queue pair. So the peer can't tell it from one
/// that came late or twice, and whichever copy finds a listener makes the one connection. (With an id of its own each,
/// the second would be refused for the queue pair that a late copy of the first has taken.)
#[derive(Debug, Default)]
pub(super) struct ListenerAwaited {
    /// From the first refusal on.
    within: Duration,
    until: Option<Time>,
    pauses: u32,
    /// Refused, and not sent again yet.
    pausing: bool,
}

impl ListenerAwaited {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, ..Self::default() }
    }

    /// Nobody listens: when to ask again, or `None` once the caller is to be told.
    pub(super) fn refused(&mut self, now: Time) -> Option<Time> {
        let until = *self.until.get_or_insert(now + self.within);
        if now >= until {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.pauses));
        self.pauses += 1;
        self.pausing = true;
        Some(until.min(now + pause))
    }

    /// Whether a refusal is known already, and the request not sent again since.
    pub(super) fn is_pausing(&self) -> bool {
        self.pausing
    }

    /// The request is sent again: whether it is for a pause that is over.
    pub(super) fn resume(&mut self) -> bool {
        core::mem::take(&mut self.pausing)
    }
}

//! How a client's session ended.

use super::visit::Visit;
use crate::advice::Told;
use secure_rdma::{SealedBy, SessionError};
use std::fmt;
use std::time::Duration;

/// How a client's session ended.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) number: u64,
    pub(super) sealed: SealedBy,
    pub(super) stayed: Duration,
    pub(super) visit: Visit,
    /// Requests of the client's that its queue pair here refused, as far as the device counts.
    pub(super) naks: u64,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    /// Both sides said goodbye, the client first.
    Left,
    /// The same, the server first.
    Dismissed,
    /// Over for another reason.
    Failed(SessionError),
}

impl Departure {
    /// How it ended in a word, as logs and metrics have it.
    pub(super) fn outcome(&self) -> &'static str {
        match &self.end {
            End::Left => "left",
            End::Dismissed => "dismissed",
            End::Failed(SessionError::Withdrawn(_)) => "withdrawn",
            // In clear, nobody can say whether it was an attack.
            End::Failed(SessionError::Truncated { .. }) if !self.sealed.is_sealed() => "truncated",
            End::Failed(SessionError::Forged(_) | SessionError::Truncated { .. }) => "not_authentic",
            End::Failed(_) => "lost",
        }
    }
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, sealed: _, stayed, visit, naks, end } = self;
        write!(f, "client {number}: ")?;
        match end {
            End::Left => f.write_str("left"),
            End::Dismissed => f.write_str("dismissed"),
            End::Failed(error) => write!(f, "lost: {}", Told(error)),
        }?;
        write!(f, "; after {:.1} s, {visit}", stayed.as_secs_f64())?;
        match naks {
            0 => Ok(()),
            naks => write!(f, "; requests refused: {naks}"),
        }
    }
}

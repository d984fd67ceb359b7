//! Counters: every refused packet by its reason.

use rocev2::rc::Refusal;
use rocev2::wire::ParseError;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a datagram was refused before any queue pair saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stray {
    /// No valid ICRC.
    Icrc,
    /// No such queue pair here.
    UnknownQueuePair,
    /// It didn't come from the queue pair's peer, or not to the address that the queue pair uses.
    WrongAddress,
    /// Another partition.
    PartitionKey,
}

impl Stray {
    const ALL: [Self; 4] = [Self::Icrc, Self::UnknownQueuePair, Self::WrongAddress, Self::PartitionKey];

    const fn name(self) -> &'static str {
        match self {
            Self::Icrc => "icrc",
            Self::UnknownQueuePair => "unknown_queue_pair",
            Self::WrongAddress => "wrong_address",
            Self::PartitionKey => "partition_key",
        }
    }
}

/// The refusals of a device.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    strays: [AtomicU64; Stray::ALL.len()],
    malformed: [AtomicU64; ParseError::REASONS.len()],
    refusals: [AtomicU64; Refusal::ALL.len()],
    gso_distrusted: AtomicU64,
}

impl Counters {
    pub(crate) fn stray(&self, stray: Stray) {
        self.strays[stray as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn malformed(&self, error: &ParseError) {
        let reason = ParseError::REASONS.iter().position(|reason| *reason == error.reason());
        if let Some(counter) = reason.and_then(|at| self.malformed.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a queue pair gave segmentation offload up.
    pub(crate) fn gso_distrusted(&self) {
        self.gso_distrusted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many queue pairs gave segmentation offload up.
    pub(crate) fn rows(&self) -> [(&'static str, u64); 1] {
        [("gso_distrusted", self.gso_distrusted.load(Ordering::Relaxed))]
    }

    /// Every reason for a refusal with how often it occurred.
    pub(crate) fn refused_by_reason(&self) -> Vec<(&'static str, u64)> {
        let strays = Stray::ALL.iter().map(|stray| stray.name()).zip(&self.strays);
        let malformed = ParseError::REASONS.iter().copied().zip(&self.malformed);
        let refusals = Refusal::ALL.iter().map(|refusal| refusal.name()).zip(&self.refusals);
        strays
            .chain(malformed)
            .chain(refusals)
            .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_name_and_counter() {
        let counters = Counters::default();
        for refusal in Refusal::ALL {
            counters.refused(refusal);
        }
        for stray in Stray::ALL {
            counters.stray(stray);
        }
        let rows = counters.refused_by_reason();
        let ones = rows.iter().filter(|(_, count)| *count == 1).count();
        assert_eq!(ones, Refusal::ALL.len() + Stray::ALL.len());
        let mut names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
    }
}

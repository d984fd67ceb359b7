//! Counters: every refused packet by its reason.

use super::security::Refusal;
use rocev2::transport::DropReason;
use rocev2::wire::ParseError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a device has dropped.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    dropped: [AtomicU64; DropReason::ALL.len()],
    malformed: [AtomicU64; ParseError::REASONS.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    gso_distrusted: AtomicU64,
    rekeyed: AtomicU64,
}

impl Counters {
    pub(crate) fn dropped(&self, reason: DropReason) {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn malformed(&self, error: &ParseError) {
        let reason = ParseError::REASONS.iter().position(|reason| *reason == error.reason());
        if let Some(counter) = reason.and_then(|at| self.malformed.get(at)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a queue pair gave segmentation offload up.
    pub(crate) fn gso_distrusted(&self) {
        self.gso_distrusted.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that an SA for packets that leave has taken the place of another.
    pub(crate) fn rekeyed(&self) {
        self.rekeyed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many queue pairs gave segmentation offload up, and how many SAs were replaced.
    pub(crate) fn rows(&self) -> [(&'static str, u64); 2] {
        let rows = [("gso_distrusted", &self.gso_distrusted), ("esp_rekeyed", &self.rekeyed)];
        rows.map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }

    /// Every reason for a refusal with how often it occurred.
    pub(crate) fn refused_by_reason(&self) -> Vec<(&'static str, u64)> {
        let malformed = ParseError::REASONS.iter().copied().zip(&self.malformed);
        let dropped = DropReason::ALL.iter().map(|reason| reason.name()).zip(&self.dropped);
        let refused = Refusal::ALL.iter().map(|refusal| refusal.name()).zip(&self.refused);
        malformed
            .chain(dropped)
            .chain(refused)
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
        for reason in DropReason::ALL {
            counters.dropped(reason);
        }
        for refusal in Refusal::ALL {
            counters.refused(refusal);
        }
        let rows = counters.refused_by_reason();
        let ones = rows.iter().filter(|(_, count)| *count == 1).count();
        assert_eq!(ones, DropReason::ALL.len() + Refusal::ALL.len());
        let mut names: Vec<_> = rows.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), rows.len());
    }
}

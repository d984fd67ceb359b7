//! How much one key seals.

/// How much one key seals before the next one takes its place: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fragments, 1 or more.
    pub records: u64,
    /// Bytes of plaintext; a fragment that is longer has a key to itself.
    pub bytes: u64,
}

impl Limits {
    /// Far below what the AEADs bear; `docs/sealing.md` has the arithmetic. Larger ones are cut down to it.
    pub const DEFAULT: Self = Self { records: 1 << 20, bytes: 1 << 32 };

    /// What a new key has sealed.
    pub(super) const NONE: Self = Self { records: 0, bytes: 0 };

    /// This, and one fragment of `bytes` more.
    pub(super) const fn and(self, bytes: u64) -> Self {
        Self { records: self.records + 1, bytes: self.bytes.saturating_add(bytes) }
    }

    /// Whether a key that has sealed `used` may not seal `bytes` more. A key always seals one fragment.
    pub(super) fn are_passed(self, used: Self, bytes: u64) -> bool {
        let records = self.records.min(Self::DEFAULT.records);
        let most = self.bytes.min(Self::DEFAULT.bytes);
        used.records > 0 && (used.records >= records || used.bytes.saturating_add(bytes) > most)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn limits(records: u64, bytes: u64) -> Limits {
        Limits { records, bytes }
    }

    #[test]
    fn a_key_seals_as_many_records_and_bytes_as_it_may() {
        let most = limits(3, 100);
        assert!(!most.are_passed(limits(2, 60), 40));
        assert!(most.are_passed(limits(2, 61), 40));
        assert!(most.are_passed(limits(3, 0), 0));
        assert!(!most.are_passed(limits(0, 0), 1000), "the only one of its key");
        assert!(!limits(0, 0).are_passed(limits(0, 0), 1));
        assert!(limits(0, 0).are_passed(limits(1, 0), 1));
    }

    #[test]
    fn limits_can_be_lowered_but_not_raised() {
        let endless = limits(u64::MAX, u64::MAX);
        let Limits { records, bytes } = Limits::DEFAULT;
        assert!(endless.are_passed(limits(records, 0), 1));
        assert!(endless.are_passed(limits(1, bytes), 1));
        assert!(!endless.are_passed(limits(records - 1, bytes - 1), 1));
        assert!(endless.are_passed(limits(1, 1), u64::MAX));
    }
}

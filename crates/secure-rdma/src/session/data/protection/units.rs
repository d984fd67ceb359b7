//! How the bytes of a region are packed.

use core::ops::Range;

/// A region's bytes are divided into units of `text` bytes, which take `stride` bytes of its memory each, one
/// behind the other from the region's start. A unit is written and read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Units {
    pub(in crate::session) text: u64,
    pub(in crate::session) stride: u64,
}

impl Units {
    /// Plain memory.
    pub(in crate::session) const PLAIN: Self = Self { text: 1, stride: 1 };

    /// The part of the region's memory that the units of `bytes` take.
    pub(in crate::session) const fn place(self, bytes: &Range<u64>) -> Range<u64> {
        let (first, end) = (bytes.start / self.text, bytes.end.div_ceil(self.text));
        first * self.stride..end * self.stride
    }

    /// The first of `bytes`: as many as one request carries with a buffer of `size` bytes.
    pub(in crate::session) fn part(self, bytes: &Range<u64>, size: u32) -> Range<u64> {
        let units = (u64::from(size) / self.stride).max(1);
        let end = (bytes.start / self.text).saturating_add(units).saturating_mul(self.text);
        bytes.start..end.min(bytes.end)
    }

    /// The units that `bytes` cover only in part: at most the first and the last one.
    pub(in crate::session) fn edges(self, bytes: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let (start, end) = (bytes.start, bytes.end);
        let first =
            (!start.is_multiple_of(self.text) || end - start < self.text).then_some(start / self.text);
        let last = (!end.is_multiple_of(self.text)).then_some(end / self.text);
        let both = [first, last.filter(|last| Some(*last) != first)];
        both.into_iter().flatten().filter(move |_| start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: Units = Units { text: 4096, stride: 4120 };

    #[test]
    fn bytes_are_where_their_units_are() {
        assert_eq!(Units::PLAIN.place(&(7..19)), 7..19);
        assert_eq!(SLOTS.place(&(0..4096)), 0..4120);
        assert_eq!(SLOTS.place(&(4095..4097)), 0..8240);
        assert_eq!(SLOTS.place(&(8192..8193)), 8240..12360);
    }

    #[test]
    fn a_part_ends_where_a_unit_does_or_with_the_last_byte() {
        assert_eq!(Units::PLAIN.part(&(7..1000), 100), 7..107);
        assert_eq!(Units::PLAIN.part(&(7..50), 100), 7..50);
        assert_eq!(SLOTS.part(&(100..50_000), 3 * 4120 + 4119), 100..3 * 4096);
        assert_eq!(SLOTS.part(&(100..200), 1 << 16), 100..200);
        assert_eq!(SLOTS.part(&(4096..9000), 1), 4096..8192, "one at least");
        assert_eq!(Units::PLAIN.part(&(u64::MAX - 100..u64::MAX), 1 << 16), u64::MAX - 100..u64::MAX);
    }

    #[test]
    fn edges_are_the_units_that_are_not_covered_as_a_whole() {
        let edges = |units: Units, bytes| units.edges(&bytes).collect::<Vec<_>>();
        assert_eq!(edges(Units::PLAIN, 7..19), [0; 0]);
        assert_eq!(edges(Units::PLAIN, 7..7), [0; 0]);
        assert_eq!(edges(SLOTS, 0..8192), [0; 0]);
        assert_eq!(edges(SLOTS, 5..5), [0; 0]);
        assert_eq!(edges(SLOTS, 0..1), [0]);
        assert_eq!(edges(SLOTS, 4095..4096), [0]);
        assert_eq!(edges(SLOTS, 10..8192), [0]);
        assert_eq!(edges(SLOTS, 4096..8193), [2]);
        assert_eq!(edges(SLOTS, 1..4097), [0, 1]);
    }
}

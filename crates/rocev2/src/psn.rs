//! Packet sequence numbers: 24 bits, compared around the circle.

use core::fmt;

/// A packet sequence number, 0 to 2^24 − 1 (IBA 9.2, "PSN").
///
/// There is no `Ord`: on a circle "less" has no meaning on its own. Use [`Psn::distance_from`], which
/// compares as the responder does (IBA 9.7.1; rxe's `psn_compare`): the half circle ahead is new, the half
/// circle behind is a duplicate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Psn(u32);

impl Psn {
    /// How many bits a PSN has.
    pub const BITS: u32 = 24;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// `value`, or `None` if it needs more than 24 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MASK { Some(Self(value)) } else { None }
    }

    /// The low 24 bits of `value`.
    #[must_use]
    pub const fn truncate(value: u32) -> Self {
        Self(value & Self::MASK)
    }

    /// The number, 0 to 2^24 − 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The PSN `count` packets later, around the circle.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self::truncate(self.0.wrapping_add(count))
    }

    /// The PSN `count` packets earlier, around the circle.
    #[must_use]
    pub const fn minus(self, count: u32) -> Self {
        Self::truncate(self.0.wrapping_sub(count))
    }

    /// The signed distance from `origin` to `self`, −2^23 to 2^23 − 1: negative means that `self` is behind.
    #[must_use]
    pub const fn distance_from(self, origin: Self) -> i32 {
        // Put the 24-bit difference at the top of the word: the arithmetic shift then carries its sign.
        (self.0.wrapping_sub(origin.0) << (32 - Self::BITS)).cast_signed() >> (32 - Self::BITS)
    }

    /// Whether `self` comes before `other` on the circle.
    #[must_use]
    pub const fn is_before(self, other: Self) -> bool {
        self.distance_from(other) < 0
    }
}

impl fmt::Debug for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Psn({:#08x})", self.0)
    }
}

impl fmt::Display for Psn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Psn = Psn::truncate(u32::MAX);

    #[test]
    fn a_number_over_24_bits_is_refused() {
        assert_eq!(Psn::new(0xff_ffff), Some(LAST));
        assert_eq!(Psn::new(0x100_0000), None);
    }

    #[test]
    fn arithmetic_goes_round_the_circle() {
        assert_eq!(LAST.plus(1), Psn::default());
        assert_eq!(Psn::default().minus(1), LAST);
        assert_eq!(LAST.plus(5).distance_from(LAST), 5);
        assert_eq!(LAST.distance_from(LAST.plus(5)), -5);
    }

    #[test]
    fn the_half_circle_ahead_is_new_and_the_one_behind_is_old() {
        let origin = Psn::truncate(0x12_3456);
        assert_eq!(origin.plus((1 << 23) - 1).distance_from(origin), (1 << 23) - 1);
        assert_eq!(origin.plus(1 << 23).distance_from(origin), -(1 << 23));
        assert!(origin.is_before(origin.plus(1)));
        assert!(!origin.is_before(origin));
    }
}

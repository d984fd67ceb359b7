//! Random decisions from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// One kind of decision: each draws from its own stream, so that none shifts the others' numbers.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Loss,
    Duplicate,
    Corrupt,
    Jitter,
    Reorder,
}

/// A seeded source of decisions of one kind.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub(crate) fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self(rng)
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        // The 53 bits that a double holds exactly, as a number from 0 up to but not including 1: so 0 is
        // never and 1 is always.
        let unit = (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < p
    }

    /// Uniform over `0..=max`.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        // The upper half of a 64 × 64 bit product: off from uniform by at most max / 2^64.
        let product = u128::from(self.0.next_u64()) * (u128::from(max) + 1);
        u64::try_from(product >> 64).unwrap_or(max)
    }

    /// `count` different numbers below `bound`, or all of them if there are fewer, every such set equally likely
    /// (R. W. Floyd's algorithm: one draw for each).
    pub(crate) fn distinct(&mut self, count: u64, bound: u64) -> Vec<u64> {
        let mut chosen = Vec::new();
        for last in bound.saturating_sub(count)..bound {
            let candidate = self.up_to(last);
            chosen.push(if chosen.contains(&candidate) { last } else { candidate });
        }
        chosen
    }
}

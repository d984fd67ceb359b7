//! Random numbers from a seed (SplitMix64).

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // One step between neighbouring seeds, so that they don't share their sequence.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x632b_e5ab))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The upper half of the next number.
    pub(crate) fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or(u32::MAX)
    }

    /// Below `bound`, which isn't 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let product = u64::from(self.word()) * u64::from(bound);
        u32::try_from(product >> 32).unwrap_or(0)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).unwrap_or(u32::MAX)) as usize
    }

    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// The seeds that a proof takes: `RC_SEED` alone, or the first `RC_SEEDS`, or the first `default`.
pub(crate) fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number =
        |name| std::env::var(name).ok().map(|text| text.parse().expect("RC_SEED and RC_SEEDS are numbers"));
    match number("RC_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RC_SEEDS").unwrap_or(default),
    }
}

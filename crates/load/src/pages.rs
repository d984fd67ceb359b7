//! What a client writes, and must find again.

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// The pages of one client's region, and by which round each was written last.
#[derive(Debug)]
pub(crate) struct Pages {
    client: u32,
    rounds: Vec<Option<u64>>,
}

impl Pages {
    /// Of the client with that number, whose region has so many bytes.
    pub(crate) fn new(client: u32, region: u64) -> Self {
        let count = usize::try_from(region).unwrap_or(usize::MAX) / PAGE;
        Self { client, rounds: vec![None; count] }
    }

    /// What the client writes in a round, and at which offset.
    pub(crate) fn write(&mut self, round: u64) -> (u64, Vec<u8>) {
        let page = self.draw(round, 0);
        self.rounds[page] = Some(round);
        (page as u64 * PAGE as u64, text(self.client, round, PAGE))
    }

    /// Where it reads in a round, and what has to be there.
    pub(crate) fn expect(&self, round: u64) -> (u64, Vec<u8>) {
        self.page(self.draw(round, 1))
    }

    /// The offset of each page, and what has to be there.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
        (0..self.rounds.len()).map(|page| self.page(page))
    }

    fn page(&self, page: usize) -> (u64, Vec<u8>) {
        let bytes = self.rounds[page].map_or_else(|| vec![0; PAGE], |round| text(self.client, round, PAGE));
        (page as u64 * PAGE as u64, bytes)
    }

    fn draw(&self, round: u64, purpose: u64) -> usize {
        let number = mixed(u64::from(self.client) << 32 ^ round << 1 ^ purpose);
        usize::try_from(number % self.rounds.len() as u64).unwrap_or(0)
    }
}

/// So many bytes, different ones for every client and round.
pub(crate) fn text(client: u32, round: u64, len: usize) -> Vec<u8> {
    let seed = mixed(u64::from(client) << 32 ^ round);
    let words = (0..).map(|at: u64| mixed(seed.wrapping_add(at)));
    words.flat_map(u64::to_le_bytes).take(len).collect()
}

/// SplitMix64's finalizer (Steele, Lea and Flood, 2014): equal numbers give equal ones, others look drawn.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_is_expected_and_zeros_where_nothing_was() {
        let mut pages = Pages::new(7, 16 * PAGE as u64);
        let mut model = vec![0; 16 * PAGE];
        for round in 0..100 {
            let (at, bytes) = pages.write(round);
            let at = usize::try_from(at).unwrap();
            model[at..at + PAGE].copy_from_slice(&bytes);
            let (at, bytes) = pages.expect(round);
            let at = usize::try_from(at).unwrap();
            assert_eq!(model[at..at + PAGE], bytes);
        }
        let all: Vec<u8> = pages.all().flat_map(|(_, bytes)| bytes).collect();
        assert!(all == model);
    }

    #[test]
    fn clients_and_rounds_have_different_bytes() {
        assert_ne!(text(1, 2, 64), text(2, 1, 64));
        assert_ne!(text(1, 2, 64), text(1, 3, 64));
        assert_eq!(text(1, 2, 64), text(1, 2, 128)[..64]);
    }
}

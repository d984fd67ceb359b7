//! Telling of connections that were refused: strangers cause these, as many as they like.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// So many lines at once.
const BURST: u32 = 100;

/// And another one after so long.
const EVERY: Duration = Duration::from_millis(100);

/// How often one line tells of those that had none.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Addresses that are counted apart until the next summary.
const ADDRESSES: usize = 64;

/// Which refusals get a line of their own, and how many others there were.
#[derive(Debug)]
pub(crate) struct Refusals {
    lines: u32,
    /// When `lines` was right.
    at: Instant,
    others: u64,
    by_address: HashMap<IpAddr, u64>,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self { lines: BURST, at: now, others: 0, by_address: HashMap::new() }
    }

    /// Whether the refusal of a connection from `address` gets a line; otherwise it is counted.
    pub(crate) fn tells(&mut self, address: IpAddr, now: Instant) -> bool {
        let more = now.saturating_duration_since(self.at).as_nanos() / EVERY.as_nanos();
        if let Ok(more) = u32::try_from(more)
            && more > 0
        {
            self.lines = self.lines.saturating_add(more).min(BURST);
            self.at += EVERY * more;
        }
        if let Some(left) = self.lines.checked_sub(1) {
            self.lines = left;
            return true;
        }
        self.others += 1;
        if self.by_address.len() < ADDRESSES || self.by_address.contains_key(&address) {
            *self.by_address.entry(address).or_default() += 1;
        }
        false
    }

    /// A line for those that had none, and for `more`, of which nothing is known; none if there are none.
    pub(crate) fn summary(&mut self, more: u64) -> Option<String> {
        let others = std::mem::take(&mut self.others) + more;
        let by_address = std::mem::take(&mut self.by_address);
        let most = by_address.into_iter().max_by_key(|(_, count)| *count);
        let who =
            most.map(|(address, count)| format!("; {count} of them from {address}")).unwrap_or_default();
        (others > 0).then(|| format!("refused {others} more connections{who}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_flood_of_refusals_is_few_lines_and_one_count_a_second() {
        let begin = Instant::now();
        let mut refusals = Refusals::new(begin);
        let (mut lines, mut summed) = (0, 0);
        for second in 0..10 {
            for n in 0..500 {
                let now = begin + SUMMARY_EVERY * second + Duration::from_millis(2) * n;
                lines += u32::from(refusals.tells(if n % 5 == 0 { B } else { A }, now));
            }
            if let Some(summary) = refusals.summary(3) {
                assert!(summary.ends_with("of them from 10.0.0.1"), "{summary}");
                summed += summary.split(' ').nth(1).unwrap().parse::<u32>().unwrap() - 3;
            }
        }
        assert_eq!(lines + summed, 5000);
        assert!((BURST..=BURST + 100).contains(&lines), "{lines}");
        assert_eq!(refusals.summary(0), None);
    }

    #[test]
    fn after_a_while_there_are_lines_again() {
        let begin = Instant::now();
        let mut refusals = Refusals::new(begin);
        while refusals.tells(A, begin) {}
        assert!(!refusals.tells(A, begin + EVERY / 2));
        assert!(refusals.tells(A, begin + EVERY));
        assert!(!refusals.tells(A, begin + EVERY));
        for _ in 0..BURST {
            assert!(refusals.tells(A, begin + Duration::from_secs(1_000_000)));
        }
        assert!(!refusals.tells(A, begin + Duration::from_secs(1_000_000)));
    }

    #[test]
    fn what_is_kept_of_strangers_is_bounded() {
        let begin = Instant::now();
        let mut refusals = Refusals::new(begin);
        for n in 0..100_000_u32 {
            refusals.tells(IpAddr::V4(n.into()), begin);
        }
        assert_eq!(refusals.by_address.len(), ADDRESSES);
        assert!(refusals.summary(0).unwrap().starts_with("refused 99900 more connections"));
    }
}

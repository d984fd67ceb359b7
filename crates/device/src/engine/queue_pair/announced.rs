//! Which deadlines of a queue pair the engine has been told of.

use rocev2::Time;
use smallvec::SmallVec;

/// The deadlines of a queue pair that the engine still has, the earliest last.
///
/// One that was announced stays with the engine until it has passed, also where an earlier one is announced
/// meanwhile. Unless the queue pair remembered both, it would announce a later one anew each time that the earlier
/// one has passed: whoever has it wait for a few microseconds again and again would fill the engine's memory.
#[derive(Debug, Default)]
pub(super) struct Announced(SmallVec<[Time; 2]>);

impl Announced {
    /// Takes note of `at`; whether it has to be announced, since the engine has none that is as early.
    pub(super) fn add(&mut self, at: Time) -> bool {
        let new = self.0.last().is_none_or(|earliest| at < *earliest);
        if new {
            self.0.push(at);
        }
        new
    }

    /// The engine has taken the one at `deadline`, and those before it.
    pub(super) fn taken(&mut self, deadline: Time) {
        while self.0.last().is_some_and(|earliest| *earliest <= deadline) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(1_000_000 * ms)
    }

    #[test]
    fn a_deadline_is_announced_unless_one_that_is_as_early_is_still_there() {
        let mut announced = Announced::default();
        assert!(announced.add(at(60)));
        assert!(!announced.add(at(60)) && !announced.add(at(70)));
        for soon in 1..50 {
            assert!(announced.add(at(soon)), "earlier");
            announced.taken(at(soon));
            assert!(!announced.add(at(60 + soon)), "the first one comes before");
        }
        announced.taken(at(60));
        assert!(announced.add(at(110)));
    }
}

//! What clocks showed and what servers went by, at any time: whom it let in, and whose session had to end.

use crate::plan::{MS, Rules, Windows};
use std::collections::BTreeSet;

/// How soon a server ends the session of whose certificate, or of whose CA's revocation list, has ended: it looks once
/// a second.
const LOOK: u64 = 1_100 * MS;

/// How soon a server whose process was stopped has looked.
const AFTER_A_STALL: u64 = 100 * MS;

const SECOND: u64 = 1_000 * MS;

/// Something that changes, and from when on it was what.
#[derive(Clone, Debug)]
struct Changes<T>(Vec<(u64, T)>);

impl<T> Changes<T> {
    fn of(first: T) -> Self {
        Self(vec![(0, first)])
    }

    fn at(&self, time: u64) -> &T {
        &self.0.iter().rfind(|(from, _)| *from <= time).expect("it has a beginning").1
    }

    fn times(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|(from, _)| *from)
    }
}

/// Who wants to get in where, and by which certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visitor {
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) identity: usize,
    pub(crate) edition: usize,
}

/// All that there was, by machine. Times are nanoseconds since the beginning.
#[derive(Clone, Debug)]
pub(crate) struct Chronicle {
    windows: Windows,
    /// How many nanoseconds each clock is ahead.
    clocks: Vec<Changes<i64>>,
    rules: Vec<Changes<Rules>>,
    stalls: Vec<Vec<[u64; 2]>>,
}

impl Chronicle {
    pub(crate) fn new(windows: Windows, clocks: &[i64], rules: &[Rules]) -> Self {
        Self {
            windows,
            clocks: clocks.iter().map(|ahead| Changes::of(*ahead)).collect(),
            rules: rules.iter().cloned().map(Changes::of).collect(),
            stalls: vec![Vec::new(); clocks.len()],
        }
    }

    pub(crate) fn set_clock(&mut self, machine: usize, now: u64, ahead: i64) {
        self.clocks[machine].0.push((now, ahead));
    }

    pub(crate) fn set_rules(&mut self, server: usize, now: u64, rules: Rules) {
        self.rules[server].0.push((now, rules));
    }

    pub(crate) fn stalled(&mut self, machine: usize, now: u64, until: u64) {
        self.stalls[machine].push([now, until]);
    }

    /// What a machine's clock shows: whole seconds since the beginning.
    pub(crate) fn second(&self, machine: usize, time: u64) -> i64 {
        (time.cast_signed() + self.clocks[machine].at(time)).div_euclid(SECOND.cast_signed())
    }

    /// Whether a handshake at that time is refused, by either side.
    fn refuses(&self, visitor: Visitor, time: u64) -> bool {
        let Visitor { client, server, identity, edition } = visitor;
        let (rules, second) = (self.rules[server].at(time), self.second(server, time));
        let own = self.windows.servers[server][rules.edition];
        let let_in = rules.open
            || rules.name(identity, edition)
                && self.windows.clients[identity][edition].has(second)
                && rules.list_ends.is_none_or(|end| second < end);
        !(let_in && own.has(self.second(client, time)))
    }

    /// Whether the clock of the server says at that time that the client's certificate, or its CA's revocation list,
    /// has ended.
    fn has_ended(&self, visitor: Visitor, time: u64) -> bool {
        let Visitor { server, identity, edition, .. } = visitor;
        let (rules, second) = (self.rules[server].at(time), self.second(server, time));
        let ends = self.windows.clients[identity][edition].until;
        !rules.open && (second > ends || rules.list_ends.is_some_and(|end| second > end))
    }

    /// Whether a handshake would have been refused at some time of that span.
    pub(crate) fn ever_refuses(&self, visitor: Visitor, span: [u64; 2]) -> bool {
        self.moments(visitor, span).into_iter().any(|time| self.refuses(visitor, time))
    }

    /// Whether it would have been at any time of that span.
    pub(crate) fn always_refuses(&self, visitor: Visitor, span: [u64; 2]) -> bool {
        self.moments(visitor, span).into_iter().all(|time| self.refuses(visitor, time))
    }

    /// When in that span a session that was open has to have been ended, because a certificate or a revocation list
    /// had ended.
    pub(crate) fn overdue(&self, visitor: Visitor, span: [u64; 2]) -> Option<u64> {
        let mut since = None;
        for time in self.moments(visitor, span) {
            if since.is_some_and(|since| self.looked(visitor.server, since) < time) {
                break;
            }
            since = self.has_ended(visitor, time).then_some(since.unwrap_or(time));
        }
        since.map(|since| self.looked(visitor.server, since)).filter(|at| *at < span[1])
    }

    /// When a server has looked at its clock after that time.
    fn looked(&self, server: usize, time: u64) -> u64 {
        let stalls = self.stalls[server].iter();
        stalls.fold(time + LOOK, |looked, [from, until]| match *from <= looked {
            true => looked.max(until + AFTER_A_STALL),
            false => looked,
        })
    }

    /// The times of a span at which anything may change: after each of them all stays until the next.
    fn moments(&self, visitor: Visitor, [from, to]: [u64; 2]) -> BTreeSet<u64> {
        let mut moments = BTreeSet::from([from, to]);
        let clocks = [&self.clocks[visitor.server], &self.clocks[visitor.client]];
        let changes = clocks.iter().flat_map(|clock| clock.times());
        let changes = changes.chain(self.rules[visitor.server].times());
        moments.extend(changes.filter(|time| (from..to).contains(time)));
        for ahead in clocks.iter().flat_map(|clock| clock.0.iter().map(|(_, ahead)| *ahead)) {
            // A clock goes on to its next second at the same fraction of each.
            let fraction = (-ahead).rem_euclid(SECOND.cast_signed()).cast_unsigned();
            let mut tick = from - from % SECOND + fraction;
            while tick < to {
                moments.insert(tick.max(from));
                tick += SECOND;
            }
        }
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Window;

    const VISITOR: Visitor = Visitor { client: 1, server: 0, identity: 0, edition: 0 };

    /// A server, machine 0, and a client whose certificate is valid until the third second.
    fn chronicle(ahead: i64) -> Chronicle {
        let mut windows = Windows::long();
        windows.clients[0][0] = Window { until: 3, ..Window::LONG };
        Chronicle::new(windows, &[ahead, 0], &[Rules::usual()])
    }

    #[test]
    fn a_certificate_is_valid_to_the_end_of_its_last_second_by_the_servers_clock() {
        let chronicle = chronicle(0);
        assert!(!chronicle.ever_refuses(VISITOR, [0, 4 * SECOND - 1]));
        assert!(chronicle.ever_refuses(VISITOR, [0, 4 * SECOND]));
        assert!(!chronicle.always_refuses(VISITOR, [4 * SECOND - 1, 9 * SECOND]));
        assert!(chronicle.always_refuses(VISITOR, [4 * SECOND, 9 * SECOND]));
    }

    #[test]
    fn who_sets_a_clock_decides_who_gets_in() {
        let mut chronicle = chronicle(1_500_000_000);
        assert!(chronicle.ever_refuses(VISITOR, [2_500_000_000, 2_500_000_001]));
        assert!(!chronicle.ever_refuses(VISITOR, [0, 2_499_999_999]));
        chronicle.set_clock(0, 3 * SECOND, 0);
        assert!(!chronicle.ever_refuses(VISITOR, [3 * SECOND, 4 * SECOND - 1]));
    }

    #[test]
    fn a_session_is_overdue_when_its_server_has_looked_and_not_when_the_clock_was_set_back_before() {
        let mut chronicle = chronicle(0);
        let ended = 4 * SECOND;
        assert_eq!(chronicle.overdue(VISITOR, [0, ended + LOOK]), None);
        assert_eq!(chronicle.overdue(VISITOR, [0, ended + LOOK + 1]), Some(ended + LOOK));
        let mut stalled = chronicle.clone();
        stalled.stalled(0, ended + 10, ended + 5 * SECOND);
        let looked = ended + 5 * SECOND + AFTER_A_STALL;
        assert_eq!(stalled.overdue(VISITOR, [0, 60 * SECOND]), Some(looked));
        chronicle.set_clock(0, ended + 500 * MS, -10 * SECOND.cast_signed());
        assert_eq!(chronicle.overdue(VISITOR, [0, ended + 5 * SECOND]), None);
    }

    #[test]
    fn when_a_revocation_list_ends_nobody_is_let_in_and_a_second_later_nobody_stays() {
        let mut chronicle = chronicle(0);
        let rules = Rules { list_ends: Some(2), ..Rules::usual() };
        chronicle.set_rules(0, SECOND, rules);
        assert!(!chronicle.ever_refuses(VISITOR, [0, 2 * SECOND - 1]));
        assert!(chronicle.ever_refuses(VISITOR, [0, 2 * SECOND]));
        assert_eq!(chronicle.overdue(VISITOR, [0, 9 * SECOND]), Some(3 * SECOND + LOOK));
    }
}

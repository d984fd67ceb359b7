//! What is compared with what, and how it should come out.

use crate::figure::{Figure, LARGE, LOSSY, MANY, Op, SMALL, TINY};
use crate::outcome::Outcome;
use serde::Serialize;

/// Bytes that a client that does nothing may cost the server.
const IDLE_MEMORY: f64 = 65_536.;

/// How a number should come out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// It is only told.
    Open,
}

/// Two figures, the first divided by the second; without the second, the first alone.
#[derive(Clone, Debug)]
struct Comparison {
    of: (&'static str, Figure),
    to: Option<(&'static str, Figure)>,
    goal: Goal,
}

/// How one came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    /// `embedded write 64 KiB / udp-limit send 64 KiB`.
    pub(crate) name: String,
    /// The quotient of the two medians.
    pub(crate) value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at_most: Option<f64>,
    /// Whether it is as it should be, where that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) met: Option<bool>,
}

/// All comparisons for which both figures were measured.
pub(crate) fn ratios(outcomes: &[Outcome]) -> Vec<Ratio> {
    comparisons().iter().filter_map(|comparison| comparison.ratio(outcomes)).collect()
}

fn comparisons() -> Vec<Comparison> {
    const PLAIN: &str = "embedded";
    const SEALED: &str = "embedded-sealed";
    const STREAM: &str = "embedded-stream";
    const UDP: &str = "udp-limit";
    const SOCKET: &str = "roce-socket";
    const ESP: &str = "roce-socket-esp";
    let mut all = Vec::new();
    let mut compare = |of: (&'static str, Op), to: (&'static str, Op), size, goal| {
        let [of, to] = [of, to].map(|(name, op)| (name, Figure::new(op, size)));
        all.push(Comparison { of, to: Some(to), goal });
    };
    for size in LARGE {
        compare((PLAIN, Op::Write), (UDP, Op::Send), size, Goal::AtLeast(0.75));
        compare((PLAIN, Op::Write), ("tcp", Op::Send), size, Goal::AtLeast(1.6));
        for op in [Op::Read, Op::Send] {
            compare((PLAIN, op), (PLAIN, Op::Write), size, Goal::AtLeast(0.9));
        }
        for op in [Op::Write, Op::Send] {
            compare((SOCKET, op), (UDP, Op::Send), size, Goal::Open);
            compare((PLAIN, op), (SOCKET, op), size, Goal::Open);
            compare((ESP, op), (SOCKET, op), size, Goal::Open);
            compare((ESP, op), ("tls", Op::Send), size, Goal::Open);
            compare((SEALED, op), (UDP, Op::Send), size, Goal::AtLeast(0.6));
            compare((SEALED, op), ("tcp", Op::Send), size, Goal::AtLeast(1.2));
            compare((SEALED, op), ("tls", Op::Send), size, Goal::AtLeast(1.5));
            compare((SEALED, op), ("quic", Op::Send), size, Goal::AtLeast(5.));
            compare((SEALED, op), ("quic-4096", Op::Send), size, Goal::Open);
            compare((SEALED, op), (ESP, op), size, Goal::AtLeast(0.92));
            compare((SEALED, op), (PLAIN, op), size, Goal::Open);
        }
        compare((SEALED, Op::Read), (PLAIN, Op::Read), size, Goal::Open);
        compare((STREAM, Op::Send), ("tls", Op::Send), size, Goal::Open);
        compare((STREAM, Op::Send), (SEALED, Op::Send), size, Goal::Open);
        compare(("roce-socket-sealed", Op::Send), (UDP, Op::Send), size, Goal::Open);
        compare((SEALED, Op::Send), ("roce-socket-sealed", Op::Send), size, Goal::Open);
    }
    for size in SMALL {
        compare((SOCKET, Op::RoundTrip), (UDP, Op::RoundTrip), size, Goal::Open);
        compare((ESP, Op::RoundTrip), (SOCKET, Op::RoundTrip), size, Goal::Open);
        compare((PLAIN, Op::RoundTrip), (UDP, Op::RoundTrip), size, Goal::AtMost(1.3));
        compare((SEALED, Op::RoundTrip), (UDP, Op::RoundTrip), size, Goal::AtMost(1.5));
        compare((STREAM, Op::RoundTrip), ("tls", Op::RoundTrip), size, Goal::Open);
        compare((STREAM, Op::RoundTrip), (SEALED, Op::RoundTrip), size, Goal::Open);
        compare((PLAIN, Op::RoundTripAwait), (UDP, Op::RoundTripAwait), size, Goal::AtMost(1.5));
        compare((SEALED, Op::RoundTripAwait), (UDP, Op::RoundTripAwait), size, Goal::AtMost(1.5));
        compare((STREAM, Op::RoundTripAwait), (SEALED, Op::RoundTripAwait), size, Goal::Open);
    }
    for op in Op::LOSSY {
        compare((PLAIN, op), ("tcp", Op::LossSend), LOSSY, Goal::AtLeast(0.5));
        compare((SEALED, op), ("tcp", Op::LossSend), LOSSY, Goal::AtLeast(0.5));
        compare((SEALED, op), ("quic", Op::LossSend), LOSSY, Goal::Open);
    }
    let one = Op::Rate { queue_pairs: 1 };
    for queue_pairs in [1, MANY] {
        compare((PLAIN, Op::Rate { queue_pairs }), (UDP, one), TINY, Goal::AtLeast(3.));
    }
    compare((SEALED, Op::Connect), ("tls", Op::Connect), 0, Goal::AtLeast(0.7));
    let memory = (SEALED, Figure::new(Op::IdleMemory, 0));
    all.push(Comparison { of: memory, to: None, goal: Goal::AtMost(IDLE_MEMORY) });
    all
}

impl Comparison {
    fn ratio(&self, outcomes: &[Outcome]) -> Option<Ratio> {
        let median = |(name, figure): &(&str, Figure)| {
            let found = outcomes.iter().find(|outcome| outcome.name == *name && outcome.figure == *figure);
            Some(found?.spread.median)
        };
        let label = |(name, figure): &(&str, Figure)| format!("{name} {figure}");
        let (name, value) = match &self.to {
            Some(to) => (format!("{} / {}", label(&self.of), label(to)), median(&self.of)? / median(to)?),
            None => (label(&self.of), median(&self.of)?),
        };
        let (at_least, at_most, met) = match self.goal {
            Goal::AtLeast(least) => (Some(least), None, Some(value >= least)),
            Goal::AtMost(most) => (None, Some(most), Some(value <= most)),
            Goal::Open => (None, None, None),
        };
        Some(Ratio { name, value, at_least, at_most, met })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;

    fn outcome(name: &str, op: Op, size: usize, gbps: f64) -> Outcome {
        let sample = Sample { gbps: Some(gbps), ..Sample::default() };
        Outcome::new(name, Figure::new(op, size), &[sample]).unwrap()
    }

    #[test]
    fn a_goal_is_met_on_its_own_side_of_the_bound_and_at_it() {
        let udp = outcome("udp-limit", Op::Send, 1 << 20, 40.);
        for (write, met) in [(29.9, false), (30., true), (50., true)] {
            let outcomes = [outcome("embedded", Op::Write, 1 << 20, write), udp.clone()];
            let [ratio] = &ratios(&outcomes)[..] else { panic!("one comparison has both of its figures") };
            assert_eq!(ratio.name, "embedded write 1 MiB / udp-limit send 1 MiB");
            assert_eq!((ratio.value, ratio.met), (write / 40., Some(met)));
        }
    }

    #[test]
    fn what_was_not_measured_is_not_compared() {
        assert_eq!(ratios(&[outcome("embedded", Op::Write, 1 << 20, 1.)]), []);
        let other_size = [outcome("embedded", Op::Write, 1 << 20, 1.), outcome("tcp", Op::Send, 65_536, 1.)];
        assert_eq!(ratios(&other_size), []);
    }
}

//! A figure of a contender, after all rounds.

use crate::figure::{Figure, Unit};
use crate::sample::{Latency, Sample, Spread};

/// A figure of a contender, after all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) figure: Figure,
    /// Of what the figure is about: for round trips, their medians.
    pub(crate) spread: Spread,
    pub(crate) gbps: Option<f64>,
    pub(crate) mops: Option<f64>,
    pub(crate) latency: Option<Latency>,
}

impl Outcome {
    /// `None` without any sample of what the figure is about.
    pub(crate) fn new(name: &str, figure: Figure, samples: &[Sample]) -> Option<Self> {
        let spread = |value: &dyn Fn(&Sample) -> Option<f64>| Spread::of(samples.iter().filter_map(value));
        let median = |value: &dyn Fn(&Sample) -> Option<f64>| Some(spread(value)?.median);
        let of_latency = |value: fn(&Latency) -> f64| median(&|sample| sample.latency.as_ref().map(value));
        let main = match figure.op.unit() {
            Unit::Gbps => spread(&|sample| sample.gbps),
            Unit::Micros => spread(&|sample| Some(sample.latency?.p50)),
            Unit::Mops => spread(&|sample| sample.mops),
            Unit::PerSecond => spread(&|sample| sample.connections),
            Unit::Bytes => spread(&|sample| sample.memory),
        };
        let latency = || {
            let (p50, p99) = (of_latency(|latency| latency.p50)?, of_latency(|latency| latency.p99)?);
            Some(Latency { p50, p99, p999: of_latency(|latency| latency.p999)? })
        };
        Some(Self {
            name: name.to_owned(),
            figure,
            spread: main?,
            gbps: median(&|sample| sample.gbps),
            mops: median(&|sample| sample.mops),
            latency: latency(),
        })
    }
}

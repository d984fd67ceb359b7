//! Results: of each figure, of all, and as JSON.

use crate::figure::Unit;
use crate::goals::Ratio;
use crate::network::{MTU, PERCENT};
use crate::outcome::Outcome;
use crate::sample::{Latency, Spread};
use core::fmt;
use serde::Serialize;
use std::collections::BTreeMap;

/// The whole document.
#[derive(Debug, Serialize)]
pub(crate) struct Report<'a> {
    version: &'static str,
    machine: Machine,
    rounds: u32,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<&'a Loss>,
    results: Vec<Entry<'a>>,
    /// The values of `goals`, by name.
    ratios: BTreeMap<&'a str, f64>,
    goals: &'a [Ratio],
    failed: &'a [Failed],
}

/// The network that loses packets, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Loss {
    Network { percent: u32, mtu: u32, tcp_congestion_control: String },
    NotMeasured { not_measured: String },
}

impl Loss {
    /// One where TCP controls congestion so.
    pub(crate) fn of(tcp_congestion_control: String) -> Self {
        Self::Network { percent: PERCENT, mtu: MTU, tcp_congestion_control }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { percent, mtu, tcp_congestion_control } => write!(
                f,
                "Loss: {percent} % of all packets in both directions of a veth pair with MTU {mtu} and \
                 without offloads; TCP has {tcp_congestion_control}."
            ),
            Self::NotMeasured { not_measured } => {
                write!(f, "NOT MEASURED: what becomes of each where packets are lost: {not_measured}")
            }
        }
    }
}

/// A figure that couldn't be measured, at least in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failed {
    pub(crate) name: String,
    pub(crate) figure: String,
    pub(crate) error: String,
}

/// What it was measured on.
#[derive(Debug, Serialize)]
struct Machine {
    kernel: String,
    processor: Option<String>,
    cores: usize,
}

impl Machine {
    fn here() -> Self {
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let processor = named.map(|(_, name)| name.to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { kernel, processor, cores }
    }
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    name: &'a str,
    op: String,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    gbps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mops: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lat_us: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<f64>,
    /// Of the figure's own number: Gb/s, µs, millions or connections a second, bytes.
    unit: String,
    spread: Spread,
}

impl<'a> Report<'a> {
    pub(crate) fn new(
        rounds: u32,
        seconds: f64,
        loss: Option<&'a Loss>,
        outcomes: &'a [Outcome],
        goals: &'a [Ratio],
        failed: &'a [Failed],
    ) -> Self {
        let entry = |outcome: &'a Outcome| {
            let Outcome { name, figure, spread, gbps, mops, latency } = outcome;
            let unit = figure.op.unit();
            Entry {
                name,
                op: figure.op.name(),
                size: figure.size,
                gbps: *gbps,
                mops: *mops,
                lat_us: *latency,
                connections_per_second: (unit == Unit::PerSecond).then_some(spread.median),
                bytes: (unit == Unit::Bytes).then_some(spread.median),
                unit: unit.to_string(),
                spread: *spread,
            }
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
            rounds,
            seconds,
            loss,
            results: outcomes.iter().map(entry).collect(),
            ratios: goals.iter().map(|ratio| (ratio.name.as_str(), ratio.value)).collect(),
            goals,
            failed,
        }
    }
}

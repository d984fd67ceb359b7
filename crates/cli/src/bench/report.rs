//! Results, in perftest's columns or as JSON.

use super::request::Request;
use super::statistics::{Latency, Times};
use super::task::{Operation, Rate};
use crate::failure::Failure;
use core::fmt;
use secure_rdma::Session;
use serde::Serialize;

/// All that is known after a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(super) operation: Operation,
    pub(super) measure: &'static str,
    pub(super) sealed: bool,
    /// How: `packets`, `messages` or `none`.
    pub(super) seal: &'static str,
    /// The cipher suite, where it is sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    device: String,
    peer: String,
    path_mtu: u32,
    queue_pairs: u32,
    bidirectional: bool,
    inline: u32,
    pub(super) results: Vec<Row>,
}

impl Report {
    /// Without results yet.
    pub(super) fn new(request: &Request, session: &Session) -> Self {
        let info = session.info();
        Self {
            operation: request.operation,
            measure: if request.latency { "lat" } else { "bw" },
            sealed: request.sealed,
            suite: request.sealed.then(|| info.tls.suite.to_string()),
            seal: if request.sealed { info.sealed.name() } else { "none" },
            device: info.device.clone(),
            peer: info.peer.to_string(),
            path_mtu: request.mtu.unwrap_or(info.path_mtu).bytes(),
            queue_pairs: request.queue_pairs,
            bidirectional: request.bidirectional,
            inline: request.inline,
            results: Vec::new(),
        }
    }

    /// What stands above the results.
    pub(super) fn heading(&self) -> String {
        let Self { operation, measure, device, peer, path_mtu, queue_pairs, bidirectional, .. } = self;
        let columns = if *measure == "lat" { LATENCY } else { BANDWIDTH };
        let way = if *bidirectional { ", both ways" } else { "" };
        let path = match &self.suite {
            Some(suite) => format!("sealed, {suite}, by {}", self.seal),
            None => "NOT sealed".into(),
        };
        format!(
            "{} {measure}{way}, device {device}, with {peer}; queue pairs {queue_pairs}; path MTU \
             {path_mtu}; data path: {path}\n{columns}",
            operation.name()
        )
    }
}

const BANDWIDTH: &str = " #bytes     #iterations    BW peak[Gb/sec]    BW average[Gb/sec]   MsgRate[Mpps]";

const LATENCY: &str = " #bytes \
    #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% \
    percentile[usec]   99.9% percentile[usec]";

/// The result of one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(super) bytes: u32,
    iterations: u64,
    #[serde(flatten)]
    pub(super) numbers: Numbers,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Numbers {
    Bandwidth {
        /// Requests of each queue pair that were under way at a time.
        depth: u32,
        bw_peak_gbps: f64,
        bw_average_gbps: f64,
        msg_rate_mpps: f64,
    },
    Latency(Latency),
}

impl Row {
    pub(super) fn bandwidth(bytes: u32, depth: u32, rate: Rate) -> Self {
        let gigabits = |messages: f64| messages * f64::from(bytes) * 8e-9;
        let numbers = Numbers::Bandwidth {
            depth,
            bw_peak_gbps: gigabits(rate.peak),
            bw_average_gbps: gigabits(rate.average),
            msg_rate_mpps: rate.average * 1e-6,
        };
        Self { bytes, iterations: rate.messages, numbers }
    }

    pub(super) fn latency(bytes: u32, times: &Times) -> Result<Self, Failure> {
        match times.latency() {
            Some(latency) => {
                Ok(Self { bytes, iterations: times.count(), numbers: Numbers::Latency(latency) })
            }
            None => Err(Failure::Other("not one message was answered in that time: give a longer -D".into())),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, iterations, numbers } = self;
        match numbers {
            Numbers::Bandwidth { bw_peak_gbps, bw_average_gbps, msg_rate_mpps, .. } => write!(
                f,
                " {bytes:<10} {iterations:<14} {bw_peak_gbps:<18.2} {bw_average_gbps:<20.2} {msg_rate_mpps:.6}"
            ),
            Numbers::Latency(Latency { min, max, typical, average, deviation, p99, p999 }) => write!(
                f,
                " {bytes:<7} {iterations:<13} {min:<14.2} {max:<12.2} {typical:<18.2} {average:<14.2} \
                 {deviation:<15.2} {p99:<22.2} {p999:.2}"
            ),
        }
    }
}

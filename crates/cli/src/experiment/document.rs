//! What an experiment found, as data: what is collected, written as JSON, and rendered.
//!
//! Times are in the unit that a field's name ends with; bandwidths are in Gb/s of payload.

use serde::{Deserialize, Serialize};

/// A part of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", content = "value", rename_all = "snake_case")]
pub(crate) enum Part<T> {
    /// It was done, and this came of it.
    Measured(T),
    /// This machine lacks what it needs.
    NotRun(String),
    /// It should have worked.
    Failed(String),
}

impl<T> Part<T> {
    pub(crate) fn measured(&self) -> Option<&T> {
        match self {
            Self::Measured(value) => Some(value),
            Self::NotRun(_) | Self::Failed(_) => None,
        }
    }

    /// Why there is nothing to show.
    pub(crate) fn missing(&self) -> Option<String> {
        match self {
            Self::Measured(_) => None,
            Self::NotRun(reason) => Some(format!("not run: {reason}")),
            Self::Failed(reason) => Some(format!("FAILED: {reason}")),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl<T> From<Result<T, String>> for Part<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(Self::Failed, Self::Measured)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// The program and its version.
    pub(crate) program: String,
    /// When it began, in UTC.
    pub(crate) begun: String,
    /// From the first step to the last.
    pub(crate) seconds: f64,
    /// Whether it was the short run, whose figures vary more.
    pub(crate) quick: bool,
    /// Whether the program was built with `--release`: without, its figures say nothing of how fast it is.
    pub(crate) optimised: bool,
    /// Whether nothing failed, and no requirement was found not to be met.
    pub(crate) ok: bool,
    pub(crate) machine: Machine,
    /// The device that everything was measured on that doesn't name another.
    pub(crate) device: String,
    pub(crate) devices: Vec<Device>,
    /// What rdma-core's own programs print of the devices.
    pub(crate) tools: Vec<Tool>,
    pub(crate) platforms: Vec<Platform>,
    pub(crate) sizes: Part<Sizes>,
    pub(crate) pingpong: Part<Pingpong>,
    pub(crate) connection: Part<Connection>,
    pub(crate) psns: Part<Psns>,
    pub(crate) clients: Part<Clients>,
    pub(crate) wire: Part<Wire>,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) original: Original,
    pub(crate) commands: Vec<Command>,
}

impl Document {
    /// Whether nothing failed, and no requirement was found not to be met.
    pub(crate) fn is_good(&self) -> bool {
        self.requirements.iter().all(|requirement| requirement.verdict != Verdict::NotMet)
            && !self.sizes.has_failed()
            && !self.platforms.iter().any(|platform| platform.result.has_failed())
            && !self.tools.iter().any(|tool| tool.output.has_failed())
    }
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Logical processors that this process may use.
    pub(crate) processors: usize,
    pub(crate) memory: String,
    /// Processes that ran or wanted to when the experiment began, on average of the last minute.
    pub(crate) load: String,
    pub(crate) kernel: String,
    pub(crate) system: String,
}

/// A device as `secure-rdma devices` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    /// What it is, or why it can't be used.
    pub(crate) description: String,
    pub(crate) usable: bool,
    pub(crate) gids: Vec<Gid>,
}

/// An entry of a device's GID table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gid {
    pub(crate) index: usize,
    pub(crate) gid: String,
    pub(crate) kind: String,
    pub(crate) interface: Option<String>,
    pub(crate) mtu: u32,
}

/// A program and what it printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tool {
    pub(crate) command: String,
    pub(crate) output: Part<String>,
}

/// Which of the original's three platforms something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The device in user space.
    Embedded,
    /// The Linux kernel's `rdma_rxe`.
    SoftRoce,
    /// A network card.
    Hardware,
}

/// A platform, and the original's measurement there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) kind: Kind,
    /// The device, where there is one.
    pub(crate) device: Option<String>,
    pub(crate) result: Part<Measurement>,
}

/// The original's measurement: messages of 4096 bytes, 1000 of them (fewer in the short run).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) bytes: u32,
    pub(crate) messages: u64,
    pub(crate) sealed: Figures,
    pub(crate) clear: Figures,
}

/// What was measured on one data path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// How it is sealed: `packets`, `messages` or `none`.
    pub(crate) seal: String,
    /// Many messages under way.
    pub(crate) bandwidth_gbps: Spread,
    /// A message there and one back, one at a time: the original's iteration.
    pub(crate) iteration_us: Spread,
    /// What ibv_rc_pingpong makes of that: both messages' bytes over the time, in Mb/s.
    pub(crate) pingpong_mbps: f64,
}

/// A figure of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) runs: usize,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (&least, &most) = (figures.first()?, figures.last()?);
        Some(Self { median: figures[figures.len() / 2], least, most, runs: figures.len() })
    }
}

/// Bandwidth and latency over the sizes of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sizes {
    pub(crate) bandwidth_gbps: Lines,
    /// Half a round trip, the median.
    pub(crate) latency_us: Lines,
}

/// The two data paths' figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lines {
    pub(crate) sealed: Vec<Point>,
    pub(crate) clear: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) bytes: u32,
    pub(crate) value: f64,
}

/// libibverbs' own ibv_rc_pingpong, unchanged, on the embedded device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pingpong {
    pub(crate) clear: Part<PingpongRun>,
    pub(crate) sealed: Part<PingpongRun>,
}

/// What it printed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PingpongRun {
    pub(crate) mbps: f64,
    pub(crate) iteration_us: f64,
}

/// The control connection of a session, and what it agreed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) version: String,
    pub(crate) suite: String,
    pub(crate) group: String,
    /// How the data path was sealed.
    pub(crate) seal: String,
    pub(crate) path_mtu: u32,
    /// From the TCP connection to both queue pairs being ready.
    pub(crate) setup_ms: Spread,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) refusals: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Certificate {
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    pub(crate) fingerprint: String,
}

/// An attempt to connect that must not succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) attempt: String,
    pub(crate) refused: bool,
    /// The error, or what was let in.
    pub(crate) reason: String,
}

/// The first PSNs of many connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Psns {
    /// What each side sent first, one pair for each connection.
    pub(crate) pairs: Vec<PsnPair>,
    /// Connections whose two sides had the same pair.
    pub(crate) agreed: usize,
    /// How many of both sides' PSNs are in each of equal parts of the 24 bits.
    pub(crate) bins: Vec<u32>,
    /// The sum over the parts of (found - expected)² / expected.
    pub(crate) chi_square: f64,
    /// How many have each bit set, from bit 0.
    pub(crate) ones: Vec<u32>,
    pub(crate) distinct: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PsnPair {
    pub(crate) client: u32,
    pub(crate) server: u32,
}

impl Psns {
    /// PSNs of both sides.
    pub(crate) fn count(&self) -> usize {
        2 * self.pairs.len()
    }

    /// Whether each of the 24 bits was set in some and clear in others.
    pub(crate) fn uses_all_bits(&self) -> bool {
        let all = self.count();
        self.ones.len() == 24 && self.ones.iter().all(|ones| *ones > 0 && (*ones as usize) < all)
    }
}

/// Clients that were connected at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clients {
    /// Sessions that the server had after every client's work and before the first left.
    pub(crate) at_once: usize,
    pub(crate) seal: String,
    pub(crate) seconds: f64,
    pub(crate) clients: Vec<Client>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Client {
    pub(crate) id: u32,
    pub(crate) client_psn: Option<u32>,
    pub(crate) server_psn: Option<u32>,
    pub(crate) client_qpn: Option<u32>,
    pub(crate) server_qpn: Option<u32>,
    pub(crate) setup_ms: Option<f64>,
    pub(crate) ops: Operations,
}

/// What came of each operation, a word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operations {
    pub(crate) send: String,
    pub(crate) write: String,
    pub(crate) read: String,
    pub(crate) fetch_add: String,
    pub(crate) compare_swap: String,
    pub(crate) foreign_region: String,
}

/// What an attacker on the path sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wire {
    /// How it was captured.
    pub(crate) how: String,
    pub(crate) sealed: Capture,
    pub(crate) clear: Capture,
}

/// A session that was captured whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Capture {
    pub(crate) seal: String,
    /// Of the data path: UDP packets, as the capture has them, and their payload's bytes.
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
    /// Of the control connection: bytes of TCP payload.
    pub(crate) control_bytes: usize,
    pub(crate) findings: Vec<Finding>,
    /// The beginning of a packet that carries the pattern, or of the one in its place.
    pub(crate) sample: Vec<String>,
}

/// Something that was looked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) what: What,
    pub(crate) value: String,
    /// How often it was found: in the data path, and in the control connection.
    pub(crate) data: usize,
    pub(crate) control: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Text that the client sent, wrote and read.
    Pattern,
    /// The server's queue pair, as a packet's destination.
    ServerQpn,
    /// The client's.
    ClientQpn,
    /// The first PSN that the client sends, in a packet to the server's queue pair.
    ClientPsn,
    /// The region's address and rkey, as they stand beside each other in a packet (RETH).
    Region,
}

/// A line of the table of requirements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Requirement {
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
    pub(crate) evidence: String,
    /// What the original had.
    pub(crate) original: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Met,
    NotMet,
    /// This run can't tell.
    NotShown,
}

/// What the original measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Original {
    pub(crate) when: String,
    pub(crate) machine: String,
    pub(crate) mbps: f64,
    pub(crate) iteration_us: f64,
    pub(crate) sample_psns: Vec<u32>,
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) seconds: f64,
    pub(crate) outcome: String,
}

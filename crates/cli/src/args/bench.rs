//! Arguments of `secure-rdma bench`.

use super::{CertsDir, ClientAuthArgs, DeviceArg, EXIT_CODES, TrustArgs};
use crate::place::Place;
use crate::size::Size;
use clap::{Args, Subcommand, ValueEnum};
use core::time::Duration;
use secure_rdma::certs::Name;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// The longest message that is measured, in bytes.
pub(crate) const LONGEST: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Messages that the other side takes
    Send(MeasureArgs),
    /// RDMA WRITE into the other side's memory
    Write(MeasureArgs),
    /// RDMA READ out of the other side's memory
    Read(MeasureArgs),
    /// Fetch-and-add of 8 bytes of the other side's memory. Never sealed
    Atomic(MeasureArgs),
    /// Be the other side, for benchmarks from another machine
    Server(BenchServerArgs),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Bandwidth and messages a second, many requests being under way
    Bw,
    /// Latency, one request at a time: half a round trip for send, and for write in clear, which are sent
    /// back; all of it for read, atomic and a sealed write
    Lat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sealed {
    /// The data path is sealed, as sessions have it
    #[value(alias = "required")]
    On,
    /// Queue pairs in clear
    Off,
}

/// With the flags of perftest (ib_write_bw and so on), where they mean the same.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct MeasureArgs {
    /// What is measured
    pub(crate) measure: Measure,
    /// Where `secure-rdma bench server` runs; without it, one is started here, as a process of its own
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) place: Option<Place>,
    /// The name that the server's certificate must carry [default: HOST]
    #[arg(value_name = "SERVER_NAME")]
    pub(crate) server_name: Option<Name>,
    /// Bytes of a message, such as 4096 or 64K [default: 64K for bw, 2 for lat; atomics have 8]
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) size: Option<Size>,
    /// All sizes from 2 bytes to 8 MiB, each twice the last
    #[arg(short, long, conflicts_with = "size")]
    pub(crate) all: bool,
    /// Messages of each queue pair [default: 5000 for bw, 1000 for lat]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) iters: Option<u64>,
    /// Measure each size for so many seconds instead of a number of messages
    #[arg(short = 'D', long, value_name = "SECONDS", conflicts_with = "iters", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Queue pairs; sealed, sessions (bw)
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) qp: u32,
    /// Requests of each queue pair, or sealed session, under way at a time; fewer where their buffers would
    /// take too much memory (bw; a sealed session has 1024 at most) [default: 1 MiB of them, from 4 to 128]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) tx_depth: Option<u32>,
    /// Path MTU: 256, 512, 1024, 2048 or 4096 (in clear; a session has the largest that both sides have)
    /// [default: the largest that both sides have]
    #[arg(short, long, value_name = "MTU", value_parser = mtu)]
    pub(crate) mtu: Option<rdma_verbs::Mtu>,
    /// Both sides at once; the sum is shown (bw, in clear; the server of a sealed session only takes and sends back)
    #[arg(short, long)]
    pub(crate) bidirectional: bool,
    /// Messages of up to so many bytes are copied when they are posted, not read from registered memory (send
    /// and write, in clear; what is sealed is copied into registered memory in any case) [default: 0]
    #[arg(short = 'I', long = "inline_size", value_name = "BYTES")]
    pub(crate) inline: Option<u32>,
    /// Whether the data path is sealed. -m, -b and -I are for queue pairs in clear. Of a sealed write, what
    /// doesn't fill slots of 4096 bytes is read before, and such writes go one after the other [default: on;
    /// off for atomics, which can't be sealed]
    #[arg(long, value_name = "WHETHER")]
    pub(crate) seal: Option<Sealed>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the results into this file, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Clients that have a certificate may measure, unless --client-auth is off; each measurement is told to
/// standard output.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct BenchServerArgs {
    /// TCP address to listen on; port 0 takes a free one. A measurement takes memory, and whole cores: think of
    /// who reaches it
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4433")]
    pub(crate) listen: SocketAddr,
    /// Memory for all clients together: half of it for the sessions' regions, half for queue pairs in clear
    #[arg(long, value_name = "SIZE", default_value = "4G")]
    pub(crate) memory: Size,
    /// Measurements of queue pairs in clear at a time; each has a thread that spins [default: twice as many as
    /// there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) max_runs: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// The longest message: so much memory is lent to each queue pair of a client
    #[arg(long, value_name = "SIZE", default_value = "8M", value_parser = region)]
    pub(crate) region: Size,
    #[command(flatten)]
    pub(crate) certs: CertsDir,
    /// A further DNS name or IP address that clients know this server by; may be given several times
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<Name>,
    #[command(flatten)]
    pub(crate) client_auth: ClientAuthArgs,
    /// Log more
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// End when standard input does
    #[arg(long, hide = true)]
    pub(crate) until_input_ends: bool,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=86_400.).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("give a number of seconds from 0.01 to 86400")
}

pub(super) fn mtu(text: &str) -> Result<rdma_verbs::Mtu, &'static str> {
    text.parse().ok().and_then(rdma_verbs::Mtu::from_bytes).ok_or("give 256, 512, 1024, 2048 or 4096")
}

fn region(text: &str) -> Result<Size, String> {
    let size: Size = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 <= LONGEST { Ok(size) } else { Err("it is at most 256M".into()) }
}

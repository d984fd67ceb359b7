//! The command line. Its comments are what `--help` prints.

use clap::Parser;
use std::path::PathBuf;

/// Compares secure RDMA with UDP's limit, TCP, TLS and QUIC: on this machine, over loopback, in one run.
///
/// Both ends of each contender are threads of this process, tied to the same two cores. In each round every
/// contender takes its turn at every figure, so that whatever else the machine does hits all alike; a figure
/// is the median of its rounds, shown with the least and the most. What is counted is what has arrived.
/// Nothing else should run meanwhile.
///
/// The operations loss-write, loss-read and loss-send (together: loss) are those over a network that loses 1
/// % of its packets, which this program makes and which ends with it; that needs root and the programs ip,
/// ethtool and nft. Without them it says so, and measures the rest.
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
pub(crate) struct Args {
    /// About how long all of it takes; setting up connections comes on top
    #[arg(long, value_name = "S", default_value = "75", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Rounds
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(5..=1000))]
    pub(crate) rounds: u32,
    /// Only these contenders, such as udp-limit,embedded
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only these operations, such as write,round-trip,loss
    #[arg(long, value_name = "OP,...", value_delimiter = ',')]
    pub(crate) ops: Vec<String>,
    /// Write all results to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw them into this file, as SVG
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// Be the server of the measurement of memory: a device, and where the certificates are
    #[arg(long, hide = true, num_args = 2, value_names = ["DEVICE", "DIR"])]
    pub(crate) idle_server: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, &'static str> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=86_400.).contains(seconds));
    seconds.ok_or("give a number of seconds from 0.1 to 86400")
}

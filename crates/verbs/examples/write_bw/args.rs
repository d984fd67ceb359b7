//! The command line: perftest's flags, as far as they mean something here.

use crate::common::{path_mtu, with_port};
use clap::Parser;
use rdma_verbs::{DeviceSelector, Mtu};

/// Measures how fast one machine writes into another's memory, with several RDMA WRITEs under way. The
/// server's program sleeps meanwhile.
#[derive(Clone, Debug, Parser)]
#[command(name = "write_bw", version)]
pub(crate) struct Args {
    /// The server to connect to; without it, this is the server
    pub(crate) host: Option<String>,
    /// TCP port by which the two ends tell each other their addresses
    #[arg(short, long, default_value = "18515")]
    pub(crate) port: u16,
    /// RDMA device: auto, embedded, embedded:ADDR, embedded:ADDR:PORT, or one of libibverbs' such as rxe0
    #[arg(short = 'd', long = "ib-dev", value_name = "DEVICE", default_value = "embedded")]
    pub(crate) device: DeviceSelector,
    /// Port of the device; the embedded one has but one
    #[arg(short, long, value_name = "PORT", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) ib_port: u8,
    /// Bytes of a message; both ends need the same
    #[arg(short, long, default_value = "65536", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) size: u32,
    /// Path MTU: 256, 512, 1024, 2048 or 4096; both ends need the same
    #[arg(short, long, default_value = "4096", value_parser = path_mtu)]
    pub(crate) mtu: Mtu,
    /// Writes that are under way at a time, each from a buffer of its own
    #[arg(short, long, value_name = "DEPTH", default_value = "16", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) tx_depth: u32,
    /// Messages that the client writes
    #[arg(short = 'n', long, default_value = "5000", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) iters: u64,
    /// Index of the local GID [default: that of the address that the TCP connection uses]
    #[arg(short = 'x', long, value_name = "INDEX")]
    pub(crate) gid_index: Option<usize>,
}

impl Args {
    /// The device with its port.
    pub(crate) fn device(&self) -> DeviceSelector {
        with_port(self.device.clone(), self.ib_port)
    }
}

//! The command line: the stock program's flags, as far as they mean something here.

use crate::common::{path_mtu, with_port};
use clap::Parser;
use rdma_verbs::{DeviceSelector, Mtu};

/// Bytes of receive buffers when the depth isn't given: see [`Args::depth`].
const BUFFERS: u32 = 64 << 20;

/// Sends a message back and forth between two machines, as libibverbs' program of the same name does; either
/// can be the other's peer.
#[derive(Clone, Debug, Parser)]
#[command(version)]
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
    #[arg(short, long, default_value = "4096")]
    pub(crate) size: u32,
    /// Path MTU: 256, 512, 1024, 2048 or 4096; both ends need the same
    #[arg(short, long, default_value = "1024", value_parser = path_mtu)]
    pub(crate) mtu: Mtu,
    /// Receives that are posted at a time, each with a buffer of its own [default: 500, fewer if their
    /// buffers exceed 64 MiB]
    #[arg(short, long, value_name = "DEPTH", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rx_depth: Option<u32>,
    /// Messages that each end sends
    #[arg(short = 'n', long, default_value = "1000", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) iters: u64,
    /// Service level; RoCEv2 over UDP sockets has none, it is ignored
    #[arg(short = 'l', long, default_value = "0")]
    pub(crate) sl: u8,
    /// Sleep until there is a completion, instead of polling
    #[arg(short, long)]
    pub(crate) events: bool,
    /// Index of the local GID [default: that of the address that the TCP connection uses]
    #[arg(short, long, value_name = "INDEX")]
    pub(crate) gid_idx: Option<usize>,
    /// Check every byte of every message received. Give it to both ends: it also changes what the client sends
    #[arg(short, long)]
    pub(crate) chk: bool,
}

impl Args {
    /// The device with its port.
    pub(crate) fn device(&self) -> DeviceSelector {
        with_port(self.device.clone(), self.ib_port)
    }

    /// Receives to post at a time. In the stock program they all share one buffer, which costs nothing.
    pub(crate) fn depth(&self) -> u32 {
        self.rx_depth.unwrap_or_else(|| (BUFFERS / self.size.max(1)).clamp(2, 500))
    }
}

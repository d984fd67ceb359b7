//! The command line.

use clap::{Parser, Subcommand};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

/// Load on one server of the program `secure-rdma`, by real processes on this machine.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Many clients at once, each with a sealed session: all data is checked, and how fairly they are served
    Crowd(CrowdArgs),
    /// A server under mixed load and faults for a long time: memory, descriptors and threads have to stay what they are
    Soak(SoakArgs),
    /// Packets that a device refuses, as fast as this machine sends them: what `lab/victim --flood` attacks with
    Flood(FloodArgs),
    /// A process with many of these clients
    #[command(hide = true)]
    Member(MemberArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CrowdArgs {
    /// Clients
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) clients: u32,
    /// Processes that have them
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) processes: u32,
    /// How long they are busy, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "20",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub(crate) seconds: u32,
    #[command(flatten)]
    pub(crate) server: ServerArg,
    /// Print one JSON document instead of lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long, in seconds; the round that has begun is finished
    #[arg(long, value_name = "SECONDS", default_value = "1800")]
    pub(crate) seconds: u32,
    #[command(flatten)]
    pub(crate) server: ServerArg,
}

#[derive(Debug, clap::Args)]
pub(crate) struct FloodArgs {
    /// The device's address and port
    pub(crate) to: SocketAddr,
    /// What they are refused for
    #[arg(long, value_enum, default_value = "nobody")]
    pub(crate) kind: FloodKind,
    /// How long, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) seconds: u32,
    /// Packets a second at most [default: as many as this machine sends]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum FloodKind {
    /// Nobody has their queue pair
    Nobody,
    /// Their checksum is wrong
    Broken,
    /// They are sealed, and nobody has their SPI
    Sealed,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArg {
    /// The program `secure-rdma` [default: the one that was built beside this]
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MemberArgs {
    #[arg(long)]
    pub(crate) server: SocketAddr,
    #[arg(long)]
    pub(crate) certs: PathBuf,
    #[arg(long)]
    pub(crate) first: u32,
    #[arg(long)]
    pub(crate) clients: u32,
    #[arg(long)]
    pub(crate) seconds: u32,
}

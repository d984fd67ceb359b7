//! Arguments of `get`, `put` and `ls`.

use super::LinkArgs;
use crate::place::Place;
use crate::size::Size;
use clap::Args;
use secure_rdma::certs::Name;
use std::path::PathBuf;

/// The server whose files are meant.
#[derive(Debug, Args)]
pub(crate) struct FilesPlace {
    /// Where the server is: HOST or HOST:PORT; the port is 4433 otherwise. IPv6 addresses as ::1 or [::1]:4433
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) place: Place,
    /// The name that the server's certificate must carry [default: HOST]
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<Name>,
    #[command(flatten)]
    pub(crate) link: LinkArgs,
}

/// How files are moved.
#[derive(Debug, Args)]
pub(crate) struct MoveArgs {
    /// Connect again when the session has ended and another may do better, and go on where it was broken off: after
    /// pauses of up to 30 s, for as long as it takes
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Move at most so many bytes a second, such as 10M
    #[arg(long, value_name = "SIZE")]
    pub(crate) limit_rate: Option<Size>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is moved, where to, and how. What paths mean is said where the command is: one gets, the other puts.
#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) at: FilesPlace,
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) into: PathBuf,
    #[command(flatten)]
    pub(crate) moving: MoveArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) at: FilesPlace,
    /// A folder of the directory that the server offers, or a file
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

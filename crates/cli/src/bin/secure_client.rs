//! `secure_client`: `secure-rdma client` under a name of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    secure_rdma_cli::secure_client()
}

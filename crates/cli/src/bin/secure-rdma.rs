//! `secure-rdma`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    secure_rdma_cli::secure_rdma()
}

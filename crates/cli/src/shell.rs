//! What shells and manuals know of the program: made from the one definition of its options.

use crate::args::{CompletionsArgs, ManArgs, SecureRdma};
use crate::failure::Failure;
use clap::CommandFactory;
use std::io::{self, Write};

/// The completions of one shell, on standard output.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut SecureRdma::command(), "secure-rdma", &mut script);
    io::stdout().lock().write_all(&script).map_err(Failure::system("writing to standard output"))
}

/// A page for the program and for each of its commands, into a directory.
pub(crate) fn pages(args: &ManArgs) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.dir).map_err(Failure::system("making the directory of pages"))?;
    clap_mangen::generate_to(SecureRdma::command(), &args.dir).map_err(Failure::system("writing the pages"))
}

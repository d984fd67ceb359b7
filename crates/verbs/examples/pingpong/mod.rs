//! The game of libibverbs' pingpong programs over a connection: a message goes back and forth between two
//! machines as often as asked. What the transport is, the program says.

pub(crate) mod args;
pub(crate) mod check;
mod endpoint;
mod rounds;

use crate::common::end::options;
use crate::common::{self, End, Failure, Meeting};
use args::Args;
use clap::Parser;
use endpoint::{Endpoint, Made};
use rdma_verbs::Connected;
use rounds::Rounds;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Plays as the command line says.
pub(crate) fn main<T: Connected>(name: &str, make: Made<T>) -> ExitCode {
    let args = Args::parse();
    let meeting = Meeting::new(args.host.as_deref(), args.port);
    match meeting.and_then(|meeting| run(&args, make, meeting, &mut io::stdout())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run<T: Connected>(
    args: &Args,
    make: Made<T>,
    meeting: Meeting,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let (mut endpoint, qp) = Endpoint::open(args, make)?;
    let device = endpoint.device.clone();
    let mut rounds = Rounds::new(args, &mut endpoint);
    let end = End {
        device: Arc::clone(&device),
        queue_pairs: vec![(qp.qpn(), qp.psn().get())],
        mtu: args.mtu,
        gid_idx: args.gid_idx,
        told: 1,
    };
    let (mut qp, _stream) = end.meet(meeting, out, |own, peers| {
        let mut qp = qp.connect(own, &peers[0], &options(args.mtu))?;
        rounds.start(&mut qp)?;
        Ok(qp)
    })?;
    let played = rounds.play(&mut qp);
    common::report(&device, &qp);
    print(args, played?, out)
}

/// As the stock programs do.
pub(crate) fn print(args: &Args, took: Duration, out: &mut impl Write) -> Result<(), Failure> {
    let took = took.as_secs_f64();
    let (iters, bytes) = (args.iters, u128::from(args.size) * u128::from(args.iters) * 2);
    #[expect(clippy::cast_precision_loss, reason = "for reading")]
    let (megabits, each) = (bytes as f64 * 8. / 1e6 / took, took * 1e6 / iters as f64);
    writeln!(out, "{bytes} bytes in {took:.2} seconds = {megabits:.2} Mbit/sec")?;
    writeln!(out, "{iters} iters in {took:.2} seconds = {each:.2} usec/iter")?;
    Ok(())
}

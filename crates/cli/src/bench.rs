//! `secure-rdma bench`: how fast queue pairs and sealed sessions are, in perftest's terms.
//!
//! | file | what it holds |
//! |---|---|
//! | `request` | what the user asks for, checked |
//! | `pair` | the other side: a process of its own here, or a server elsewhere |
//! | `task` | what the two sides tell each other, sealed |
//! | `clear`, `queue_pairs`, `run`, `bandwidth`, `latency` | queue pairs in clear |
//! | `sealed` | sealed sessions |
//! | `server` | the other side |
//! | `statistics`, `report`, `plot`, `progress` | from completions to numbers, tables, JSON, and pictures |

mod bandwidth;
mod clear;
mod latency;
mod pair;
mod plot;
mod progress;
mod queue_pairs;
mod report;
mod request;
mod run;
mod sealed;
mod server;
mod statistics;
mod task;

use crate::args::BenchArgs;
use crate::args::bench::{BenchCommand, MeasureArgs};
use crate::failure::Failure;
use crate::runtime::{self, Interruption};
use crate::{logging, output};
use pair::Pair;
use progress::Progress;
use rdma_verbs::Device;
use report::{Report, Row};
use request::Request;
use secure_rdma::{Buffers, Session};
use std::sync::Arc;
use task::Operation;

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    match &args.command {
        BenchCommand::Send(args) => measure(Operation::Send, args),
        BenchCommand::Write(args) => measure(Operation::Write, args),
        BenchCommand::Read(args) => measure(Operation::Read, args),
        BenchCommand::Atomic(args) => measure(Operation::Atomic, args),
        BenchCommand::Server(args) => server::run(args),
    }
}

fn measure(operation: Operation, args: &MeasureArgs) -> Result<(), Failure> {
    logging::start(args.verbose);
    let request = Request::new(operation, args)?;
    let runtime = runtime::start()?;
    let result = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        let device = Device::open(&args.device.device)?;
        request.check_device(&device.attributes())?;
        tokio::select! {
            result = rows(&request, args, &device) => result,
            () = interruption.arrived() => Err(Failure::interrupted()),
        }
    });
    runtime.shutdown_background();
    let report = result?;
    if args.json {
        output::json(&report)?;
    }
    match &args.plot {
        Some(path) => plot::draw(&report, path),
        None => Ok(()),
    }
}

/// Measures all sizes; unless JSON is wanted, each is told when it is known.
async fn rows(request: &Request, args: &MeasureArgs, device: &Arc<Device>) -> Result<Report, Failure> {
    let pair = Pair::new(request, args, device).await?;
    let mut report: Option<Report> = None;
    for size in &request.sizes {
        let buffers = if request.sealed { sealed::buffers(request, *size) } else { Buffers::DEFAULT };
        let session = pair.open(buffers).await?;
        check_size(&session, request, *size)?;
        if report.is_none() {
            let new = Report::new(request, &session);
            if !args.json {
                output::line(format_args!("{}", new.heading()))?;
            }
            report = Some(new);
        }
        let progress = Progress::start(request, *size);
        let row: Row = if request.sealed {
            sealed::measure(&pair, session, request, *size, &progress).await?
        } else {
            clear::measure(device, session, request, *size, &progress).await?
        };
        progress.end();
        if !args.json {
            output::line(format_args!("{row}"))?;
        }
        if let Some(report) = &mut report {
            report.results.push(row);
        }
    }
    pair.end();
    report.ok_or_else(|| Failure::Other("nothing was measured".into()))
}

/// Whether the server takes messages so long.
fn check_size(session: &Session, request: &Request, size: u32) -> Result<(), Failure> {
    let room = session.data_len();
    if u64::from(size) > room {
        return Err(Failure::Usage(format!(
            "messages of {size} bytes don't fit the memory that the server lends, {room} bytes: give a \
             smaller -s, or start the server with a larger --region"
        )));
    }
    let longest = session.info().path_mtu.bytes();
    match request.mtu {
        Some(mtu) if mtu.bytes() > longest => Err(Failure::Usage(format!(
            "a path MTU of {} bytes is more than the {longest} that both sides have: give a smaller -m",
            mtu.bytes()
        ))),
        _ => Ok(()),
    }
}

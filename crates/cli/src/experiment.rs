//! `secure-rdma experiment`: the experiment that this project grew from, anew, on the devices that this machine has,
//! as a report. Everything in it was measured in that run; what wasn't run is said to be so.
//!
//! | file | what it holds |
//! |---|---|
//! | `document` | what was found, as data |
//! | `collect` | the steps, one after the other |
//! | `command` | commands that are run, and remembered |
//! | `machine`, `devices`, `speed`, `pingpong`, `clients` | what is asked of the system, and of such commands |
//! | `meeting`, `connections` | sessions in this process: TLS, certificates, PSNs |
//! | `wire`, `capture`, `packet` | what an attacker on the path sees |
//! | `requirements` | what was to be shown, and what was |
//! | `render` | the document as HTML, Markdown and plots |

mod capture;
mod clients;
mod collect;
mod command;
mod connections;
mod devices;
mod document;
mod machine;
mod meeting;
mod packet;
mod pingpong;
mod render;
mod requirements;
mod speed;
mod wire;

use crate::args::ExperimentArgs;
use crate::descriptors;
use crate::failure::Failure;
use crate::runtime::{self, Interruption};
use crate::{logging, output};
use document::Document;
use render::Files;

/// Descriptors that this process takes: two devices, sessions, and the pipes of a command.
const DESCRIPTORS: u64 = 128;

pub(crate) fn run(args: &ExperimentArgs) -> Result<(), Failure> {
    logging::start(args.verbose);
    // What can't be written is to be known before anything is measured.
    let files = args.report.as_deref().map(Files::open).transpose()?;
    descriptors::ensure(DESCRIPTORS, |maximum| {
        format!(
            "{DESCRIPTORS} file descriptors are needed, and at most {maximum} are allowed here (ulimit -Hn)"
        )
    })?;
    let runtime = runtime::start()?;
    let done = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        tokio::select! {
            done = perform(args) => done,
            () = interruption.arrived() => Err(Failure::interrupted()),
        }
    });
    runtime.shutdown_background();
    let Some(document) = done? else { return Ok(()) };
    if let Some(files) = &files {
        files.write(&document)?;
    }
    match &files {
        _ if args.json => output::json(&document)?,
        Some(files) => output::line(format_args!("{}", files.summary(&document)))?,
        None => output::line(format_args!("{}", render::markdown(&document)?))?,
    }
    if document.ok { Ok(()) } else { Err(Failure::Told) }
}

/// What was found; `None` if this process was to capture alone, and has.
async fn perform(args: &ExperimentArgs) -> Result<Option<Document>, Failure> {
    match args.capture {
        Some(address) => {
            output::json(&wire::capture(address).await.map_err(Failure::Other)?)?;
            Ok(None)
        }
        None => collect::collect(args).await.map(Some),
    }
}

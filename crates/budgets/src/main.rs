//! Guards the hot paths against getting slower: counts the instructions that each takes, under `valgrind
//! --tool=callgrind`, and compares them with the recorded budget. Instructions aren't time, but they are the
//! same on every run, however busy the machine is.
//!
//! ```text
//! cargo run --release -p budgets                 compares; fails if a path takes more than its budget
//! cargo run --release -p budgets -- --record     measures, and makes that the budget (crates/budgets/budgets.txt)
//! ```

mod budget;
mod count;
mod error;
mod packets;
mod paths;
mod records;
mod refusals;

use budget::Budgets;
use clap::Parser;
use error::Error;
use paths::Path;
use std::process::ExitCode;

/// Counts the instructions of the hot paths and compares them with their budgets.
#[derive(Parser)]
struct Args {
    /// Make what is measured the budget.
    #[arg(long)]
    record: bool,
    /// Only carry out this path so many times; for the program's own use, under valgrind.
    #[arg(long, num_args = 2, value_names = ["PATH", "TIMES"], hide = true)]
    carry_out: Option<Vec<String>>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::NoValgrind(error)) if std::env::var("CI").as_deref() != Ok("true") => {
            eprintln!(
                "######## NOT PROVED on this machine: that the hot paths keep their budgets: valgrind not \
                 found ({error})"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("budgets: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every path keeps its budget.
fn run(args: &Args) -> Result<bool, Error> {
    if let Some([name, times]) = args.carry_out.as_deref() {
        let wrong = || Error::CarryOut(format!("{name}, {times}"));
        let path = Path::named(name).ok_or_else(wrong)?;
        path.carry_out(times.parse().map_err(|_| wrong())?);
        return Ok(true);
    }
    let mut measured = Budgets::default();
    let recorded = if args.record { Budgets::default() } else { Budgets::read()? };
    let mut kept = true;
    for path in Path::ALL {
        let count = count::instructions(path.name)?;
        measured.set(path.name, count);
        kept &= args.record || recorded.judge(path.name, count);
    }
    if args.record {
        measured.write()?;
    }
    Ok(kept)
}

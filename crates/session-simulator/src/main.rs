//! `session-simulator`: runs seeds, or replays one.

use clap::Parser;
use session_simulator::Tally;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Whole sessions in virtual time: runs seeds until one fails, and prints what was simulated
#[derive(Debug, Parser)]
#[command(after_help = "Exit codes: 0 all seeds held, 1 one failed, 2 wrong usage")]
struct Arguments {
    /// The seeds to run, the last one not included
    #[arg(long, default_value = "0..1000", value_parser = parse_range)]
    seeds: Range<u64>,

    /// Replay this seed alone, and print all that it decides and all that happens
    #[arg(long, conflicts_with_all = ["seeds", "keep_going"])]
    replay: Option<u64>,

    /// Go on after a seed has failed
    #[arg(long)]
    keep_going: bool,

    /// Threads; as many as there are cores, unless given
    #[arg(long)]
    threads: Option<usize>,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("seeds are given as FROM..TO")?;
    let number = |text: &str| text.parse().map_err(|error| format!("{text:?}: {error}"));
    let range = number(from)?..number(to)?;
    if range.is_empty() { Err("there is no seed from FROM to before TO".into()) } else { Ok(range) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.replay {
        return match session_simulator::replay(seed) {
            Ok(outcome) => {
                println!("seed {seed} held; trace {:#018x}", outcome.trace);
                ExitCode::SUCCESS
            }
            Err(what) => {
                println!("seed {seed} failed: {what}");
                ExitCode::FAILURE
            }
        };
    }
    let begun = Instant::now();
    let (tally, failures) = run_all(&arguments);
    print!("{tally}");
    let span = begun.elapsed().as_secs_f64();
    println!("{} seeds in {span:.1} s, {failures} failed", tally.seeds + failures);
    if failures > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs the seeds on all threads; what was simulated in those that held, and how many failed.
fn run_all(arguments: &Arguments) -> (Tally, u64) {
    // What fails is said once, with how to see it again.
    std::panic::set_hook(Box::new(|_| {}));
    let Range { start, end } = arguments.seeds;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (next, failures) = (AtomicU64::new(start), AtomicU64::new(0));
    let total = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let stop = failures.load(Ordering::Relaxed) > 0 && !arguments.keep_going;
                    if seed >= end || stop {
                        return;
                    }
                    match session_simulator::run(seed) {
                        Ok(outcome) => *total.lock().expect("no panic is held here") += &outcome.tally,
                        Err(what) => {
                            failures.fetch_add(1, Ordering::Relaxed);
                            let command = session_simulator::replay_command(seed);
                            println!("seed {seed} failed: {what}\n  {command}");
                        }
                    }
                }
            });
        }
    });
    (total.into_inner().expect("no panic is held here"), failures.into_inner())
}

//! Secure RDMA beside UDP's limit, TCP, TLS and QUIC, in one run.
//!
//! ```text
//! cargo run --release -p compare
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `contenders` | what is compared, one a file |
//! | `figure` | what is measured: operations and sizes |
//! | `clock`, `sample` | when what counts, and statistics |
//! | `network` | a network that loses packets |
//! | `ends` | the two ends of a measurement, each a thread on a core of its own |
//! | `goals` | which figure is divided by which, and how that should come out |
//! | `report`, `table`, `plot` | results as JSON, as text, and as a picture |
#![forbid(unsafe_code)]

mod args;
mod clock;
mod contender;
mod contenders;
mod credentials;
mod ends;
mod failure;
mod figure;
mod goals;
mod network;
mod outcome;
mod plot;
mod report;
mod runtime;
mod sample;
mod spin;
mod table;

use args::Args;
use clap::CommandFactory;
use clap::Parser;
use clap::error::ErrorKind;
use clock::Clock;
use contender::Contender;
use credentials::Credentials;
use ends::{Cores, Place};
use failure::{Failure, While};
use figure::{Figure, LOSS};
use indicatif::{ProgressBar, ProgressStyle};
use network::Network;
use outcome::Outcome;
use report::{Failed, Loss, Report};
use sample::Sample;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.idle_server[..] {
        [device, state] => idle_server(device, state),
        _ => run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn idle_server(device: &str, state: &str) -> Result<bool, Failure> {
    contenders::session::serve(&device.parse()?, state.as_ref())?;
    Ok(true)
}

/// How often something is measured of which next to nothing comes.
const TRIES: u32 = 4;

/// A contender's figure, with what its rounds gave.
struct Turn<'a> {
    contender: &'a dyn Contender,
    figure: Figure,
    samples: Vec<Sample>,
}

/// Measures and tells; false if something couldn't be measured.
fn run(args: &Args) -> Result<bool, Failure> {
    let cores = Cores::find()?;
    let credentials = Arc::new(Credentials::new()?);
    let contenders = contenders::all(&credentials);
    let mut turns = turns(args, &contenders);
    let (network, loss) = lossy(&mut turns)?;
    if let Some(loss) = &loss {
        eprintln!("{loss}");
    }
    if cores.client == cores.server {
        eprintln!("There is but one core, which both ends share: round trips and bandwidth will say little.");
    }
    if cfg!(debug_assertions) {
        eprintln!("This isn't a release build: its figures say nothing.");
    }
    let count = u32::try_from(turns.len()).during("counting figures")? * args.rounds;
    let span = Duration::from_secs_f64(args.seconds / f64::from(count));
    let failed = measure(args.rounds, span, cores, network.as_ref(), &mut turns);
    let outcomes: Vec<_> = turns
        .iter()
        .filter_map(|Turn { contender, figure, samples }| Outcome::new(contender.name(), *figure, samples))
        .collect();
    let ratios = goals::ratios(&outcomes);
    println!("{}", table::figures(&outcomes));
    if !ratios.is_empty() {
        println!("{}", table::ratios(&ratios));
    }
    for Failed { name, figure, error } in &failed {
        eprintln!("{name}, {figure}: {error}");
    }
    if let Some(path) = &args.json {
        let report = Report::new(args.rounds, args.seconds, loss.as_ref(), &outcomes, &ratios, &failed);
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").during(format_args!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        plot::draw(&outcomes, path)?;
    }
    Ok(failed.is_empty())
}

/// What is to be measured, in order: contenders take turns at a figure.
fn turns<'a>(args: &Args, contenders: &'a [Box<dyn Contender>]) -> Vec<Turn<'a>> {
    let all = |kind: &str, have: Vec<String>, asked: &[String]| {
        if let Some(unknown) = asked.iter().find(|name| !have.contains(name)) {
            let message = format!("there is no {kind} {unknown:?} here; there are {}", have.join(", "));
            Args::command().error(ErrorKind::InvalidValue, message).exit();
        }
    };
    let names = contenders.iter().map(|contender| contender.name().to_owned()).collect();
    all("contender", names, &args.only);
    let mut figures = Vec::new();
    for figure in contenders.iter().flat_map(|contender| contender.figures()) {
        if !figures.contains(&figure) {
            figures.push(figure);
        }
    }
    figures.sort_by_key(Figure::order);
    let mut ops = vec![LOSS.to_owned()];
    for name in figures.iter().map(|figure| figure.op.name()) {
        if !ops.contains(&name) {
            ops.push(name);
        }
    }
    all("operation", ops, &args.ops);
    let mut turns = Vec::new();
    for figure in figures {
        for contender in contenders {
            if contender.figures().contains(&figure)
                && (args.only.is_empty() || args.only.iter().any(|name| name == contender.name()))
                && (args.ops.is_empty() || args.ops.iter().any(|name| figure.op.is_called(name)))
            {
                turns.push(Turn { contender: contender.as_ref(), figure, samples: Vec::new() });
            }
        }
    }
    if turns.is_empty() {
        let message = "none of the contenders in --only does any of the operations in --ops";
        Args::command().error(ErrorKind::InvalidValue, message).exit();
    }
    turns
}

/// The network that loses packets, where something is to be measured over one. Where there can't be one, it
/// isn't measured.
fn lossy(turns: &mut Vec<Turn<'_>>) -> Result<(Option<Network>, Option<Loss>), Failure> {
    if !turns.iter().any(|turn| turn.figure.op.is_lossy()) {
        return Ok((None, None));
    }
    let made = Network::new().and_then(|network| {
        let loss = Loss::of(network.congestion_control()?);
        Ok((network, loss))
    });
    match made {
        Ok((network, loss)) => Ok((Some(network), Some(loss))),
        Err(error) => {
            turns.retain(|turn| !turn.figure.op.is_lossy());
            let loss = Loss::NotMeasured { not_measured: error.to_string() };
            if turns.is_empty() { Err(loss.to_string().into()) } else { Ok((None, Some(loss))) }
        }
    }
}

/// Goes round and round; returns what failed, which isn't tried again.
fn measure(
    rounds: u32,
    span: Duration,
    cores: Cores,
    network: Option<&Network>,
    turns: &mut [Turn<'_>],
) -> Vec<Failed> {
    let progress = progress(u64::from(rounds) * turns.len() as u64);
    let mut failed: Vec<Failed> = Vec::new();
    for round in 1..=rounds {
        for Turn { contender, figure, samples } in &mut *turns {
            progress.set_message(format!("round {round}: {}, {figure}", contender.name()));
            let (name, text) = (contender.name().to_owned(), figure.to_string());
            if !failed.iter().any(|failed| failed.name == name && failed.figure == text) {
                let place = Place { cores, network: network.filter(|_| figure.op.is_lossy()) };
                match sample(*contender, *figure, span, place) {
                    Ok(sample) => samples.push(sample),
                    Err(error) => {
                        let error = error.to_string();
                        failed.push(Failed { name, figure: text, error });
                    }
                }
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    failed
}

/// Measures a figure once. Where next to nothing came of it, since the machine did something else, it is
/// tried again for longer.
fn sample(
    contender: &dyn Contender,
    figure: Figure,
    mut span: Duration,
    place: Place<'_>,
) -> Result<Sample, Failure> {
    for _ in 0..TRIES {
        let done = Figure { op: figure.op.done(), ..figure };
        let sample = contender.run(done, &Clock::new(span), place)?;
        if sample != Sample::default() {
            return Ok(sample);
        }
        span *= 4;
    }
    Err(format!("too little arrived within {:?} to tell anything: give it more --seconds", span / 4).into())
}

/// A bar on standard error, if that is a terminal.
fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left   {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

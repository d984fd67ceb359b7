//! Whole embedded devices on seeded links, stepped on one thread in virtual time.
//!
//! A seed decides everything: how many machines there are and how fast, what their links do to packets, which
//! connections there are, what their programs post, and what is done to them meanwhile. After each step of a machine
//! its memory is compared with a model, and each completion with what was posted. Two runs of a seed are the same, to
//! the last bit of every packet.
//!
//! | module | what it holds |
//! |---|---|
//! | `plan` | what a seed decides before anything happens |
//! | `network`, `platform` | links, sockets, clocks, randomness: what a device runs on |
//! | `machine` | a device, and when it is stepped |
//! | `memory` | a region beside a model of it |
//! | `end` | a queue pair, and what its program knows |
//! | `program`, `completions` | what programs post, and what must come of it |
//! | `sealing` | connections whose packets are sealed, new keys, and somebody who repeats packets |
//! | `connections` | how connections are made, disturbed and taken down |
//! | `simulation` | the machines, one step after another |
//! | `outside` | the network, for simulations of what is built on devices |
//! | `victim` | how long one client waits for its READs beside greedy ones |
//! | `flood` | the same beside a flood of packets that are refused |
//! | `tally`, `trace` | what is counted; what happened |
#![forbid(unsafe_code)]

mod completions;
mod connections;
mod end;
mod flood;
mod machine;
mod memory;
mod network;
mod outside;
mod plan;
mod platform;
mod program;
mod rng;
mod sealing;
mod simulation;
mod tally;
mod trace;
mod victim;

pub use flood::{Flood, Flooded, read_beside_flood};
pub use machine::Steps;
pub use network::Network;
pub use plan::Timing;
pub use platform::address;
pub use rng::Rng;
pub use tally::{Ends, Fault, Operation, TRANSPORTS, Tally, Way};
pub use victim::{Reading, read_beside};

use simulation::Simulation;
use std::panic::{AssertUnwindSafe, catch_unwind};
use trace::Trace;

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of everything that happened, every packet included.
    pub trace: u64,
    /// What was simulated.
    pub tally: Tally,
}

/// Runs a seed.
///
/// # Errors
/// What didn't hold. The panic that it was has been reported by the panic hook, with its place.
pub fn run(seed: u64) -> Result<Outcome, String> {
    catch(seed, false)
}

/// Runs a seed, and prints to standard error what it decided and all that happens.
///
/// # Errors
/// As [`run`].
pub fn replay(seed: u64) -> Result<Outcome, String> {
    catch(seed, true)
}

/// The command that replays a seed.
#[must_use]
pub fn replay_command(seed: u64) -> String {
    format!("cargo run --release -p simulator -- --replay {seed}")
}

fn catch(seed: u64, print: bool) -> Result<Outcome, String> {
    let run = || {
        let (trace, tally) = Simulation::new(seed, Trace::new(print)).run();
        Outcome { trace, tally }
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })
}

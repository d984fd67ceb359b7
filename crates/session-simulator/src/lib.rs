//! Whole sessions in virtual time: several servers and many clients, each in a process of its own, over the simulator
//! of the device, with processes that crash, stall, come again and lie, certificates that change and links that part.
//!
//! A seed decides everything but keys: those are TLS's, and nothing that is looked at depends on them. Two runs of a
//! seed have the same trace: every packet, every step of a device, each session's beginning and end at the same time.
//!
//! All of it is the product's: certificates, TLS, bootstrap, sealing, sessions, the device. A process is a tokio
//! runtime whose clock stands still until it is moved, and a device whose engine is stepped; both go by the network's
//! time. Only what is below them is the simulator's: datagrams are carried by its network, control connections by
//! `wire`.
//!
//! | module | what it holds |
//! |---|---|
//! | `plan` | what a seed decides before anything happens |
//! | `limits` | what both sides have, and agree on |
//! | `pki` | certificates and revocation lists, with dates of virtual time |
//! | `chronicle` | what clocks showed and servers went by at any time, and whom they had to let in or to end then |
//! | `wire` | control connections |
//! | `process` | a runtime and a device, and how they are killed |
//! | `client`, `server` | programs, and what has to come of what they do |
//! | `liar` | peers with good certificates that don't keep to the protocol |
//! | `ledger` | what is known of each session from both of its ends |
//! | `verdict` | whether that is what had to come of it |
//! | `world` | the processes, one step after another, and what must hold at the end |
//! | `tally` | what is counted |
#![forbid(unsafe_code)]

mod chronicle;
mod client;
mod ledger;
mod liar;
mod limits;
mod pki;
mod plan;
mod process;
mod server;
mod tally;
mod verdict;
mod wire;
mod world;

pub use tally::Tally;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use world::World;

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// A hash of everything that happened.
    pub trace: u64,
    /// What was simulated.
    pub tally: Tally,
}

/// Runs a seed.
///
/// # Errors
/// What didn't hold.
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
    format!("cargo run --release -p session-simulator -- --replay {seed}")
}

thread_local! {
    /// What has panicked on this thread: in a task, where the runtime catches it, too.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn catch(seed: u64, print: bool) -> Result<Outcome, String> {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(seed, print).run()));
    let panics = PANICS.take();
    match outcome {
        _ if !panics.is_empty() => Err(panics.join("; ")),
        Ok(result) => result.map(|(trace, tally)| Outcome { trace, tally }),
        Err(_) => Err("a panic that wasn't seen".into()),
    }
}

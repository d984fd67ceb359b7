//! Load on one server of the program `secure-rdma`, by real processes on this machine.
//!
//! | module | what it holds |
//! |---|---|
//! | `args` | the command line |
//! | `crowd` | thousands of clients at once: all data checked, and how fairly they are served |
//! | `soak` | a server under mixed load and faults, for long |
//! | `member`, `process` | a process that has many clients, and how it is started |
//! | `pages` | what a client writes and must find again |
//! | `server` | the server's process |
//! | `flood` | packets that are refused, for `lab/victim` |
//! | `fairness` | Jain's index |
//! | `usage` | what a process has: memory, descriptors, threads |

#![forbid(unsafe_code)]

mod args;
mod crowd;
mod fairness;
mod flood;
mod member;
mod pages;
mod process;
mod server;
mod soak;
mod usage;

use args::{Args, Command};
use clap::Parser as _;
use std::error::Error;
use std::process::ExitCode;

/// What fails here is told to a person, and ends the run.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Crowd(args) => crowd::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Flood(args) => flood::run(&args),
        Command::Member(args) => member::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

//! The programs: `secure-rdma`, and `secure_server` and `secure_client`, which are two of its commands under
//! names of their own.
//!
//! Results go to standard output, logs and errors to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
//!
//! | module | what it holds |
//! |---|---|
//! | `args` | every argument of every command |
//! | `advice` | what a user can do about an error |
//! | `server`, `client`, `demo`, `bench`, `experiment`, `devices`, `certs`, `doctor`, `run` | the commands |
//! | `files` | the commands `get`, `put` and `ls` |
//! | `shell` | completions and manual pages |
//! | `config` | a server's options from a file |
//! | `echo` | the service that servers offer |
//! | `failure`, `exit`, `output` | how results and errors are shown |
//! | `kernel` | having the kernel seal packets |
//! | `link`, `logging`, `reconnect`, `runtime`, `trust` | what several commands need |
#![forbid(unsafe_code)]

mod advice;
mod args;
mod bench;
mod certs;
mod client;
mod config;
mod demo;
mod descriptors;
mod devices;
mod doctor;
mod echo;
mod exit;
mod experiment;
mod failure;
mod files;
mod kernel;
mod link;
mod logging;
mod output;
mod place;
mod plot;
mod reconnect;
mod rules;
mod run;
mod runtime;
mod server;
mod shell;
mod size;
mod trust;

use args::{Command, SecureClient, SecureRdma, SecureServer};
use clap::Parser;
use exit::finish;
use std::alloc::System;
use std::process::ExitCode;
use zeroizing_alloc::ZeroAlloc;

/// Wipes what is freed: TLS's library leaves copies of secrets where it moves them out of boxes.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// The program `secure-rdma`.
#[must_use]
pub fn secure_rdma() -> ExitCode {
    if let Some(code) = kernel::helper() {
        return code;
    }
    finish(SecureRdma::read().and_then(|args| match args.command {
        Command::Server(args) => server::run(&args),
        Command::Client(args) => client::run(args),
        Command::Get(args) => files::get(args),
        Command::Put(args) => files::put(args),
        Command::Ls(args) => files::ls(args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Experiment(args) => experiment::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::pages(&args),
        Command::Run(args) => run::run(args),
        Command::Agent(args) => run::run_agent(&args),
    }))
}

/// The program `secure_server`: `secure-rdma server`.
#[must_use]
pub fn secure_server() -> ExitCode {
    if let Some(code) = kernel::helper() {
        return code;
    }
    finish(SecureServer::read().and_then(|server| server::run(&server.args)))
}

/// The program `secure_client`: `secure-rdma client`.
#[must_use]
pub fn secure_client() -> ExitCode {
    if let Some(code) = kernel::helper() {
        return code;
    }
    finish(client::run(SecureClient::parse().args))
}

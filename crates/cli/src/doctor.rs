//! `secure-rdma doctor`: what this machine offers, what that costs, and what to do.

mod certificates;
mod devices;
mod limits;
mod network;

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::{logging, output};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How good something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Nothing to do.
    Ok,
    /// It works, and costs something.
    Costs,
    /// Something doesn't work.
    Broken,
}

/// What one check has found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// What it costs, or what doesn't work.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<String>,
    /// What mends it: a command, mostly.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), cost: None, remedy: None }
    }

    fn costs(
        check: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (cost, remedy) = (Some(cost.into()), Some(remedy.into()));
        Self { check, state: State::Costs, found: found.into(), cost, remedy }
    }

    fn broken(
        check: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { state: State::Broken, ..Self::costs(check, found, cost, remedy) }
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    checks: Vec<Finding>,
}

/// The system as its files show it.
struct System(PathBuf);

impl System {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What a file says that the kernel writes.
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }
}

/// Whether anything is broken is the exit code.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    logging::start(false);
    let system = System(args.system.clone().unwrap_or_else(|| Path::new("/").into()));
    let mut checks = vec![limits::kernel(&system)];
    checks.extend(devices::check(&system));
    checks.extend([limits::locked_memory(), limits::descriptors(), limits::socket_buffers(&system)]);
    checks.extend(network::mtu(&system));
    checks.push(network::port());
    checks.extend(certificates::check(&args.certs.store()?));
    let broken = checks.iter().any(|finding| finding.state == State::Broken);
    if args.json {
        output::json(&Document { checks })?;
    } else {
        checks.iter().try_for_each(show)?;
    }
    if broken { Err(Failure::Told) } else { Ok(()) }
}

fn show(finding: &Finding) -> Result<(), Failure> {
    let Finding { check, state, found, cost, remedy } = finding;
    let state = match state {
        State::Ok => "ok",
        State::Costs => "costs",
        State::Broken => "BROKEN",
    };
    output::line(format_args!("{state:<7} {check}: {found}"))?;
    if let Some(cost) = cost {
        output::line(format_args!("        {cost}"))?;
    }
    if let Some(remedy) = remedy {
        output::line(format_args!("        -> {remedy}"))?;
    }
    Ok(())
}

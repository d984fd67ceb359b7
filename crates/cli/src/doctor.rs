//! `secure-rdma doctor`: what this machine offers, what that costs, and what to do.

mod certificates;
mod devices;
mod finding;
mod limits;
mod network;
mod offload;
mod path;
mod system;

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::{logging, output};
use finding::{Finding, State};
use serde::Serialize;
use std::path::Path;
use system::System;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    checks: Vec<Finding>,
}

/// Whether anything is broken is the exit code.
pub(crate) fn run(args: &DoctorArgs) -> Result<(), Failure> {
    logging::start(false);
    let system = System::at(args.system.clone().unwrap_or_else(|| Path::new("/").into()));
    let mut checks = vec![limits::kernel(&system)];
    checks.extend(devices::check(&system));
    checks.extend([limits::locked_memory(), limits::descriptors(), limits::socket_buffers(&system)]);
    checks.extend(network::mtu(&system));
    match rocev2_device::host::interfaces() {
        Ok(interfaces) => {
            checks.extend(offload::check(&interfaces));
            checks.extend(args.peer.iter().map(|peer| path::check(peer, &interfaces)));
        }
        Err(error) => checks.push(Finding::broken(
            "interfaces",
            error.to_string(),
            "the embedded device has no address",
            "ip address shows them",
        )),
    }
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

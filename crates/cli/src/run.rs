//! `secure-rdma run`: a verbs program that nobody changed, on the embedded device.

mod agent;
mod capture;
mod devices;
mod executable;
mod kernel_agent;
mod libraries;
mod runtime_dir;
mod seal;
mod tree;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::output;
pub(crate) use agent::run as run_agent;
use devices::Seen;
use rocev2_agent::place;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What the libraries read.
const DEVICE_NAME: &str = "SECURE_RDMA_DEVICE_NAME";
const ADDRESS: &str = "SECURE_RDMA_ADDRESS";
const TREE: &str = "SECURE_RDMA_TREE";
const SEAL: &str = "SECURE_RDMA_SEAL";
const MTU: &str = "SECURE_RDMA_MTU";
const STATISTICS: &str = "SECURE_RDMA_STATISTICS";
const CAPTURE: &str = "SECURE_RDMA_CAPTURE";
/// What the loader reads.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
const PRELOAD: &str = "LD_PRELOAD";

/// Sets the environment up and becomes the program.
pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let environment = environment(&args)?;
    if args.print_env {
        for (name, value) in environment {
            output::line(format_args!("export {name}={}", quoted(&value.to_string_lossy())))?;
        }
        return Ok(());
    }
    let mut words = args.command.into_iter();
    let Some(program) = words.next() else {
        return Err(Failure::Usage(
            "no program was given: secure-rdma run [OPTION]... -- PROGRAM [ARGUMENT]...".into(),
        ));
    };
    let path = executable::find(&program)?;
    executable::check(&path)?;
    let error = Command::new(&path).arg0(&program).args(words).envs(environment).exec();
    Err(Failure::Other(format!("{}: {error}", path.display())))
}

/// What a program needs in its environment.
fn environment(args: &RunArgs) -> Result<Vec<(&'static str, OsString)>, Failure> {
    let devices = devices::devices(args)?;
    let seal = match &devices[..] {
        [device] => seal::settings(args, device.interface.address)?,
        _ if args.seal.seal => return Err(Failure::Usage("--seal has one device".into())),
        _ => None,
    };
    let place = runtime_dir::runtime_dir()?;
    let libraries = libraries::Libraries::find(&place)?;
    let agent = agent::start(&place)?;
    let tree = tree::make(&place, &devices)?;
    let each = |what: fn(&Seen) -> String| devices.iter().map(what).collect::<Vec<_>>().join(",");
    let mut environment = vec![
        (LIBRARY_PATH, before(libraries.directory(), LIBRARY_PATH)),
        (PRELOAD, before(&libraries.paths(), PRELOAD)),
        (DEVICE_NAME, each(|device| device.name.clone()).into()),
        (ADDRESS, each(|device| device.interface.address.to_string()).into()),
        (TREE, tree.into()),
        (place::SOCKET, agent.socket().into()),
        (place::PROGRAM, agent::program()?.into()),
    ];
    environment.extend(seal.map(|settings| (SEAL, settings.into())));
    environment.extend(args.mtu.map(|mtu| (MTU, mtu.bytes().to_string().into())));
    environment.extend(args.statistics.then(|| (STATISTICS, "yes".into())));
    if let Some(path) = &args.capture {
        environment.push((CAPTURE, capture::begin(path, &devices)?.into()));
    }
    Ok(environment)
}

/// `first`, and after it what the variable has already.
fn before(first: &Path, variable: &str) -> OsString {
    let mut value = first.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os(variable).filter(|rest| !rest.is_empty()) {
        value.push(":");
        value.push(rest);
    }
    value
}

/// The value as a shell reads it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

//! `secure-rdma run`: a verbs program that nobody changed, on the embedded device.

mod agent;
mod executable;
mod libraries;
mod runtime_dir;
mod seal;
mod tree;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::output;
pub(crate) use agent::run as run_agent;
use rocev2_agent::place;
use rocev2_device::host::{Interface, interfaces};
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What the libraries read.
const DEVICE_NAME: &str = "SECURE_RDMA_DEVICE_NAME";
const ADDRESS: &str = "SECURE_RDMA_ADDRESS";
const TREE: &str = "SECURE_RDMA_TREE";
const SEAL: &str = "SECURE_RDMA_SEAL";
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
    if !tree::is_device_name(&args.device_name) {
        return Err(Failure::Usage(format!(
            "{:?} can't be a device's name: letters, digits, '_', '-' and '.' can be in one, at most {}, such as \
             mlx5_0",
            args.device_name,
            tree::LONGEST_NAME
        )));
    }
    let interface = interface(args.address)?;
    let seal = seal::settings(args, interface.address)?;
    let place = runtime_dir::runtime_dir()?;
    let libraries = libraries::Libraries::find(&place)?;
    let agent = agent::start(&place)?;
    let tree = tree::make(&place, &args.device_name, &interface)?;
    let mut environment = vec![
        (LIBRARY_PATH, before(libraries.directory(), LIBRARY_PATH)),
        (PRELOAD, before(&libraries.paths(), PRELOAD)),
        (DEVICE_NAME, args.device_name.clone().into()),
        (ADDRESS, interface.address.to_string().into()),
        (TREE, tree.into()),
        (place::SOCKET, agent.socket().into()),
        (place::PROGRAM, agent::program()?.into()),
    ];
    environment.extend(seal.map(|settings| (SEAL, settings.into())));
    Ok(environment)
}

/// The interface with that address, or the first that isn't loopback.
fn interface(address: Option<IpAddr>) -> Result<Interface, Failure> {
    let found = interfaces().map_err(|error| Failure::Other(error.to_string()))?;
    let Some(address) = address else {
        return found
            .into_iter()
            .next()
            .ok_or_else(|| Failure::Other("this host has no network address".into()));
    };
    // All of 127.0.0.0/8 is this host, though the interface names only one of them.
    let local =
        |other: IpAddr| address.is_ipv4() && address.is_loopback() && other.is_ipv4() && other.is_loopback();
    let own = found.iter().find(|interface| interface.address == address || local(interface.address));
    own.map(|interface| Interface { address, ..interface.clone() }).ok_or_else(|| {
        let have: Vec<String> = found.iter().map(|interface| interface.address.to_string()).collect();
        Failure::Other(format!("{address} is none of this host's addresses; it has: {}", have.join(", ")))
    })
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

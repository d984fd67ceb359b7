//! The agent: started when it is needed, as nobody's child.

use super::kernel_agent;
use crate::args::AgentArgs;
use crate::failure::Failure;
use rocev2_agent::place::{Place, command};
use rocev2_device::host::close_on_exec;
use secure_rdma_keys::Keys;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent's place, where one serves from now on.
pub(super) fn start(directory: &Path) -> Result<Place, Failure> {
    let place = Place::new(directory.join("agent"), Some(program()?));
    place.start().map_err(Failure::system("starting the agent, which shares UDP port 4791"))?;
    Ok(place)
}

/// This program's own file.
pub(super) fn program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::system("finding this program's own file"))
}

/// `secure-rdma agent`.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    if args.lift {
        return kernel_agent::lift();
    }
    // One of these there is: the arguments see to that.
    let (Some(socket), false) = (&args.socket, args.kernel) else { return kernel_agent::run(args) };
    let failed = Failure::system("starting the agent");
    if args.detach {
        // Pipes and sockets of whoever needed it first: their other ends wait for all copies to be closed. Before Linux
        // 5.11 they stay open for as long as the agent.
        let _ = close_on_exec(3);
        let mut command = command(&program()?, socket);
        command.arg("--idle").arg(args.idle.to_string());
        return command.spawn().map(drop).map_err(failed);
    }
    // A terminal's signals are for the programs in it. Whoever leads a group already has nothing to leave.
    let _ = rustix::process::setsid();
    rocev2_agent::serve_with(socket, Duration::from_secs(args.idle), Box::new(Keys::new()))
        .map_err(Failure::system("serving as the agent"))
}

//! The agent: started when it is needed, as nobody's child.

use crate::args::AgentArgs;
use crate::failure::Failure;
use rocev2_agent::lease::is_there;
use secure_rdma_keys::Keys;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// The socket of the agent, which is started now if there is none.
pub(super) fn start(place: &Path) -> Result<PathBuf, Failure> {
    let socket = place.join("agent");
    if is_there(&socket) {
        return Ok(socket);
    }
    let program = std::env::current_exe().map_err(Failure::system("finding this program's own file"))?;
    let failed = Failure::system("starting the agent");
    // Its parent ends at once: what this process becomes must not find a child that it doesn't know.
    let status = agent(&program, &socket).arg("--detach").status().map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    while !is_there(&socket) {
        if !status.success() || Instant::now() > deadline {
            return Err(Failure::Other(format!(
                "the agent, which shares UDP port 4791, doesn't start: {status}"
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(socket)
}

/// A command that runs the agent.
fn agent(program: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("agent").arg("--socket").arg(socket).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // What is under other programs shall not be under it.
    command.env_remove("LD_PRELOAD").env_remove("LD_LIBRARY_PATH");
    command
}

/// `secure-rdma agent`.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    if args.detach {
        let program = std::env::current_exe().map_err(Failure::system("finding this program's own file"))?;
        let mut command = agent(&program, &args.socket);
        command.arg("--idle").arg(args.idle.to_string());
        return command.spawn().map(drop).map_err(Failure::system("starting the agent"));
    }
    // A terminal's signals are for the programs in it. Whoever leads a group already has nothing to leave.
    let _ = rustix::process::setsid();
    rocev2_agent::serve_with(&args.socket, Duration::from_secs(args.idle), Box::new(Keys::new()))
        .map_err(Failure::system("serving as the agent"))
}

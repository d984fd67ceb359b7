//! `secure-rdma agent --kernel`: programs on this host's RDMA devices, sealed by the kernel.

use super::seal::settings_for;
use crate::args::AgentArgs;
use crate::failure::Failure;
use crate::kernel::start_standing;
use crate::runtime::Interruption;
use crate::{logging, output, runtime};
use secure_rdma::Report;
use secure_rdma::xfrm::owner::Kind;
use secure_rdma::xfrm::{Kernel, helper};
use secure_rdma_keys::{Change, KernelAgent};
use tokio::sync::mpsc;

/// Seals until it is told to end, or can't any more.
pub(super) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let Some(address) = args.address else {
        return Err(Failure::Usage("--kernel needs an --address of this host".into()));
    };
    if !helper::has_right() {
        return Err(no_right());
    }
    let settings = settings_for(&args.keys, address)?;
    // Before there is a second thread: this one gives the right up that the helper keeps.
    let helper = start_standing().map_err(|error| failed(&error))?;
    logging::start(false);
    runtime::start()?.block_on(async {
        let mut interruption = Interruption::watch()?;
        let agent = KernelAgent::start(address, &args.peer, &settings, &helper).await;
        let agent = agent.map_err(|error| failed(&error))?;
        for peer in &args.peer {
            output::line(format_args!("{peer}: blocked until a program there names {address}"))?;
        }
        let (tell, mut changes) = mpsc::unbounded_channel();
        let mut serving = tokio::spawn(agent.run(tell));
        loop {
            tokio::select! {
                Some(change) = changes.recv() => match change {
                    Change::Sealed(peer) => output::line(format_args!("{peer}: sealed"))?,
                    Change::Blocked(peer, reason) => output::line(format_args!("{peer}: blocked: {reason}"))?,
                },
                ended = &mut serving => {
                    let ended = ended.map_err(|error| failed(&error))?;
                    return ended.map_err(|error| failed(&error));
                }
                () = interruption.arrived() => return Ok(()),
            }
        }
    })
}

/// Removes what agents have left.
pub(super) fn lift() -> Result<(), Failure> {
    if !helper::has_right() {
        return Err(no_right());
    }
    let lifted = Kernel::open_of(Kind::Standing).and_then(|kernel| {
        kernel.sweep()?;
        kernel.lift()
    });
    let lifted = lifted.map_err(|error| failed(&error))?;
    output::line(format_args!("{lifted} blocks lifted"))
}

fn no_right() -> Failure {
    Failure::Other(
        "having the kernel seal needs the right CAP_NET_ADMIN, which this process hasn't: start it as root, or as a \
         service with AmbientCapabilities=CAP_NET_ADMIN"
            .into(),
    )
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::Other(Report::new(error).to_string())
}

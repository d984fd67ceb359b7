//! Having the kernel seal packets, where `--seal packets` asks for it and the device can't, and for `agent --kernel`.

use crate::args::{SealArg, SealMode};
use crate::failure::Failure;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::xfrm::Error;
use secure_rdma::xfrm::helper::{Helper, has_right, serve, serve_standing};
use std::env;
use std::io::stdin;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What the helper is started with, instead of a command: nobody types it.
const MARK: &str = "--xfrm-helper";

/// The same for a helper that leaves blocks behind.
const STANDING_MARK: &str = "--xfrm-standing-helper";

/// What may have the kernel seal packets.
#[derive(Debug)]
pub(crate) enum Kernel {
    /// It isn't asked to.
    Unasked,
    /// It can be.
    Helper(Arc<Helper>),
    /// It can't, because of this.
    Missing(String),
}

impl Kernel {
    /// Starts the helper, if packets have to be sealed and the device may be one that can't. To be called before there
    /// is a second thread: this one gives the right up that the helper keeps.
    pub(crate) fn prepare(seal: &SealArg, device: &DeviceSelector) -> Self {
        let may_need = match device {
            DeviceSelector::Embedded { .. } => false,
            DeviceSelector::Named { .. } => true,
            DeviceSelector::Auto => {
                rdma_verbs::devices().iter().any(|found| matches!(found, DeviceSelector::Named { .. }))
            }
        };
        if seal.seal != SealMode::Packets || !may_need {
            return Self::Unasked;
        }
        if !has_right() {
            return Self::Missing("the right to (CAP_NET_ADMIN) is missing".into());
        }
        match start(MARK) {
            Ok(helper) => Self::Helper(helper),
            Err(error) => Self::Missing(error.to_string()),
        }
    }

    /// Whether the kernel could seal packets for that device, which can't, and isn't asked to.
    pub(crate) fn is_idle(&self, device: &Device) -> bool {
        matches!(self, Self::Unasked) && device.security_association().is_err() && has_right()
    }

    /// What seals packets for that device, if it needs something.
    pub(crate) fn for_device(&self, device: &Device) -> Result<Option<Arc<Helper>>, Failure> {
        if device.security_association().is_ok() {
            return Ok(None);
        }
        match self {
            Self::Unasked => Ok(None),
            Self::Helper(helper) => Ok(Some(Arc::clone(helper))),
            Self::Missing(reason) => {
                Err(Failure::NoKernel { device: device.name().to_string(), reason: reason.clone() })
            }
        }
    }
}

/// Starts a helper for programs that aren't this one: what it blocks stays so when this process ends. To be called
/// before there is a second thread, as above.
pub(crate) fn start_standing() -> Result<Arc<Helper>, Error> {
    start(STANDING_MARK)
}

fn start(mark: &str) -> Result<Arc<Helper>, Error> {
    let program = env::current_exe();
    let mut command =
        Command::new(program.map_err(|source| Error::Kernel { what: "finding this program", source })?);
    command.arg(mark);
    let helper = Helper::start(command)?;
    helper.check()?;
    Ok(helper)
}

/// If this process is the helper: what it is, until its program is gone.
pub(crate) fn helper() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    let mark = arguments.next()?;
    let serve = if mark == MARK {
        serve
    } else if mark == STANDING_MARK {
        serve_standing
    } else {
        return None;
    };
    if arguments.next().is_some() {
        return None;
    }
    // A service manager asks all processes of a service to end. This one ends last: until then it has blocked what its
    // program could send in clear.
    let runtime = Builder::new_current_thread().enable_io().build().ok()?;
    let entered = runtime.enter();
    let ignored = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let served = stdin().as_fd().try_clone_to_owned().map(|socket| serve(&socket));
    drop((ignored, entered));
    Some(if matches!(served, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

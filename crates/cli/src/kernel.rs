//! Having the kernel seal packets, where `--seal packets` asks for it and the device can't.

use crate::args::{SealArg, SealMode};
use crate::failure::Failure;
use rdma_verbs::{Device, DeviceSelector};
use secure_rdma::xfrm::helper::{Helper, has_right, serve};
use std::env;
use std::io::stdin;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What the helper is started with, instead of a command: nobody types it.
const MARK: &str = "--xfrm-helper";

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
        let program = match env::current_exe() {
            Ok(program) => program,
            Err(error) => return Self::Missing(format!("finding this program: {error}")),
        };
        let mut command = Command::new(program);
        command.arg(MARK);
        match Helper::start(command).and_then(|helper| helper.check().map(|()| helper)) {
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

/// If this process is the helper: what it is, until its program is gone.
pub(crate) fn helper() -> Option<ExitCode> {
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != MARK || arguments.next().is_some() {
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

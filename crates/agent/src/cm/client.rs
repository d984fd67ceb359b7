//! A process's side.

use super::protocol::{Reply, Request, receive, send};
use crate::lease::{LeaseError, connection, no_answer};
use crate::pairs::protocol::Request::Attach;
use crate::pairs::{self, Instance};
use crate::protocol::{Message, Packets, VERSION, receive as receive_fixed, send as send_fixed};
use rocev2::Qpn;
use rustix::io::Errno;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A connection to the agent, for connection management at one address. When it ends, the agent ends what this process
/// has: its connections, its listeners.
#[derive(Debug)]
pub struct Client {
    agent: Mutex<OwnedFd>,
}

impl Client {
    /// A connection to the agent whose socket is `place`, for that address. With `settings` all that agents say to each
    /// other is sealed, by these.
    ///
    /// # Errors
    /// [`LeaseError`], but not that it is full.
    pub fn connect(place: &Path, address: IpAddr, settings: Option<String>) -> Result<Self, LeaseError> {
        let failed = |error: Errno| LeaseError::NoAgent { place: place.into(), source: error.into() };
        let agent = connection(place).map_err(failed)?;
        let packets = if settings.is_some() { Packets::Sealed } else { Packets::Clear };
        send_fixed(&agent, Message::Manage(address, packets), &[]).map_err(failed)?;
        if let Some(settings) = settings {
            let own = Instance::of(address, Qpn::GSI);
            pairs::protocol::send(&agent, &Attach { own, settings }).map_err(failed)?;
        }
        match receive_fixed(&agent).map_err(failed)? {
            Some((Message::Manages, _)) => Ok(Self { agent: Mutex::new(agent) }),
            Some((Message::Refuses, _)) => Err(LeaseError::Refused(pairs::refusal(&agent))),
            Some((Message::Failed(number), _)) => {
                Err(LeaseError::Port(std::io::Error::from_raw_os_error(number)))
            }
            Some((Message::Version(version), _)) if version != VERSION => Err(LeaseError::Version(version)),
            None => Err(no_answer(place)),
            Some(_) => Err(LeaseError::Answer),
        }
    }

    /// The connection's descriptor, for a process that was forked off to close.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner).as_raw_fd()
    }

    /// Asks, and waits for the answer. Of an error the number is in the error.
    ///
    /// # Errors
    /// What the agent answers; `ENODEV` if it is gone.
    pub fn call(&self, request: &Request) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        send(&*agent, request, None).map_err(|error| match error {
            Errno::PIPE | Errno::CONNRESET => Errno::NODEV,
            other => other,
        })?;
        let reply = loop {
            match receive(&*agent) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) | Ok(None) => return Err(Errno::NODEV),
                other => break other,
            }
        };
        match reply? {
            Some((Reply::Error(number), _)) => Err(Errno::from_raw_os_error(number)),
            Some(reply) => Ok(reply),
            None => Err(Errno::NODEV),
        }
    }
}

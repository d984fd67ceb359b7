//! A process's side: a slot at an address, for as long as it is kept.

use crate::protocol::{Message, Packets, VERSION, receive, send};
use rocev2_device::host::group::{SLOTS, Share};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A slot of a group: this process's until it is dropped.
#[derive(Debug)]
pub struct Lease {
    agent: OwnedFd,
    held: Arc<Held>,
}

/// What a process holds of a group, whatever becomes of the agent.
#[derive(Debug)]
struct Held {
    place: PathBuf,
    address: IpAddr,
    slot: u8,
    packets: Packets,
    /// All of the group's sockets: with them, the group outlives who made it.
    group: Arc<[OwnedFd]>,
}

/// There is no slot to be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Nobody listens there, or somebody who isn't this user.
    #[error("no agent of this user's at {}: {source}", place.display())]
    NoAgent {
        /// The agent's socket.
        place: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is another version's.
    #[error(
        "the agent speaks version {0} of its protocol, this library {VERSION}: end the programs that use the agent"
    )]
    Version(u8),
    /// Too many processes.
    #[error("all {} slots at that address are taken by other processes", SLOTS - 1)]
    Full,
    /// The port is somebody else's.
    #[error("UDP port 4791 can't be had: {0}")]
    Port(io::Error),
    /// It refuses, and says why.
    #[error("{0}")]
    Refused(String),
    /// Its answer made no sense.
    #[error("the agent's answer made no sense")]
    Answer,
}

/// How often a process whose agent has died looks for the next one.
const LOOK: Duration = Duration::from_millis(100);

/// A connection to the agent at `place`, if it is this user's.
pub(crate) fn connection(place: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(place)?)?;
    if sockopt::socket_peercred(&socket)?.uid == rustix::process::geteuid() {
        Ok(socket)
    } else {
        Err(Errno::PERM)
    }
}

/// Whether an agent listens at `place`.
#[must_use]
pub fn is_there(place: &Path) -> bool {
    connection(place).is_ok()
}

/// What the end of a connection means on which an answer was to come: the agent has ended.
pub(crate) fn no_answer(place: &Path) -> LeaseError {
    LeaseError::NoAgent { place: place.into(), source: io::ErrorKind::UnexpectedEof.into() }
}

impl Lease {
    /// A slot at `address` from the agent whose socket is `place`, for a device whose packets leave so.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn take(place: &Path, address: IpAddr, packets: Packets) -> Result<Self, LeaseError> {
        let failed = |error: Errno| LeaseError::NoAgent { place: place.into(), source: error.into() };
        let agent = connection(place).map_err(failed)?;
        send(&agent, Message::Ask(address, packets), &[]).map_err(failed)?;
        let (message, group) = receive(&agent).map_err(failed)?.ok_or_else(|| no_answer(place))?;
        match message {
            Message::Slot(slot) if group.len() == SLOTS => {
                let (place, group) = (place.into(), group.into());
                let held = Arc::new(Held { place, address, slot, packets, group });
                Ok(Self { agent, held })
            }
            Message::Full => Err(LeaseError::Full),
            Message::Failed(number) => Err(LeaseError::Port(io::Error::from_raw_os_error(number))),
            Message::Version(version) => Err(LeaseError::Version(version)),
            _ => Err(LeaseError::Answer),
        }
    }

    /// What a device needs of it.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn share(&self) -> io::Result<Share> {
        let socket = self.held.group[usize::from(self.held.slot)].try_clone()?;
        let group = Arc::clone(&self.held.group);
        Ok(Share { socket: UdpSocket::from(socket), slot: self.held.slot, group })
    }

    /// Keeps the slot: waits, on the calling thread, until the agent has died, gives the group to the next one, and so
    /// on for as long as the process lives.
    pub fn keep(self) {
        let Self { mut agent, held } = self;
        loop {
            // The agent says nothing by itself: this returns when it is gone.
            while matches!(receive(&agent), Ok(Some(_)) | Err(Errno::INTR)) {}
            agent = loop {
                std::thread::sleep(LOOK);
                if let Ok(next) = held.give_back() {
                    break next;
                }
            };
        }
    }
}

impl Held {
    fn give_back(&self) -> Result<OwnedFd, Errno> {
        let agent = connection(&self.place)?;
        let group: Vec<BorrowedFd<'_>> = self.group.iter().map(AsFd::as_fd).collect();
        send(&agent, Message::Return(self.address, self.slot, self.packets), &group)?;
        match receive(&agent)? {
            Some((Message::Taken, _)) => Ok(agent),
            _ => Err(Errno::AGAIN),
        }
    }
}

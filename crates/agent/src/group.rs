//! An address: the sockets of UDP port 4791 there, and connection management on its queue pair 1.

use crate::cm::{Sealing, Ucm};
use crate::pairs::{KeyManager, PairsError};
use crate::protocol::Packets;
use rocev2_device::host::group::Share;
use rocev2_device::{Config, Device, DeviceError};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an address stays in use for what is still to be said to peers, once no process uses it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a process that manages connections otherwise may be in the way of one that begins: its end is told late.
const LEAVES: Duration = Duration::from_secs(5);

/// A group of sockets that processes share.
pub(crate) struct Group {
    address: IpAddr,
    management: Option<Management>,
    pub(crate) sockets: Vec<OwnedFd>,
    /// Since when no process uses it.
    unused: Option<Instant>,
    /// The slot that was given last: the next is another, so that what is still under way to it reaches nobody.
    pub(crate) last: usize,
}

/// Connection management on queue pair 1, whose datagrams are all sealed, or all in clear.
struct Management {
    ucm: Ucm,
    /// By what they are sealed, if they are.
    settings: Option<Arc<str>>,
    /// Since when no process uses it.
    unused: Option<Instant>,
}

/// What a process wants that manages connections.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) address: IpAddr,
    /// By what its datagrams are to be sealed, if they are.
    pub(crate) settings: Option<Arc<str>>,
    pub(crate) since: Instant,
}

/// By what processes an address is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    /// By none.
    Not,
    /// Only by such whose packets are sealed.
    BySealed,
    /// By others, too.
    ByClear,
}

/// A process doesn't get connection management.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Queue pair 1 can't be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There are no keys for it.
    #[error(transparent)]
    Keys(#[from] PairsError),
    /// Another process has it otherwise.
    #[error("{0}")]
    Occupied(String),
}

impl Group {
    pub(crate) fn new(address: IpAddr, sockets: Vec<OwnedFd>, last: usize) -> Self {
        Self { address, management: None, sockets, unused: None, last }
    }

    pub(crate) fn ucm(&self) -> Option<&Ucm> {
        self.management.as_ref().map(|management| &management.ucm)
    }

    pub(crate) fn ucm_mut(&mut self) -> Option<&mut Ucm> {
        self.management.as_mut().map(|management| &mut management.ucm)
    }

    /// A process uses the address whose packets leave so. Peers that ask for a connection are answered from now on, in
    /// clear if that is how; without queue pair 1 there are still slots.
    pub(crate) fn enter(&mut self, packets: Packets) {
        if packets == Packets::Clear && self.management.is_none() {
            self.management = self.start(None).ok();
        }
    }

    /// Has connections managed as a process wants it; whether they are by now. `is_managed` says whether another
    /// process has them managed.
    pub(crate) fn manage(
        &mut self,
        wish: &Wish,
        is_managed: bool,
        keys: &mut dyn KeyManager,
    ) -> Result<bool, Refused> {
        if let Some(other) = self.management.as_ref().filter(|other| other.settings != wish.settings) {
            let waited = wish.since.elapsed();
            if is_managed && waited >= LEAVES {
                return Err(Refused::Occupied(self.occupied(wish)));
            }
            if is_managed || !other.ucm.is_idle() && waited < FAREWELL {
                return Ok(false);
            }
            self.management = None;
        }
        if self.management.is_none() {
            let seal = wish.settings.clone().map(|settings| (settings, keys));
            self.management = Some(self.start(seal)?);
        }
        let sealing = self.ucm().and_then(Ucm::sealing);
        let attached = sealing.map_or(Ok(true), Sealing::is_attached);
        if attached.is_err() {
            self.management = None;
        }
        Ok(attached?)
    }

    fn occupied(&self, wish: &Wish) -> String {
        let address = self.address;
        match (&self.management, &wish.settings) {
            (Some(Management { settings: Some(_), .. }), Some(_)) => format!(
                "another program at {address} is sealed with other options (--certs, --crl, --allow, --peers, \
                 --seal-port): give the same, or end it"
            ),
            (_, Some(_)) => format!(
                "another program at {address} manages connections in clear, and there is one queue pair 1: end it, or \
                 start it with --seal too"
            ),
            (_, None) => format!(
                "another program at {address} manages connections sealed, and there is one queue pair 1: end it, or \
                 start this one with --seal too"
            ),
        }
    }

    /// Connection management on slot 0.
    fn start(&self, seal: Option<(Arc<str>, &mut dyn KeyManager)>) -> Result<Management, Refused> {
        let failed = |what| move |source| DeviceError::System { what, source };
        let duplicate = |socket: &OwnedFd| socket.try_clone().map_err(failed("duplicating a socket"));
        // What has arrived for who had it before.
        self.empty(0);
        let group: Vec<OwnedFd> = self.sockets.iter().map(duplicate).collect::<Result<_, _>>()?;
        let first = self.sockets.first().ok_or(DeviceError::Gsi)?;
        let share = Share { socket: duplicate(first)?.into(), slot: 0, group: group.into() };
        let device = Arc::new(Device::open_shared(
            Config { address: Some(self.address), ..Config::default() },
            share,
        )?);
        let (settings, sealing) = match seal {
            None => (None, None),
            Some((settings, keys)) => {
                device.seal_only();
                let refused = |error: Errno| PairsError::Refused(error.to_string());
                let (here, there) =
                    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                        .map_err(refused)?;
                keys.adopt(there).map_err(refused)?;
                let sealing = Sealing::new(here, Arc::clone(&device), self.address, (*settings).into())?;
                (Some(settings), Some(sealing))
            }
        };
        Ok(Management { ucm: Ucm::new(device, self.address, sealing)?, settings, unused: None })
    }

    /// Does what is due, given who uses the address. Whether it is needed any more: it is given up once peers have been
    /// told, and the port is free again.
    pub(crate) fn turn(&mut self, used: Used) -> bool {
        if let Some(management) = &mut self.management {
            management.ucm.turn();
            let is_used = match &management.settings {
                Some(_) => used != Used::Not,
                // Nothing of it is for those whose packets are sealed.
                None => used == Used::ByClear,
            };
            if is_over(&mut management.unused, is_used, management.ucm.is_idle()) {
                self.management = None;
            }
        }
        let is_idle = self.ucm().is_none_or(Ucm::is_idle);
        !is_over(&mut self.unused, used != Used::Not, is_idle)
    }

    /// Whether it, or its connection management, is about to be given up.
    pub(crate) fn is_unused(&self) -> bool {
        self.unused.is_some()
            || self.management.as_ref().is_some_and(|management| management.unused.is_some())
    }

    /// Drops what has arrived for the slot's last owner.
    pub(crate) fn empty(&self, slot: u8) {
        let Ok(socket) = self.sockets[usize::from(slot)].try_clone() else { return };
        let socket = UdpSocket::from(socket);
        // As the device has it, too.
        let _ = socket.set_nonblocking(true);
        let mut byte = [0];
        while socket.recv(&mut byte).is_ok() {}
    }
}

/// Whether something is over that nobody uses, and that has nothing to do any more, or has had enough time for it.
fn is_over(unused: &mut Option<Instant>, is_used: bool, is_idle: bool) -> bool {
    if is_used {
        *unused = None;
        return false;
    }
    let since = unused.get_or_insert_with(Instant::now);
    is_idle || since.elapsed() > FAREWELL
}

//! The agent's side: one thread that waits for processes, and ends when there have been none for a while.

use crate::protocol::{Message, receive, send};
use rocev2_device::host::group::{SLOTS, bind_group};
use rocev2_device::link::BindError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with, sockopt,
};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections at a time: slots at several addresses.
const CONNECTIONS: usize = 1024;

/// How long processes that still have a group of an agent before may take to give it to this one.
const RETURNS: Duration = Duration::from_secs(5);

/// How often what waits is looked at again.
const TICK: Duration = Duration::from_millis(50);

struct Group {
    sockets: Vec<OwnedFd>,
    /// The slot that was given last: the next is another, so that what is still under way to it reaches nobody.
    last: usize,
}

struct Connection {
    socket: OwnedFd,
    state: State,
}

enum State {
    /// It has said nothing yet, since then.
    New(Instant),
    /// It wants a slot, since then; the port is in use, perhaps by a group that will be given back.
    Waits(IpAddr, Instant),
    /// It has a slot.
    Has(IpAddr, u8),
    /// It is to be closed.
    Done,
}

/// Serves the processes that connect to `place`; returns when there has been none for `idle`, or when another agent
/// serves there already. `place` must be in a directory that only this user can enter.
///
/// # Errors
/// The socket can't be had.
pub fn serve(place: &Path, idle: Duration) -> io::Result<()> {
    // Only one: whoever holds the lock may remove the socket of one that died.
    let lock = File::create(place.with_extension("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, &SocketAddrUnix::new(place)?)?;
    listen(&listener, 128)?;
    let mut agent = Agent { connections: Vec::new(), groups: HashMap::new() };
    let mut used = Instant::now();
    while used.elapsed() < idle {
        agent.wait(&listener)?;
        agent.accept(&listener);
        agent.turn();
        if !agent.connections.is_empty() {
            used = Instant::now();
        }
    }
    fs::remove_file(place)
}

struct Agent {
    connections: Vec<Connection>,
    groups: HashMap<IpAddr, Group>,
}

impl Agent {
    /// Waits for a while until something happens.
    fn wait(&self, listener: &OwnedFd) -> io::Result<()> {
        let waits = self.connections.iter().any(|connection| !matches!(connection.state, State::Has(..)));
        let span = if waits { TICK } else { Duration::from_secs(1) };
        let timeout = Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() };
        let sockets = self.connections.iter().map(|connection| &connection.socket).chain([listener]);
        let mut polled: Vec<PollFd<'_>> = sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn accept(&mut self, listener: &OwnedFd) {
        while self.connections.len() < CONNECTIONS {
            let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else {
                return;
            };
            // The directory keeps others out; this does so too.
            let own =
                sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid == rustix::process::geteuid());
            if own {
                self.connections.push(Connection { socket, state: State::New(Instant::now()) });
            }
        }
    }

    /// Looks at each connection.
    fn turn(&mut self) {
        let mut connections = std::mem::take(&mut self.connections);
        for index in 0..connections.len() {
            let taken = |address: IpAddr, slot: u8| {
                connections
                    .iter()
                    .any(|other| matches!(other.state, State::Has(a, s) if (a, s) == (address, slot)))
            };
            let next = self.step(&connections[index], &taken);
            if let Some(state) = next {
                connections[index].state = state;
            }
        }
        connections.retain(|connection| !matches!(connection.state, State::Done));
        // A group that nobody uses is given up: the port is free again.
        self.groups.retain(|address, _| {
            connections
                .iter()
                .any(|connection| matches!(&connection.state, State::Has(of, _) if of == address))
        });
        self.connections = connections;
    }

    /// What becomes of a connection; `None` if nothing changes.
    fn step(&mut self, connection: &Connection, taken: &dyn Fn(IpAddr, u8) -> bool) -> Option<State> {
        match connection.state {
            State::New(since) => match receive(&connection.socket) {
                Err(Errno::AGAIN) if since.elapsed() < RETURNS => None,
                Ok(Some((Message::Ask(address), _))) => Some(
                    self.ask(connection, address, Instant::now(), taken)
                        .unwrap_or(State::Waits(address, Instant::now())),
                ),
                Ok(Some((Message::Return(address, slot), group))) => {
                    Some(self.take_back(connection, address, slot, group, taken))
                }
                Ok(Some((Message::Version(_), _))) => {
                    Some(answer(connection, Message::Version(crate::protocol::VERSION)))
                }
                _ => Some(State::Done),
            },
            State::Waits(address, since) => self.ask(connection, address, since, taken),
            // Whoever has a slot says nothing more: this is its end.
            State::Has(..) => match receive(&connection.socket) {
                Err(Errno::AGAIN) => None,
                _ => Some(State::Done),
            },
            State::Done => None,
        }
    }

    /// Somebody wants a slot; `None` while it may still come.
    fn ask(
        &mut self,
        connection: &Connection,
        address: IpAddr,
        since: Instant,
        taken: &dyn Fn(IpAddr, u8) -> bool,
    ) -> Option<State> {
        let group = match self.groups.entry(address) {
            Entry::Occupied(group) => group.into_mut(),
            Entry::Vacant(place) => match bind_group(address) {
                Ok(sockets) => {
                    place.insert(Group { sockets: sockets.into_iter().map(OwnedFd::from).collect(), last: 0 })
                }
                Err(BindError::InUse(_)) if since.elapsed() < RETURNS => return None,
                Err(error) => return Some(answer(connection, Message::Failed(number(&error)))),
            },
        };
        let slots = (1..SLOTS).map(|step| 1 + (group.last + step - 1) % (SLOTS - 1));
        let free = slots.filter_map(|slot| u8::try_from(slot).ok()).find(|slot| !taken(address, *slot));
        let Some(slot) = free else { return Some(answer(connection, Message::Full)) };
        group.last = usize::from(slot);
        group.empty(slot);
        let sockets: Vec<BorrowedFd<'_>> = group.sockets.iter().map(AsFd::as_fd).collect();
        match send(&connection.socket, Message::Slot(slot), &sockets) {
            Ok(()) => Some(State::Has(address, slot)),
            Err(_) => Some(State::Done),
        }
    }

    /// A process has a slot of a group that another agent made.
    fn take_back(
        &mut self,
        connection: &Connection,
        address: IpAddr,
        slot: u8,
        sockets: Vec<OwnedFd>,
        taken: &dyn Fn(IpAddr, u8) -> bool,
    ) -> State {
        if sockets.len() != SLOTS || taken(address, slot) || !are_at(&sockets, address) {
            return State::Done;
        }
        self.groups.entry(address).or_insert(Group { sockets, last: usize::from(slot) });
        match send(&connection.socket, Message::Taken, &[]) {
            Ok(()) => State::Has(address, slot),
            Err(_) => State::Done,
        }
    }
}

impl Group {
    /// Drops what has arrived for the slot's last owner.
    fn empty(&self, slot: u8) {
        let Ok(socket) = self.sockets[usize::from(slot)].try_clone() else { return };
        let socket = UdpSocket::from(socket);
        // As the device has it, too.
        let _ = socket.set_nonblocking(true);
        let mut byte = [0];
        while socket.recv(&mut byte).is_ok() {}
    }
}

/// Whether they are sockets at UDP port 4791 of that address.
fn are_at(sockets: &[OwnedFd], address: IpAddr) -> bool {
    sockets.iter().all(|socket| {
        let bound = socket.try_clone().ok().and_then(|socket| UdpSocket::from(socket).local_addr().ok());
        bound.is_some_and(|bound| bound.ip().to_canonical() == address && bound.port() == 4791)
    })
}

fn answer(connection: &Connection, message: Message) -> State {
    let _ = send(&connection.socket, message, &[]);
    State::Done
}

fn number(error: &BindError) -> i32 {
    match error {
        BindError::InUse(_) => Errno::ADDRINUSE.raw_os_error(),
        BindError::NotLocal(_) | BindError::NotUnicast(_) => Errno::ADDRNOTAVAIL.raw_os_error(),
        BindError::System { source, .. } => source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
    }
}

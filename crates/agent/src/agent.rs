//! The agent's side: one thread that waits for processes, and ends when there have been none for a while.

use crate::cm::{self, Ucm};
use crate::pairs::{KeyManager, NoKeys};
use crate::protocol::{Message, receive, send};
use rocev2_device::Device;
use rocev2_device::host::group::{SLOTS, Share, bind_group};
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
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections at a time: slots at several addresses.
const CONNECTIONS: usize = 1024;

/// How long processes that still have a group of an agent before may take to give it to this one.
const RETURNS: Duration = Duration::from_secs(5);

/// Requests that one process has carried out in a row.
const REQUESTS: usize = 64;

/// How often what waits is looked at again.
const TICK: Duration = Duration::from_millis(50);

/// How long an address stays in use for what is still to be said to peers, once no process uses it.
const FAREWELL: Duration = Duration::from_secs(2);

struct Group {
    /// Connection management on queue pair 1, where it could be had.
    ucm: Option<Ucm>,
    sockets: Vec<OwnedFd>,
    /// Since when no process uses it.
    unused: Option<Instant>,
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
    /// It wants connection management, since then.
    WaitsToManage(IpAddr, Instant),
    /// It manages connections, by that name.
    Manages(IpAddr, u64),
    /// It is to be closed.
    Done,
}

/// Serves the processes that connect to `place`; returns when there has been none for `idle`, or when another agent
/// serves there already. `place` must be in a directory that only this user can enter.
///
/// # Errors
/// The socket can't be had.
pub fn serve(place: &Path, idle: Duration) -> io::Result<()> {
    serve_with(place, idle, Box::new(NoKeys))
}

/// The same; `keys` serves processes whose packets are sealed.
///
/// # Errors
/// The socket can't be had.
pub fn serve_with(place: &Path, idle: Duration, keys: Box<dyn KeyManager>) -> io::Result<()> {
    // Only one: whoever holds the lock may remove the socket of one that died.
    let lock = File::create(place.with_extension("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    raise_descriptors();
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&listener, &SocketAddrUnix::new(place)?)?;
    listen(&listener, 128)?;
    let mut agent = Agent { connections: Vec::new(), groups: HashMap::new(), clients: 0, keys };
    let mut used = Instant::now();
    while used.elapsed() < idle {
        agent.wait(&listener)?;
        agent.accept(&listener);
        agent.turn();
        if !agent.connections.is_empty() || !agent.groups.is_empty() || !agent.keys.is_idle() {
            used = Instant::now();
        }
    }
    fs::remove_file(place)
}

/// Has as many descriptors as the system allows: groups and queues of events take many.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

struct Agent {
    connections: Vec<Connection>,
    groups: HashMap<IpAddr, Group>,
    /// Processes that have managed connections: the last one's name.
    clients: u64,
    keys: Box<dyn KeyManager>,
}

impl Agent {
    /// Waits for a while until something happens.
    fn wait(&self, listener: &OwnedFd) -> io::Result<()> {
        let waits = self
            .connections
            .iter()
            .any(|connection| !matches!(connection.state, State::Has(..) | State::Manages(..)))
            || self.groups.values().any(|group| group.unused.is_some());
        let managers = || self.groups.values().filter_map(|group| group.ucm.as_ref());
        let span = if waits { TICK } else { Duration::from_secs(1) };
        let span = managers().filter_map(Ucm::timeout).fold(span, Duration::min);
        let timeout = Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() };
        let sockets = self.connections.iter().map(|connection| connection.socket.as_fd());
        let sockets = sockets.chain(managers().map(AsFd::as_fd)).chain([listener.as_fd()]);
        let mut polled: Vec<PollFd<'_>> =
            sockets.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
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
        for group in self.groups.values_mut() {
            if let Some(ucm) = &mut group.ucm {
                ucm.turn();
            }
        }
        // A group that nobody uses is given up, once peers have been told: the port is free again.
        self.groups.retain(|address, group| {
            let used = connections.iter().any(|connection| {
                matches!(&connection.state, State::Has(of, _) | State::Manages(of, _) if of == address)
            });
            let since = group.unused.take().unwrap_or_else(Instant::now);
            group.unused = (!used).then_some(since);
            let idle = group.ucm.as_ref().is_none_or(Ucm::is_idle);
            used || !(idle || since.elapsed() > FAREWELL)
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
                Ok(Some((Message::Manage(address), _))) => Some(
                    self.manage(connection, address, Instant::now())
                        .unwrap_or(State::WaitsToManage(address, Instant::now())),
                ),
                Ok(Some((Message::Seal, _))) => Some(self.seal(connection)),
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
            State::WaitsToManage(address, since) => self.manage(connection, address, since),
            State::Manages(address, client) => self.serve(connection, address, client),
            State::Done => None,
        }
    }

    /// A process is sealed: its connection is another's from here on.
    fn seal(&mut self, connection: &Connection) -> State {
        let adopted = connection
            .socket
            .try_clone()
            .map_err(|_| Errno::MFILE)
            .and_then(|process| self.keys.adopt(process));
        match adopted {
            Ok(()) => answer(connection, Message::Seals),
            Err(error) => answer(connection, Message::Failed(error.raw_os_error())),
        }
    }

    /// The group of an address, made now if there is none; `None` while it may still come.
    fn group(&mut self, address: IpAddr, since: Instant) -> Result<Option<&mut Group>, BindError> {
        match self.groups.entry(address) {
            Entry::Occupied(group) => Ok(Some(group.into_mut())),
            Entry::Vacant(place) => match bind_group(address) {
                Ok(sockets) => {
                    let sockets = sockets.into_iter().map(OwnedFd::from).collect();
                    Ok(Some(place.insert(Group::new(address, sockets, 0))))
                }
                Err(BindError::InUse(_)) if since.elapsed() < RETURNS => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Somebody wants to manage connections; `None` while that may still be possible.
    fn manage(&mut self, connection: &Connection, address: IpAddr, since: Instant) -> Option<State> {
        let group = match self.group(address, since) {
            Ok(group) => group?,
            Err(error) => return Some(answer(connection, Message::Failed(number(&error)))),
        };
        if group.ucm.is_none() {
            return Some(answer(connection, Message::Failed(Errno::NODEV.raw_os_error())));
        }
        self.clients += 1;
        match send(&connection.socket, Message::Manages, &[]) {
            Ok(()) => Some(State::Manages(address, self.clients)),
            Err(_) => Some(State::Done),
        }
    }

    /// Carries out what a process asks for. One that doesn't read its answers is given up.
    fn serve(&mut self, connection: &Connection, address: IpAddr, client: u64) -> Option<State> {
        let ucm = self.groups.get_mut(&address).and_then(|group| group.ucm.as_mut());
        let Some(ucm) = ucm else { return Some(State::Done) };
        for _ in 0..REQUESTS {
            let received = cm::protocol::receive::<cm::protocol::Request>(&connection.socket);
            let answered = match received {
                Err(Errno::AGAIN | Errno::INTR) => return None,
                Ok(Some((request, _))) => {
                    let (reply, descriptor) = ucm.handle(client, request);
                    cm::protocol::send(&connection.socket, &reply, descriptor).is_ok()
                }
                Ok(None) | Err(_) => false,
            };
            if !answered {
                ucm.end(client);
                return Some(State::Done);
            }
        }
        None
    }

    /// Somebody wants a slot; `None` while it may still come.
    fn ask(
        &mut self,
        connection: &Connection,
        address: IpAddr,
        since: Instant,
        taken: &dyn Fn(IpAddr, u8) -> bool,
    ) -> Option<State> {
        let group = match self.group(address, since) {
            Ok(group) => group?,
            Err(error) => return Some(answer(connection, Message::Failed(number(&error)))),
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
        self.groups.entry(address).or_insert_with(|| Group::new(address, sockets, usize::from(slot)));
        match send(&connection.socket, Message::Taken, &[]) {
            Ok(()) => State::Has(address, slot),
            Err(_) => State::Done,
        }
    }
}

impl Group {
    fn new(address: IpAddr, sockets: Vec<OwnedFd>, last: usize) -> Self {
        Self { ucm: manager(address, &sockets), sockets, unused: None, last }
    }

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

/// Connection management on the group's slot 0. Without it there are still slots for processes.
fn manager(address: IpAddr, sockets: &[OwnedFd]) -> Option<Ucm> {
    let duplicate = |socket: &OwnedFd| socket.try_clone().ok();
    let group: Vec<OwnedFd> = sockets.iter().map(duplicate).collect::<Option<_>>()?;
    let share = Share { socket: group.first().and_then(duplicate)?.into(), slot: 0, group: group.into() };
    let device = Device::open_shared(address, share).ok()?;
    Ucm::new(Arc::new(device), address).ok()
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

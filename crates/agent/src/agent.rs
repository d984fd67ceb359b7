//! The agent's side: one thread that waits for processes, and ends when there have been none for a while.

use crate::cm::{self, Ucm};
use crate::group::{Group, Refused, Used, Wish};
use crate::lease::is_there;
use crate::pairs::protocol::Request::Attach;
use crate::pairs::{self, Instance, KeyManager, NoKeys};
use crate::protocol::{Message, Packets, receive, send};
use rocev2::Qpn;
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

/// How long an agent that listens no more may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Requests that one process has carried out in a row.
const REQUESTS: usize = 64;

/// How often what waits is looked at again.
const TICK: Duration = Duration::from_millis(50);

struct Connection {
    socket: OwnedFd,
    state: State,
}

enum State {
    /// It has said nothing yet, since then.
    New(Instant),
    /// It wants a slot, since then; the port is in use, perhaps by a group that will be given back.
    Waits(IpAddr, Packets, Instant),
    /// It has a slot.
    Has(IpAddr, u8, Packets),
    /// It wants sealed connection management, since then, and hasn't said by what settings.
    WaitsToSeal(IpAddr, Instant),
    /// It wants connection management.
    WaitsToManage(Wish),
    /// It manages connections, by that name.
    Manages(IpAddr, u64, Packets),
    /// It is to be closed.
    Done,
}

impl State {
    /// The address that it uses, or will, and how its packets leave.
    fn uses(&self) -> Option<(IpAddr, Packets)> {
        match self {
            Self::Has(address, _, packets) | Self::Manages(address, _, packets) => Some((*address, *packets)),
            Self::WaitsToManage(Wish { address, settings, .. }) => {
                Some((*address, if settings.is_some() { Packets::Sealed } else { Packets::Clear }))
            }
            _ => None,
        }
    }
}

/// All connections.
#[derive(Clone, Copy)]
struct Others<'a>(&'a [Connection]);

impl Others<'_> {
    /// Whether a process has that slot.
    fn have(self, address: IpAddr, slot: u8) -> bool {
        self.0.iter().any(|other| matches!(other.state, State::Has(a, s, _) if (a, s) == (address, slot)))
    }

    /// Whether a process manages connections there.
    fn manage(self, address: IpAddr) -> bool {
        self.0.iter().any(|other| matches!(other.state, State::Manages(of, ..) if of == address))
    }

    /// By what processes an address is used.
    fn use_of(self, address: IpAddr) -> Used {
        let of = self.0.iter().filter_map(|other| other.state.uses()).filter(|(of, _)| *of == address);
        match of.map(|(_, packets)| packets).min() {
            None => Used::Not,
            Some(Packets::Sealed) => Used::BySealed,
            Some(Packets::Clear) => Used::ByClear,
        }
    }
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
    let deadline = Instant::now() + ENDING;
    while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        // One that doesn't listen has just begun, or is about to end.
        if is_there(place) || Instant::now() > deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
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
            || self.groups.values().any(Group::is_unused);
        let managers = || self.groups.values().filter_map(Group::ucm);
        let span = if waits { TICK } else { Duration::from_secs(1) };
        let span = managers().filter_map(Ucm::timeout).fold(span, Duration::min);
        let timeout = Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() };
        let sockets = self.connections.iter().map(|connection| connection.socket.as_fd());
        let sockets = sockets.chain(managers().flat_map(Ucm::descriptors)).chain([listener.as_fd()]);
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
            let next = self.step(&connections[index], Others(&connections));
            if let Some(state) = next {
                connections[index].state = state;
            }
        }
        connections.retain(|connection| !matches!(connection.state, State::Done));
        self.groups.retain(|address, group| group.turn(Others(&connections).use_of(*address)));
        self.connections = connections;
    }

    /// What becomes of a connection; `None` if nothing changes.
    fn step(&mut self, connection: &Connection, others: Others<'_>) -> Option<State> {
        match &connection.state {
            State::New(since) => {
                match receive(&connection.socket) {
                    Err(Errno::AGAIN) if since.elapsed() < RETURNS => None,
                    Ok(Some((Message::Ask(address, packets), _))) => Some(
                        self.ask(connection, (address, packets), Instant::now(), others)
                            .unwrap_or(State::Waits(address, packets, Instant::now())),
                    ),
                    Ok(Some((Message::Return(address, slot, packets), group))) => {
                        Some(self.take_back(connection, (address, slot, packets), group, others))
                    }
                    Ok(Some((Message::Manage(address, Packets::Clear), _))) => {
                        let wish = Wish { address, settings: None, since: Instant::now() };
                        Some(self.manage(connection, &wish, others).unwrap_or(State::WaitsToManage(wish)))
                    }
                    Ok(Some((Message::Manage(address, Packets::Sealed), _))) => {
                        let since = Instant::now();
                        Some(
                            self.manage_sealed(connection, address, since, others)
                                .unwrap_or(State::WaitsToSeal(address, since)),
                        )
                    }
                    Ok(Some((Message::Seal, _))) => Some(self.seal(connection)),
                    Ok(Some((Message::Version(_), _))) => {
                        Some(answer(connection, Message::Version(crate::protocol::VERSION)))
                    }
                    _ => Some(State::Done),
                }
            }
            State::Waits(address, packets, since) => {
                self.ask(connection, (*address, *packets), *since, others)
            }
            // Whoever has a slot says nothing more: this is its end.
            State::Has(..) => match receive(&connection.socket) {
                Err(Errno::AGAIN) => None,
                _ => Some(State::Done),
            },
            State::WaitsToSeal(address, since) => self.manage_sealed(connection, *address, *since, others),
            State::WaitsToManage(wish) => self.manage(connection, wish, others),
            State::Manages(address, client, _) => self.serve(connection, *address, *client),
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
    fn group(
        groups: &mut HashMap<IpAddr, Group>,
        address: IpAddr,
        since: Instant,
    ) -> Result<Option<&mut Group>, BindError> {
        match groups.entry(address) {
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

    /// Somebody wants to manage connections by sealed datagrams, and says by what settings; `None` while it may still.
    fn manage_sealed(
        &mut self,
        connection: &Connection,
        address: IpAddr,
        since: Instant,
        others: Others<'_>,
    ) -> Option<State> {
        let own = Instance::of(address, Qpn::GSI);
        match pairs::protocol::receive(&connection.socket) {
            Err(Errno::AGAIN) if since.elapsed() < RETURNS => None,
            Ok(Some(Attach { own: of, settings })) if of == own => {
                let wish = Wish { address, settings: Some(settings.into()), since };
                Some(self.manage(connection, &wish, others).unwrap_or(State::WaitsToManage(wish)))
            }
            _ => Some(State::Done),
        }
    }

    /// Somebody wants to manage connections; `None` while that may still be possible.
    fn manage(&mut self, connection: &Connection, wish: &Wish, others: Others<'_>) -> Option<State> {
        let address = wish.address;
        let group = match Self::group(&mut self.groups, address, wish.since) {
            Ok(group) => group?,
            Err(error) => return Some(answer(connection, Message::Failed(number(&error)))),
        };
        match group.manage(wish, others.manage(address), &mut *self.keys) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(Refused::Device(_)) => {
                return Some(answer(connection, Message::Failed(Errno::NODEV.raw_os_error())));
            }
            Err(error) => {
                let refuses = answer(connection, Message::Refuses);
                let refused = pairs::protocol::Event::Refused { reason: error.to_string() };
                let _ = pairs::protocol::send(&connection.socket, &refused);
                return Some(refuses);
            }
        }
        self.clients += 1;
        let packets = if wish.settings.is_some() { Packets::Sealed } else { Packets::Clear };
        match send(&connection.socket, Message::Manages, &[]) {
            Ok(()) => Some(State::Manages(address, self.clients, packets)),
            Err(_) => Some(State::Done),
        }
    }

    /// Carries out what a process asks for. One that doesn't read its answers is given up.
    fn serve(&mut self, connection: &Connection, address: IpAddr, client: u64) -> Option<State> {
        let ucm = self.groups.get_mut(&address).and_then(Group::ucm_mut);
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
        (address, packets): (IpAddr, Packets),
        since: Instant,
        others: Others<'_>,
    ) -> Option<State> {
        let group = match Self::group(&mut self.groups, address, since) {
            Ok(group) => group?,
            Err(error) => return Some(answer(connection, Message::Failed(number(&error)))),
        };
        group.enter(packets);
        let slots = (1..SLOTS).map(|step| 1 + (group.last + step - 1) % (SLOTS - 1));
        let free = slots.filter_map(|slot| u8::try_from(slot).ok()).find(|slot| !others.have(address, *slot));
        let Some(slot) = free else { return Some(answer(connection, Message::Full)) };
        group.last = usize::from(slot);
        group.empty(slot);
        let sockets: Vec<BorrowedFd<'_>> = group.sockets.iter().map(AsFd::as_fd).collect();
        match send(&connection.socket, Message::Slot(slot), &sockets) {
            Ok(()) => Some(State::Has(address, slot, packets)),
            Err(_) => Some(State::Done),
        }
    }

    /// A process has a slot of a group that another agent made.
    fn take_back(
        &mut self,
        connection: &Connection,
        (address, slot, packets): (IpAddr, u8, Packets),
        sockets: Vec<OwnedFd>,
        others: Others<'_>,
    ) -> State {
        if sockets.len() != SLOTS || others.have(address, slot) || !are_at(&sockets, address) {
            return State::Done;
        }
        let made = || Group::new(address, sockets, usize::from(slot));
        self.groups.entry(address).or_insert_with(made).enter(packets);
        match send(&connection.socket, Message::Taken, &[]) {
            Ok(()) => State::Has(address, slot, packets),
            Err(_) => State::Done,
        }
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

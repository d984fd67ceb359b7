//! Control connections: streams of bytes between machines, as TCP has them, in virtual time.
//!
//! What is written arrives in order, in pieces, some time later; a reader that doesn't read holds up its writer. Where
//! hosts are parted, what is on its way arrives some time after they meet again. How long things take is drawn from the
//! seed by how often something is written, never by how much: TLS's records differ in length from run to run.

use secure_rdma::{Connection, Listener};
use simulator::{Network, Rng, address};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that a direction holds.
const WINDOW: usize = 64 << 10;

/// How long after hosts have met again TCP tries once more, in nanoseconds.
const RETRY: (u64, u64) = (1_000_000, 300_000_000);

/// The TCP port that servers listen on.
pub(crate) const PORT: u16 = 4433;

/// All control connections.
#[derive(Debug)]
pub(crate) struct Wires {
    network: Arc<Network>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    /// Nanoseconds from one machine to another.
    latency: u64,
    next: u64,
    /// Two of each connection: what the client writes, what the server writes.
    pipes: BTreeMap<u64, Pipe>,
    /// By machine.
    listeners: BTreeMap<usize, Listening>,
    /// Machines with a process; who sends to another is told that there is none.
    up: BTreeSet<usize>,
    cut: BTreeSet<(usize, usize)>,
    /// Machines whose processes have something to do.
    woken: BTreeSet<usize>,
    /// How often programs have read, written or accepted.
    touched: u64,
    /// By machine.
    streams: BTreeMap<usize, usize>,
}

#[derive(Debug, Default)]
struct Listening {
    waiting: VecDeque<Stream>,
    waker: Option<Waker>,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    from: usize,
    to: usize,
    flying: VecDeque<(u64, Item)>,
    arrived: VecDeque<u8>,
    /// Bytes on their way and not read.
    held: usize,
    end: Option<End>,
    /// The connection is there: the receiver may read.
    open: bool,
    /// Nothing more is written.
    shut: bool,
    /// Nobody reads any more.
    deserted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
enum Item {
    /// A client asks for the connection.
    Ask(Box<Stream>),
    /// It has it.
    Granted,
    Bytes(Vec<u8>),
    End(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Fin,
    Reset,
}

/// How a machine's processes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Their connections are reset.
    Reset,
    /// They are closed.
    Closed,
    /// Nobody is told: the machine is without power.
    Silent,
}

impl Wires {
    pub(crate) fn new(network: &Arc<Network>, mut rng: Rng) -> Arc<Self> {
        let latency = rng.between(20_000, 2_000_000);
        let state = State {
            rng,
            latency,
            next: 0,
            pipes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            up: BTreeSet::new(),
            cut: BTreeSet::new(),
            woken: BTreeSet::new(),
            touched: 0,
            streams: BTreeMap::new(),
        };
        Arc::new(Self { network: Arc::clone(network), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process is there.
    pub(crate) fn start(&self, machine: usize) {
        self.lock().up.insert(machine);
    }

    /// Its processes are gone.
    pub(crate) fn kill(&self, machine: usize, death: Death) {
        let now = self.network.now();
        let mut state = self.lock();
        state.up.remove(&machine);
        let listening = state.listeners.remove(&machine);
        let ids: Vec<u64> = state.pipes.keys().copied().collect();
        for id in ids {
            let Some(pipe) = state.pipes.get_mut(&id) else { continue };
            if pipe.to == machine {
                pipe.deserted = true;
                pipe.reader = None;
            }
            if pipe.from == machine && !pipe.shut {
                pipe.shut = true;
                pipe.writer = None;
                match death {
                    Death::Reset => state.push(now, id, Item::End(End::Reset)),
                    Death::Closed => state.push(now, id, Item::End(End::Fin)),
                    // What had left arrives.
                    Death::Silent => {}
                }
            }
        }
        drop(state);
        drop(listening);
    }

    /// Parts two machines, in one direction, or lets them meet again.
    pub(crate) fn cut(&self, from: usize, to: usize, cut: bool) {
        let now = self.network.now();
        let mut state = self.lock();
        if cut {
            state.cut.insert((from, to));
            return;
        }
        state.cut.remove(&(from, to));
        let State { rng, pipes, .. } = &mut *state;
        for pipe in pipes.values_mut().filter(|pipe| (pipe.from, pipe.to) == (from, to)) {
            if pipe.flying.front().is_some_and(|(at, _)| *at <= now) {
                let again = now + rng.between(RETRY.0, RETRY.1);
                pipe.flying.iter_mut().for_each(|(at, _)| *at = again.max(*at));
            }
        }
    }

    /// When something arrives next.
    pub(crate) fn next(&self) -> Option<u64> {
        let state = self.lock();
        let open = state.pipes.values().filter(|pipe| !state.cut.contains(&(pipe.from, pipe.to)));
        open.filter_map(|pipe| pipe.flying.front().map(|(at, _)| *at)).min()
    }

    /// Hands out what has arrived by now.
    pub(crate) fn deliver(&self) {
        let now = self.network.now();
        let mut state = self.lock();
        let ids: Vec<u64> = state.pipes.keys().copied().collect();
        let (mut wakers, mut dropped) = (Vec::new(), Vec::new());
        for id in ids {
            while let Some(pipe) = state.pipes.get(&id) {
                let due = pipe.flying.front().is_some_and(|(at, _)| *at <= now);
                if !due || state.cut.contains(&(pipe.from, pipe.to)) {
                    break;
                }
                state.arrive(now, id, &mut wakers, &mut dropped);
            }
        }
        state.pipes.retain(|_, pipe| !(pipe.shut && pipe.deserted && pipe.flying.is_empty()));
        drop(state);
        drop(dropped);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The machines whose processes have something to do.
    pub(crate) fn take_woken(&self) -> BTreeSet<usize> {
        core::mem::take(&mut self.lock().woken)
    }

    /// How often programs have been at work on their streams.
    pub(crate) fn touched(&self) -> u64 {
        self.lock().touched
    }

    /// How many streams a machine's processes hold.
    pub(crate) fn streams(&self, machine: usize) -> usize {
        self.lock().streams.get(&machine).copied().unwrap_or_default()
    }

    /// Listens on a machine.
    pub(crate) fn listen(self: &Arc<Self>, machine: usize) -> Socket {
        self.lock().listeners.insert(machine, Listening::default());
        Socket { wires: Arc::clone(self), machine }
    }

    /// Connects two machines. It takes as long as it takes; `asks` is told from where, before anybody can hear of it.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        from: usize,
        to: usize,
        asks: impl FnOnce(SocketAddr),
    ) -> io::Result<Stream> {
        let stream = {
            let now = self.network.now();
            let mut state = self.lock();
            let number = state.next;
            state.next += 1;
            state.pipes.insert(2 * number, Pipe::new(from, to));
            state.pipes.insert(2 * number + 1, Pipe::new(to, from));
            let port = 1024 + u16::try_from(number % 60_000).unwrap_or(0);
            let (client, server) = (SocketAddr::new(address(from), port), SocketAddr::new(address(to), PORT));
            let stream = |machine, at_server, local, peer| {
                let (own, others) = if at_server { (1, 0) } else { (0, 1) };
                let (read, write) = (2 * number + others, 2 * number + own);
                let lives = !at_server;
                Stream { wires: Arc::clone(self), machine, read, write, local, peer, lives }
            };
            *state.streams.entry(from).or_default() += 1;
            // The server's once it is there.
            let offered = stream(to, true, server, client);
            state.push(now, 2 * number, Item::Ask(Box::new(offered)));
            stream(from, false, client, server)
        };
        asks(stream.local);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            state.touched += 1;
            let Some(pipe) = state.pipes.get_mut(&stream.read) else { return Poll::Ready(Err(refused())) };
            match pipe.end {
                // Whatever became of it since.
                _ if pipe.open => Poll::Ready(Ok(())),
                Some(_) => Poll::Ready(Err(refused())),
                None => {
                    pipe.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await?;
        Ok(stream)
    }
}

impl State {
    /// Sends something, which arrives behind all that was sent before.
    fn push(&mut self, now: u64, id: u64, item: Item) {
        let takes = self.latency + self.rng.below(self.latency);
        if let Some(pipe) = self.pipes.get_mut(&id) {
            let after = pipe.flying.back().map_or(0, |(at, _)| *at);
            pipe.flying.push_back(((now + takes).max(after), item));
        }
    }

    /// The first item of a pipe arrives.
    fn arrive(&mut self, now: u64, id: u64, wakers: &mut Vec<Waker>, dropped: &mut Vec<Stream>) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let Some((_, item)) = pipe.flying.pop_front() else { return };
        let to = pipe.to;
        match item {
            Item::Ask(mut stream) => match self.listeners.get_mut(&to).filter(|_| self.up.contains(&to)) {
                Some(listening) => {
                    pipe.open = true;
                    stream.lives = true;
                    *self.streams.entry(to).or_default() += 1;
                    listening.waiting.push_back(*stream);
                    wakers.extend(listening.waker.take());
                    self.push(now, id ^ 1, Item::Granted);
                }
                None => {
                    let is_up = self.up.contains(&to);
                    pipe.deserted = true;
                    if let Some(back) = self.pipes.get_mut(&(id ^ 1)) {
                        back.shut = true;
                    }
                    // Of a machine without power nothing is heard.
                    if is_up {
                        self.push(now, id ^ 1, Item::End(End::Reset));
                    }
                    dropped.push(*stream);
                }
            },
            Item::Granted => {
                pipe.open = true;
                wakers.extend(pipe.reader.take());
            }
            Item::Bytes(bytes) if pipe.deserted => {
                pipe.held -= bytes.len();
                let back = self.pipes.get_mut(&(id ^ 1));
                // Who sends to nobody is told so.
                if self.up.contains(&to) && back.is_some_and(|back| back.end.is_none()) {
                    self.push(now, id ^ 1, Item::End(End::Reset));
                }
            }
            Item::Bytes(bytes) => {
                pipe.arrived.extend(bytes);
                wakers.extend(pipe.reader.take());
            }
            Item::End(end) => {
                pipe.end.get_or_insert(end);
                wakers.extend(pipe.reader.take());
                if end == End::Reset {
                    pipe.held -= pipe.arrived.len();
                    pipe.arrived.clear();
                    let back = self.pipes.get_mut(&(id ^ 1));
                    wakers.extend(back.and_then(|back| back.writer.take()));
                }
            }
        }
        self.woken.insert(to);
    }
}

impl Pipe {
    fn new(from: usize, to: usize) -> Self {
        Self {
            from,
            to,
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            held: 0,
            end: None,
            open: false,
            shut: false,
            deserted: false,
            reader: None,
            writer: None,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Socket {
    wires: Arc<Wires>,
    machine: usize,
}

impl Listener for Socket {
    type Connection = Stream;

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(address(self.machine), PORT))
    }

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        std::future::poll_fn(|context| {
            let mut state = self.wires.lock();
            state.touched += 1;
            let Some(listening) = state.listeners.get_mut(&self.machine) else { return Poll::Pending };
            match listening.waiting.pop_front() {
                Some(stream) => {
                    let peer = stream.peer;
                    Poll::Ready(Ok((stream, peer)))
                }
                None => {
                    listening.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// One end of a control connection.
#[derive(Debug)]
pub(crate) struct Stream {
    wires: Arc<Wires>,
    machine: usize,
    read: u64,
    write: u64,
    local: SocketAddr,
    peer: SocketAddr,
    /// It is a process': one that was never accepted isn't.
    lives: bool,
}

impl Stream {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Hangs up.
    fn shut(&self, end: End) {
        let now = self.wires.network.now();
        let mut state = self.wires.lock();
        let Some(pipe) = state.pipes.get_mut(&self.write) else { return };
        if !pipe.shut {
            pipe.shut = true;
            state.push(now, self.write, Item::End(end));
        }
    }
}

impl Connection for Stream {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn prepare(&self) -> io::Result<()> {
        Ok(())
    }

    async fn spoken(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.wires.lock();
            state.touched += 1;
            let Some(pipe) = state.pipes.get_mut(&self.read) else { return Poll::Ready(()) };
            if pipe.arrived.is_empty() && pipe.end.is_none() {
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    fn is_among_the_last(&self) -> bool {
        false
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.wires.lock();
        state.touched += 1;
        let Some(pipe) = state.pipes.get_mut(&self.read) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if !pipe.arrived.is_empty() {
            let count = pipe.arrived.len().min(into.remaining());
            for byte in pipe.arrived.drain(..count) {
                into.put_slice(&[byte]);
            }
            pipe.held -= count;
            let (waker, from) = (pipe.writer.take(), pipe.from);
            if let Some(waker) = waker {
                state.woken.insert(from);
                drop(state);
                waker.wake();
            }
            return Poll::Ready(Ok(()));
        }
        match pipe.end {
            Some(End::Fin) => Poll::Ready(Ok(())),
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.wires.network.now();
        let mut state = self.wires.lock();
        state.touched += 1;
        let reset = state.pipes.get(&self.read).is_none_or(|pipe| pipe.end == Some(End::Reset));
        let Some(pipe) = state.pipes.get_mut(&self.write).filter(|pipe| !reset && !pipe.shut) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.held + bytes.len() > WINDOW && pipe.held > 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        pipe.held += bytes.len();
        let pieces = state.rng.between(1, 3);
        let size = bytes.len().div_ceil(usize::try_from(pieces).unwrap_or(1)).max(1);
        for piece in bytes.chunks(size) {
            state.push(now, self.write, Item::Bytes(piece.to_vec()));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut(End::Fin);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.lives {
            return;
        }
        // As TCP: who leaves bytes unread has the peer's connection reset (RFC 1122, section 4.2.2.13).
        let unread = {
            let mut state = self.wires.lock();
            *state.streams.entry(self.machine).or_default() -= 1;
            let pipe = state.pipes.get_mut(&self.read);
            pipe.is_some_and(|pipe| {
                pipe.deserted = true;
                pipe.reader = None;
                !pipe.arrived.is_empty()
            })
        };
        self.shut(if unread { End::Reset } else { End::Fin });
    }
}

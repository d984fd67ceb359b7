//! An rsocket, and the rsockets that there are.

use super::endpoint::Endpoint;
use super::maps::Maps;
use super::option::Options;
use super::wait;
use crate::abi::{RDMA_PS_TCP, rdma_cm_id};
use crate::event::complete;
use crate::id::Id;
use crate::session::forks;
use libc::{
    EAGAIN, EBADF, ECONNABORTED, ECONNRESET, ENOTSUP, EPROTO, POLLERR, POLLHUP, POLLIN, POLLOUT, c_int,
    c_short,
};
use rdma_verbs_sys::IBV_QPT_RC;
use rocev2_rsocket::stream::{Ended, Stream};
use rocev2_rsocket::wire::ConnectData;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// How far an rsocket is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It may have an address.
    Open,
    Listening,
    /// It has asked its peer.
    Connecting,
    /// It has answered its peer.
    Accepting,
    /// It has a stream, which may have ended.
    Connected,
    /// It couldn't connect: why.
    Failed(c_int),
    Closed,
}

pub(super) struct Socket {
    /// Its number.
    pub(super) number: RawFd,
    /// In which process it was made.
    forks: u32,
    inner: Mutex<Inner>,
    /// Whoever sends, connects or shuts down has it: calls of several threads don't mix.
    pub(super) sending: Mutex<()>,
    /// Whoever receives or accepts has it.
    pub(super) receiving: Mutex<()>,
}

pub(super) struct Inner {
    id: *mut rdma_cm_id,
    pub(super) state: State,
    pub(super) stream: Option<Stream>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) maps: Maps,
    pub(super) options: Options,
    /// What SO_ERROR says next.
    pub(super) error: c_int,
    /// Descriptors of threads that wait for this one.
    pub(super) waiters: Vec<RawFd>,
}

// SAFETY: the id is reached by whoever has the lock.
unsafe impl Send for Inner {}

static SOCKETS: RwLock<Option<HashMap<RawFd, Arc<Socket>>>> = RwLock::new(None);

/// The rsocket with that number, if it is this process's: one that was forked off has none of its parent's, whose queue
/// pairs it would use a second time.
pub(super) fn find(number: c_int) -> Result<Arc<Socket>, c_int> {
    let sockets = SOCKETS.read().unwrap_or_else(PoisonError::into_inner);
    let found = sockets.as_ref().and_then(|sockets| sockets.get(&number));
    found.filter(|socket| socket.forks == forks()).cloned().ok_or(EBADF)
}

/// Removes it from those that there are.
pub(super) fn remove(number: c_int) -> Result<Arc<Socket>, c_int> {
    find(number)?;
    let mut sockets = SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
    sockets.as_mut().and_then(|sockets| sockets.remove(&number)).ok_or(EBADF)
}

impl Socket {
    /// A new one.
    pub(super) fn open(options: Options) -> Result<Arc<Self>, c_int> {
        // SAFETY: without a channel it gets its own.
        let id = unsafe { Id::create(null_mut(), null_mut(), RDMA_PS_TCP, IBV_QPT_RC)? };
        Ok(Self::add(id, State::Open, options))
    }

    /// One for an id that nobody else uses, which has a channel of its own.
    pub(super) fn add(id: *mut rdma_cm_id, state: State, options: Options) -> Arc<Self> {
        // SAFETY: the id's own channel.
        let number = unsafe { (*(*id).channel).fd };
        let inner = Inner {
            id,
            state,
            stream: None,
            endpoint: None,
            maps: Maps::default(),
            options,
            error: 0,
            waiters: Vec::new(),
        };
        let socket = Arc::new(Self {
            number,
            forks: forks(),
            inner: inner.into(),
            sending: Mutex::default(),
            receiving: Mutex::default(),
        });
        let mut sockets = SOCKETS.write().unwrap_or_else(PoisonError::into_inner);
        sockets.get_or_insert_default().insert(number, Arc::clone(&socket));
        socket
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `test` says something; `EAGAIN` if it must not wait.
    pub(super) fn until<R>(
        &self,
        is_patient: bool,
        mut test: impl FnMut(&mut Inner) -> Option<Result<R, c_int>>,
    ) -> Result<R, c_int> {
        let mut spin = wait::Spin::default();
        loop {
            let mut inner = self.inner();
            if let Some(found) = test(&mut inner) {
                return found;
            }
            if inner.state == State::Closed {
                return Err(EBADF);
            }
            if inner.progress() || (is_patient && spin.goes_on()) {
                continue;
            }
            if !is_patient {
                return if inner.look() { continue } else { Err(EAGAIN) };
            }
            // What comes from here on raises an event; what has come by now is looked at once more.
            if inner.endpoint.as_mut().is_some_and(Endpoint::arm) {
                continue;
            }
            wait::sleep(self, inner)?;
        }
    }

    /// Whether a call with these flags waits.
    pub(super) fn is_patient(&self, flags: c_int) -> bool {
        flags & libc::MSG_DONTWAIT == 0 && !self.inner().options.is_nonblocking()
    }
}

impl Inner {
    pub(super) fn id(&self) -> Result<&Id, c_int> {
        // SAFETY: it is destroyed in `destroy` alone, which takes the pointer out.
        if self.id.is_null() { Err(EBADF) } else { Ok(unsafe { Id::own(self.id) }) }
    }

    /// Readable when there is an event of the id's.
    pub(super) fn channel(&self) -> Option<RawFd> {
        // SAFETY: the id's own channel.
        (!self.id.is_null()).then(|| unsafe { (*(*self.id).channel).fd })
    }

    /// Takes completions; whether something changed.
    pub(super) fn progress(&mut self) -> bool {
        if self.state != State::Connected {
            return false;
        }
        let (Some(endpoint), Some(stream)) = (&mut self.endpoint, &mut self.stream) else { return false };
        let had_ended = stream.ended();
        let has_changed = endpoint.progress(stream);
        if stream.ended() != had_ended {
            self.error = stream.ended().map_or(0, reason);
        }
        if has_changed {
            self.wake_others();
        }
        has_changed
    }

    /// Takes the events of completions. Whoever else waits for one is to look again: it is gone, and this thread may
    /// have what it waits for already.
    pub(super) fn take_events(&mut self) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.take_events();
            self.wake_others();
        }
    }

    /// Whoever else waits for it is to look again.
    pub(super) fn wake_others(&self) {
        wait::wake(&self.waiters);
    }

    /// Looks whether the id was told something; whether something changed.
    pub(super) fn look(&mut self) -> bool {
        self.channel().is_some_and(wait::is_readable) && self.manage()
    }

    /// Takes what the id was told; whether something changed.
    pub(super) fn manage(&mut self) -> bool {
        let Ok(id) = self.id() else { return false };
        let state = match self.state {
            State::Connecting | State::Accepting => match complete(id) {
                Err(EAGAIN) => return false,
                Ok(()) => self.established(),
                Err(error) => State::Failed(error),
            },
            State::Connected => {
                if complete(id) == Err(EAGAIN) {
                    return false;
                }
                // The connection is over. What has come before is there; a peer that goes in order has said so in the
                // stream by now.
                self.progress();
                if let Some(stream) = &mut self.stream
                    && stream.ended().is_none()
                {
                    stream.end(Ended::Broken);
                    self.error = reason(Ended::Broken);
                }
                State::Connected
            }
            State::Open | State::Listening | State::Failed(_) | State::Closed => return false,
        };
        self.state = state;
        if let State::Failed(error) = state {
            self.error = error;
        }
        self.wake_others();
        true
    }

    /// The connection stands: the stream begins, if it hasn't with the peer's request.
    pub(super) fn established(&mut self) -> State {
        if self.stream.is_some() {
            return State::Connected;
        }
        let data = self.id().ok().and_then(peer_data);
        match (data, &self.endpoint) {
            (Some(peer), Some(endpoint)) => {
                self.stream = Some(Stream::new(endpoint.sizes(), peer));
                State::Connected
            }
            (None, _) => State::Failed(ENOTSUP),
            (_, None) => State::Failed(ECONNABORTED),
        }
    }

    /// What poll(2) says of it.
    pub(super) fn events(&mut self, asked: c_short) -> c_short {
        self.progress();
        let is_told = || self.channel().is_some_and(wait::is_readable);
        let found = match self.state {
            State::Open | State::Closed => 0,
            State::Listening => {
                if is_told() {
                    POLLIN
                } else {
                    0
                }
            }
            State::Connecting | State::Accepting => {
                if is_told() && self.manage() {
                    return self.events(asked);
                }
                0
            }
            State::Failed(_) => POLLIN | POLLOUT | POLLERR | POLLHUP,
            State::Connected => self.stream.as_ref().map_or(0, |stream| {
                let has_input = stream.available() > 0 || !stream.is_readable();
                let input = if has_input { POLLIN } else { 0 };
                let output = if stream.can_send() { POLLOUT } else { 0 };
                input
                    | output
                    | match stream.ended() {
                        // What is there is read before the end is told: programs give up at it.
                        None | Some(Ended::Disconnected) if stream.available() > 0 => 0,
                        None => 0,
                        Some(Ended::Disconnected) => POLLHUP,
                        Some(Ended::Broken | Ended::Violated) => POLLERR | POLLHUP,
                    }
            }),
        };
        found & (asked | POLLERR | POLLHUP)
    }

    /// Frees what it has.
    pub(super) fn destroy(&mut self) {
        self.state = State::Closed;
        if let Some(mut endpoint) = self.endpoint.take()
            && let Ok(id) = self.id()
        {
            endpoint.destroy_qp(id);
        }
        self.stream = None;
        self.maps = Maps::default();
        let id = std::mem::replace(&mut self.id, null_mut());
        // SAFETY: the rsocket's own, which nobody else knows.
        let _ = unsafe { Id::destroy(id) };
        self.wake_others();
    }
}

/// What an ended stream's calls fail with; 0 if they don't.
pub(super) fn reason(ended: Ended) -> c_int {
    match ended {
        Ended::Disconnected => 0,
        Ended::Broken => ECONNRESET,
        Ended::Violated => EPROTO,
    }
}

/// What the peer says of itself in the event that was left with an id.
pub(super) fn peer_data(id: &Id) -> Option<ConnectData> {
    // SAFETY: an event that a call has left there, which nobody has acknowledged; its private data is that long.
    unsafe {
        let param = (*id.c()).event.as_ref()?.param.conn;
        let data = param.private_data.cast::<u8>();
        let whole = !data.is_null() && usize::from(param.private_data_len) >= ConnectData::LEN;
        whole.then(|| std::slice::from_raw_parts(data, ConnectData::LEN)).and_then(ConnectData::decode)
    }
}

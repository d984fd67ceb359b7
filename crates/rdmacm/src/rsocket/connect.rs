//! Connections: rsocket(3), from a new one to its end.

use super::endpoint::Endpoint;
use super::option::Options;
use super::socket::{Inner, Socket, State, find, peer_data, remove};
use super::wait;
use crate::abi::{rdma_cm_id, rdma_conn_param};
use crate::address;
use crate::boundary::result;
use crate::connect::{accept as accept_id, connect as connect_id, reject};
use crate::endpoint::get_request;
use crate::id::Id;
use crate::resolve::{bind, listen, resolve_address, resolve_route};
use crate::session::is_sealed;
use libc::{
    AF_INET, AF_INET6, EAGAIN, EALREADY, EINPROGRESS, EINVAL, EISCONN, ENOTCONN, ENOTSUP, IPPROTO_TCP,
    SHUT_RD, SHUT_RDWR, SHUT_WR, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM, c_int, sockaddr, socklen_t,
};
use rocev2_rsocket::stream::Stream;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

/// Repetitions of what isn't acknowledged, and of what meets no receive request: 7 is without end.
const RETRIES: u8 = 7;

fn open(domain: c_int, kind: c_int, protocol: c_int) -> Result<c_int, c_int> {
    let flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    // Before anything is locked: with librspreload the library's own sockets come through here.
    if !matches!(domain, AF_INET | AF_INET6)
        || kind & !flags != SOCK_STREAM
        || !matches!(protocol, 0 | IPPROTO_TCP)
    {
        return Err(ENOTSUP);
    }
    let mut options = Options::new(domain);
    options.set_nonblocking(kind & SOCK_NONBLOCK != 0);
    Ok(Socket::open(options)?.number)
}

impl Inner {
    fn start(&mut self, to: SocketAddr) -> Result<(), c_int> {
        let id = self.id()?;
        resolve_address(id, None, to)?;
        resolve_route(id)?;
        let endpoint = Endpoint::new(id, self.options.sizes(), self.options.iomaps)?;
        let data = endpoint.connect_data().encode();
        let asked = ask(id, &data);
        self.endpoint = Some(endpoint);
        self.state = match asked {
            Ok(()) => self.established(),
            Err(EAGAIN) => State::Connecting,
            Err(error) => return Err(error),
        };
        Ok(())
    }
}

fn ask(id: &Id, data: &[u8]) -> Result<(), c_int> {
    // SAFETY: the id's own channel.
    wait::set_nonblocking(unsafe { (*(*id.c()).channel).fd })?;
    let param = rdma_conn_param {
        private_data: data.as_ptr().cast(),
        // 40 bytes.
        private_data_len: u8::try_from(data.len()).unwrap_or(0),
        responder_resources: 0,
        initiator_depth: 0,
        flow_control: 1,
        retry_count: RETRIES,
        rnr_retry_count: RETRIES,
        srq: 0,
        qp_num: 0,
    };
    // SAFETY: the private data is there.
    unsafe { connect_id(id, Some(&param)) }
}

/// Waits until a connection that is under way stands, if the call may wait.
pub(super) fn establish(socket: &Socket, is_patient: bool) -> Result<(), c_int> {
    socket.until(is_patient, |inner| match inner.state {
        State::Connecting | State::Accepting => None,
        State::Connected => Some(Ok(())),
        State::Failed(error) => Some(Err(error)),
        State::Open | State::Listening | State::Closed => Some(Err(ENOTCONN)),
    })
}

fn connect(socket: &Socket, to: SocketAddr) -> Result<(), c_int> {
    let _turn = socket.sending.lock().unwrap_or_else(PoisonError::into_inner);
    let is_patient = socket.is_patient(0);
    {
        let mut inner = socket.inner();
        match inner.state {
            State::Open => {
                if let Err(error) = inner.start(to) {
                    (inner.state, inner.error) = (State::Failed(error), error);
                }
            }
            State::Connecting if !is_patient => return Err(EALREADY),
            State::Connected => return Err(EISCONN),
            State::Connecting | State::Accepting | State::Listening | State::Failed(_) | State::Closed => {}
        }
    }
    establish(socket, is_patient)
        .map_err(|error| if error == EAGAIN { EINPROGRESS } else { error })
        .inspect_err(|error| {
            if *error != EINPROGRESS {
                // It is told here, not by SO_ERROR.
                socket.inner().error = 0;
            }
        })
}

/// Answers a peer's request; `None` if it isn't an rsocket's, or is over already.
fn answer(c: *mut rdma_cm_id, options: Options) -> Option<Arc<Socket>> {
    // SAFETY: the request's id, which nobody else knows.
    let id = unsafe { Id::own(c) };
    let answered = peer_data(id).ok_or(EINVAL).and_then(|peer| {
        let endpoint = Endpoint::new(id, options.sizes(), options.iomaps)?;
        let data = endpoint.connect_data().encode();
        // SAFETY: the event of the request, and the id's own channel.
        let (asked, channel) = unsafe { ((*(*c).event).param.conn, (*(*c).channel).fd) };
        wait::set_nonblocking(channel)?;
        let param = rdma_conn_param {
            private_data: data.as_ptr().cast(),
            // 40 bytes.
            private_data_len: u8::try_from(data.len()).unwrap_or(0),
            ..asked
        };
        // SAFETY: the private data is there.
        match unsafe { accept_id(id, Some(&param)) } {
            Ok(()) => Ok((endpoint, peer, State::Connected)),
            Err(EAGAIN) => Ok((endpoint, peer, State::Accepting)),
            Err(error) => {
                let mut endpoint = endpoint;
                endpoint.destroy_qp(id);
                Err(error)
            }
        }
    });
    match answered {
        Ok((endpoint, peer, state)) => {
            let socket = Socket::add(c, state, options);
            let mut inner = socket.inner();
            inner.stream = Some(Stream::new(endpoint.sizes(), peer));
            inner.endpoint = Some(endpoint);
            drop(inner);
            Some(socket)
        }
        Err(_) => {
            // SAFETY: as above; without private data.
            unsafe {
                let _ = reject(id, std::ptr::null(), 0);
                let _ = Id::destroy(c);
            }
            None
        }
    }
}

fn accept(socket: &Socket) -> Result<Arc<Socket>, c_int> {
    let _turn = socket.receiving.lock().unwrap_or_else(PoisonError::into_inner);
    let is_patient = socket.is_patient(0);
    loop {
        let request = socket.until(is_patient, |inner| match inner.state {
            State::Listening => match inner.id().and_then(get_request) {
                Err(EAGAIN) => None,
                other => Some(other.map(|c| (c, inner.options.clone()))),
            },
            _ => Some(Err(EINVAL)),
        });
        let (c, options) = request?;
        if let Some(accepted) = answer(c, options) {
            return Ok(accepted);
        }
    }
}

/// Ends one direction of a stream or both; what was sent arrives before.
pub(super) fn shut_down(socket: &Socket, how: c_int) -> Result<(), c_int> {
    let (reading, writing) = match how {
        SHUT_RD => (true, false),
        SHUT_WR => (false, true),
        SHUT_RDWR => (true, true),
        _ => return Err(EINVAL),
    };
    let _turn = socket.sending.lock().unwrap_or_else(PoisonError::into_inner);
    let message = {
        let mut inner = socket.inner();
        let message = match (inner.state, &mut inner.stream) {
            (State::Connected, Some(stream)) => stream.shut_down(reading, writing),
            _ => return Ok(()),
        };
        inner.wake_others();
        message
    };
    let is_over = |inner: &Inner| inner.stream.as_ref().is_none_or(|stream| stream.ended().is_some());
    if let Some(message) = message {
        socket.until(true, |inner| {
            if is_over(inner) {
                return Some(Ok(()));
            }
            let (Some(stream), Some(endpoint)) = (&mut inner.stream, &inner.endpoint) else {
                return Some(Ok(()));
            };
            stream.farewell(message).map(|control| endpoint.control(&control))
        })?;
    }
    if writing {
        socket.until(true, |inner| {
            let is_sent = inner.stream.as_ref().is_none_or(Stream::is_all_sent);
            (is_over(inner) || is_sent).then_some(Ok(()))
        })?;
    }
    Ok(())
}

fn close(number: c_int) -> Result<(), c_int> {
    let socket = remove(number)?;
    // An end that can't be told is one nevertheless.
    let _ = shut_down(&socket, SHUT_RDWR);
    socket.inner().destroy();
    Ok(())
}

/// Writes an address where a program wants it, as much as there is room for, and how long it is. Without room nothing
/// is written there: librspreload asks only for the length.
///
/// # Safety
/// There is as much room as is said.
unsafe fn tell(found: Option<SocketAddr>, to: *mut sockaddr, len: *mut socklen_t) -> Result<(), c_int> {
    if len.is_null() {
        return Err(EINVAL);
    }
    let found = found.ok_or(ENOTCONN)?;
    let storage = address::storage(found);
    let place = (&raw const storage).cast::<sockaddr>();
    // SAFETY: an address of ours; the caller says how much room there is.
    unsafe {
        let whole = address::len(place);
        let room = len.read().min(whole);
        if room > 0 && to.is_null() {
            return Err(EINVAL);
        }
        if room > 0 {
            to.cast::<u8>().copy_from_nonoverlapping(place.cast(), room as usize);
        }
        len.write(whole);
    }
    Ok(())
}

impl Inner {
    fn addresses(&self) -> [Option<SocketAddr>; 2] {
        let Ok(id) = self.id() else { return [None; 2] };
        // SAFETY: fields of the id, which begin with a family.
        unsafe {
            let addr = &raw const (*id.c()).route.addr;
            [(&raw const (*addr).src_storage).cast(), (&raw const (*addr).dst_storage).cast()]
                .map(|at| address::read(at).ok())
        }
    }
}

export! {
    "RDMACM_1.0", -1,
    /// rsocket(7): a stream; `ENOTSUP` for everything else.
    fn rsocket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        super::number(open(domain, kind, protocol))
    }

    "RDMACM_1.0", -1,
    /// As bind(2).
    fn rbind(socket: c_int, addr: *const sockaddr, _addrlen: socklen_t) -> c_int {
        // SAFETY: the program gives an address.
        let address = unsafe { address::read(addr) };
        result(find(socket).and_then(|socket| bind(socket.inner().id()?, address?)))
    }

    "RDMACM_1.0", -1,
    /// As listen(2).
    fn rlisten(socket: c_int, backlog: c_int) -> c_int {
        result(find(socket).and_then(|socket| {
            let mut inner = socket.inner();
            match inner.state {
                State::Listening => return Ok(()),
                State::Open => {}
                _ => return Err(EINVAL),
            }
            listen(inner.id()?, backlog)?;
            wait::set_nonblocking(socket.number)?;
            inner.state = State::Listening;
            Ok(())
        }))
    }

    "RDMACM_1.0", -1,
    /// As accept(2).
    fn raccept(socket: c_int, addr: *mut sockaddr, addrlen: *mut socklen_t) -> c_int {
        super::number(find(socket).and_then(|socket| accept(&socket)).map(|accepted| {
            if !addr.is_null() {
                let [_, peer] = accepted.inner().addresses();
                // SAFETY: the program gives room for an address. There is one, of a request's id.
                let _ = unsafe { tell(peer, addr, addrlen) };
            }
            accepted.number
        }))
    }

    "RDMACM_1.0", -1,
    /// As connect(2).
    fn rconnect(socket: c_int, addr: *const sockaddr, _addrlen: socklen_t) -> c_int {
        // SAFETY: the program gives an address.
        let address = unsafe { address::read(addr) };
        result(find(socket).and_then(|socket| connect(&socket, address?)))
    }

    "RDMACM_1.0", -1,
    /// As shutdown(2).
    fn rshutdown(socket: c_int, how: c_int) -> c_int {
        result(find(socket).and_then(|socket| shut_down(&socket, how)))
    }

    "RDMACM_1.0", -1,
    /// As close(2).
    fn rclose(socket: c_int) -> c_int {
        result(close(socket))
    }

    "RDMACM_1.0", -1,
    /// As getpeername(2).
    fn rgetpeername(socket: c_int, addr: *mut sockaddr, addrlen: *mut socklen_t) -> c_int {
        // SAFETY: the program gives room for an address.
        result(find(socket).and_then(|socket| unsafe { tell(socket.inner().addresses()[1], addr, addrlen) }))
    }

    "RDMACM_1.0", -1,
    /// As getsockname(2).
    fn rgetsockname(socket: c_int, addr: *mut sockaddr, addrlen: *mut socklen_t) -> c_int {
        result(find(socket).and_then(|socket| {
            let inner = socket.inner();
            // librspreload asks for it to connect by ordinary TCP then, in clear: without an answer it fails, too.
            if let State::Failed(error) = inner.state
                && is_sealed()
            {
                return Err(error);
            }
            let own = inner.addresses()[0].unwrap_or_else(|| inner.options.any());
            // SAFETY: the program gives room for an address.
            unsafe { tell(Some(own), addr, addrlen) }
        }))
    }
}

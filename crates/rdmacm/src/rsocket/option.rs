//! Options: as setsockopt(2), getsockopt(2) and fcntl(2) have them, and those of `SOL_RDMA`.

use super::socket::{Inner, State, find};
use crate::boundary::{result, set_errno};
use crate::id::Id;
use crate::session::done;
use libc::{
    AF_INET, EINVAL, ENOPROTOOPT, ENOTSUP, F_GETFD, F_GETFL, F_SETFD, F_SETFL, IP_TOS, IPPROTO_IP,
    IPPROTO_IPV6, IPPROTO_TCP, IPV6_V6ONLY, O_NONBLOCK, O_RDWR, SO_BROADCAST, SO_ERROR, SO_KEEPALIVE,
    SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SO_REUSEADDR, SO_SNDBUF, SO_TYPE, SOCK_STREAM, SOL_SOCKET,
    TCP_CONGESTION, TCP_INFO, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_MAXSEG, TCP_NODELAY, c_int,
    c_void, socklen_t,
};
use rocev2_agent::cm::protocol::{IdOption, Request};
use rocev2_rsocket::stream::Sizes;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const SOL_RDMA: c_int = 0x1_0000;
const RDMA_SQSIZE: c_int = 0;
const RDMA_RQSIZE: c_int = 1;
const RDMA_INLINE: c_int = 2;
const RDMA_IOMAPSIZE: c_int = 3;

/// Bytes of each buffer, unless the program wants others.
const BUFFER: u32 = 1 << 17;
/// The fewest and the most. Lengths of messages have 29 bits.
const BUFFERS: std::ops::RangeInclusive<u32> = 4096..=1 << 28;
/// Requests of each queue, unless the program wants others.
const REQUESTS: u16 = 384;
/// The fewest and the most.
const ALL_REQUESTS: std::ops::RangeInclusive<u32> = 16..=4096;
/// As much data as rdma-core's rsockets have in requests. Here all goes through the send buffer.
const INLINE: u16 = 64;
/// The first probe of a connection that is idle, in seconds.
const KEEPALIVE: c_int = 7200;

/// What a program wants of an rsocket.
#[derive(Clone, Debug)]
pub(super) struct Options {
    domain: c_int,
    status: c_int,
    descriptor: c_int,
    send_len: u32,
    recv_len: u32,
    send_requests: u16,
    recv_requests: u16,
    inline: u16,
    /// Entries of the list of mapped buffers.
    pub(super) iomaps: u16,
    /// Those that are only remembered, by level and name.
    remembered: HashMap<(c_int, c_int), c_int>,
    linger: [c_int; 2],
}

impl Options {
    pub(super) fn new(domain: c_int) -> Self {
        Self {
            domain,
            status: O_RDWR,
            descriptor: 0,
            send_len: BUFFER,
            recv_len: BUFFER,
            send_requests: REQUESTS,
            recv_requests: REQUESTS,
            inline: INLINE,
            iomaps: 0,
            remembered: HashMap::new(),
            linger: [0; 2],
        }
    }

    pub(super) fn is_nonblocking(&self) -> bool {
        self.status & O_NONBLOCK != 0
    }

    pub(super) fn set_nonblocking(&mut self, nonblocking: bool) {
        self.status = if nonblocking { self.status | O_NONBLOCK } else { self.status & !O_NONBLOCK };
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            send_requests: self.send_requests,
            recv_requests: self.recv_requests,
            send_len: self.send_len,
            recv_len: self.recv_len & !1,
        }
    }

    /// The address of one that has none.
    pub(super) fn any(&self) -> SocketAddr {
        if self.domain == AF_INET {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        }
    }

    /// Buffers are twice what the program says, as the kernel's.
    fn buffer(asked: c_int) -> u32 {
        u32::try_from(asked).unwrap_or(0).saturating_mul(2).clamp(*BUFFERS.start(), *BUFFERS.end())
    }

    fn requests(asked: c_int) -> u16 {
        let asked = u32::try_from(asked).unwrap_or(0).clamp(*ALL_REQUESTS.start(), *ALL_REQUESTS.end());
        u16::try_from(asked).unwrap_or(REQUESTS)
    }

    fn set(&mut self, has_begun: bool, level: c_int, name: c_int, value: c_int) -> Result<(), c_int> {
        match (level, name) {
            (SOL_SOCKET, SO_RCVBUF) if !has_begun => self.recv_len = Self::buffer(value),
            (SOL_SOCKET, SO_SNDBUF) if !has_begun => self.send_len = Self::buffer(value),
            (SOL_SOCKET, SO_RCVBUF | SO_SNDBUF) | (IPPROTO_TCP, TCP_MAXSEG | TCP_CONGESTION) => {}
            (IPPROTO_TCP, TCP_KEEPIDLE) if value <= 0 => return Err(EINVAL),
            (SOL_SOCKET, SO_REUSEADDR | SO_KEEPALIVE | SO_OOBINLINE | SO_BROADCAST)
            | (IPPROTO_TCP, TCP_NODELAY | TCP_KEEPCNT | TCP_KEEPINTVL | TCP_KEEPIDLE)
            | (IPPROTO_IP, IP_TOS)
            | (IPPROTO_IPV6, IPV6_V6ONLY) => {
                self.remembered.insert((level, name), value);
            }
            (SOL_RDMA, RDMA_SQSIZE..=RDMA_IOMAPSIZE) if has_begun => return Err(EINVAL),
            (SOL_RDMA, RDMA_SQSIZE) => self.send_requests = Self::requests(value),
            (SOL_RDMA, RDMA_RQSIZE) => self.recv_requests = Self::requests(value),
            (SOL_RDMA, RDMA_INLINE) => {
                self.inline = u16::try_from(value.clamp(0, u16::MAX.into())).unwrap_or(INLINE);
            }
            (SOL_RDMA, RDMA_IOMAPSIZE) => {
                let asked = u16::try_from(value.clamp(0, u16::MAX.into())).unwrap_or(0);
                self.iomaps = rocev2_rsocket::wire::unscaled(rocev2_rsocket::wire::scaled(asked));
            }
            _ => return Err(ENOTSUP),
        }
        Ok(())
    }

    fn get(&self, level: c_int, name: c_int) -> Result<c_int, c_int> {
        let long = |len: u32| c_int::try_from(len).unwrap_or(c_int::MAX);
        let remembered = self.remembered.get(&(level, name)).copied();
        Ok(match (level, name) {
            (SOL_SOCKET, SO_RCVBUF) => long(self.recv_len),
            (SOL_SOCKET, SO_SNDBUF) => long(self.send_len),
            (SOL_SOCKET, SO_TYPE) => SOCK_STREAM,
            (SOL_SOCKET, SO_REUSEADDR | SO_KEEPALIVE | SO_OOBINLINE | SO_BROADCAST)
            | (IPPROTO_TCP, TCP_NODELAY)
            | (IPPROTO_IPV6, IPV6_V6ONLY) => (remembered.unwrap_or(0) != 0).into(),
            (IPPROTO_TCP, TCP_KEEPIDLE) => remembered.unwrap_or(KEEPALIVE),
            (IPPROTO_TCP, TCP_KEEPCNT | TCP_KEEPINTVL) => remembered.unwrap_or(1),
            (IPPROTO_IP, IP_TOS) => remembered.unwrap_or(0),
            (SOL_RDMA, RDMA_SQSIZE) => self.send_requests.into(),
            (SOL_RDMA, RDMA_RQSIZE) => self.recv_requests.into(),
            (SOL_RDMA, RDMA_INLINE) => self.inline.into(),
            (SOL_RDMA, RDMA_IOMAPSIZE) => self.iomaps.into(),
            _ => return Err(ENOPROTOOPT),
        })
    }
}

/// The options that are the id's, too.
fn set_id(id: &Id, level: c_int, name: c_int, value: c_int) -> Result<(), c_int> {
    let option = match (level, name) {
        (SOL_SOCKET, SO_REUSEADDR) => IdOption::ReuseAddress(value != 0),
        (IPPROTO_IPV6, IPV6_V6ONLY) => IdOption::FamilyOnly(value != 0),
        // The traffic class has 8 bits.
        (IPPROTO_IP, IP_TOS) => IdOption::TypeOfService(u8::try_from(value).map_err(|_| EINVAL)?),
        _ => return Ok(()),
    };
    done(&Request::SetOption { id: id.number, option })
}

/// # Safety
/// There are so many bytes.
unsafe fn set(
    inner: &mut Inner,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> Result<(), c_int> {
    if value.is_null() {
        return Err(EINVAL);
    }
    let whole = len as usize;
    if (level, name) == (SOL_SOCKET, SO_LINGER) {
        if whole < size_of::<[c_int; 2]>() {
            return Err(EINVAL);
        }
        // SAFETY: it is that long.
        inner.options.linger = unsafe { value.cast::<[c_int; 2]>().read_unaligned() };
        return Ok(());
    }
    let number = match whole {
        // A congestion control's name, say: whatever it is, it isn't used.
        _ if (level, name) == (IPPROTO_TCP, TCP_CONGESTION) => 0,
        // SAFETY: it is that long.
        1..4 => unsafe { value.cast::<u8>().read() }.into(),
        // SAFETY: it is that long.
        4.. => unsafe { value.cast::<c_int>().read_unaligned() },
        _ => return Err(EINVAL),
    };
    let has_begun = inner.endpoint.is_some();
    inner.options.set(has_begun, level, name, number)?;
    set_id(inner.id()?, level, name, number)
}

/// # Safety
/// There is so much room.
unsafe fn get(
    inner: &mut Inner,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> Result<(), c_int> {
    if value.is_null() || len.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: the caller says so.
    let room = unsafe { len.read() } as usize;
    let bytes: Vec<u8> = match (level, name) {
        (SOL_SOCKET, SO_LINGER) => inner.options.linger.iter().flat_map(|part| part.to_ne_bytes()).collect(),
        (SOL_SOCKET, SO_ERROR) => std::mem::take(&mut inner.error).to_ne_bytes().into(),
        (IPPROTO_TCP, TCP_CONGESTION) => b"rsocket\0".to_vec(),
        (IPPROTO_TCP, TCP_INFO) => tcp_info(inner),
        (IPPROTO_TCP, TCP_MAXSEG) => segment(inner).to_ne_bytes().into(),
        _ => inner.options.get(level, name)?.to_ne_bytes().into(),
    };
    let copied = bytes.len().min(room);
    // SAFETY: the caller says so.
    unsafe {
        value.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), copied);
        // At most as much as the room.
        len.write(socklen_t::try_from(copied).unwrap_or(0));
    }
    Ok(())
}

/// The bytes of a packet's data.
fn segment(inner: &Inner) -> c_int {
    const SMALLEST: c_int = 256;
    // SAFETY: fields of the id.
    let mtu =
        inner.id().ok().and_then(|id| unsafe { (*id.c()).route.path_rec.as_ref() }).map(|path| path.mtu);
    // `enum ibv_mtu`: 1 is 256 bytes, and each one more is twice as much.
    mtu.map_or(2048, |mtu| SMALLEST << mtu.clamp(1, 5).saturating_sub(1))
}

/// `struct tcp_info`, of which only the state means something here.
fn tcp_info(inner: &Inner) -> Vec<u8> {
    const ESTABLISHED: u8 = 1;
    const CLOSE: u8 = 7;
    let mut info = vec![0; 104];
    let lives = inner.stream.as_ref().is_some_and(|stream| stream.ended().is_none());
    info[0] = if inner.state == State::Connected && lives { ESTABLISHED } else { CLOSE };
    info
}

export! {
    "RDMACM_1.0", -1,
    /// As setsockopt(2).
    fn rsetsockopt(
        socket: c_int,
        level: c_int,
        optname: c_int,
        optval: *const c_void,
        optlen: socklen_t,
    ) -> c_int {
        // SAFETY: the program gives so many bytes.
        result(find(socket).and_then(|socket| unsafe { set(&mut socket.inner(), level, optname, optval, optlen) }))
    }

    "RDMACM_1.0", -1,
    /// As getsockopt(2).
    fn rgetsockopt(
        socket: c_int,
        level: c_int,
        optname: c_int,
        optval: *mut c_void,
        optlen: *mut socklen_t,
    ) -> c_int {
        // SAFETY: the program gives so much room.
        result(find(socket).and_then(|socket| unsafe { get(&mut socket.inner(), level, optname, optval, optlen) }))
    }

    "RDMACM_1.0", -1,
    /// As fcntl(2), of flags. In C the last argument is optional, and is passed as this one.
    fn rfcntl(socket: c_int, cmd: c_int, arg: c_int) -> c_int {
        let answered = find(socket).and_then(|socket| {
            let options = &mut socket.inner().options;
            match cmd {
                F_GETFL => Ok(options.status),
                F_GETFD => Ok(options.descriptor),
                F_SETFL => {
                    options.status = O_RDWR | arg & !libc::O_ACCMODE;
                    Ok(0)
                }
                F_SETFD => {
                    options.descriptor = arg;
                    Ok(0)
                }
                _ => Err(ENOTSUP),
            }
        });
        answered.unwrap_or_else(|error| {
            set_errno(error);
            -1
        })
    }
}

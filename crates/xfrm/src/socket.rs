//! The netlink socket.

use crate::Error;
use crate::wire::{self, Message, Received, messages, u32_at};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, recvfrom, sendto, socket_with};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use zeroize::Zeroize;

/// `NLM_F_…`.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;

/// The kernel answers within the system call that sends; nobody waits that long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the longest datagram: the kernel's dumps have up to 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Datagrams that no answer is searched in any further: acknowledgements of requests that were given up.
const STRAY: usize = 64;

/// A netlink socket with that port ID, which no other of this network namespace has at the same time.
pub(crate) fn bound(port: u32) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::XFRM))?;
    bind(&socket, &SocketAddrNetlink::new(port, 0))?;
    Ok(socket)
}

/// A socket, and where its answers are read into, which are wiped: the kernel shows the keys of states.
pub(crate) struct Socket {
    socket: OwnedFd,
    sequence: Cell<u32>,
    buffer: RefCell<Box<[u8]>>,
}

impl Socket {
    /// One with that port ID: see [`bound`].
    pub(crate) fn bound(port: u32) -> Result<Self, Errno> {
        let socket = bound(port)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let buffer = RefCell::new(vec![0; DATAGRAM].into_boxed_slice());
        Ok(Self { socket, sequence: Cell::new(0), buffer })
    }

    /// Sends a request, and waits until the kernel says that it has done it.
    pub(crate) fn carry_out(&self, what: &'static str, message: Message) -> Result<(), Error> {
        let sequence = self.send(what, message, ACKNOWLEDGE)?;
        self.answers(what, sequence, |_| ()).map(drop)
    }

    /// Sends a request that is answered by one message, and has `read` read that.
    pub(crate) fn ask<T>(
        &self,
        what: &'static str,
        message: Message,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, Error> {
        let sequence = self.send(what, message, 0)?;
        let answer = self.answers(what, sequence, |answer| read(answer.body))?;
        answer.flatten().ok_or(Error::Malformed { what })
    }

    /// Asks for all objects of a kind; what `read` makes something of is returned.
    pub(crate) fn dump<T>(
        &self,
        what: &'static str,
        kind: u16,
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let sequence = self.send(what, Message::new(kind), DUMP)?;
        let mut found = Vec::new();
        while !self.receive(what, |answer| {
            if answer.sequence != sequence {
                return Ok(false);
            }
            match answer.kind {
                wire::DONE => Ok(true),
                wire::ERROR => failure(what, answer.body).map_or(Ok(true), Err),
                _ => {
                    found.extend(read(answer.body));
                    Ok(false)
                }
            }
        })? {}
        Ok(found)
    }

    fn send(&self, what: &'static str, message: Message, flags: u16) -> Result<u32, Error> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        let bytes = message.finish(REQUEST | flags, sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &bytes, SendFlags::empty(), &kernel).map_err(Error::kernel(what))?;
        Ok(sequence)
    }

    /// What `read` makes of the answer to a request; `None` where the answer is that it was done.
    fn answers<T>(
        &self,
        what: &'static str,
        sequence: u32,
        mut read: impl FnMut(Received<'_>) -> T,
    ) -> Result<Option<T>, Error> {
        let mut found = None;
        for _ in 0..STRAY {
            let over = self.receive(what, |answer| {
                if answer.sequence != sequence {
                    return Ok(false);
                }
                if answer.kind == wire::ERROR {
                    return failure(what, answer.body).map_or(Ok(true), Err);
                }
                found = Some(read(answer));
                Ok(true)
            })?;
            if over {
                return Ok(found);
            }
        }
        Err(Error::Malformed { what })
    }

    /// Receives a datagram of the kernel's, until `take` says of a message of it that it was the last one.
    fn receive(
        &self,
        what: &'static str,
        mut take: impl FnMut(Received<'_>) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let mut buffer = self.buffer.borrow_mut();
        let (_, len, from) =
            rustix::io::retry_on_intr(|| recvfrom(&self.socket, &mut buffer[..], RecvFlags::TRUNC))
                .map_err(Error::kernel(what))?;
        let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
        // Any process can send to a netlink socket's port ID.
        let of_kernel = from.is_some_and(|from| from.pid() == 0);
        let over = match buffer.get(..len) {
            Some(_) if !of_kernel => Ok(false),
            Some(datagram) => {
                let mut over = Ok(false);
                for message in messages(datagram) {
                    over = take(message);
                    if !matches!(over, Ok(false)) {
                        break;
                    }
                }
                over
            }
            None => Err(Error::Malformed { what }),
        };
        let used = len.min(buffer.len());
        buffer[..used].zeroize();
        over
    }
}

/// The error that an answer of kind `ERROR` tells of; `None` where it says that all went well.
fn failure(what: &'static str, body: &[u8]) -> Option<Error> {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => None,
        Some(code) => {
            let source = io::Error::from_raw_os_error(code.saturating_neg());
            Some(Error::Kernel { what, source })
        }
        None => Some(Error::Malformed { what }),
    }
}

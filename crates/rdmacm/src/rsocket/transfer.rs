//! Data: as send(2) and recv(2) have it.

use super::connect::establish;
use super::sending::{Lent, Turn, parts};
use super::socket::{Socket, find, reason};
use super::{count, endpoint::Endpoint};
use libc::{EINVAL, ENOTSUP, MSG_PEEK, MSG_WAITALL, c_int, c_void, iovec, msghdr, sockaddr, socklen_t};
use rocev2_rsocket::stream::{Piece, Stream};
use std::sync::PoisonError;

/// # Safety
/// The parts are memory of the program's.
unsafe fn send(socket: &Socket, from: &[Lent], flags: c_int) -> Result<usize, c_int> {
    let turn = Turn::take(socket, flags)?;
    let mut done = 0;
    for part in from {
        let (sent, result) = turn.send(*part, |stream, endpoint, left, most| {
            stream.send(most).map(|write| {
                // SAFETY: there are so many bytes, as the caller says.
                unsafe { endpoint.write(&write, left.place) }.map(|()| write.len())
            })
        });
        done += sent;
        match result {
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
            Ok(()) => {}
        }
    }
    Ok(done)
}

/// Copies what is available behind `skip` bytes; how much that is.
///
/// # Safety
/// It is memory of the program's.
unsafe fn copy(stream: &Stream, endpoint: &Endpoint, skip: u32, to: Lent) -> u32 {
    let mut copied = 0;
    loop {
        let most = u32::try_from(to.len).unwrap_or(u32::MAX) - copied;
        let Piece { at, len } = stream.look(skip + copied, most);
        if len == 0 {
            return copied;
        }
        // SAFETY: there is so much room, as the caller says.
        unsafe { endpoint.read(at, to.place.add(copied as usize), len) };
        copied += len;
    }
}

/// # Safety
/// The parts are memory of the program's.
unsafe fn receive(socket: &Socket, to: &[Lent], flags: c_int) -> Result<usize, c_int> {
    let is_patient = socket.is_patient(flags);
    establish(socket, is_patient)?;
    let _turn = socket.receiving.lock().unwrap_or_else(PoisonError::into_inner);
    let (is_peek, waits_for_all) = (flags & MSG_PEEK != 0, flags & MSG_WAITALL != 0);
    let whole: usize = to.iter().map(|part| part.len).sum();
    let mut done = 0;
    while done < whole {
        let received = socket.until(is_patient, |inner| {
            let (stream, endpoint) = match parts(inner) {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            if stream.available() == 0 {
                let end = stream.ended().map_or(0, reason);
                return (!stream.is_readable()).then_some(if end == 0 { Ok(0) } else { Err(end) });
            }
            let (mut skip, mut taken, mut before) = (0, 0, done);
            for part in to {
                if before >= part.len {
                    before -= part.len;
                    continue;
                }
                // SAFETY: as the caller says.
                let copied = unsafe { copy(stream, endpoint, skip, part.behind(before)) };
                before = 0;
                taken += copied as usize;
                if is_peek {
                    skip += copied;
                } else {
                    stream.take(copied);
                }
            }
            endpoint.give(stream);
            Some(Ok(taken))
        });
        match received {
            Ok(0) => break,
            Ok(received) => done += received,
            Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
        }
        if is_peek || !waits_for_all {
            break;
        }
    }
    Ok(done)
}

/// The parts that a program lends.
///
/// # Safety
/// There are so many.
unsafe fn lent(parts: *const iovec, count: usize) -> Result<Vec<Lent>, c_int> {
    // As IOV_MAX.
    const MOST: usize = 1024;
    if count > MOST || (parts.is_null() && count > 0) {
        return Err(EINVAL);
    }
    // SAFETY: the caller says so.
    Ok((0..count)
        .map(|at| unsafe { parts.add(at).read() })
        .map(|part| Lent::new(part.iov_base, part.iov_len))
        .collect())
}

/// # Safety
/// As [`lent`].
unsafe fn lent_by_count(parts: *const iovec, count: c_int) -> Result<Vec<Lent>, c_int> {
    // SAFETY: the caller says so.
    unsafe { lent(parts, usize::try_from(count).map_err(|_| EINVAL)?) }
}

export! {
    "RDMACM_1.0", -1,
    /// As send(2).
    fn rsend(socket: c_int, buf: *const c_void, len: usize, flags: c_int) -> isize {
        // SAFETY: the program gives so many bytes.
        count(find(socket).and_then(|socket| unsafe { send(&socket, &[Lent::new(buf, len)], flags) }))
    }

    "RDMACM_1.0", -1,
    /// As sendto(2) on a stream.
    fn rsendto(
        socket: c_int,
        buf: *const c_void,
        len: usize,
        flags: c_int,
        dest_addr: *const sockaddr,
        _addrlen: socklen_t,
    ) -> isize {
        count(if dest_addr.is_null() {
            // SAFETY: the program gives so many bytes.
            find(socket).and_then(|socket| unsafe { send(&socket, &[Lent::new(buf, len)], flags) })
        } else {
            Err(libc::EISCONN)
        })
    }

    "RDMACM_1.0", -1,
    /// As sendmsg(2) on a stream, without ancillary data.
    fn rsendmsg(socket: c_int, msg: *const msghdr, flags: c_int) -> isize {
        // SAFETY: the program gives a message with so many parts.
        count(unsafe {
            msg.as_ref().ok_or(EINVAL).and_then(|msg| {
                if !msg.msg_control.is_null() && msg.msg_controllen > 0 {
                    return Err(ENOTSUP);
                }
                send(&*find(socket)?, &lent(msg.msg_iov, msg.msg_iovlen)?, flags)
            })
        })
    }

    "RDMACM_1.0", -1,
    /// As write(2).
    fn rwrite(socket: c_int, buf: *const c_void, len: usize) -> isize {
        // SAFETY: the program gives so many bytes.
        count(find(socket).and_then(|socket| unsafe { send(&socket, &[Lent::new(buf, len)], 0) }))
    }

    "RDMACM_1.0", -1,
    /// As writev(2).
    fn rwritev(socket: c_int, iov: *const iovec, iovcnt: c_int) -> isize {
        // SAFETY: the program gives so many parts.
        count(find(socket).and_then(|socket| unsafe { send(&socket, &lent_by_count(iov, iovcnt)?, 0) }))
    }

    "RDMACM_1.0", -1,
    /// As recv(2).
    fn rrecv(socket: c_int, buf: *mut c_void, len: usize, flags: c_int) -> isize {
        // SAFETY: the program gives so much room.
        count(find(socket).and_then(|socket| unsafe { receive(&socket, &[Lent::new(buf, len)], flags) }))
    }

    "RDMACM_1.0", -1,
    /// As recvfrom(2) on a stream.
    fn rrecvfrom(
        socket: c_int,
        buf: *mut c_void,
        len: usize,
        flags: c_int,
        src_addr: *mut sockaddr,
        addrlen: *mut socklen_t,
    ) -> isize {
        // SAFETY: the program gives so much room, and room for an address.
        count(find(socket).and_then(|found| unsafe {
            let received = receive(&found, &[Lent::new(buf, len)], flags)?;
            if !src_addr.is_null() {
                super::connect::rgetpeername(socket, src_addr, addrlen);
            }
            Ok(received)
        }))
    }

    "RDMACM_1.0", -1,
    /// As recvmsg(2) on a stream, without ancillary data.
    fn rrecvmsg(socket: c_int, msg: *mut msghdr, flags: c_int) -> isize {
        // SAFETY: the program gives a message with so many parts.
        count(unsafe {
            msg.as_mut().ok_or(EINVAL).and_then(|msg| {
                if !msg.msg_control.is_null() && msg.msg_controllen > 0 {
                    return Err(ENOTSUP);
                }
                let received = receive(&*find(socket)?, &lent(msg.msg_iov, msg.msg_iovlen)?, flags)?;
                msg.msg_flags = 0;
                Ok(received)
            })
        })
    }

    "RDMACM_1.0", -1,
    /// As read(2).
    fn rread(socket: c_int, buf: *mut c_void, len: usize) -> isize {
        // SAFETY: the program gives so much room.
        count(find(socket).and_then(|socket| unsafe { receive(&socket, &[Lent::new(buf, len)], 0) }))
    }

    "RDMACM_1.0", -1,
    /// As readv(2).
    fn rreadv(socket: c_int, iov: *const iovec, iovcnt: c_int) -> isize {
        // SAFETY: the program gives so many parts.
        count(find(socket).and_then(|socket| unsafe { receive(&socket, &lent_by_count(iov, iovcnt)?, 0) }))
    }
}

//! Buffers that programs map, and into which their peers write directly: riomap(3), riowrite(3).

use super::sending::{Lent, Turn};
use super::socket::{Inner, Socket, find};
use crate::boundary::{result, set_errno};
use libc::{EAGAIN, EINVAL, PROT_WRITE, c_int, c_void, off_t};

/// # Safety
/// There are so many bytes.
unsafe fn write(socket: &Socket, from: Lent, offset: u64, flags: c_int) -> Result<usize, c_int> {
    let turn = Turn::take(socket, flags)?;
    let (sent, result) = turn.send(from, |stream, endpoint, left, most| {
        let offset = offset.wrapping_add((from.len - left.len) as u64);
        let found = endpoint
            .iomaps()
            .iter()
            .find_map(|entry| entry.find(offset, most).map(|(addr, len)| (addr, len, entry.sge.key)));
        // What isn't mapped there isn't written.
        let Some((addr, len, key)) = found else { return Some(Ok(0)) };
        stream.send_direct(len, addr, key).map(|write| {
            // SAFETY: there are so many bytes, as the caller says.
            unsafe { endpoint.write(&write, left.place) }.map(|()| write.len())
        })
    });
    match result {
        Err(error) if sent == 0 => Err(error),
        _ => Ok(sent),
    }
}

export! {
    "RDMACM_1.0", -1,
    /// riomap(3).
    fn riomap(socket: c_int, buf: *mut c_void, len: usize, prot: c_int, _flags: c_int, offset: off_t) -> off_t {
        let offset = if offset == -1 { buf.addr() as off_t } else { offset };
        let mapped = find(socket).and_then(|socket| {
            if prot & !PROT_WRITE != 0 {
                return Err(EINVAL);
            }
            let inner = &mut *socket.inner();
            let Inner { stream: Some(stream), endpoint: Some(endpoint), maps, .. } = inner else {
                return Err(EINVAL);
            };
            let is_remote = prot & PROT_WRITE != 0;
            // SAFETY: the program gives memory that it keeps.
            unsafe { maps.add((stream, endpoint), buf, len, is_remote, offset.cast_unsigned()) }
        });
        match mapped {
            Ok(()) => offset,
            Err(error) => {
                set_errno(error);
                -1
            }
        }
    }

    "RDMACM_1.0", -1,
    /// riounmap(3).
    fn riounmap(socket: c_int, buf: *mut c_void, len: usize) -> c_int {
        result(find(socket).and_then(|socket| socket.inner().maps.remove(buf.addr(), len)))
    }

    "RDMACM_1.0", usize::MAX,
    /// riowrite(3).
    fn riowrite(socket: c_int, buf: *const c_void, len: usize, offset: off_t, flags: c_int) -> usize {
        // SAFETY: the program gives so many bytes.
        let written = find(socket).and_then(|socket| unsafe {
            write(&socket, Lent::new(buf, len), offset.cast_unsigned(), flags)
        });
        written.unwrap_or_else(|error| {
            set_errno(if error == EAGAIN { libc::EWOULDBLOCK } else { error });
            usize::MAX
        })
    }
}

//! Buffers that programs map, and into which their peers write directly: riomap(3), riowrite(3).

use super::connect::establish;
use super::memory::{deregister, register};
use super::socket::{Inner, Socket, find};
use super::transfer::{Chunks, Lent, parts, unwritable};
use crate::boundary::{result, set_errno};
use libc::{EAGAIN, EINVAL, ENOMEM, ENOTCONN, PROT_WRITE, c_int, c_void, off_t};
use rdma_verbs_sys::ibv_mr;
use rocev2_rsocket::wire::{Iomap, Sge};
use std::ptr::NonNull;
use std::sync::PoisonError;

/// A buffer that the program has mapped.
struct Map {
    mr: NonNull<ibv_mr>,
    place: usize,
    len: usize,
    offset: u64,
    /// Where it stands in the peer's list, if the peer may write it.
    index: Option<u16>,
    /// Whether the peer has to be told.
    is_pending: bool,
}

// SAFETY: libibverbs' objects may be used by any thread.
unsafe impl Send for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        // Should it fail, the memory stays registered: it is the program's.
        deregister(self.mr);
    }
}

/// The buffers that a program has mapped for an rsocket.
#[derive(Default)]
pub(super) struct Maps(Vec<Map>);

impl Maps {
    /// An entry of the peer's list that is free.
    fn free(&self, entries: u16) -> Option<u16> {
        (0..entries).find(|index| self.0.iter().all(|map| map.index != Some(*index)))
    }
}

/// # Safety
/// The memory is the program's, as long as it is mapped.
unsafe fn map(
    inner: &mut Inner,
    place: *mut c_void,
    len: usize,
    is_remote: bool,
    offset: u64,
) -> Result<(), c_int> {
    let (stream, endpoint) = parts(inner).map_err(|_| EINVAL)?;
    let (pd, entries) = (endpoint.pd(), stream.iomaps());
    let index = if is_remote { Some(inner.maps.free(entries).ok_or(ENOMEM)?) } else { None };
    // SAFETY: the caller says so.
    let mr = unsafe { register(pd, place, len, is_remote)? };
    let place = place.expose_provenance();
    inner.maps.0.push(Map { mr, place, len, offset, index, is_pending: is_remote });
    Ok(())
}

/// Tells the peer of buffers that were mapped. Whoever calls it has the turn to send.
pub(super) fn send_pending(socket: &Socket, is_patient: bool) -> Result<(), c_int> {
    loop {
        let pending = socket.inner().maps.0.iter().position(|map| map.is_pending);
        let Some(at) = pending else { return Ok(()) };
        socket.until(is_patient, |inner| {
            let (Some(stream), Some(endpoint)) = (&mut inner.stream, &inner.endpoint) else {
                return Some(Err(ENOTCONN));
            };
            if !stream.is_writable() {
                return Some(Err(unwritable(stream)));
            }
            // It may have been unmapped meanwhile.
            let Some(map) = inner.maps.0.get_mut(at).filter(|map| map.is_pending) else {
                return Some(Ok(()));
            };
            if !stream.can_write() {
                return None;
            }
            map.is_pending = false;
            // SAFETY: the map's own.
            let key = unsafe { map.mr.as_ref().rkey };
            let length = u32::try_from(map.len).unwrap_or(u32::MAX);
            let entry = Iomap { offset: map.offset, sge: Sge { addr: map.place as u64, key, length } };
            let bytes = entry.encode(stream.order());
            let write = map.index.and_then(|index| stream.send_iomap(index));
            // SAFETY: so many bytes.
            write.map(|write| unsafe { endpoint.write(&write, bytes.as_ptr()) }).or(Some(Ok(())))
        })?;
    }
}

/// # Safety
/// There are so many bytes.
unsafe fn write(socket: &Socket, from: Lent, mut offset: u64, flags: c_int) -> Result<usize, c_int> {
    let is_patient = socket.is_patient(flags);
    establish(socket, is_patient)?;
    let _turn = socket.sending.lock().unwrap_or_else(PoisonError::into_inner);
    send_pending(socket, is_patient)?;
    let (mut chunks, mut left) = (Chunks::new(), from);
    while left.len > 0 {
        let most = chunks.next(left.len);
        let sent = socket.until(is_patient, |inner| {
            let (stream, endpoint) = match parts(inner) {
                Ok(parts) => parts,
                Err(error) => return Some(Err(error)),
            };
            if !stream.is_writable() {
                return Some(Err(unwritable(stream)));
            }
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
        match sent {
            Ok(0) => break,
            Ok(sent) => {
                left = left.behind(sent as usize);
                offset = offset.wrapping_add(sent.into());
            }
            Err(error) if left.len == from.len => return Err(error),
            Err(_) => break,
        }
    }
    Ok(from.len - left.len)
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
            // SAFETY: the program gives memory that it keeps.
            unsafe { map(&mut socket.inner(), buf, len, prot & PROT_WRITE != 0, offset.cast_unsigned()) }
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
        result(find(socket).and_then(|socket| {
            let maps = &mut socket.inner().maps.0;
            let at = maps.iter().position(|map| (map.place, map.len) == (buf.addr(), len)).ok_or(EINVAL)?;
            maps.remove(at);
            Ok(())
        }))
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

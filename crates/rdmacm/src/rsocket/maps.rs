//! The buffers that a program has mapped for an rsocket, and what the peer is told of them.

use super::endpoint::Endpoint;
use super::memory::{deregister, register};
use libc::{EINVAL, ENOMEM, c_int, c_void};
use rdma_verbs_sys::ibv_mr;
use rocev2_rsocket::stream::Stream;
use rocev2_rsocket::wire::{Iomap, Sge};
use std::ptr::NonNull;

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
    /// Maps a buffer, which the peer is to write where `is_remote`.
    ///
    /// # Safety
    /// The memory is the program's, as long as it is mapped.
    pub(super) unsafe fn add(
        &mut self,
        (stream, endpoint): (&Stream, &Endpoint),
        place: *mut c_void,
        len: usize,
        is_remote: bool,
        offset: u64,
    ) -> Result<(), c_int> {
        let index = if is_remote { Some(self.free(stream.iomaps()).ok_or(ENOMEM)?) } else { None };
        // SAFETY: the caller says so.
        let mr = unsafe { register(endpoint.pd(), place, len, is_remote)? };
        let place = place.expose_provenance();
        self.0.push(Map { mr, place, len, offset, index, is_pending: is_remote });
        Ok(())
    }

    pub(super) fn remove(&mut self, place: usize, len: usize) -> Result<(), c_int> {
        let at = self.0.iter().position(|map| (map.place, map.len) == (place, len)).ok_or(EINVAL)?;
        self.0.remove(at);
        Ok(())
    }

    /// An entry of the peer's list that is free.
    fn free(&self, entries: u16) -> Option<u16> {
        (0..entries).find(|index| self.0.iter().all(|map| map.index != Some(*index)))
    }

    /// Tells the peer of the buffers that it doesn't know yet; `None` while that has to wait.
    pub(super) fn tell(&mut self, stream: &mut Stream, endpoint: &Endpoint) -> Option<Result<(), c_int>> {
        for map in self.0.iter_mut().filter(|map| map.is_pending) {
            if !stream.can_write() {
                return None;
            }
            map.is_pending = false;
            // SAFETY: the map's own.
            let key = unsafe { map.mr.as_ref().rkey };
            let length = u32::try_from(map.len).unwrap_or(u32::MAX);
            let entry = Iomap { offset: map.offset, sge: Sge { addr: map.place as u64, key, length } };
            let bytes = entry.encode(stream.order());
            if let Some(write) = map.index.and_then(|index| stream.send_iomap(index))
                // SAFETY: so many bytes.
                && let Err(error) = unsafe { endpoint.write(&write, bytes.as_ptr()) }
            {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }
}

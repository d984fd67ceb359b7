//! Memory that the device reads and writes. A peer may write parts of it at any time, so that it is never a slice here.

use crate::boundary::errno;
use crate::session::verbs;
use libc::{ENOMEM, c_int, c_void};
use rdma_verbs_sys::{IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, ibv_mr, ibv_pd, ibv_sge};
use std::ptr::NonNull;

/// Registered memory of this library's own. It is to be dropped after the queue pair that uses it.
pub(super) struct Region {
    place: NonNull<u8>,
    len: usize,
    mr: NonNull<ibv_mr>,
}

// SAFETY: it is reached by copies only, and libibverbs' objects may be used by any thread.
unsafe impl Send for Region {}

/// Registers memory that a peer may write, or only this side.
///
/// # Safety
/// The protection domain lives, and so does the memory until it is deregistered.
pub(super) unsafe fn register(
    pd: *mut ibv_pd,
    place: *mut c_void,
    len: usize,
    is_remote: bool,
) -> Result<NonNull<ibv_mr>, c_int> {
    let access = IBV_ACCESS_LOCAL_WRITE | if is_remote { IBV_ACCESS_REMOTE_WRITE } else { 0 };
    // The flags are few bits.
    let access = c_int::try_from(access).unwrap_or(0);
    // SAFETY: the caller says so.
    NonNull::new(unsafe { verbs()?.ibv_reg_mr(pd, place, len, access) }).ok_or_else(errno)
}

/// Deregisters it; whether that is done. Otherwise the device may still write there.
pub(super) fn deregister(mr: NonNull<ibv_mr>) -> bool {
    // SAFETY: `register` made it, and whoever has it gives it up.
    verbs().is_ok_and(|library| unsafe { library.ibv_dereg_mr(mr.as_ptr()) } == 0)
}

impl Region {
    /// `len` bytes, all zero, which a peer may write or only this side.
    ///
    /// # Safety
    /// The protection domain lives as long as the region.
    pub(super) unsafe fn new(pd: *mut ibv_pd, len: usize, is_remote: bool) -> Result<Self, c_int> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, wherever there is room.
        let place = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
        if place == libc::MAP_FAILED {
            return Err(errno());
        }
        // SAFETY: the caller says so; it is unmapped after it was deregistered.
        let made = unsafe { register(pd, place, len, is_remote) };
        match (made, NonNull::new(place.cast())) {
            (Ok(mr), Some(place)) => Ok(Self { place, len, mr }),
            (made, _) => {
                // SAFETY: it was mapped above, and nobody uses it.
                unsafe { libc::munmap(place, len) };
                Err(made.err().unwrap_or(ENOMEM))
            }
        }
    }

    pub(super) fn addr(&self) -> u64 {
        self.place.addr().get() as u64
    }

    pub(super) fn rkey(&self) -> u32 {
        // SAFETY: the region's own.
        unsafe { self.mr.as_ref().rkey }
    }

    /// An element of a request for so many bytes from `at` on.
    pub(super) fn element(&self, at: u32, len: u32) -> ibv_sge {
        // SAFETY: the region's own.
        let lkey = unsafe { self.mr.as_ref().lkey };
        ibv_sge { addr: self.addr() + u64::from(at), length: len, lkey }
    }

    /// The place of so many bytes from `at` on.
    fn place(&self, at: u32, len: usize) -> *mut u8 {
        let at = at as usize;
        assert!(at <= self.len && len <= self.len - at, "{at} + {len} bytes of {}", self.len);
        // SAFETY: within the memory, as was seen.
        unsafe { self.place.as_ptr().add(at) }
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// There are so many bytes at `from`.
    pub(super) unsafe fn write(&self, at: u32, from: *const u8, len: usize) {
        // SAFETY: the caller says so, and it is no memory of the region's.
        unsafe { self.place(at, len).copy_from_nonoverlapping(from, len) };
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// There is room for so many bytes at `to`.
    pub(super) unsafe fn read(&self, at: u32, to: *mut u8, len: usize) {
        // SAFETY: the caller says so, and it is no memory of the region's.
        unsafe { self.place(at, len).copy_to_nonoverlapping(to, len) };
    }

    /// Copies so many bytes out.
    pub(super) fn get<const N: usize>(&self, at: u32) -> [u8; N] {
        let mut bytes = [0; N];
        // SAFETY: there is room for so many.
        unsafe { self.read(at, bytes.as_mut_ptr(), N) };
        bytes
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // What can't be deregistered may still be written: it is never unmapped then.
        if deregister(self.mr) {
            // SAFETY: mapped by `new`, and nobody reaches it any more.
            unsafe { libc::munmap(self.place.as_ptr().cast(), self.len) };
        }
    }
}

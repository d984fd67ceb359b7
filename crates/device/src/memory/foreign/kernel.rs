//! Accesses that the kernel makes: slow, and safe whatever the program's signal handlers are.

use core::ptr;
use std::sync::{Mutex, PoisonError};

use super::Vanished;

/// Bytes of the address range that one call of `mincore` looks at.
const LOOK: usize = 16 << 20;

/// The system's smallest page, and what `mincore` reports on.
const PAGE: usize = 4096;

/// Copies `len` bytes to the program's memory at `to`.
///
/// # Safety
/// Whatever is at `to` may be overwritten; `from` must be valid.
pub(super) unsafe fn write(to: *mut u8, from: *const u8, len: usize) -> Result<(), Vanished> {
    // SAFETY: the kernel checks the addresses at `remote`; the local ones are valid by the caller's promise.
    transfer(from.cast_mut(), to, len, |pid, local, remote| unsafe {
        libc::process_vm_writev(pid, local, 1, remote, 1, 0)
    })
}

/// Copies `len` bytes from the program's memory at `from`.
///
/// # Safety
/// `to` must be valid.
pub(super) unsafe fn read(to: *mut u8, from: *const u8, len: usize) -> Result<(), Vanished> {
    // SAFETY: as in `write`.
    transfer(to, from.cast_mut(), len, |pid, local, remote| unsafe {
        libc::process_vm_readv(pid, local, 1, remote, 1, 0)
    })
}

/// Replaces the 8 bytes at `at` by what `change` makes of them; what they were. It is atomic among peers, not to
/// the program: what `IBV_ATOMIC_HCA` promises.
///
/// # Safety
/// Whatever is at `at` may be overwritten.
pub(super) unsafe fn update(at: *mut u64, change: impl FnOnce(u64) -> u64) -> Result<u64, Vanished> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _locked = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut word = [0; size_of::<u64>()];
    // SAFETY: the buffer is as long as the copy.
    unsafe { read(word.as_mut_ptr(), at.cast(), word.len()) }?;
    let found = u64::from_ne_bytes(word);
    word = change(found).to_ne_bytes();
    // SAFETY: as above, and the caller's promise.
    unsafe { write(at.cast(), word.as_ptr(), word.len()) }?;
    Ok(found)
}

/// Whether every page of the range is mapped, to whatever.
pub(super) fn is_mapped(start: *const u8, len: usize) -> bool {
    let mut states = [0_u8; LOOK / PAGE];
    let skip = start.addr() % PAGE;
    let (mut at, mut left) = (start.wrapping_sub(skip), if len == 0 { 0 } else { len + skip });
    while left > 0 {
        let here = left.min(LOOK);
        // SAFETY: it reports on any addresses, and `states` has a byte for each page of `here`.
        if unsafe { libc::mincore(at.cast_mut().cast(), here, states.as_mut_ptr()) } != 0 {
            return false;
        }
        (at, left) = (at.wrapping_add(here), left - here);
    }
    true
}

/// Moves `len` bytes between private memory and the program's, by as many calls as it takes.
fn transfer(
    local: *mut u8,
    remote: *mut u8,
    len: usize,
    call: impl Fn(libc::pid_t, *const libc::iovec, *const libc::iovec) -> isize,
) -> Result<(), Vanished> {
    // SAFETY: it has no arguments and can't fail.
    let pid = unsafe { libc::getpid() };
    let mut done = 0;
    while done < len {
        let part =
            |start: *mut u8| libc::iovec { iov_base: start.wrapping_add(done).cast(), iov_len: len - done };
        match usize::try_from(call(pid, ptr::from_ref(&part(local)), ptr::from_ref(&part(remote)))) {
            Ok(moved) if moved > 0 => done += moved,
            _ => return Err(Vanished),
        }
    }
    Ok(())
}

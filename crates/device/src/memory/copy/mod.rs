//! Copying between a private slice and memory that others read and write at the same time.
//!
//! A plain copy would be a data race, which the language leaves undefined. Here the shared side is touched
//! only by accesses that may race: on x86_64 by inline assembly, which the compiler must take for accesses
//! made outside the program, elsewhere (and under Miri) by relaxed atomics. What a racing reader sees is some
//! mix of old and new bytes, never anything worse.
//!
//! Storing keeps one promise more: **the last byte is stored last**, with release ordering. Programs wait for
//! a WRITE by polling the payload's last byte (`ib_write_lat` does): whoever loads it with acquire ordering
//! then sees the bytes before it. The largest aligned word of up to 8 bytes that ends there goes in one
//! store, so that a counter or flag at the end of a message is never seen torn.
#![allow(unsafe_code)]

use core::mem::MaybeUninit;

#[cfg(any(test, miri, not(target_arch = "x86_64")))]
mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86_64;

#[cfg(any(miri, not(target_arch = "x86_64")))]
use portable as imp;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use x86_64 as imp;

/// Copies `src` to the shared memory at `dst`, its last byte last.
///
/// # Safety
/// `dst` must be valid for writes of `src.len()` bytes until this returns, and no Rust reference to those
/// bytes may exist. Others may access them at the same time, by means that may race (this module, atomics,
/// another process, foreign code).
pub(super) unsafe fn store(dst: *mut u8, src: &[u8]) {
    // SAFETY: the caller's promise, handed on.
    unsafe { imp::store(dst, src) }
}

/// Copies from the shared memory at `src` into all of `dst`.
///
/// # Safety
/// `src` must be valid for reads of `dst.len()` bytes until this returns, and no exclusive Rust reference to
/// those bytes may exist. Others may access them at the same time, as in [`store`].
pub(super) unsafe fn load(dst: &mut [u8], src: *const u8) {
    let (start, len) = (dst.as_mut_ptr().cast::<MaybeUninit<u8>>(), dst.len());
    // SAFETY: these are the bytes of `dst`, borrowed for as long, and all that is ever put there are bytes of `src`.
    let dst = unsafe { core::slice::from_raw_parts_mut(start, len) };
    // SAFETY: the caller's promise, handed on.
    unsafe { load_new(dst, src) }
}

/// Copies from the shared memory at `src` into all of `dst`, where nothing needs to have been before:
/// afterwards all of it is initialised.
///
/// # Safety
/// As for [`load`].
pub(super) unsafe fn load_new(dst: &mut [MaybeUninit<u8>], src: *const u8) {
    // SAFETY: the caller's promise, handed on.
    unsafe { imp::load(dst, src) }
}

/// The size of the largest aligned word, 1, 2, 4 or 8 bytes, that ends at `end` and belongs to a copy of
/// `len` bytes (not 0).
pub(super) fn last_word(end: *const u8, len: usize) -> usize {
    1 << end.addr().trailing_zeros().min(len.ilog2()).min(3)
}

#[cfg(test)]
mod tests;

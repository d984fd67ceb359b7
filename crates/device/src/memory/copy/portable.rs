//! The copies by relaxed atomics: aligned 8-byte words, single bytes before and after.
//!
//! The compilers behind Rust order racing atomics of different sizes byte by byte; the language itself hasn't
//! yet said that two such accesses may race. x86_64 doesn't depend on it.

use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::last_word;

const WORD: usize = size_of::<u64>();

/// See [`super::store`].
///
/// # Safety
/// As there.
pub(super) unsafe fn store(dst: *mut u8, src: &[u8]) {
    if src.is_empty() {
        return;
    }
    let last = last_word(dst.wrapping_add(src.len()), src.len());
    let (body, tail) = src.split_at(src.len() - last);
    let mut done = 0;
    while let Some(rest) = body.get(done..).filter(|rest| !rest.is_empty()) {
        let at = dst.wrapping_add(done);
        match rest.first_chunk::<WORD>() {
            Some(word) if at.addr().is_multiple_of(WORD) => {
                // SAFETY: `at` is aligned and eight bytes from it lie inside the destination.
                unsafe { AtomicU64::from_ptr(at.cast()) }.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
                done += WORD;
            }
            _ => {
                // SAFETY: `at` lies inside the destination.
                unsafe { AtomicU8::from_ptr(at) }.store(rest[0], Ordering::Relaxed);
                done += 1;
            }
        }
    }
    // SAFETY: `last_word` chose a size that this address is aligned to, and these bytes are the last of the
    // destination.
    unsafe { store_last(dst.wrapping_add(done), tail) };
}

/// Stores 1, 2, 4 or 8 bytes at once, with release ordering.
///
/// # Safety
/// `at` must be aligned to as many bytes as `word` has, and valid for writing them.
unsafe fn store_last(at: *mut u8, word: &[u8]) {
    match *word {
        // SAFETY: the caller's promise.
        [a] => unsafe { AtomicU8::from_ptr(at) }.store(a, Ordering::Release),
        [a, b] => {
            // SAFETY: the caller's promise.
            unsafe { AtomicU16::from_ptr(at.cast()) }.store(u16::from_ne_bytes([a, b]), Ordering::Release);
        }
        [a, b, c, d] => {
            // SAFETY: the caller's promise.
            unsafe { AtomicU32::from_ptr(at.cast()) }
                .store(u32::from_ne_bytes([a, b, c, d]), Ordering::Release);
        }
        [a, b, c, d, e, f, g, h] => {
            let word = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
            // SAFETY: the caller's promise.
            unsafe { AtomicU64::from_ptr(at.cast()) }.store(word, Ordering::Release);
        }
        _ => debug_assert!(false, "a word of {} bytes", word.len()),
    }
}

/// See [`super::load_new`].
///
/// # Safety
/// As there.
pub(super) unsafe fn load(dst: &mut [MaybeUninit<u8>], src: *const u8) {
    let mut done = 0;
    while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = src.wrapping_add(done).cast_mut();
        match rest.first_chunk_mut::<WORD>() {
            Some(word) if at.addr().is_multiple_of(WORD) => {
                // SAFETY: `at` is aligned and eight bytes from it lie inside the source.
                let bytes = unsafe { AtomicU64::from_ptr(at.cast()) }.load(Ordering::Relaxed).to_ne_bytes();
                *word = bytes.map(MaybeUninit::new);
                done += WORD;
            }
            _ => {
                // SAFETY: `at` lies inside the source.
                rest[0] = MaybeUninit::new(unsafe { AtomicU8::from_ptr(at) }.load(Ordering::Relaxed));
                done += 1;
            }
        }
    }
}

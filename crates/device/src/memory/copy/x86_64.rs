//! The copies by inline assembly. x86_64 keeps stores in program order, so that a plain store is a release store.

use core::arch::asm;
use core::mem::MaybeUninit;

use super::last_word;

/// From this length on the wider moves are worth looking whether the CPU has them.
const WIDE_MIN: usize = 256;

/// Bytes of one step of the wider moves.
const STEP: usize = 128;

/// See [`super::store`].
///
/// # Safety
/// As there.
pub(super) unsafe fn store(dst: *mut u8, src: &[u8]) {
    if src.is_empty() {
        return;
    }
    let last = last_word(dst.wrapping_add(src.len()), src.len());
    let body = src.len() - last;
    // SAFETY: `body` bytes are a part of both sides.
    unsafe { copy(dst, src.as_ptr(), body) };
    let copy_last = match last {
        1 => copy_1,
        2 => copy_2,
        4 => copy_4,
        _ => copy_8,
    };
    // SAFETY: `last` bytes are what is left of both sides.
    unsafe { copy_last(dst.wrapping_add(body), src.as_ptr().wrapping_add(body)) };
}

/// See [`super::load_new`].
///
/// # Safety
/// As there.
pub(super) unsafe fn load(dst: &mut [MaybeUninit<u8>], src: *const u8) {
    // SAFETY: the caller's promise; `dst` is exclusive and as long as the copy.
    unsafe { copy(dst.as_mut_ptr().cast(), src, dst.len()) }
}

/// Copies `len` bytes in any order.
///
/// # Safety
/// `src` must be readable and `dst` writable for `len` bytes, and they must not overlap.
#[inline]
unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    let mut done = 0;
    if len >= WIDE_MIN && is_x86_feature_detected!("avx") {
        done = len - len % STEP;
        // SAFETY: the caller's promise, for a part of the range that is some steps long, and the CPU has AVX.
        unsafe { copy_steps(dst, src, done) };
    }
    macro_rules! step {
        ($size:literal, $move:ident) => {
            // SAFETY: the caller's promise, for a part of the range.
            unsafe { $move(dst.wrapping_add(done), src.wrapping_add(done)) };
            done += $size;
        };
    }
    while len - done >= 64 {
        step!(64, copy_64);
    }
    while len - done >= 16 {
        step!(16, copy_16);
    }
    if len - done >= 8 {
        step!(8, copy_8);
    }
    if len - done >= 4 {
        step!(4, copy_4);
    }
    if len - done >= 2 {
        step!(2, copy_2);
    }
    if len > done {
        // SAFETY: one byte is left.
        unsafe { copy_1(dst.wrapping_add(done), src.wrapping_add(done)) };
    }
}

/// Copies `len` bytes in steps, by 32 bytes at a time.
///
/// Not by `rep movsb`: some processors (measured on an AMD EPYC) take thirty times as long for that if the
/// destination lies 1 to 15 bytes behind the source in their pages. These moves take as long as it does at
/// best, wherever the two lie.
///
/// # Safety
/// `src` must be readable and `dst` writable for `len` bytes, and they must not overlap. `len` must be a
/// multiple of [`STEP`] and not 0, and the CPU must have AVX.
unsafe fn copy_steps(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller's promise. `vzeroupper` changes registers that a function may change.
    unsafe {
        asm!(
            "2:",
            "vmovdqu ymm0, [{src} + rax]",
            "vmovdqu ymm1, [{src} + rax + 32]",
            "vmovdqu ymm2, [{src} + rax + 64]",
            "vmovdqu ymm3, [{src} + rax + 96]",
            "vmovdqu [{dst} + rax], ymm0",
            "vmovdqu [{dst} + rax + 32], ymm1",
            "vmovdqu [{dst} + rax + 64], ymm2",
            "vmovdqu [{dst} + rax + 96], ymm3",
            "add rax, 128",
            "cmp rax, {len}",
            "jb 2b",
            "vzeroupper",
            src = in(reg) src, dst = in(reg) dst, len = in(reg) len, inout("rax") 0_usize => _,
            clobber_abi("sysv64"),
            options(nostack)
        );
    }
}

/// Defines a function that moves 1 to 8 bytes with one load and one store.
macro_rules! move_word {
    ($name:ident, $class:ident, $register:literal) => {
        /// Moves the bytes in its name, with one store.
        ///
        /// # Safety
        /// `src` must be readable and `dst` writable for as many bytes.
        #[inline(always)]
        unsafe fn $name(dst: *mut u8, src: *const u8) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    concat!("mov ", $register, ", [{src}]"),
                    concat!("mov [{dst}], ", $register),
                    src = in(reg) src, dst = in(reg) dst, word = out($class) _,
                    options(nostack, preserves_flags)
                );
            }
        }
    };
}

move_word!(copy_1, reg_byte, "{word}");
move_word!(copy_2, reg, "{word:x}");
move_word!(copy_4, reg, "{word:e}");
move_word!(copy_8, reg, "{word:r}");

/// Moves 16 bytes.
///
/// # Safety
/// `src` must be readable and `dst` writable for as many bytes.
#[inline(always)]
unsafe fn copy_16(dst: *mut u8, src: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "movdqu {a}, [{src}]",
            "movdqu [{dst}], {a}",
            src = in(reg) src, dst = in(reg) dst, a = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

/// Moves 64 bytes.
///
/// # Safety
/// `src` must be readable and `dst` writable for as many bytes.
#[inline(always)]
unsafe fn copy_64(dst: *mut u8, src: *const u8) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "movdqu {a}, [{src}]",
            "movdqu {b}, [{src} + 16]",
            "movdqu {c}, [{src} + 32]",
            "movdqu {d}, [{src} + 48]",
            "movdqu [{dst}], {a}",
            "movdqu [{dst} + 16], {b}",
            "movdqu [{dst} + 32], {c}",
            "movdqu [{dst} + 48], {d}",
            src = in(reg) src, dst = in(reg) dst,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack, preserves_flags)
        );
    }
}

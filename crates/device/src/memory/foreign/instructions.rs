//! Accesses whose faults the signal handler turns into an error.
//!
//! They are written in assembly, in one piece, so that the handler can tell them by the address of the
//! instruction that faulted, and so that each may return from any of its instructions: they use no stack and no
//! register that their caller wants back. They are accesses made outside the program to the compiler, and may race.

use core::arch::global_asm;

use super::Vanished;

/// From this length on the wider moves are worth looking whether the CPU has them.
const WIDE_MIN: usize = 256;

global_asm!(
    ".pushsection .text.rocev2_device_guarded, \"ax\", @progbits",
    ".p2align 4",
    ".globl rocev2_device_guarded_copy",
    ".hidden rocev2_device_guarded_copy",
    ".type rocev2_device_guarded_copy, @function",
    // rdi: to, rsi: from, rdx: how many bytes, ecx: whether the CPU has AVX. eax: whether an access faulted.
    "rocev2_device_guarded_copy:",
    ".cfi_startproc",
    "test ecx, ecx",
    "jz 4f",
    "2:",
    "cmp rdx, 128",
    "jb 3f",
    "vmovdqu ymm0, [rsi]",
    "vmovdqu ymm1, [rsi + 32]",
    "vmovdqu ymm2, [rsi + 64]",
    "vmovdqu ymm3, [rsi + 96]",
    "vmovdqu [rdi], ymm0",
    "vmovdqu [rdi + 32], ymm1",
    "vmovdqu [rdi + 64], ymm2",
    "vmovdqu [rdi + 96], ymm3",
    "sub rsi, -128",
    "sub rdi, -128",
    "add rdx, -128",
    "jmp 2b",
    "3:",
    "vzeroupper",
    "4:",
    "cmp rdx, 16",
    "jb 5f",
    "movdqu xmm0, [rsi]",
    "movdqu [rdi], xmm0",
    "add rsi, 16",
    "add rdi, 16",
    "sub rdx, 16",
    "jmp 4b",
    // From here on each bit of the length is one move, so that 1, 2, 4 and 8 bytes are moved at once.
    "5:",
    "test dl, 8",
    "jz 6f",
    "mov rax, [rsi]",
    "mov [rdi], rax",
    "add rsi, 8",
    "add rdi, 8",
    "6:",
    "test dl, 4",
    "jz 7f",
    "mov eax, [rsi]",
    "mov [rdi], eax",
    "add rsi, 4",
    "add rdi, 4",
    "7:",
    "test dl, 2",
    "jz 8f",
    "movzx eax, word ptr [rsi]",
    "mov [rdi], ax",
    "add rsi, 2",
    "add rdi, 2",
    "8:",
    "test dl, 1",
    "jz 9f",
    "movzx eax, byte ptr [rsi]",
    "mov [rdi], al",
    "9:",
    "xor eax, eax",
    "ret",
    ".cfi_endproc",
    ".size rocev2_device_guarded_copy, . - rocev2_device_guarded_copy",
    "",
    ".p2align 4",
    ".globl rocev2_device_guarded_swap",
    ".hidden rocev2_device_guarded_swap",
    ".type rocev2_device_guarded_swap, @function",
    // rdi: where, rsi: what it must hold, rdx: what is stored then. rax: what it held, edx: whether the access faulted.
    "rocev2_device_guarded_swap:",
    ".cfi_startproc",
    "xor ecx, ecx",
    "mov rax, rsi",
    "lock cmpxchg [rdi], rdx",
    "xor edx, edx",
    "ret",
    ".cfi_endproc",
    ".size rocev2_device_guarded_swap, . - rocev2_device_guarded_swap",
    "",
    ".p2align 4",
    ".globl rocev2_device_guarded_add",
    ".hidden rocev2_device_guarded_add",
    ".type rocev2_device_guarded_add, @function",
    // rdi: where, rsi: what is added. rax: what it held, edx: whether the access faulted.
    "rocev2_device_guarded_add:",
    ".cfi_startproc",
    "xor ecx, ecx",
    "mov rax, rsi",
    "lock xadd [rdi], rax",
    "xor edx, edx",
    "ret",
    ".cfi_endproc",
    ".size rocev2_device_guarded_add, . - rocev2_device_guarded_add",
    "",
    ".globl rocev2_device_guarded_fault",
    ".hidden rocev2_device_guarded_fault",
    ".type rocev2_device_guarded_fault, @function",
    // Where the handler goes on: returns from whichever of them faulted.
    "rocev2_device_guarded_fault:",
    ".cfi_startproc",
    "test ecx, ecx",
    "jz 2f",
    "vzeroupper",
    "2:",
    "mov eax, 1",
    "mov edx, 1",
    "ret",
    ".cfi_endproc",
    ".size rocev2_device_guarded_fault, . - rocev2_device_guarded_fault",
    ".popsection",
);

/// What an atomic returns, in rax and rdx.
#[repr(C)]
struct Found {
    value: u64,
    faulted: u64,
}

unsafe extern "sysv64" {
    fn rocev2_device_guarded_copy(to: *mut u8, from: *const u8, len: usize, avx: u32) -> u32;
    fn rocev2_device_guarded_swap(at: *mut u64, compare: u64, swap: u64) -> Found;
    fn rocev2_device_guarded_add(at: *mut u64, add: u64) -> Found;
    fn rocev2_device_guarded_fault();
}

/// Copies `len` bytes, ascending; 1, 2, 4 and 8 bytes by one move.
///
/// # Safety
/// The handler must be installed and neither of its signals blocked. Whatever is at `to` may be overwritten, and
/// the private side must be valid.
pub(super) unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> Result<(), Vanished> {
    let avx = u32::from(len >= WIDE_MIN && is_x86_feature_detected!("avx"));
    // SAFETY: the caller's promise.
    match unsafe { rocev2_device_guarded_copy(to, from, len, avx) } {
        0 => Ok(()),
        _ => Err(Vanished),
    }
}

/// Stores `swap` at `at` if it holds `compare`; what it held.
///
/// # Safety
/// As for [`copy`].
pub(super) unsafe fn compare_swap(at: *mut u64, compare: u64, swap: u64) -> Result<u64, Vanished> {
    // SAFETY: the caller's promise.
    unsafe { rocev2_device_guarded_swap(at, compare, swap) }.outcome()
}

/// Adds `add` to what is at `at`; what it held.
///
/// # Safety
/// As for [`copy`].
pub(super) unsafe fn fetch_add(at: *mut u64, add: u64) -> Result<u64, Vanished> {
    // SAFETY: the caller's promise.
    unsafe { rocev2_device_guarded_add(at, add) }.outcome()
}

impl Found {
    fn outcome(self) -> Result<u64, Vanished> {
        if self.faulted == 0 { Ok(self.value) } else { Err(Vanished) }
    }
}

/// Where a thread goes on that faulted at the instruction `at`, if that is one of these functions'.
pub(super) fn resume(at: usize) -> Option<usize> {
    let first = rocev2_device_guarded_copy as *const () as usize;
    let fault = rocev2_device_guarded_fault as *const () as usize;
    (first..fault).contains(&at).then_some(fault)
}

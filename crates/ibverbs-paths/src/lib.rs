//! Preloaded into verbs programs: what they look up of RDMA devices outside of libibverbs, they find in a tree of
//! our own, whose root `SECURE_RDMA_TREE` names.
//!
//! | a path under | is looked up under |
//! |---|---|
//! | `/sys/class/infiniband`, `/sys/class/infiniband_verbs` | the same in the tree |
//! | `/dev/infiniband` | the same in the tree |
//!
//! The kernel's own devices are hidden with that. UCX, for one, leaves a device alone that has no character device in
//! `/dev/infiniband`, and Open MPI one that isn't in sysfs.
//!
//! Each function of the C library that takes a path is here under its own name, changes the path if it has to, and
//! calls the C library's. Nothing is allocated on the way: programs call some of these where they couldn't bear it.
#![allow(unsafe_code, reason = "the C library's functions")]
#![allow(clippy::missing_safety_doc, reason = "each function is the C library's, with its conditions")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a function is looked up, known by its type and called, for one reason"
)]

mod path;

use libc::{DIR, FILE, c_char, c_int, c_uint, c_void, size_t, ssize_t};
use path::Redirected;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The C library's function of that name, looked up once.
///
/// # Safety
/// `F` must be its type.
unsafe fn real<F: Copy>(place: &AtomicPtr<c_void>, name: &std::ffi::CStr) -> Option<F> {
    assert!(size_of::<F>() == size_of::<*mut c_void>());
    let mut found = place.load(Ordering::Acquire);
    if found.is_null() {
        // SAFETY: a C string; whoever comes next in the order of libraries has the function.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        place.store(found, Ordering::Release);
    }
    // SAFETY: a pointer of the same size; the caller vouches for the type.
    (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
}

fn missing<T>(result: T) -> T {
    // SAFETY: each thread's own.
    unsafe { *libc::__errno_location() = libc::ENOSYS };
    result
}

/// Functions whose path is one of their arguments. What C declares with `...` takes one number there, which calls of
/// the platforms that this is built for pass like any other.
macro_rules! redirect {
    ($(fn $name:ident($($before:ident: $before_type:ty,)* @ $path:ident $(, $after:ident: $after_type:ty)*)
        -> $result:ty, $failed:expr;)+) => { $(
        /// The C library's function of this name.
        #[cfg_attr(not(test), unsafe(no_mangle))]
        pub unsafe extern "C" fn $name(
            $($before: $before_type,)* $path: *const c_char $(, $after: $after_type)*
        ) -> $result {
            type Function = unsafe extern "C" fn($($before_type,)* *const c_char $(, $after_type)*) -> $result;
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            const NAME: &std::ffi::CStr =
                match std::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => unreachable!(),
                };
            // SAFETY: that is its type.
            let Some(function) = (unsafe { real::<Function>(&REAL, NAME) }) else { return missing($failed) };
            // SAFETY: a C string of the caller's, or null.
            let redirected = unsafe { Redirected::of($path) };
            // SAFETY: the arguments are the caller's, but for the path, which lives until the call returns.
            unsafe { function($($before,)* redirected.as_ptr($path) $(, $after)*) }
        }
    )+ };
}

redirect! {
    fn open(@ path, flags: c_int, mode: c_uint) -> c_int, -1;
    fn open64(@ path, flags: c_int, mode: c_uint) -> c_int, -1;
    fn __open_2(@ path, flags: c_int) -> c_int, -1;
    fn __open64_2(@ path, flags: c_int) -> c_int, -1;
    fn openat(dir: c_int, @ path, flags: c_int, mode: c_uint) -> c_int, -1;
    fn openat64(dir: c_int, @ path, flags: c_int, mode: c_uint) -> c_int, -1;
    fn __openat_2(dir: c_int, @ path, flags: c_int) -> c_int, -1;
    fn __openat64_2(dir: c_int, @ path, flags: c_int) -> c_int, -1;
    fn fopen(@ path, mode: *const c_char) -> *mut FILE, std::ptr::null_mut();
    fn fopen64(@ path, mode: *const c_char) -> *mut FILE, std::ptr::null_mut();
    fn access(@ path, mode: c_int) -> c_int, -1;
    fn eaccess(@ path, mode: c_int) -> c_int, -1;
    fn euidaccess(@ path, mode: c_int) -> c_int, -1;
    fn faccessat(dir: c_int, @ path, mode: c_int, flags: c_int) -> c_int, -1;
    fn stat(@ path, to: *mut c_void) -> c_int, -1;
    fn stat64(@ path, to: *mut c_void) -> c_int, -1;
    fn lstat(@ path, to: *mut c_void) -> c_int, -1;
    fn lstat64(@ path, to: *mut c_void) -> c_int, -1;
    fn fstatat(dir: c_int, @ path, to: *mut c_void, flags: c_int) -> c_int, -1;
    fn fstatat64(dir: c_int, @ path, to: *mut c_void, flags: c_int) -> c_int, -1;
    fn statx(dir: c_int, @ path, flags: c_int, mask: c_uint, to: *mut c_void) -> c_int, -1;
    fn __xstat(version: c_int, @ path, to: *mut c_void) -> c_int, -1;
    fn __xstat64(version: c_int, @ path, to: *mut c_void) -> c_int, -1;
    fn __lxstat(version: c_int, @ path, to: *mut c_void) -> c_int, -1;
    fn __lxstat64(version: c_int, @ path, to: *mut c_void) -> c_int, -1;
    fn __fxstatat(version: c_int, dir: c_int, @ path, to: *mut c_void, flags: c_int) -> c_int, -1;
    fn __fxstatat64(version: c_int, dir: c_int, @ path, to: *mut c_void, flags: c_int) -> c_int, -1;
    fn readlink(@ path, to: *mut c_char, len: size_t) -> ssize_t, -1;
    fn readlinkat(dir: c_int, @ path, to: *mut c_char, len: size_t) -> ssize_t, -1;
    fn __readlink_chk(@ path, to: *mut c_char, len: size_t, room: size_t) -> ssize_t, -1;
    fn realpath(@ path, to: *mut c_char) -> *mut c_char, std::ptr::null_mut();
    fn __realpath_chk(@ path, to: *mut c_char, room: size_t) -> *mut c_char, std::ptr::null_mut();
    fn canonicalize_file_name(@ path) -> *mut c_char, std::ptr::null_mut();
    fn opendir(@ path) -> *mut DIR, std::ptr::null_mut();
    fn scandir(@ path, list: *mut c_void, filter: *mut c_void, order: *mut c_void) -> c_int, -1;
    fn scandir64(@ path, list: *mut c_void, filter: *mut c_void, order: *mut c_void) -> c_int, -1;
}

//! Where C calls in: symbols with their version nodes, error numbers, and no panic that goes through.

use libc::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; should it panic, the caller gets `failed` and `EIO` in errno. A panic that unwound into C would be
/// undefined behaviour.
pub(crate) fn guard<R>(failed: R, body: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        set_errno(libc::EIO);
        failed
    })
}

/// Sets errno.
pub(crate) fn set_errno(error: c_int) {
    // SAFETY: the C library gives every thread its own, which stays valid for as long as the thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; nobody else uses this thread's.
    unsafe { place.write(error) };
}

/// What errno is now, or `EIO` where nothing set it.
pub(crate) fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().filter(|error| *error != 0).unwrap_or(libc::EIO)
}

/// Sets errno and returns a null pointer.
pub(crate) fn null<T>(error: c_int) -> *mut T {
    set_errno(error);
    std::ptr::null_mut()
}

/// 0, or -1 with errno set, as librdmacm's functions return.
pub(crate) fn result(done: Result<(), c_int>) -> c_int {
    match done {
        Ok(()) => 0,
        Err(error) => {
            set_errno(error);
            -1
        }
    }
}

/// An exported function of the C interface: `export! { "NODE", FAILED, fn name(argument: Type) -> Type { … } }`.
/// `FAILED` is what it returns should it panic.
///
/// Symbols get their node by `.symver`, since rustc's own list of what is exported wins over any version script.
macro_rules! export {
    ($($node:literal, $failed:expr,
        $(#[$attribute:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)+) => { $(
        #[cfg(not(test))]
        core::arch::global_asm!(concat!(".symver ", stringify!($name), ", ", stringify!($name), "@@@", $node));

        $(#[$attribute])*
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
            $crate::boundary::guard($failed, move || $body)
        }
    )+ };
}

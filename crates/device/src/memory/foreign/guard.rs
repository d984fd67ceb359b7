//! The handler for SIGSEGV and SIGBUS, and whether it can help in this thread at this moment.
//!
//! A fault of one of `instructions` goes on where that returns an error. Every other signal goes to the handler
//! that was there before, as if this one didn't exist.
//!
//! Three things can keep the handler from helping, and all three are looked for before the first access of a
//! thread, again after each [`CHECK_EVERY`] accesses, and whenever memory is registered:
//!
//! - The program has installed a handler of its own behind ours. It isn't ours to fight about: the kernel makes
//!   the accesses. (A handler that hands on what it doesn't know would work. Nobody can tell.)
//! - The thread blocks the signals, as threads do that block them all: a blocked fault ends the process. They are
//!   unblocked for the time of the access.
//! - This isn't x86_64: the kernel makes the accesses.

use std::io;

use super::Vanished;

/// How an access is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By instructions whose faults are caught.
    #[cfg(target_arch = "x86_64")]
    Instructions,
    /// By the kernel.
    Kernel,
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn install() -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn access<T>(access: impl FnOnce(Way) -> Result<T, Vanished>) -> Result<T, Vanished> {
    access(Way::Kernel)
}

#[cfg(target_arch = "x86_64")]
pub(super) use handler::{access, install};

#[cfg(target_arch = "x86_64")]
mod handler {
    use super::super::instructions;
    use super::{Vanished, Way, io};
    use core::cell::Cell;
    use core::ffi::{c_int, c_void};
    use core::mem::{self, MaybeUninit};
    use core::ptr;
    use core::sync::atomic::{AtomicU32, Ordering};
    use libc::{sigaction, siginfo_t, sigset_t};
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// Accesses of a thread after which it looks again whether the handler is still in place.
    const CHECK_EVERY: u32 = 256;

    /// The signals of an access to memory that isn't there.
    const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

    /// What was to happen at each of them before.
    static BEFORE: [OnceLock<sigaction>; 2] = [const { OnceLock::new() }; 2];

    /// Changes whenever every thread has to look again.
    static EPOCH: AtomicU32 = AtomicU32::new(0);

    /// What a thread has found out.
    #[derive(Clone, Copy)]
    struct Found {
        epoch: u32,
        accesses_left: u32,
        means: Means,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Means {
        /// The handler helps.
        Direct,
        /// It would, if the thread didn't block its signals.
        Unblocked,
        /// It doesn't.
        Kernel,
    }

    thread_local! {
        static FOUND: Cell<Found> = const {
            Cell::new(Found { epoch: 0, accesses_left: 0, means: Means::Kernel })
        };
    }

    /// Installs the handler, if that hasn't been done yet.
    pub(in super::super) fn install() -> io::Result<()> {
        static INSTALLED: Mutex<bool> = Mutex::new(false);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if !*installed {
            for (signal, before) in SIGNALS.into_iter().zip(&BEFORE) {
                let before = before.get_or_init(|| current(signal));
                let mut action = *before;
                // The program's own handler may need its stack and its mask.
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | before.sa_flags & libc::SA_NODEFER;
                action.sa_sigaction = handle as *const () as usize;
                // SAFETY: the handler does nothing that a handler may not do, and hands on what isn't its own.
                if unsafe { sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            *installed = true;
        }
        EPOCH.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Calls `access` with a way on which a fault is no more than an error.
    pub(in super::super) fn access<T>(
        access: impl FnOnce(Way) -> Result<T, Vanished>,
    ) -> Result<T, Vanished> {
        match means() {
            Means::Direct => access(Way::Instructions),
            Means::Unblocked => {
                let _unblocked = Unblocked::new();
                access(Way::Instructions)
            }
            Means::Kernel => access(Way::Kernel),
        }
    }

    /// What this thread can do; looked up now and then.
    fn means() -> Means {
        let (mut found, epoch) = (FOUND.get(), EPOCH.load(Ordering::Acquire));
        if found.accesses_left == 0 || found.epoch != epoch {
            found = Found { epoch, accesses_left: CHECK_EVERY, means: look() };
        }
        found.accesses_left -= 1;
        FOUND.set(found);
        found.means
    }

    fn look() -> Means {
        if SIGNALS.into_iter().any(|signal| current(signal).sa_sigaction != handle as *const () as usize) {
            return Means::Kernel;
        }
        let mut blocked = no_signals();
        // SAFETY: it changes nothing and writes the mask.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut blocked) };
        // SAFETY: the set is initialised.
        let is_blocked = |signal| unsafe { libc::sigismember(&raw const blocked, signal) } == 1;
        if SIGNALS.into_iter().any(is_blocked) { Means::Unblocked } else { Means::Direct }
    }

    /// What is to happen at `signal`.
    fn current(signal: c_int) -> sigaction {
        let mut action = MaybeUninit::<sigaction>::zeroed();
        // SAFETY: it changes nothing and writes the action.
        unsafe { sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: all zeros is an action, too, and the call has written one.
        unsafe { action.assume_init() }
    }

    fn no_signals() -> sigset_t {
        let mut set = MaybeUninit::<sigset_t>::zeroed();
        // SAFETY: it initialises the set.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: as above.
        unsafe { set.assume_init() }
    }

    /// While it lives, this thread doesn't block the signals.
    struct Unblocked {
        before: sigset_t,
    }

    impl Unblocked {
        fn new() -> Self {
            let (mut set, mut before) = (no_signals(), no_signals());
            for signal in SIGNALS {
                // SAFETY: the set is initialised, and the signal exists.
                unsafe { libc::sigaddset(&raw mut set, signal) };
            }
            // SAFETY: both sets are initialised.
            unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, &raw mut before) };
            Self { before }
        }
    }

    impl Drop for Unblocked {
        fn drop(&mut self) {
            // SAFETY: the set is what the call in `new` wrote.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
        }
    }

    /// The handler. What it does for a fault of ours may be done in a handler: it reads and writes the registers
    /// that the thread goes on with, and nothing else.
    extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        // SAFETY: the kernel gives a handler with SA_SIGINFO both, for as long as it runs.
        let is_fault = unsafe { (*info).si_code } > 0;
        // SAFETY: as above.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let at = &mut registers[libc::REG_RIP as usize];
        match instructions::resume(usize::from_ne_bytes(at.to_ne_bytes())).filter(|_| is_fault) {
            Some(resume) => *at = i64::from_ne_bytes(resume.to_ne_bytes()),
            // SAFETY: these are what the kernel gave.
            None => unsafe { hand_on(signal, is_fault, info, context) },
        }
    }

    /// Does what would have been done without this handler.
    ///
    /// # Safety
    /// The arguments must be those of a handler.
    unsafe fn hand_on(signal: c_int, is_fault: bool, info: *mut siginfo_t, context: *mut c_void) {
        let before = SIGNALS.iter().position(|&known| known == signal).and_then(|at| BEFORE[at].get());
        match before {
            Some(before) if before.sa_sigaction == libc::SIG_IGN && !is_fault => {}
            Some(before) if ![libc::SIG_DFL, libc::SIG_IGN].contains(&before.sa_sigaction) => {
                if before.sa_flags & libc::SA_RESETHAND != 0 {
                    by_default(signal);
                }
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    // SAFETY: an action with SA_SIGINFO has a function with three arguments.
                    let handler = unsafe {
                        mem::transmute::<usize, extern "C" fn(c_int, *mut siginfo_t, *mut c_void)>(
                            before.sa_sigaction,
                        )
                    };
                    handler(signal, info, context);
                } else {
                    // SAFETY: an action without it has a function with one.
                    let handler =
                        unsafe { mem::transmute::<usize, extern "C" fn(c_int)>(before.sa_sigaction) };
                    handler(signal);
                }
            }
            // By default the process ends: at the same instruction again, or by the same signal again.
            _ => {
                by_default(signal);
                if !is_fault {
                    // SAFETY: it is allowed in a handler.
                    unsafe { libc::raise(signal) };
                }
            }
        }
    }

    fn by_default(signal: c_int) {
        // SAFETY: all zeros is the default action.
        let action = unsafe { MaybeUninit::<sigaction>::zeroed().assume_init() };
        // SAFETY: it is allowed in a handler.
        unsafe { sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

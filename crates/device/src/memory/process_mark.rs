//! Whether this process is still the one that something was made in, and not a copy of it.
#![allow(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::process;
use std::sync::OnceLock;

/// The process in which this was made. Both sides of a `fork` have the same memory afterwards, and with it what may
/// be used only once, such as the numbers under which a key seals; the child's marks of before don't
/// [hold](Self::holds) any more.
#[derive(Clone, Copy)]
pub struct ProcessMark {
    /// Of the page, or the process' id where there is none.
    number: u64,
}

/// A number for each process: the child of a fork takes the next one when it asks first.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

impl ProcessMark {
    /// A mark of this process.
    #[must_use]
    pub fn new() -> Self {
        let Some(word) = word() else { return Self { number: process::id().into() } };
        // Another thread may be as far.
        let next = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
        let number = match word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(number) => number,
        };
        Self { number }
    }

    /// A mark of a process that has never been.
    #[must_use]
    pub const fn of_none() -> Self {
        Self { number: 0 }
    }

    /// Whether this is the process in which it was made. It costs a load from memory.
    #[must_use]
    pub fn holds(self) -> bool {
        let own = word().map_or_else(|| process::id().into(), |word| word.load(Ordering::Relaxed));
        self.number != 0 && self.number == own
    }
}

impl Default for ProcessMark {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ProcessMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessMark")
    }
}

/// A word that the kernel fills with zeros in the child of a fork; `None` where it can't.
fn word() -> Option<&'static AtomicU64> {
    static WORD: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
    *WORD.get_or_init(page)
}

/// madvise(2): `MADV_WIPEONFORK`, since Linux 4.14, for private anonymous memory.
#[cfg(target_os = "linux")]
fn page() -> Option<&'static AtomicU64> {
    const LEN: usize = size_of::<AtomicU64>();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the system's choice touches no memory that is in use.
    let start = unsafe { libc::mmap(core::ptr::null_mut(), LEN, protection, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: of the mapping made above. It is never unmapped, and has a page's alignment; what was only mapped
    // holds zeros, and nothing but this word is ever in it.
    let word = unsafe { AtomicU64::from_ptr(start.cast()) };
    // SAFETY: it changes what a fork does with that mapping, which holds nothing that others rely on.
    let advised = unsafe { libc::madvise(start, LEN, libc::MADV_WIPEONFORK) };
    (advised == 0).then_some(word)
}

#[cfg(not(target_os = "linux"))]
const fn page() -> Option<&'static AtomicU64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a child of a fork finds: the status with which it exits.
    fn in_a_child(look: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child looks at atomics, makes no memory, takes no lock, and exits at once.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = if look() { 0 } else { 1 };
            // SAFETY: it ends the process without anything being run that belongs to the parent.
            unsafe { libc::_exit(status) };
        }
        assert!(child > 0);
        let mut status = -1;
        // SAFETY: a child of this process' own, and a place for its status.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        status == 0
    }

    #[test]
    fn a_mark_holds_in_its_process_and_not_in_a_child_whatever_that_has_marked() {
        let mark = ProcessMark::new();
        assert!(mark.holds() && ProcessMark::new().holds() && mark.holds());
        assert!(in_a_child(|| !mark.holds()));
        assert!(in_a_child(|| {
            let own = ProcessMark::new();
            own.holds() && !mark.holds()
        }));
        assert!(mark.holds(), "the parent goes on");
        assert!(!ProcessMark::of_none().holds());
    }

    #[test]
    fn a_childs_child_is_another_process_too() {
        let mark = ProcessMark::new();
        assert!(in_a_child(|| {
            let own = ProcessMark::new();
            let in_its_child = in_a_child(|| {
                let new = ProcessMark::new();
                new.holds() && !own.holds() && !mark.holds()
            });
            own.holds() && in_its_child
        }));
    }
}

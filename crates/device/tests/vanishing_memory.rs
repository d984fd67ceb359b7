//! Memory that the program takes away while it is registered and in use ends a request with an error, whichever
//! side it is on and whatever it was used for; the process and its other queue pairs go on.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod common;

use common::{End, PATIENCE};
use rocev2::work::{RemoteAddress, SendOperation, Status};
use rocev2_device::memory::{Access, Base, Foreign};
use rocev2_device::{Buffers, ForeignRegion, ProtectionDomain};
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

const PAGE: usize = 4096;

/// Several times what may be under way at once.
const LEN: usize = 16 << 20;

/// A file's pages, mapped.
struct Pages {
    start: *mut u8,
    file: File,
}

/// How they go.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// `munmap`.
    Unmapped,
    /// `ftruncate`.
    Truncated,
}

impl Pages {
    fn new() -> Self {
        // SAFETY: the name is a string.
        let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(LEN as u64).unwrap();
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: new pages at an address of the system's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), LEN, protection, libc::MAP_SHARED, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: start.cast(), file }
    }

    fn register(&self, domain: &ProtectionDomain, base: Base) -> ForeignRegion {
        // SAFETY: no reference to the pages is made but to bytes that may race, and nothing else comes to lie there:
        // `lose` keeps their addresses taken.
        let memory = unsafe { Foreign::new(self.start, LEN) }.unwrap();
        let access = Access::LOCAL_WRITE | Access::REMOTE_WRITE | Access::REMOTE_READ | Access::REMOTE_ATOMIC;
        domain.register_foreign(memory, base, access).unwrap()
    }

    /// The byte at `offset`.
    fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: it is there as long as nothing is lost, and accesses may race.
        unsafe { AtomicU8::from_ptr(self.start.wrapping_add(offset)) }
    }

    /// Takes the second half away.
    fn lose(&self, loss: Loss) {
        match loss {
            Loss::Truncated => self.file.set_len(LEN as u64 / 2).unwrap(),
            Loss::Unmapped => {
                let (half, none) = (self.start.wrapping_add(LEN / 2).cast(), libc::PROT_NONE);
                let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
                // SAFETY: the pages are the test's own. Their addresses stay taken: this process has other threads.
                assert_eq!(unsafe { libc::mmap(half, LEN / 2, none, kind, -1, 0) }, half);
            }
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the pages are the test's own, and no region over them is left.
        unsafe { libc::munmap(self.start.cast(), LEN) };
    }
}

/// All of the region, for a work request of that end.
fn all_of(end: &End, region: &ForeignRegion) -> Buffers {
    let region = region.region();
    end.list(region.lkey(), region.addr(), u32::try_from(LEN).unwrap())
}

fn whole(region: &ForeignRegion) -> RemoteAddress {
    RemoteAddress { va: region.region().addr(), rkey: region.region().rkey() }
}

/// What is done with the memory that vanishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    WrittenByPeer,
    ReadByPeer,
    Sent,
    ReceivedInto,
    ReadInto,
}

/// Has `a` transfer between its memory and `b`'s, again and again, and takes one of the two away in the middle. What
/// `a`'s request completed with, and `b`'s if that completes, too.
fn play(case: Use, loss: Loss) -> [Status; 2] {
    let [a, b] = End::pair();
    let (own, peers) = (Pages::new(), Pages::new());
    // Named as programs do: by the address, or by another.
    let (here, there) = (own.register(&a.domain, Base::Address), peers.register(&b.domain, Base::At(0x7000)));
    let a_vanishes = matches!(case, Use::Sent | Use::ReadInto);
    let vanishing = if a_vanishes { &own } else { &peers };
    let (source, target) =
        if matches!(case, Use::ReadByPeer | Use::ReadInto) { (&peers, &own) } else { (&own, &peers) };
    (0..LEN).step_by(PAGE).for_each(|offset| source.byte(offset).store(1, Ordering::Relaxed));

    let start = || {
        target.byte(0).store(0, Ordering::Relaxed);
        match case {
            Use::WrittenByPeer => a.send(SendOperation::Write(whole(&there)), all_of(&a, &here)),
            Use::ReadByPeer | Use::ReadInto => a.send(SendOperation::Read(whole(&there)), all_of(&a, &here)),
            Use::Sent | Use::ReceivedInto => {
                b.receive(all_of(&b, &there));
                a.send(SendOperation::Send, all_of(&a, &here));
            }
        }
    };
    let deadline = Instant::now() + PATIENCE;
    start();
    // Until the first page is there; a transfer that is done before that was seen is followed by another.
    while target.byte(0).load(Ordering::Acquire) == 0 {
        if let Some(done) = a.poll() {
            assert_eq!(done.completion.status, Status::Success);
            if matches!(case, Use::Sent | Use::ReceivedInto) {
                assert_eq!(b.next(), Status::Success);
            }
            start();
        }
        assert!(Instant::now() < deadline, "nothing arrives; {:?}", a.counters());
    }
    vanishing.lose(loss);
    loop {
        let own = a.next();
        // The first transfer may have been done already.
        if own != Status::Success {
            return [own, if case == Use::ReceivedInto { b.next() } else { own }];
        }
        if matches!(case, Use::Sent | Use::ReceivedInto) {
            assert_eq!(b.next(), Status::Success);
        }
        // Only bytes that are still there are looked at.
        start();
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn a_peers_write_into_memory_that_goes_is_refused() {
    for loss in [Loss::Unmapped, Loss::Truncated] {
        assert_eq!(play(Use::WrittenByPeer, loss)[0], Status::RemoteAccess, "{loss:?}");
    }
}

#[test]
fn a_peers_read_of_memory_that_goes_is_refused() {
    for loss in [Loss::Unmapped, Loss::Truncated] {
        assert_eq!(play(Use::ReadByPeer, loss)[0], Status::RemoteAccess, "{loss:?}");
    }
}

#[test]
fn a_send_of_memory_that_goes_is_this_sides_error() {
    for loss in [Loss::Unmapped, Loss::Truncated] {
        assert_eq!(play(Use::Sent, loss)[0], Status::LocalProtection, "{loss:?}");
    }
}

#[test]
fn a_read_into_memory_that_goes_is_this_sides_error() {
    for loss in [Loss::Unmapped, Loss::Truncated] {
        assert_eq!(play(Use::ReadInto, loss)[0], Status::LocalProtection, "{loss:?}");
    }
}

#[test]
fn a_message_into_memory_that_goes_is_both_sides_error() {
    for loss in [Loss::Unmapped, Loss::Truncated] {
        let outcome = play(Use::ReceivedInto, loss);
        assert_eq!(outcome, [Status::RemoteOperation, Status::LocalProtection], "{loss:?}");
    }
}

#[test]
fn a_local_key_that_names_nothing_is_an_error_of_the_request() {
    let [a, b] = End::pair();
    let pages = Pages::new();
    let region = pages.register(&a.domain, Base::Address);
    let (lkey, va) = (region.region().lkey(), region.region().addr());
    b.receive(Buffers::empty());
    a.send(SendOperation::Send, a.list(lkey ^ 1, va, 8));
    assert_eq!(a.next(), Status::LocalProtection);
}

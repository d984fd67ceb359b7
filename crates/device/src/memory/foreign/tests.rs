use core::cell::UnsafeCell;
use core::ptr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

mod processes;

/// Every way of access that this build has.
const WAYS: &[Way] = &[
    #[cfg(target_arch = "x86_64")]
    Way::Instructions,
    Way::Kernel,
];

const PAGE: usize = 4096;

/// Pages of a test's own, which it may unmap, truncate and protect.
struct Pages {
    start: *mut u8,
    len: usize,
    /// What they are a mapping of; anonymous memory otherwise.
    file: Option<File>,
}

impl Pages {
    fn anonymous(count: usize) -> Self {
        Self::map(count, None)
    }

    fn of_file(count: usize) -> Self {
        // SAFETY: the name is a string.
        let fd = unsafe { libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: the descriptor is nobody else's.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len((count * PAGE) as u64).unwrap();
        Self::map(count, Some(file))
    }

    fn map(count: usize, file: Option<File>) -> Self {
        let len = count * PAGE;
        let kind = if file.is_some() { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
        let (protection, fd) =
            (libc::PROT_READ | libc::PROT_WRITE, file.as_ref().map_or(-1, File::as_raw_fd));
        // SAFETY: new pages at an address of the system's choice.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, kind, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        Self { start: start.cast(), len, file }
    }

    fn memory(&self) -> Foreign {
        // SAFETY: no reference to these pages is made, and nothing else comes to lie there: `remove` and `drop` leave
        // the addresses taken until the value is gone.
        unsafe { Foreign::new(self.start, self.len) }.unwrap()
    }

    /// Takes the pages from `first` on away, and keeps their addresses.
    fn remove(&self, first: usize) {
        self.remap(first, libc::PROT_NONE);
    }

    fn remap(&self, first: usize, protection: i32) {
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let (start, len) = (self.start.wrapping_add(first * PAGE).cast(), self.len - first * PAGE);
        // SAFETY: the pages are the test's own.
        assert_eq!(unsafe { libc::mmap(start, len, protection, kind, -1, 0) }, start);
    }

    fn protect(&self, protection: i32) {
        // SAFETY: the pages are the test's own.
        assert_eq!(unsafe { libc::mprotect(self.start.cast(), self.len, protection) }, 0);
    }

    /// As the program would, which leaves a hole.
    fn unmap(&self, first: usize) {
        let (start, len) = (self.start.wrapping_add(first * PAGE).cast(), self.len - first * PAGE);
        // SAFETY: the pages are the test's own.
        assert_eq!(unsafe { libc::munmap(start, len) }, 0);
    }

    fn truncate(&self, count: usize) {
        self.file.as_ref().unwrap().set_len((count * PAGE) as u64).unwrap();
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.unmap(0);
    }
}

fn write(way: Way, to: *mut u8, bytes: &[u8]) -> Result<(), Vanished> {
    // SAFETY: only tests' own memory; the handler is installed, and nobody blocks its signals.
    unsafe { copy_by(way, to, bytes.as_ptr(), bytes.len(), Shared::To) }
}

fn read(way: Way, from: *const u8, out: &mut [u8]) -> Result<(), Vanished> {
    // SAFETY: as in `write`.
    unsafe { copy_by(way, out.as_mut_ptr(), from, out.len(), Shared::From) }
}

const LENGTHS: &[usize] = &[
    0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 63, 64, 127, 255, 256, 257, 383, 384, 1039, 4096, 70_000,
];

#[test]
fn every_length_at_every_alignment_arrives_whole_and_touches_nothing_beside_it() {
    for &way in WAYS {
        for &len in LENGTHS {
            let private: Vec<u8> = (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
            for offset in 0..9 {
                let memory: Box<[UnsafeCell<u8>]> = (0..len + 24).map(|_| UnsafeCell::new(0xee)).collect();
                let start = memory.as_ptr().cast::<u8>().cast_mut().wrapping_add(offset);
                assert_eq!(write(way, start, &private), Ok(()));
                let mut back = vec![0x55; len + 2];
                assert_eq!(read(way, start, &mut back[1..=len]), Ok(()));
                assert_eq!(back[1..=len], private, "{way:?}, {len} bytes at +{offset}");
                assert_eq!((back[0], back[len + 1]), (0x55, 0x55));
                // SAFETY: no other thread knows these cells.
                let memory: Vec<u8> = memory.iter().map(|cell| unsafe { *cell.get() }).collect();
                assert_eq!(memory[offset..offset + len], private);
                let beside = memory[..offset].iter().chain(&memory[offset + len..]);
                assert!(beside.copied().all(|byte| byte == 0xee), "{way:?}, {len} bytes at +{offset}");
            }
        }
    }
}

/// What has happened to memory that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Unmapped,
    Truncated,
    Protected,
}

const LOSSES: [Loss; 3] = [Loss::Unmapped, Loss::Truncated, Loss::Protected];

/// Two pages, the second of which is lost after they were registered.
fn lost(loss: Loss) -> (Pages, Foreign) {
    let pages = if loss == Loss::Truncated { Pages::of_file(2) } else { Pages::anonymous(2) };
    let memory = pages.memory();
    memory.write(0, &[7; 2 * PAGE]).unwrap();
    match loss {
        Loss::Unmapped => pages.unmap(1),
        Loss::Truncated => pages.truncate(1),
        Loss::Protected => pages.remove(1),
    }
    (pages, memory)
}

/// The accesses that need the second page, and those that don't.
fn try_all(memory: &Foreign) {
    let mut out = [1; 64];
    for offset in [PAGE - 63, PAGE - 1, PAGE, PAGE + 500, 2 * PAGE - 64] {
        assert_eq!(memory.read(offset, &mut out), Err(Fault::Vanished), "{offset}");
        assert_eq!(memory.write(offset, &[2; 64]), Err(Fault::Vanished), "{offset}");
    }
    assert_eq!(memory.read(0, &mut vec![0; 2 * PAGE]), Err(Fault::Vanished));
    assert_eq!(memory.write(0, &[3; 2 * PAGE]), Err(Fault::Vanished));
    for offset in [PAGE, 2 * PAGE - 8] {
        assert_eq!(memory.fetch_add(offset, 1), Err(Fault::Vanished));
        assert_eq!(memory.compare_swap(offset, 0, 1), Err(Fault::Vanished));
    }
    assert_eq!(memory.write(0, &[4; PAGE]), Ok(()));
    assert_eq!(memory.read(PAGE - 64, &mut out), Ok(()));
    assert_eq!(out, [4; 64]);
    assert_eq!(memory.fetch_add(PAGE - 8, 1), Ok(0x0404_0404_0404_0404));
    assert_eq!(memory.compare_swap(PAGE - 8, 0, 1), Ok(0x0404_0404_0404_0405));
}

#[test]
fn an_access_to_memory_that_was_unmapped_truncated_or_protected_is_an_error() {
    for loss in LOSSES {
        let (_pages, memory) = lost(loss);
        try_all(&memory);
    }
}

#[test]
fn and_so_it_is_on_a_thread_that_blocks_every_signal() {
    for loss in LOSSES {
        let (_pages, memory) = lost(loss);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mask = block_all();
                try_all(&memory);
                assert_eq!(blocked(), mask, "they are blocked afterwards as they were before");
            });
        });
    }
}

fn block_all() -> Vec<i32> {
    // SAFETY: a set of all zeros is one.
    let mut all = unsafe { core::mem::zeroed() };
    // SAFETY: it fills the set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, ptr::null_mut()) };
    let blocked = blocked();
    assert!(blocked.contains(&libc::SIGSEGV) && blocked.contains(&libc::SIGBUS));
    blocked
}

fn blocked() -> Vec<i32> {
    // SAFETY: a set of all zeros is one.
    let mut set = unsafe { core::mem::zeroed() };
    // SAFETY: it changes nothing and writes the set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &raw mut set) };
    // SAFETY: the set is initialised.
    (1..=64).filter(|&signal| unsafe { libc::sigismember(&raw const set, signal) } == 1).collect()
}

#[test]
fn each_way_of_access_finds_what_is_lost() {
    for &way in WAYS {
        for loss in LOSSES {
            let (pages, _memory) = lost(loss);
            let second = pages.start.wrapping_add(PAGE);
            for len in [1, 2, 3, 4, 7, 8, 15, 16, 255, 300, 4000] {
                // With so much of it in the first page.
                for before in [0, len / 2, len - 1] {
                    let at = second.wrapping_sub(before);
                    let mut bytes = vec![5; len];
                    assert_eq!(write(way, at, &bytes), Err(Vanished), "{way:?}, {loss:?}, {len}, {before}");
                    assert_eq!(
                        read(way, at, &mut bytes),
                        Err(Vanished),
                        "{way:?}, {loss:?}, {len}, {before}"
                    );
                }
            }
            assert_eq!(write(way, pages.start, &[6; PAGE]), Ok(()));
        }
    }
}

#[test]
fn what_may_only_be_read_is_read() {
    let pages = Pages::anonymous(1);
    let memory = pages.memory();
    memory.write(0, b"here").unwrap();
    pages.protect(libc::PROT_READ);
    let mut out = [0; 4];
    for &way in WAYS {
        assert_eq!(read(way, pages.start, &mut out), Ok(()));
        assert_eq!(&out, b"here");
        assert_eq!(write(way, pages.start, b"gone"), Err(Vanished));
    }
    assert_eq!(memory.write(0, b"gone"), Err(Fault::Vanished));
    assert_eq!(memory.fetch_add(0, 1), Err(Fault::Vanished));
    pages.protect(libc::PROT_READ | libc::PROT_WRITE);
    assert_eq!(memory.write(0, b"back"), Ok(()));
}

#[test]
fn what_comes_before_the_lost_part_is_there() {
    let (_pages, memory) = lost(Loss::Truncated);
    memory.write(PAGE - 96, &[9; 200]).unwrap_err();
    let mut out = [0; 97];
    memory.read(PAGE - 97, &mut out).unwrap();
    assert_eq!((out[0], &out[1..]), (7, &[9; 96][..]));
}

#[test]
fn accesses_outside_are_refused_and_atomics_have_to_be_aligned() {
    let pages = Pages::anonymous(1);
    let memory = pages.memory();
    assert_eq!((memory.len(), memory.address()), (PAGE, pages.start.addr() as u64));
    for (offset, len) in [(0, PAGE + 1), (PAGE, 1), (PAGE + 1, 0), (usize::MAX, 2)] {
        assert_eq!(memory.write(offset, &vec![1; len]), Err(Fault::OutOfRange));
        assert_eq!(memory.read(offset, &mut vec![1; len]), Err(Fault::OutOfRange));
    }
    assert_eq!(memory.write(PAGE, &[]), Ok(()));
    for offset in [PAGE - 7, PAGE, usize::MAX] {
        assert_eq!(memory.fetch_add(offset, 1), Err(Fault::OutOfRange));
    }
    assert_eq!(memory.fetch_add(4, 1), Err(Fault::Misaligned));
    assert_eq!(memory.compare_swap(4, 0, 1), Err(Fault::Misaligned));
}

#[test]
fn atomics_of_each_way_give_the_old_value() {
    let pages = Pages::anonymous(1);
    let _memory = pages.memory();
    let at = pages.start.cast::<u64>().wrapping_add(1);
    let word = || {
        // SAFETY: the test's own memory, which nothing writes at the moment.
        unsafe { at.read_volatile() }
    };
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the test's own aligned memory; the handler is installed, and nobody blocks its signals.
        assert_eq!(unsafe { instructions::fetch_add(at, u64::MAX) }, Ok(0));
        // SAFETY: as above.
        assert_eq!(unsafe { instructions::fetch_add(at, 3) }, Ok(u64::MAX));
        // SAFETY: as above.
        assert_eq!(unsafe { instructions::compare_swap(at, 1, 77) }, Ok(2));
        assert_eq!(word(), 2);
        // SAFETY: as above.
        assert_eq!(unsafe { instructions::compare_swap(at, 2, 77) }, Ok(2));
        assert_eq!(word(), 77);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { kernel::update(at, |found| found + 1) }, Ok(word() - 1));
}

#[test]
fn memory_of_no_bytes_can_be_registered_and_what_isnt_mapped_cannot() {
    let pages = Pages::anonymous(3);
    let register = |start, len| {
        // SAFETY: the test's own pages, or none.
        unsafe { Foreign::new(start, len) }.map(|memory| memory.len())
    };
    pages.unmap(2);
    let at = |offset: usize| pages.start.wrapping_add(offset);
    for (start, len) in [
        (at(0), 2 * PAGE),
        (at(1), 2 * PAGE - 1),
        (at(2 * PAGE - 1), 1),
        (at(0), 0),
        (at(2 * PAGE), 0),
        (ptr::null_mut(), 0),
    ] {
        assert_eq!(register(start, len).unwrap(), len);
    }
    for (start, len) in
        [(at(0), 2 * PAGE + 1), (at(2 * PAGE - 1), 2), (at(2 * PAGE), 1), (ptr::null_mut(), 1)]
    {
        assert!(matches!(register(start, len), Err(ForeignError::NotMapped { .. })), "{len}");
    }
    for len in [usize::MAX, usize::MAX - at(0).addr() + 1] {
        assert!(matches!(register(at(0), len), Err(ForeignError::Range { .. })));
    }
    assert!(matches!(register(at(0), usize::MAX - at(0).addr()), Err(ForeignError::NotMapped { .. })));
}

#[test]
fn a_hole_far_inside_is_found() {
    const COUNT: usize = 3 * 4096 + 5;
    for hole in [0, 1, 4095, 4096, 4097, 2 * 4096, COUNT - 1] {
        let pages = Pages::anonymous(COUNT);
        assert!(kernel::is_mapped(pages.start, pages.len));
        let start = pages.start.wrapping_add(hole * PAGE).cast();
        // SAFETY: the test's own page.
        assert_eq!(unsafe { libc::munmap(start, PAGE) }, 0);
        assert!(!kernel::is_mapped(pages.start, pages.len), "a hole at page {hole}");
    }
}

/// The real thing: one thread maps and unmaps, others are in the middle of their accesses.
#[test]
fn memory_that_comes_and_goes_under_accesses_ends_them_with_errors_and_nothing_else() {
    let pages = Pages::of_file(64);
    let memory = pages.memory();
    let done = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let workers: Vec<_> = [block_nothing as fn(), || drop(block_all())]
            .into_iter()
            .map(|prepare| {
                let (memory, done) = (&memory, &done);
                scope.spawn(move || {
                    prepare();
                    let (mut whole, mut lost) = (0, 0);
                    let mut bytes = vec![7; memory.len()];
                    while !done.load(Ordering::Relaxed) || whole == 0 || lost == 0 {
                        for outcome in [
                            memory.write(0, &bytes),
                            memory.read(0, &mut bytes),
                            memory.fetch_add(memory.len() - 8, 1).map(|_| ()),
                        ] {
                            match outcome {
                                Ok(()) => whole += 1,
                                Err(Fault::Vanished) => lost += 1,
                                Err(other) => panic!("{other}"),
                            }
                        }
                    }
                    (whole, lost)
                })
            })
            .collect();
        for round in 0..200 {
            match round % 2 {
                0 => pages.truncate(round % 64),
                _ => pages.remap(round % 64, libc::PROT_NONE),
            }
            thread::yield_now();
            pages.truncate(64);
            pages.remap(0, libc::PROT_READ | libc::PROT_WRITE);
            thread::yield_now();
        }
        // The last round for whoever has seen only one of the two.
        done.store(true, Ordering::Relaxed);
        while workers.iter().any(|worker| !worker.is_finished()) {
            pages.remap(32, libc::PROT_NONE);
            thread::yield_now();
            pages.remap(0, libc::PROT_READ | libc::PROT_WRITE);
            thread::yield_now();
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(outcomes.iter().all(|&(whole, lost)| whole > 0 && lost > 0), "{outcomes:?}");
}

fn block_nothing() {}

/// What accesses cost beside those of the device's own memory:
/// `cargo test --release -p rocev2-device -- --ignored --nocapture foreign_speed`.
#[test]
#[ignore = "a measurement, not a test"]
fn foreign_speed() {
    use super::super::Mapping;
    use std::time::Instant;

    fn nanoseconds(mut access: impl FnMut()) -> f64 {
        let (rounds, mut best) = (1 << 8, f64::MAX);
        for _ in 0..500 {
            let start = Instant::now();
            (0..rounds).for_each(|_| access());
            best = best.min(start.elapsed().as_secs_f64() / f64::from(rounds));
        }
        best * 1e9
    }

    let pages = Pages::anonymous(1);
    let (own, memory) = (Mapping::new(PAGE).unwrap(), pages.memory());
    println!("nanoseconds      own         foreign     its signals blocked   by the kernel");
    for size in [8, 64, 256, 1024, PAGE] {
        let mut bytes = vec![1_u8; size];
        let bytes = core::hint::black_box(&mut *bytes);
        let write = [
            nanoseconds(|| own.write(0, bytes).unwrap()),
            nanoseconds(|| memory.write(0, bytes).unwrap()),
            thread::scope(|scope| {
                let measure = || {
                    block_all();
                    nanoseconds(|| memory.write(0, bytes).unwrap())
                };
                scope.spawn(measure).join().unwrap()
            }),
            nanoseconds(|| write(Way::Kernel, pages.start, bytes).unwrap()),
        ];
        let read = [
            nanoseconds(|| own.read(0, bytes).unwrap()),
            nanoseconds(|| memory.read(0, bytes).unwrap()),
            thread::scope(|scope| {
                let measure = || {
                    block_all();
                    nanoseconds(|| memory.read(0, bytes).unwrap())
                };
                scope.spawn(measure).join().unwrap()
            }),
            nanoseconds(|| read(Way::Kernel, pages.start, bytes).unwrap()),
        ];
        for (what, row) in [("write", write), ("read", read)] {
            println!(
                "{size:>5} {what:>5} {:>10.1} {:>13.1} {:>18.1} {:>18.1}",
                row[0], row[1], row[2], row[3]
            );
        }
    }
}

//! What a peer's bytes reach, as functions that any bytes may be given to: `fuzz/run` has a fuzzer look for
//! bytes that break them, and a test gives them all that are kept in `fuzz/corpus`.
//!
//! A target panics if the bytes show a mistake. "Didn't panic" alone proves little, so each has an oracle:
//! what was read writes back as the same bytes, what opens is what was sealed, queues keep their bounds. And
//! each is watched for the memory that it takes.
#![forbid(unsafe_code)]

mod input;
mod targets;

/// Something that a peer's bytes reach.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// What it tries.
    pub about: &'static str,
    /// Memory in use at a time, in bytes, whatever the input is.
    memory: u64,
    try_out: fn(&[u8]),
}

/// Every target, by name.
pub const TARGETS: &[Target] = targets::ALL;

/// The target with that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Memory that an input may take for each of its bytes, beside what its target takes for any.
pub const MEMORY_PER_BYTE: u64 = 64;

impl Target {
    /// A target that takes `memory` bytes at a time, and [`MEMORY_PER_BYTE`] for each byte that it is given.
    #[must_use]
    pub const fn new(name: &'static str, about: &'static str, memory: u64, try_out: fn(&[u8])) -> Self {
        Self { name, about, memory, try_out }
    }

    /// Gives it `bytes`.
    ///
    /// # Panics
    /// If they show a mistake: in what they reached, or in the memory that it took or kept.
    pub fn run(&self, bytes: &[u8]) {
        let measure = || allocation_counter::measure(|| (self.try_out)(bytes));
        let first = measure();
        let most = self.memory + MEMORY_PER_BYTE * bytes.len() as u64;
        assert!(first.bytes_max <= most, "{} bytes of memory at a time, allowed are {most}", first.bytes_max);
        // What is made once and kept, such as a table, isn't made again.
        if first.bytes_current > 0 {
            let again = measure().bytes_current;
            assert!(again <= 0, "{again} bytes of memory are left behind each time");
        }
    }
}

//! What happened: as a hash, by which two runs are compared, and as lines, if they are wanted.

use std::fmt::Write as _;

/// Everything that happened in a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    /// The line that is being printed, if they are wanted.
    line: Option<String>,
}

impl Trace {
    pub(crate) fn new(print: bool) -> Self {
        Self { line: print.then(String::new), ..Self::default() }
    }

    /// Takes note of an event.
    pub(crate) fn record(&mut self, now: u64, what: &'static str, values: &[(&'static str, u64)]) {
        self.mix(now);
        for byte in what.bytes() {
            self.mix(byte.into());
        }
        for &(_, value) in values {
            self.mix(value);
        }
        if let Some(line) = &mut self.line {
            line.clear();
            let _ = write!(line, "{:>12}.{:03} µs  {what}", now / 1000, now % 1000);
            for (name, value) in values {
                let _ = write!(line, " {name}={value}");
            }
            // At once: a run may never end.
            eprintln!("{line}");
        }
    }

    /// Whether lines are wanted: then more may be found out for them.
    pub(crate) fn is_printed(&self) -> bool {
        self.line.is_some()
    }

    /// Adds a line that is no event of its own.
    pub(crate) fn comment(&self, text: &str) {
        if self.is_printed() {
            eprintln!("{:>19}  {text}", "");
        }
    }

    /// The hash.
    pub(crate) fn digest(&self) -> u64 {
        self.hash
    }

    /// One step of FNV-1a over a word instead of a byte, with the upper half brought down.
    fn mix(&mut self, value: u64) {
        let mixed = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.hash = mixed ^ (mixed >> 32);
    }
}

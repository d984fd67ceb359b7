//! What the kernel counts of a port.

use super::context::Context;
use std::borrow::Cow;
use std::fs;
use std::path::Path;

impl Context {
    /// Every counter with its name, as the kernel shows them of the port in use; of every process together.
    pub(crate) fn counters(&self) -> Vec<(Cow<'static, str>, u64)> {
        let port = Path::new("/sys/class/infiniband").join(self.name()).join(format!("ports/{}", self.port));
        ["hw_counters", "counters"].iter().flat_map(|kind| files_of_numbers(&port.join(kind))).collect()
    }
}

/// Every file of a directory that holds a number, by name; `lifespan` is a setting.
fn files_of_numbers(directory: &Path) -> Vec<(Cow<'static, str>, u64)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut counters: Vec<_> = entries
        .filter(|entry| entry.file_name() != "lifespan")
        .filter_map(|entry| {
            let count = fs::read_to_string(entry.path()).ok()?.trim().parse().ok()?;
            Some((Cow::Owned(entry.file_name().into_string().ok()?), count))
        })
        .collect();
    counters.sort();
    counters
}

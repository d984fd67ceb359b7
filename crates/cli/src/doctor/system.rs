//! The system as its files show it.

use std::path::PathBuf;

/// The system whose root directory is that one.
pub(super) struct System(PathBuf);

impl System {
    pub(super) const fn at(root: PathBuf) -> Self {
        Self(root)
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// What a file says that the kernel writes.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }
}

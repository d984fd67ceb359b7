//! What can go wrong, for a person to read.

use core::fmt;

/// Any error: this program only shows it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Says what was tried when something failed.
pub(crate) trait While<T> {
    /// Puts `what` before the error.
    fn during(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> While<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| format!("{what}: {error}").into())
    }
}

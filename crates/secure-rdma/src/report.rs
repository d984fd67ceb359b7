//! An error with its causes.

use core::fmt;
use std::error::Error;

/// Shows an error and its causes in one line: each error of this library says what failed, and leaves the rest to its
/// [`source`](Error::source).
///
/// ```
/// use secure_rdma::{Client, Report, Trust};
///
/// let error = Client::builder(Trust::State("/nonexistent".into())).build().unwrap_err();
/// assert!(Report::new(&error).to_string().starts_with("there is no CA in /nonexistent"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Report<'a>(&'a (dyn Error + 'static));

impl<'a> Report<'a> {
    /// Shows `error`.
    #[must_use]
    pub fn new(error: &'a (dyn Error + 'static)) -> Self {
        Self(error)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

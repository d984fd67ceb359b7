//! Why nothing was counted.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no valgrind here.
    #[error("valgrind not found ({0}): install it (Debian: apt-get install valgrind)")]
    NoValgrind(std::io::Error),
    /// Valgrind ran, and said something else.
    #[error("valgrind didn't count the instructions of \"{path}\": it ended with {status} and said:\n{said}")]
    Valgrind {
        /// What was to be counted.
        path: &'static str,
        /// How valgrind ended.
        status: std::process::ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// A file can't be used.
    #[error("{file}: {reason}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program was called in a way that only it itself should use.
    #[error("no such path, or no number: {0}")]
    CarryOut(String),
}

//! What a test needs of the machine.

use std::env;
use std::io::{self, Write};

/// Says that `promise` isn't proved because of what is `missing`.
///
/// # Panics
///
/// In CI (`CI=true`): there, a test that isn't carried out has failed.
pub(crate) fn missing(missing: &str, promise: &str) {
    let message = format!("NOT PROVED: {promise}; missing here: {missing}");
    assert!(env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not `eprintln!`: the test harness hides what that prints in tests that pass.
    let _ = writeln!(io::stderr(), "\n{message}\n");
}

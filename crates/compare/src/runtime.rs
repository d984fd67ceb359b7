//! tokio, on the thread of one end.

use crate::failure::{Failure, While};
use std::future::Future;

/// Runs `end` to its end, with a runtime of its own: one thread, tied to the end's core already.
pub(crate) fn block_on<T>(end: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.during("starting tokio")?;
    let result = runtime.block_on(end);
    // What is left of it isn't waited for.
    runtime.shutdown_background();
    result
}

//! File descriptors: a demo of many clients needs many.

use crate::failure::Failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a client takes, on its side and on the server's: its device (an epoll instance, two event
/// descriptors, a UDP socket for each of two addresses), and for each of two sessions a TCP socket and a
/// completion channel at both ends.
const PER_CLIENT: u64 = 16;

/// What the rest of the process takes.
const BASE: u64 = 64;

/// Sees to it that the process may have enough descriptors for so many clients: raises its soft limit as far as it may.
pub(super) fn ensure(clients: u32) -> Result<(), Failure> {
    let need = BASE + PER_CLIENT * u64::from(clients);
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    if limit.current.is_none_or(|current| current >= need) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < need) {
        let maximum = limit.maximum.unwrap_or_default();
        return Err(Failure::Other(format!(
            "{clients} clients in one process need {need} file descriptors, and at most {maximum} are allowed here: \
             raise the limit (ulimit -Hn {need}), or try fewer --clients"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| Failure::system("raising the limit of file descriptors")(error.into()))
}

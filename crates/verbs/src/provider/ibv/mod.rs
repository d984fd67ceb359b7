//! libibverbs behind [`provider`](super): Soft-RoCE, RDMA cards, whatever has a provider.
//!
//! | module | what it holds |
//! |---|---|
//! | `discovery` | the list of devices |
//! | `context` | an open device with the port in use |
//! | `gids` | the port's GID table |
//! | `facts` | what `ibv_devinfo -v` tells |
//! | `memory`, `window` | protection domains, memory regions and windows |
//! | `completion` | completion channels and queues |
//! | `queue_pair` | queue pairs: made, driven through their states, asked |
//! | `shared_receive_queue`, `address` | what queue pairs share; ways to peers |
//! | `request` | work requests as libibverbs takes them |
//! | `events`, `counters` | asynchronous events, and what the kernel counts |
//!
//! Each object owns what libibverbs made and holds its parents, so that all is destroyed children first.
//! libibverbs is thread-safe (`ibv_*(3)`: "all verbs are thread safe"), so the objects may be shared.
//!
//! Calls of the library say what failed by a null pointer and `errno`, or by returning `errno` itself:
//! [`check`] and [`made`] read both.
#![allow(unsafe_code)]

pub(crate) mod address;
pub(crate) mod completion;
pub(crate) mod context;
mod counters;
pub(crate) mod discovery;
mod events;
mod facts;
mod gids;
pub(crate) mod memory;
pub(crate) mod queue_pair;
pub(crate) mod request;
pub(crate) mod shared_receive_queue;
pub(crate) mod window;

use core::ptr::NonNull;
use std::io;

/// What a call returned that answers 0 or the number of an error.
fn check(result: core::ffi::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        // Some providers answer -1 and set errno, as the oldest interface did.
        -1 => Err(io::Error::last_os_error()),
        error => Err(io::Error::from_raw_os_error(error.abs())),
    }
}

/// What a call made, or why it didn't.
fn made<T>(pointer: *mut T) -> io::Result<NonNull<T>> {
    NonNull::new(pointer).ok_or_else(io::Error::last_os_error)
}

//! rsockets: streams of bytes, with the calls of sockets, over RDMA WRITEs into the peer's receive buffer. What two of
//! them tell each other, and a connected one's state, are `rocev2_rsocket`'s.
//!
//! | module | what it holds |
//! |---|---|
//! | `memory`, `endpoint` | registered memory, and the queue pair that carries a stream |
//! | `socket`, `wait` | an rsocket, and how its calls wait |
//! | `maps`, `sending` | mapped buffers, and whose turn it is to send |
//! | `connect`, `transfer`, `iomap` | the calls: connections, data, mapped buffers |
//! | `poll`, `option` | the calls: waiting for several, options |
//!
//! An rsocket's number is the descriptor of its id's event channel, so that no other descriptor of the process has it.
//! There are no datagrams: `rsocket(3)` refuses them, and the stock librspreload takes an ordinary socket then.

mod connect;
mod endpoint;
mod iomap;
mod maps;
mod memory;
mod option;
mod poll;
mod sending;
mod socket;
mod transfer;
mod wait;

use crate::boundary::set_errno;
use libc::c_int;

/// A count of bytes, or -1 with errno set.
fn count(done: Result<usize, c_int>) -> isize {
    match done {
        Ok(count) => isize::try_from(count).unwrap_or(isize::MAX),
        Err(error) => {
            set_errno(error);
            -1
        }
    }
}

/// A descriptor, or -1 with errno set.
fn number(done: Result<c_int, c_int>) -> c_int {
    done.unwrap_or_else(|error| {
        set_errno(error);
        -1
    })
}

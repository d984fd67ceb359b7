//! The embedded RDMA device: RoCEv2 in user space over plain UDP sockets. No hardware, kernel module or root
//! is needed, and what is on the wire is what a RoCE NIC or Linux' Soft-RoCE would send.
//!
//! Progress happens in the caller: posting builds and sends packets on the posting thread, polling a
//! completion queue empties the socket. A progress thread per device does the same where nobody polls, and
//! keeps the timers.
//!
//! | module | what it holds |
//! |---|---|
//! | `device` | the device: addresses, limits, what its objects share |
//! | `domain`, `memory_region`, `memory_window` | protection domains and what is made in them |
//! | `buffers`, [`memory`] | regions, windows, keys; all memory that peers may write |
//! | `queue_pair`, `queue_table` | queue pairs, by random number |
//! | `completion_queue`, `channel`, `events` | what programs wait for |
//! | `port`, [`net`] | sockets, addresses, GIDs; from datagram to queue pair |
//! | `progress`, `poll_mode` | what is done where nobody polls, step by step, and who takes what arrives |
//! | `alarm`, `deadlines`, `reactor` | time, and the thread that makes the steps |
//! | `counters` | every refused packet by its reason |
//!
//! Locks are taken in one order: a port's receive lock, its list of unsettled queue pairs, a queue pair's
//! lock, then those of completion queues, deadlines and events. There is no lock that two queue pairs need to
//! exchange data, except where they share a completion queue.
#![deny(unsafe_code)]

mod alarm;
mod buffers;
mod channel;
mod completion_queue;
mod counters;
mod deadlines;
mod device;
mod domain;
mod error;
mod events;
pub mod memory;
mod memory_region;
mod memory_window;
pub mod net;
mod poll_mode;
mod port;
mod progress;
mod queue_pair;
mod queue_table;
mod reactor;

pub use buffers::{Buffers, Element};
pub use channel::CompletionChannel;
pub use completion_queue::{Arm, CompletionQueue, Overflow, WorkCompletion};
pub use device::{ATTRIBUTES, Attributes, Config, Device, GidEntry};
pub use domain::ProtectionDomain;
pub use error::DeviceError;
pub use events::DeviceEvent;
pub use memory_region::MemoryRegion;
#[cfg(target_os = "linux")]
pub use memory_region::{ForeignRegion, Reregistration};
pub use memory_window::MemoryWindow;
pub use net::Gid;
pub use queue_pair::{PathAttributes, QueuePair};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. A thread that panicked while it held the lock has left nothing half-done that matters more
/// than going on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

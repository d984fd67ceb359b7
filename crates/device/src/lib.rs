//! The embedded RDMA device: RoCEv2 in user space over plain UDP sockets. No hardware, kernel module or root
//! is needed, and what is on the wire is what a RoCE NIC or Linux' Soft-RoCE would send.
//!
//! Progress happens in the caller: posting builds and sends packets on the posting thread, polling a
//! completion queue empties the socket. A progress thread per device does the same where nobody polls, and
//! keeps the timers.
//!
//! | module | what it holds | what it may use |
//! |---|---|---|
//! | [`gid`] | GIDs: 16 bytes that name an address and, for IPv4, a UDP port | |
//! | [`memory`] | all memory that peers may write, regions, keys | |
//! | [`link`] | how packets leave and arrive, in batches; UDP sockets | `gid` |
//! | `engine` | queue pairs, completion queues, time, whose turn it is; no socket, thread or clock | the above |
//! | [`host`] | this host: clock, randomness, descriptors, the progress thread | the above |
//! | `api` | the device and its objects, as programs see them | all |
//!
//! # Locks
//!
//! Whoever holds one takes only locks that stand below it here. No thread sleeps or waits for a peer, a link or
//! another thread's work while it holds any of them; what is called "held" is held for the time that it takes to
//! read, change or copy something, but for the first two, under which packets are handled and sent.
//!
//! | lock | what it keeps together |
//! |---|---|
//! | the multicast groups | which are joined |
//! | the GID table | which address has which port |
//! | a port's receive path (only ever tried) | one thread at a time takes from the link |
//! | a queue pair | the protocol's state, what is on its way out, in order |
//! | a shared receive queue | requests that queue pairs take |
//! | the table of address handles | taken for a look-up |
//! | an SA for packets that arrive | its replay window |
//! | an association's SAs | which there are, and which one seals |
//! | a shared table of keys, a region's revocation | memory and the right to it |
//! | a multicast group's members | taken for a look-up or one change |
//! | an XRC domain's queues and ports | taken for a look-up or one change |
//! | tables of queue pairs and SPIs, lists of ports | taken for a look-up, and left before anything else is locked |
//! | a port's delayed ACKs, its queue of turns | taken for one look or one change |
//! | a port's interest in its link | what is watched of the link, and what the port thinks that is |
//! | a completion queue's entries | |
//! | deadlines; the alarm, then the host's timer | the alarm looks at the deadlines, never the other way round |
//! | events, an event channel | |
//!
//! No lock is needed by two queue pairs to exchange data, except where they share a completion queue.
#![deny(unsafe_code)]

mod api;
mod engine;
pub mod gid;
pub mod host;
pub mod link;
pub mod memory;

pub use api::{
    ATTRIBUTES, AddressHandle, Attributes, CompletionChannel, CompletionQueue, Config, Device, DeviceError,
    GSI_QKEY, GidEntry, MemoryRegion, MemoryWindow, PathAttributes, ProtectionDomain, QueuePair,
    QueuePairOptions, SaStatus, SecurityAssociation, SharedReceiveQueue, XrcDomain,
};
#[cfg(target_os = "linux")]
pub use api::{ForeignRegion, Reregistration};
pub use engine::{
    Arm, Buffers, DeviceEvent, Element, Engine, Host, Overflow, Pause, Peer, Progress, Ready, Receiver,
    SLOTS, Signal, SpiError, Usage, WorkCompletion,
};
pub use gid::Gid;
pub use rocev2_esp as esp;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks `mutex`. A thread that panicked while it held the lock has left nothing half-done that matters more
/// than going on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

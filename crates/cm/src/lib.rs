//! RDMA connection management, sans-IO: what InfiniBand's communication manager says, without sockets, threads,
//! clocks or OS randomness.
//!
//! Programs that use librdmacm find each other by address and port; under that, each side's CM sends management
//! datagrams (MADs) to the other's queue pair 1, until both know the other's queue pair, PSN and limits. Here are
//! these messages and the state machines of both sides, as the Linux kernel's `ib_cm` and `rdma_cm` speak them over
//! RoCEv2.
//!
//! | module | what it holds |
//! |---|---|
//! | [`wire`] | the messages: bytes to structures and back |
//! | [`ip`] | addresses and ports: service IDs, and what stands in front of the private data |
//! | [`manager`] | the state machines, driven from outside |
//!
//! "IBA" in the documentation is the *InfiniBand Architecture Specification, Volume 1*, release 1.4 or later.
#![forbid(unsafe_code)]

mod comm_id;
mod exponent;
mod gid;
pub mod ip;
pub mod manager;
pub mod wire;

pub use comm_id::CommId;
pub use exponent::Exponent;
pub use gid::Gid;
pub use manager::{Config, Event, Manager, Path, State, Transmit};

/// The queue key of queue pair 1, to which management datagrams are sent (IBA 3.5.4).
pub const GSI_QKEY: u32 = 0x8001_0000;

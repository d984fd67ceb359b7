//! RoCEv2, sans-IO: what InfiniBand's transport layer says over UDP, without sockets, threads, clocks or OS randomness.
//!
//! | module | what it holds |
//! |---|---|
//! | [`psn`], [`qpn`], [`srqn`], [`mtu`], [`time`] | the small numbers everything is made of |
//! | [`wire`] | headers: bytes to structures and back |
//! | [`icrc`] | the invariant CRC, and solving for an IP identification that a receiver can't see |
//! | [`work`] | work requests, completions, queue pair states and attributes, memory as a trait |
//! | [`transport`] | queue pairs, driven from outside: RC, UC, UD and XRC |
//!
//! "IBA" in the documentation is the *InfiniBand Architecture Specification, Volume 1*, release 1.4 or later,
//! whose Annex A17 defines RoCEv2. "rxe" is Linux's Soft-RoCE, `drivers/infiniband/sw/rxe`.
#![forbid(unsafe_code)]

pub mod icrc;
pub mod mtu;
pub mod psn;
pub mod qpn;
pub mod srqn;
pub mod time;
pub mod transport;
pub mod wire;
pub mod work;

pub use mtu::Mtu;
pub use psn::Psn;
pub use qpn::Qpn;
pub use srqn::Srqn;
pub use time::Time;

/// The UDP destination port that IANA assigned to RoCEv2 (IBA Annex A17.3).
pub const UDP_PORT: u16 = 4791;

//! RoCEv2 sealed by the Linux kernel: ESP in UDP in front of a RoCE device such as Soft-RoCE, set up by netlink
//! (`NETLINK_XFRM`, what `ip xfrm` speaks).
//!
//! | module | what it holds |
//! |---|---|
//! | [`helper`] | the process that alone has the right to do it (`CAP_NET_ADMIN`), and how it is asked |
//! | [`Association`] | what is set up for one pair of addresses, from the first block to the last |
//! | [`Kernel`] | states and policies, one request each; finding and sweeping those of this software |
//! | [`Encapsulation`] | the UDP socket where the kernel opens packets |
//! | `state`, `policy`, `wire`, `socket` | their encoding, and the netlink socket |
//!
//! # What holds
//! From [`Association::open`] to [`Association::close`] there is a policy in each direction, and it never says "in
//! clear": it is a *block* first, then requires ESP, and is a block again before the states go. Policies don't expire;
//! when a state has sealed as many packets as a key may, the kernel drops what would have been sealed with it.
//!
//! States and policies of this software have a reqid from [`owner::FIRST`] on, which is also the port ID of their
//! owner's netlink socket; the program that they are for has a port ID of its own beside it. The kernel gives each
//! once: so who finds such a reqid and can bind both knows that the two are gone, and sweeps ([`Kernel::sweep`]). What
//! an owner has left that stands ([`owner::Kind`]) is blocked by that, and taken over by another one of the kind.
//!
//! # Why the encoding is here
//! It is six C structures, checked against what iproute2 sends. A library for them (`netlink-packet-xfrm`) shows and
//! copies keys, which here are wiped and never shown.

mod address;
mod association;
mod encapsulation;
mod error;
pub mod helper;
mod kernel;
mod material;
pub mod owner;
mod policy;
mod socket;
mod state;
mod wire;

pub use address::{Direction, Pair};
pub use association::{Association, Ports};
pub use encapsulation::Encapsulation;
pub use error::{Error, Unfit};
pub use kernel::Kernel;
pub use material::Material;
pub use policy::PolicyStatus;
pub use state::StateStatus;

/// The UDP port of RoCEv2, which the packets inside name.
pub const ROCE_PORT: u16 = 4791;

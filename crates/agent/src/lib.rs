//! The agent: it makes the sockets of UDP port 4791 at an address, a [group](rocev2_device::host::group), and
//! hands them out to the user's processes, each with a slot of its own.
//!
//! Every process gets all sockets of the group, so that they outlive the agent and any process. A process keeps its
//! connection to the agent open for as long as it uses its slot. When the agent has died, the processes give the group
//! to the next one, which would not get the port otherwise.
//!
//! | module | what it holds |
//! |---|---|
//! | [`protocol`] | messages |
//! | [`lease`] | a process's side |
//! | [`agent`] | the agent's side |
//! | [`place`] | where the agent is, and how it is started |
//! | `group` | an address: its sockets, and who manages connections there |
//! | [`pairs`] | sealed processes: keys for each pair of devices |
//! | [`cm`] | connection management for processes, on queue pair 1 of each address |
#![forbid(unsafe_code)]

pub mod agent;
pub mod cm;
mod group;
pub mod lease;
pub mod pairs;
pub mod place;
pub mod protocol;

pub use agent::{serve, serve_with};
pub use lease::{Lease, LeaseError};
pub use place::Place;
pub use protocol::Packets;

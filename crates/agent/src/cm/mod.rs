//! Connection management: what the kernel's `rdma_cm` is to programs, the agent is here. It has queue pair 1 of each
//! address that it serves.
//!
//! | module | what it holds |
//! |---|---|
//! | [`gsi`] | queue pair 1: datagrams in and out |
//! | `rate` | how many datagrams of one source are looked at |
//! | [`node`] | a manager on queue pair 1 |

pub mod gsi;
pub mod node;
mod rate;

pub use gsi::Gsi;
pub use node::Node;

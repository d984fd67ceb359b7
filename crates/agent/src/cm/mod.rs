//! Connection management: what the kernel's `rdma_cm` and `rdma_ucm` are to programs, the agent is here. It has queue
//! pair 1 of each address that it serves, and a process whose program uses librdmacm asks it for all that concerns
//! connections.
//!
//! | module | what it holds |
//! |---|---|
//! | [`gsi`] | queue pair 1: datagrams in and out |
//! | `rate` | how many datagrams of one source are looked at |
//! | [`sealing`] | keys for peers' queue pair 1, and datagrams that wait for some |
//! | [`node`] | a manager on queue pair 1 |
//! | [`protocol`] | what processes ask, and what they are answered |
//! | [`client`] | a process's side |
//! | [`ucm`] | the agent's side |
//! | `id`, `event`, `channel`, `ports` | ids, what they are told, where that waits, and ports |
//! | `random` | numbers that no peer can predict |

mod channel;
pub mod client;
mod event;
pub mod gsi;
mod id;
pub mod node;
mod ports;
pub mod protocol;
mod random;
mod rate;
pub mod sealing;
pub mod ucm;

pub use client::Client;
pub use gsi::Gsi;
pub use node::Node;
pub use sealing::Sealing;
pub use ucm::Ucm;

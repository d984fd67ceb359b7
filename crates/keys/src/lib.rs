//! The part of the agent that knows TLS: it agrees on keys with other hosts' agents, for processes whose packets are
//! sealed and that know nothing of it.
//!
//! [`rocev2_agent`] hands it the connections of such processes, and [`secure_rdma::pair`] does the handshakes; what is
//! in between is here: which of a host's processes a peer asks for, what happens when both sides begin at the same
//! time, and new keys under traffic.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | by what a process wants to be sealed |
//! | `manager` | processes, and where their peers' agents are listened for |
//! | `process` | one process |
//! | `pair` | one process and one of its peers |
//! | `kernel` | another agent, which gives keys to the kernel, for programs on its devices |
#![forbid(unsafe_code)]

mod kernel;
mod manager;
mod pair;
mod process;
mod settings;

pub use kernel::{Change, KernelAgent, KernelAgentError};
pub use manager::Keys;
pub use settings::{Settings, SettingsError};

//! The helper: a process that alone has the right to set up states and policies, and does nothing else.
//!
//! A program that has the right (`CAP_NET_ADMIN`) starts it before its first thread ([`Helper::start`]), and gives the
//! right up. What it then can have done is this: that RoCEv2 between an address of this host and a peer is sealed with
//! keys that it gives, and how many packets that were. It can have nothing sent in clear: not even when it ends, since
//! the helper removes what it set up when the process is gone, and with it its queue pairs. For a process that has none
//! of its own, an agent, what it set up becomes a block then, and stays ([`serve_standing`]).
//!
//! | module | what it holds |
//! |---|---|
//! | `protocol` | what is asked and answered: one packet each on a Unix socket pair |
//! | `client` | the program's side |
//! | `server` | the helper's |
//! | `privileges` | rights, and giving them up |

mod client;
mod privileges;
mod protocol;
mod server;

pub use client::{Helper, Sealing};
pub use privileges::has_right;
pub use server::{serve, serve_standing};

//! `secure-rdma get`, `put` and `ls`.
//!
//! | file | what it holds |
//! |---|---|
//! | `ls`, `get`, `put` | the commands |
//! | `connection` | what they share: a link, a session that moves files, and paths |
//! | `mover` | sessions, one after the other if need be, until all is moved |
//! | `progress` | a bar, at a terminal |
//! | `summary` | what became of it |

mod connection;
mod get;
mod ls;
mod mover;
mod progress;
mod put;
mod summary;

pub(crate) use get::run as get;
pub(crate) use ls::run as ls;
pub(crate) use put::run as put;

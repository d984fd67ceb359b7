//! libibverbs' C interface: its structures, its constants, and the library itself, loaded at run time.
//!
//! Nothing of rdma-core is needed to build this crate, nor to run a program that contains it: `Library::get`
//! opens `libibverbs.so.1` when it is first asked to, and says what to install if it isn't there. A library
//! that stands in for libibverbs needs the structures alone, and leaves out the feature `load`.
//!
//! Everything is named as in `<infiniband/verbs.h>`, where each thing's meaning is laid down, together with
//! the manual pages (`ibv_reg_mr(3)` and so on). What C leaves unnamed has names here: `ibv_wc.immediate`,
//! `ibv_send_wr.extension`. The layout is that of rdma-core 44; later versions have kept it, but for what
//! they added behind [`ibv_port_attr`].
//!
//! | module | what it holds |
//! |---|---|
//! | `library` (feature `load`), `data_path` | functions that the library exports, and those compiled into the caller |
//! | `device`, `port`, `gid` | devices, opened devices, ports, addresses |
//! | `memory`, `address_handle` | protection domains, regions, windows; ways to peers |
//! | `queue_pair`, `shared_receive_queue`, `completion`, `event` | queues, and what they tell |
//! | `extended` | what came later: functions before an opened device, extended queue pairs and completion queues |
//! | `work_request` | what is posted |
//! | `layout` | tests only: all of it against the C compiler and the header |
//!
//! A value that C declares as an enumeration is a plain number here. A library or a kernel that is newer than
//! this crate may return values that are not among the constants; callers must expect it.
//!
//! This is the one crate that is `unsafe` all through. Callers wrap it.
#![allow(unsafe_code, reason = "foreign functions and what they point to")]
#![allow(non_camel_case_types, reason = "the names of the C header")]
#![allow(
    missing_debug_implementations,
    reason = "regions, work requests and queue pair attributes hold keys and packet sequence numbers, which \
        aren't to be printed"
)]

#[macro_use]
mod macros;

mod address_handle;
mod completion;
mod data_path;
mod device;
mod event;
mod extended;
mod gid;
#[cfg(feature = "load")]
mod library;
mod memory;
mod port;
mod queue_pair;
mod shared_receive_queue;
mod work_request;

#[cfg(test)]
mod gate;
#[cfg(test)]
mod layout;

pub use address_handle::*;
pub use completion::*;
pub use data_path::*;
pub use device::*;
pub use event::*;
pub use extended::*;
pub use gid::*;
#[cfg(feature = "load")]
pub use library::{Library, LoadError};
pub use memory::*;
pub use port::*;
pub use queue_pair::*;
pub use shared_receive_queue::*;
pub use work_request::*;

/// A number of two bytes in network byte order.
pub type __be16 = u16;
/// A number of four bytes in network byte order.
pub type __be32 = u32;
/// A number of eight bytes in network byte order.
pub type __be64 = u64;

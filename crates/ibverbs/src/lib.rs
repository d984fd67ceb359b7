//! `libibverbs.so.1` in front of the embedded RoCEv2 device: verbs programs that nobody changed run on it.
//!
//! The library exports the symbols of rdma-core's, with their version nodes (`symbols.txt`), and shows one device.
//! What C calls lands in the macros of `boundary`, becomes calls of `backend`, the one module that knows the device,
//! and error numbers on the way back. What the device can't do answers `EOPNOTSUPP`.
//!
//! | module | what it holds |
//! |---|---|
//! | `boundary`, `refusals` | symbols, error numbers, the panic boundary; the symbols that say no |
//! | `backend` | everything that touches the embedded device |
//! | `settings`, `statistics` | what `secure-rdma run` sets in the environment; counters when a process ends |
//! | `device`, `context`, `query` | the list of devices, opened ones, what they tell |
//! | `domain`, `region`, `window` | protection domains, memory regions and windows |
//! | `channel`, `completion`, `extended_completion`, `events` | completion channels and queues, asynchronous events |
//! | `queue_pair`, `modify`, `post`, `extended_post` | queue pairs, their states, work requests |
//! | `shared_receive`, `address`, `xrc` | shared receive queues, address handles, domains of XRC |
//! | `multicast` | multicast groups of datagrams |
//! | `text`, `rate` | names and rates |
//!
//! An object that a C program holds is a structure here whose first field is what the C header declares, in an
//! `UnsafeCell`, since the program reads and writes it as it likes.
#![allow(unsafe_code, reason = "a C interface")]
#![allow(non_camel_case_types, reason = "the names of the C header")]
#![allow(
    clippy::missing_safety_doc,
    reason = "what a caller has to see to is in the manual page of each function"
)]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a C structure's fields are read together, for one reason"
)]

#[macro_use]
mod boundary;

mod address;
mod backend;
mod channel;
mod completion;
mod context;
mod device;
mod domain;
mod events;
mod extended_completion;
mod extended_post;
mod modify;
mod multicast;
mod post;
mod query;
mod queue_pair;
mod rate;
mod refusals;
mod region;
mod settings;
mod shared_receive;
mod statistics;
mod text;
mod window;
mod xrc;

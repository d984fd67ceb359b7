//! `librdmacm.so.1` in front of the embedded RoCEv2 device: programs that nobody changed find each other by address and
//! port, and connect.
//!
//! The library exports the symbols of rdma-core's, with their version nodes (`symbols.txt`). What the kernel's
//! `rdma_cm` would do is the agent's ([`rocev2_agent::cm`]); what it needs of verbs it gets from `libibverbs.so.1`, as
//! rdma-core's does. With them come rsockets: streams of bytes with the calls of sockets, which TCP programs use by
//! preloading.
//!
//! | module | what it holds |
//! |---|---|
//! | `boundary` | symbols, error numbers, the panic boundary |
//! | `abi`, `address` | the C structures and addresses |
//! | `session` | what the process has of the agent and of the device |
//! | `channel`, `event` | event channels, and what is told there |
//! | `id`, `option` | ids and their options |
//! | `resolve`, `connect`, `endpoint` | from an address to a connection |
//! | `multicast` | groups that ids have joined |
//! | `queue_pair`, `states` | queue pairs made for ids, and their states |
//! | `addrinfo`, `device` | names, and the list of devices |
//! | `rsocket` | streams of bytes with the calls of sockets |
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

mod abi;
mod address;
mod addrinfo;
mod channel;
mod connect;
mod device;
mod endpoint;
mod event;
mod id;
mod multicast;
mod option;
mod queue_pair;
mod resolve;
mod rsocket;
mod session;
mod states;

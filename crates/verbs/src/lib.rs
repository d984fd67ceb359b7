//! One safe verbs API over every RDMA device: whatever libibverbs offers, found at run time, and the embedded
//! one, which needs neither hardware nor library.
//!
//! ```text
//!   Device ─┬─ ProtectionDomain ─┬─ MemoryRegion ── Slice (moves into a request, comes back with its completion)
//!           │                    └─ QueuePair<Reset> → <Init> → <ReadyToReceive> → <ReadyToSend>
//!           ├─ CompletionQueue   (poll, wait, or await)
//!           └─ CompletionChannel (a pollable file descriptor)
//! ```
//!
//! What goes wrong with verbs elsewhere doesn't compile here, or can't be said:
//!
//! - Memory that a peer may write is never a Rust reference: a [`MemoryRegion`] copies in and out. Memory that
//!   no peer can reach lends its bytes while they aren't posted: [`LocalMemory`].
//! - A [`Slice`] that was posted is gone until its completion gives it back; it keeps its region registered.
//! - Handles can't be copied, children hold their parents, and a leak leaks: nothing is freed that a peer
//!   might still write.
//! - A queue pair posts only what its state allows, and has to be driven through its states in order.
//! - One's own PSN and the peer's have different types: [`OwnPsn`], [`PeerPsn`].
//! - Remote addresses come from a [`RemoteRegion`] that was received, with bounds.
//!
//! Both kinds of device stand behind the same types; `provider` is the one place that tells them apart.
#![deny(unsafe_code)]

mod address_handle;
#[cfg(feature = "tokio")]
mod async_channel;
#[cfg(feature = "tokio")]
mod async_completion_queue;
mod attributes;
mod channel;
mod completion;
mod device;
mod domain;
mod endpoint;
mod error;
mod event;
mod gid;
mod in_flight;
mod kinds;
mod local;
mod memory_window;
mod options;
mod provider;
mod psn;
mod queue_pair;
mod region;
mod request;
mod selector;
mod shared_receive_queue;
mod status;

pub use address_handle::AddressHandle;
#[cfg(feature = "tokio")]
pub use async_channel::AsyncChannel;
#[cfg(feature = "tokio")]
pub use async_completion_queue::AsyncCompletionQueue;
pub use attributes::Attributes;
pub use channel::CompletionChannel;
pub use completion::{Arm, Completion, CompletionQueue};
pub use device::{Device, devices, is_own_address};
pub use domain::ProtectionDomain;
pub use endpoint::{ConnectOptions, Endpoint};
pub use error::{Error, PostReason, SliceError};
pub use event::Event;
pub use gid::{GidEntry, GidKind};
pub use kinds::{Connected, Own, Rc, ReceiveQueue, Shared, Transport, Uc, Ud};
pub use local::LocalMemory;
pub use memory_window::{MemoryWindow, WindowRange};
pub use options::{
    Destination, Peer, QueuePairCounters, QueuePairLimits, ReceiveOptions, SendOptions,
    SharedReceiveQueueLimits, Snapshot, TransportKind, WindowType,
};
pub use provider::Source;
pub use psn::{OwnPsn, PeerPsn};
pub use queue_pair::{
    Breaker, Draining, Init, QueuePair, QueuePairBuilder, QueuePairState, ReadyToReceive, ReadyToSend,
    Receives, Reset, Sends,
};
pub use region::{Access, MemoryRegion, RemoteRange, RemoteRegion, Slice};
pub use request::{PostError, RecvRequest, Released, SendRequest};
pub use selector::{DeviceSelector, SelectorError};
pub use shared_receive_queue::SharedReceiveQueue;
pub use status::Status;

pub use rocev2::work::{AsyncEvent, CompletionKind, PeerRights, State};
pub use rocev2::{Mtu, Psn, Qpn, UDP_PORT};
pub use rocev2_device::memory::ProcessMark;
pub use rocev2_device::{Gid, Receiver, SaStatus, SecurityAssociation, esp};

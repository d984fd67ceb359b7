//! The vocabulary of work that all transports share: requests and completions, queue pair states and their
//! attributes, and what the protocol asks of memory.

mod attribute_mask;
mod attribute_table;
mod attributes;
mod completion;
mod memory;
mod queue_pair_type;
mod receive_queue;
mod request;

pub use attribute_mask::AttributeMask;
pub use attribute_table::{Attributes, Rules, rules};
pub use attributes::{
    InitAttributes, MAX_RD_ATOMIC, ModifyError, PeerRights, ReceiveAttributes, SendAttributes, State,
    Transition,
};
pub use completion::{AsyncEvent, Completion, CompletionKind, Event, Status};
pub use memory::{AtomicOperation, LocalFault, Memory, RemoteFault, RemoteRight};
pub use queue_pair_type::QueuePairType;
pub use receive_queue::ReceiveQueue;
pub(crate) use receive_queue::flushed;
pub(crate) use request::execute_local;
pub use request::{
    AddressId, Datagram, MAX_MESSAGE, PostError, Recipient, RecvRequest, RemoteAddress, SendOperation,
    SendRequest,
};

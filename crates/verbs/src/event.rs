//! Asynchronous events.

use rocev2::Qpn;
use rocev2::work::AsyncEvent;

/// An asynchronous event and what it concerns (`ibv_get_async_event(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something happened to a queue pair.
    QueuePair(Qpn, AsyncEvent),
    /// The completion queue with this number overflowed.
    CompletionQueueOverflow(u64),
    /// The shared receive queue with this number has fewer requests left than was asked for
    /// ([`SharedReceiveQueue::arm_limit`](crate::SharedReceiveQueue::arm_limit)).
    SharedReceiveQueueLimit(u64),
    /// The shared receive queue with this number failed.
    SharedReceiveQueueFailed(u64),
    /// A queue pair that has failed takes nothing more from its shared receive queue.
    LastReceiveTaken(Qpn),
    /// A port of the device came up or went down.
    Port {
        /// Its number.
        port: u8,
        /// Whether it came up.
        active: bool,
    },
    /// The device is unusable until it is opened again.
    DeviceFatal,
    /// Another one, by its number in `enum ibv_event_type`.
    Other(u32),
}

//! The states of a queue pair, as types.

mod sealed {
    pub trait Sealed {}
}

/// The states that a [`QueuePair`](super::QueuePair)'s type may say.
pub trait QueuePairState: sealed::Sealed {}

/// A state that takes receive requests.
pub trait Receives: QueuePairState {}

/// A state that takes send requests.
pub trait Sends: QueuePairState {}

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;
        impl sealed::Sealed for $name {}
        impl QueuePairState for $name {}
    )*};
}

states! {
    /// Made; nothing works yet.
    Reset,
    /// Receive requests may be posted.
    Init,
    /// Packets are received and answered.
    ReadyToReceive,
    /// Everything works, until an error ends it.
    ReadyToSend,
    /// The send queue finishes what it had begun, and begins nothing else.
    Draining
}

impl Receives for Init {}
impl Receives for ReadyToReceive {}
impl Receives for ReadyToSend {}
impl Receives for Draining {}
impl Sends for ReadyToSend {}
impl Sends for Draining {}

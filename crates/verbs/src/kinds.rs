//! The transports of a queue pair and where it receives, as types.

use crate::options::TransportKind;

mod sealed {
    pub trait Sealed {}
}

/// A transport that a [`QueuePair`](crate::QueuePair)'s type may say.
pub trait Transport: sealed::Sealed {
    /// The transport as a value.
    const KIND: TransportKind;
}

/// A transport that connects one queue pair to one other.
pub trait Connected: Transport {}

/// Where a queue pair's messages are received.
pub trait ReceiveQueue: sealed::Sealed {}

macro_rules! transports {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}
        impl sealed::Sealed for $name {}
        impl Transport for $name {
            const KIND: TransportKind = TransportKind::$name;
        }
    )*};
}

transports! {
    /// Reliable connection: everything arrives once and in order, or the connection ends.
    Rc,
    /// Unreliable connection: SENDs and WRITEs complete when they are sent, and a message that loses a packet
    /// is lost.
    Uc,
    /// Unreliable datagram: SENDs of one packet each, to and from any queue pair that knows the Q_Key.
    Ud
}

impl Connected for Rc {}
impl Connected for Uc {}

/// A receive queue of the queue pair's own.
#[derive(Clone, Copy, Debug)]
pub enum Own {}
/// A [`SharedReceiveQueue`](crate::SharedReceiveQueue): requests are posted there.
#[derive(Clone, Copy, Debug)]
pub enum Shared {}

impl sealed::Sealed for Own {}
impl sealed::Sealed for Shared {}
impl ReceiveQueue for Own {}
impl ReceiveQueue for Shared {}

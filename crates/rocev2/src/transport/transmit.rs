//! What is known of a packet that was just written.

use crate::Psn;
use crate::work::AddressId;

/// A packet that [`super::QueuePair::poll_transmit`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes from the BTH through the pad. The ICRC goes behind them.
    pub len: usize,
    /// Where the packet goes.
    pub to: Destination,
    /// The packet's sequence number.
    pub psn: Psn,
    /// What the packet is.
    pub kind: PacketKind,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the queue pair's peer.
    Path,
    /// Where an address handle leads.
    Address(AddressId),
}

/// What a packet is, for those who send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A request, or a part of one.
    Request,
    /// Data that a READ asked for.
    ReadResponse,
    /// The result of an atomic.
    AtomicAcknowledge,
    /// An ACK or NAK.
    Acknowledge,
}

/// What leaves with one system call where the next packet begins a new one: whoever sends would rather have so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Bytes, headers included.
    pub bytes: u32,
    /// Packets.
    pub packets: u32,
    /// Whether packets whose headers differ in length leave together.
    pub mixes_headers: bool,
}

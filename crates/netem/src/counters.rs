//! What a link did so far.

/// How many packets a link took and what became of them.
///
/// At any moment `sent + duplicated == delivered + lost + dropped_by_queue + in flight`, where the last is
/// [`Link::in_flight`](crate::Link::in_flight).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets given to [`Link::send`](crate::Link::send).
    pub sent: u64,
    /// Packets returned by [`Link::recv`](crate::Link::recv), copies included.
    pub delivered: u64,
    /// Packets lost on the link.
    pub lost: u64,
    /// Packets that found the queue full.
    pub dropped_by_queue: u64,
    /// Delivered packets that a packet sent later overtook (RFC 4737, section 3: Type-P-Reordered).
    pub reordered: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Packets, copies included, with flipped bits.
    pub corrupted: u64,
}

//! Why a packet was dropped: counted by reason, so that an attack shows.

/// Why a well-formed packet changed nothing: first what a device finds before it knows the queue pair, then
/// what the queue pair itself finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// No valid ICRC.
    Icrc,
    /// No such queue pair here.
    UnknownQueuePair,
    /// The packet didn't come from the queue pair's peer, or not to the address that the queue pair uses.
    WrongAddress,
    /// Another partition.
    PartitionKey,
    /// The queue pair isn't ready for it.
    State,
    /// Not a packet that a queue pair of this type takes.
    Transport,
    /// A request behind the expected PSN: done before, acknowledged again.
    Duplicate,
    /// A request behind the expected PSN that matches nothing remembered.
    UnknownDuplicate,
    /// A READ that was asked for again, and has been answered again as often as one is.
    Repeated,
    /// A request ahead of the expected PSN: something was lost, or the PSN was guessed.
    OutOfSequence,
    /// A request that the protocol doesn't allow here, or that the queue pair's rights forbid.
    InvalidRequest,
    /// A request whose key, range or rights are wrong.
    RemoteAccess,
    /// A request that this side couldn't carry out.
    RemoteOperation,
    /// A SEND with no receive request waiting.
    ReceiverNotReady,
    /// A datagram with another queue key.
    QueueKey,
    /// A message that is longer than the receive request that it would take.
    ReceiveTooShort,
    /// An answer whose message sequence number can't be true.
    MessageNumber,
    /// An answer to what was answered before.
    StaleResponse,
    /// An answer to what was never sent.
    GhostResponse,
    /// A response that came too early: one before it was lost.
    ResponseGap,
    /// A response that doesn't fit its request.
    BadResponse,
}

impl DropReason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Icrc,
        Self::UnknownQueuePair,
        Self::WrongAddress,
        Self::PartitionKey,
        Self::State,
        Self::Transport,
        Self::Duplicate,
        Self::UnknownDuplicate,
        Self::Repeated,
        Self::OutOfSequence,
        Self::InvalidRequest,
        Self::RemoteAccess,
        Self::RemoteOperation,
        Self::ReceiverNotReady,
        Self::QueueKey,
        Self::ReceiveTooShort,
        Self::MessageNumber,
        Self::StaleResponse,
        Self::GhostResponse,
        Self::ResponseGap,
        Self::BadResponse,
    ];

    /// A name for a counter.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Icrc => "icrc",
            Self::UnknownQueuePair => "unknown_queue_pair",
            Self::WrongAddress => "wrong_address",
            Self::PartitionKey => "partition_key",
            Self::State => "wrong_state",
            Self::Transport => "wrong_transport",
            Self::Duplicate => "duplicate_request",
            Self::UnknownDuplicate => "unknown_duplicate_request",
            Self::Repeated => "repeated_too_often",
            Self::OutOfSequence => "out_of_sequence",
            Self::InvalidRequest => "invalid_request",
            Self::RemoteAccess => "remote_access",
            Self::RemoteOperation => "remote_operation",
            Self::ReceiverNotReady => "receiver_not_ready",
            Self::QueueKey => "queue_key",
            Self::ReceiveTooShort => "receive_too_short",
            Self::MessageNumber => "message_number",
            Self::StaleResponse => "stale_response",
            Self::GhostResponse => "ghost_response",
            Self::ResponseGap => "response_gap",
            Self::BadResponse => "bad_response",
        }
    }
}

//! What connected transports share: a message cut into packets, and one that arrives in packets.

use super::DropReason;
use crate::Mtu;
use crate::wire::{Headers, Operation, Reth};
use crate::work::{AtomicOperation, Memory, RecvRequest, SendOperation};

/// Where a packet stands in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) first: bool,
    pub(super) last: bool,
}

impl Place {
    pub(super) fn of(operation: Operation) -> Self {
        Self { first: operation.is_first_or_only(), last: operation.is_last_or_only() }
    }

    /// FIRST and MIDDLE packets are full; a LAST one is neither empty nor too long (rxe: check_length).
    pub(super) fn check_payload(self, len: usize, mtu: Mtu) -> Result<(), DropReason> {
        let full = mtu.bytes() as usize;
        let fits = match self {
            Self { last: false, .. } => len == full,
            Self { first: false, last: true } => (1..=full).contains(&len),
            Self { first: true, last: true } => len <= full,
        };
        if fits { Ok(()) } else { Err(DropReason::InvalidRequest) }
    }
}

/// The message that is arriving, between its first and its last packet.
pub(super) enum Arriving<M: Memory> {
    Send { request: RecvRequest<M::Buffers>, offset: u32 },
    Write { grant: Option<M::Grant>, len: u32, offset: u32 },
}

/// The extension headers of a SEND's or WRITE's packet.
#[inline]
pub(super) fn extend(headers: &mut Headers, operation: SendOperation, len: u32, place: Place) {
    match operation {
        SendOperation::SendImmediate(value) => headers.immediate = place.last.then_some(value),
        SendOperation::SendInvalidate(rkey) => headers.invalidate = place.last.then_some(rkey),
        SendOperation::Write(remote) => {
            headers.reth = place.first.then_some(Reth { va: remote.va, rkey: remote.rkey, len });
        }
        SendOperation::WriteImmediate(remote, value) => {
            headers.reth = place.first.then_some(Reth { va: remote.va, rkey: remote.rkey, len });
            headers.immediate = place.last.then_some(value);
        }
        _ => {}
    }
}

/// A packet's operation by its place in the message.
#[inline]
pub(super) fn operation(request: SendOperation, place: Place) -> Operation {
    use Operation as O;
    match (request, place.first, place.last) {
        (SendOperation::Read(_), ..) => O::ReadRequest,
        (SendOperation::Atomic(_, AtomicOperation::CompareSwap { .. }), ..) => O::CompareSwap,
        (SendOperation::Atomic(_, AtomicOperation::FetchAdd { .. }), ..) => O::FetchAdd,
        (SendOperation::Write(_) | SendOperation::WriteImmediate(..), true, false) => O::WriteFirst,
        (SendOperation::Write(_) | SendOperation::WriteImmediate(..), false, false) => O::WriteMiddle,
        (SendOperation::Write(_), true, true) => O::WriteOnly,
        (SendOperation::Write(_), false, true) => O::WriteLast,
        (SendOperation::WriteImmediate(..), true, true) => O::WriteOnlyImm,
        (SendOperation::WriteImmediate(..), false, true) => O::WriteLastImm,
        (_, true, false) => O::SendFirst,
        (_, false, false) => O::SendMiddle,
        (SendOperation::SendImmediate(_), true, true) => O::SendOnlyImm,
        (SendOperation::SendImmediate(_), false, true) => O::SendLastImm,
        (SendOperation::SendInvalidate(_), true, true) => O::SendOnlyInvalidate,
        (SendOperation::SendInvalidate(_), false, true) => O::SendLastInvalidate,
        // Nothing leaves for a local operation.
        (
            SendOperation::Send | SendOperation::BindWindow | SendOperation::LocalInvalidate(_),
            first,
            true,
        ) => {
            if first {
                O::SendOnly
            } else {
                O::SendLast
            }
        }
    }
}

//! No protection: messages and memory travel in clear.

use super::{Arrived, Edges, Partial, Protection, Received, Units, lent};
use crate::SessionError;
use crate::control::Fragments;
use crate::seal::Attempts;
use rdma_verbs::{MemoryRegion, SendRequest, Slice};

/// The immediate of a message's last fragment.
const LAST: u32 = 1;

/// An open data path: anybody on the network path can read and change it.
#[derive(Default)]
pub(in crate::session) struct Clear {
    fragments: Fragments,
}

impl Protection for Clear {
    fn overhead(&self) -> usize {
        0
    }

    fn shortest_text(&self) -> usize {
        1
    }

    fn fragment(&mut self, mut buffer: Slice, text: &[u8], last: bool) -> Result<SendRequest, SessionError> {
        buffer.fill(text)?;
        self.fragments.sent += 1;
        let request = SendRequest::send([buffer]);
        Ok(if last { request.immediate(LAST) } else { request })
    }

    fn take(&mut self, received: Received<'_>, message: &mut Partial) -> Result<Arrived, SessionError> {
        let Received { buffer, len, immediate } = received;
        let last = match immediate {
            None => false,
            Some(LAST) => true,
            Some(_) => {
                let what = "a message with an immediate that means nothing";
                return Err(SessionError::Protocol { what });
            }
        };
        message.make_room(len, last);
        message.append(lent(buffer, len)?);
        self.fragments.arrived += 1;
        Ok(Arrived::Fragment { last })
    }

    fn counts(&self) -> Fragments {
        self.fragments
    }

    fn numbers_requests(&self) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        false
    }

    fn announcement(&mut self, _buffer: Slice, _text: usize) -> Result<SendRequest, SessionError> {
        Err(SessionError::NoRegion)
    }

    fn units(&self) -> Units {
        Units::PLAIN
    }

    fn is_blank(&self, _unit: u64) -> bool {
        false
    }

    fn put(
        &mut self,
        buffer: &mut Slice,
        _at: u64,
        bytes: &[u8],
        _edges: &mut Edges,
    ) -> Result<(), SessionError> {
        Ok(buffer.fill(bytes)?)
    }

    fn get(&mut self, buffer: &mut Slice, _at: u64, out: &mut [u8]) -> Result<(), SessionError> {
        Ok(buffer.read(0, out)?)
    }

    fn get_local(
        &mut self,
        region: &MemoryRegion,
        at: u64,
        out: &mut [u8],
        _attempts: &mut Attempts,
    ) -> Result<usize, SessionError> {
        region.read(at, out)?;
        Ok(out.len())
    }

    fn outdated(&self, _first: u64) -> Option<u64> {
        None
    }
}

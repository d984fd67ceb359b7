//! What a stream's data and mapped buffers have in common: who sends, and by how long WRITEs.

use super::connect::establish;
use super::endpoint::Endpoint;
use super::socket::{Inner, Socket, reason};
use libc::{ECONNRESET, ENOTCONN, EPIPE, c_int, c_void};
use rocev2_rsocket::stream::{Ended, Stream};
use std::sync::{MutexGuard, PoisonError};

/// The first WRITE of a call, and the longest: the first ones are short, so that the peer begins to read early.
const FIRST: u32 = 2048;
const LONGEST: u32 = 65_536;

/// Sizes of the WRITEs that a call consists of.
struct Chunks(u32);

impl Chunks {
    fn new() -> Self {
        Self(FIRST)
    }

    /// How much to send next of what is left.
    fn next(&mut self, left: usize) -> u32 {
        let most = self.0;
        if (most as usize) < left {
            self.0 = (most * 2).min(LONGEST);
            most
        } else {
            u32::try_from(left).unwrap_or(most)
        }
    }
}

/// A part of a program's memory, which its calls lend.
#[derive(Clone, Copy)]
pub(super) struct Lent {
    pub(super) place: *mut u8,
    pub(super) len: usize,
}

impl Lent {
    pub(super) fn new(place: *const c_void, len: usize) -> Self {
        Self { place: place.cast_mut().cast(), len }
    }

    /// What is behind so many of its bytes.
    pub(super) fn behind(self, done: usize) -> Self {
        // SAFETY: within the memory, or at its end.
        Self { place: unsafe { self.place.add(done) }, len: self.len - done }
    }
}

pub(super) fn parts(inner: &mut Inner) -> Result<(&mut Stream, &Endpoint), c_int> {
    match (&mut inner.stream, &inner.endpoint) {
        (Some(stream), Some(endpoint)) => Ok((stream, endpoint)),
        _ => Err(ENOTCONN),
    }
}

/// Why nothing can be sent.
fn unwritable(stream: &Stream) -> c_int {
    match stream.ended() {
        None => EPIPE,
        Some(Ended::Disconnected) => ECONNRESET,
        Some(ended) => reason(ended),
    }
}

/// The turn to send: nobody else does meanwhile.
pub(super) struct Turn<'a> {
    socket: &'a Socket,
    is_patient: bool,
    _others_wait: MutexGuard<'a, ()>,
}

impl<'a> Turn<'a> {
    /// Waits until the rsocket is connected and nobody sends, and tells the peer of buffers that were mapped.
    pub(super) fn take(socket: &'a Socket, flags: c_int) -> Result<Self, c_int> {
        let is_patient = socket.is_patient(flags);
        establish(socket, is_patient)?;
        let turn = Self {
            socket,
            is_patient,
            _others_wait: socket.sending.lock().unwrap_or_else(PoisonError::into_inner),
        };
        turn.until(|inner| {
            let Inner { stream: Some(stream), endpoint: Some(endpoint), maps, .. } = inner else {
                return Some(Err(ENOTCONN));
            };
            maps.tell(stream, endpoint)
        })?;
        Ok(turn)
    }

    /// Waits until `test` says something, as long as anything can be sent.
    fn until<R>(&self, mut test: impl FnMut(&mut Inner) -> Option<Result<R, c_int>>) -> Result<R, c_int> {
        self.socket.until(self.is_patient, |inner| match &inner.stream {
            Some(stream) if !stream.is_writable() => Some(Err(unwritable(stream))),
            _ => test(inner),
        })
    }

    /// Sends `from` by one WRITE after the other. `write` makes one of what is left, of so many bytes at most, and says
    /// how many it has: none where there is no room for more; it says nothing where it has to wait. How much has been
    /// sent, and why not all.
    pub(super) fn send(
        &self,
        from: Lent,
        mut write: impl FnMut(&mut Stream, &Endpoint, Lent, u32) -> Option<Result<u32, c_int>>,
    ) -> (usize, Result<(), c_int>) {
        let (mut chunks, mut left) = (Chunks::new(), from);
        while left.len > 0 {
            let most = chunks.next(left.len);
            let sent = self.until(|inner| match parts(inner) {
                Ok((stream, endpoint)) => write(stream, endpoint, left, most),
                Err(error) => Some(Err(error)),
            });
            match sent {
                Ok(0) => break,
                Ok(sent) => left = left.behind(sent as usize),
                Err(error) => return (from.len - left.len, Err(error)),
            }
        }
        (from.len - left.len, Ok(()))
    }
}

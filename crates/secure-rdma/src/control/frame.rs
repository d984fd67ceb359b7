//! Records in frames, without I/O: what has come so far, what is still to go.

use core::time::Duration;

use tokio::time::Instant;
use zeroize::{Zeroize, Zeroizing};

use super::record::LARGEST;
use super::{ControlError, EncodeError, Record};

/// The longest record in bytes, the frame's length field not counted. Far more than any record of this version takes.
pub const MAX_RECORD: usize = 16 * 1024;

/// How long a record may take from its first byte to its last, unless the channel is told otherwise.
pub const RECORD_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a frame's length field.
const HEADER: usize = 4;

/// What a receiver has to do next.
pub(super) enum Step {
    /// Read at most so many bytes (1 or more) into [`Inbound::buffer`].
    Read(usize),
    /// Nothing: this record is complete.
    Done(Record),
}

/// The frame that is being received. All of a receiver's state is here, so that dropping the future that
/// reads loses nothing.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The frame so far; never a byte of the next one. Erased after each record, because records carry secrets.
    pub(super) buffer: Zeroizing<Vec<u8>>,
    /// When the frame has to be complete; set by its first byte and by nothing later, however often the
    /// reader starts anew.
    due: Option<Instant>,
    limit: Duration,
}

impl Inbound {
    pub(super) fn new(limit: Duration) -> Self {
        Self { buffer: empty(), due: None, limit }
    }

    pub(super) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Looks at what has come.
    pub(super) fn step(&mut self) -> Result<Step, ControlError> {
        let Some((header, record)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(Step::Read(HEADER - self.buffer.len()));
        };
        let announced = u32::from_be_bytes(*header);
        let length = announced as usize;
        if length > MAX_RECORD {
            return Err(ControlError::TooLong(announced));
        }
        if record.len() < length {
            return Ok(Step::Read(length - record.len()));
        }
        let record = Record::decode(record);
        self.reset();
        Ok(Step::Done(record?))
    }

    /// When the frame under way has to be complete, and how long that was from its first byte.
    pub(super) fn due(&self) -> Option<(Instant, Duration)> {
        self.due.map(|due| (due, self.limit))
    }

    /// Bytes came at `now`.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.due.get_or_insert(now + self.limit);
    }

    /// The error that the end of the stream is, here.
    pub(super) fn ended(&self, missing: usize) -> ControlError {
        match self.buffer.len() {
            0 => ControlError::Closed,
            have => ControlError::Truncated { have, missing },
        }
    }

    fn reset(&mut self) {
        self.due = None;
        clear(&mut self.buffer);
    }
}

/// The frames that are being sent: mostly one. Their state is here, so that dropping the future that writes
/// never leaves half a frame behind: the next one goes on where it stopped.
#[derive(Debug)]
pub(super) struct Outbound {
    /// Erased when it has gone out.
    pub(super) frame: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self { frame: empty(), sent: 0 }
    }

    /// Makes `records` the frames to send, all or, if one can't be encoded, none. Only after the last ones went out.
    pub(super) fn put(&mut self, records: &[Record]) -> Result<(), EncodeError> {
        debug_assert!(self.frame.is_empty(), "the last frame is still under way");
        // Room for all of them first, so that none is moved and left behind.
        let room = records.len() * (HEADER + LARGEST);
        if self.frame.capacity() < room {
            self.frame = Zeroizing::new(Vec::with_capacity(room));
        }
        for record in records {
            if let Err(error) = self.push(record) {
                clear(&mut self.frame);
                return Err(error);
            }
        }
        Ok(())
    }

    fn push(&mut self, record: &Record) -> Result<(), EncodeError> {
        let bytes = record.encode()?;
        let length = u32::try_from(bytes.len()).map_err(|_| EncodeError::Cbor("too long".into()))?;
        self.frame.extend_from_slice(&length.to_be_bytes());
        self.frame.extend_from_slice(&bytes);
        Ok(())
    }

    /// What is left to send.
    pub(super) fn rest(&self) -> &[u8] {
        &self.frame[self.sent..]
    }

    /// `count` more bytes went out.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// The frames went out whole.
    pub(super) fn finish(&mut self) {
        self.sent = 0;
        clear(&mut self.frame);
    }
}

/// A buffer that holds any record of this version without being moved.
fn empty() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(HEADER + LARGEST))
}

/// Erases a buffer, and gives back what a long record made it grow by.
fn clear(buffer: &mut Zeroizing<Vec<u8>>) {
    buffer.zeroize();
    if buffer.capacity() > HEADER + LARGEST {
        *buffer = empty();
    }
}

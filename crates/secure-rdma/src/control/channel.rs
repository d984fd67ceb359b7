//! Records over a byte stream.

use core::slice;
use core::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout_at};

use super::frame::{Inbound, Outbound, RECORD_LIMIT, Step};
use super::{ControlError, Record};

/// A control channel over `T`, a TLS stream or anything else that carries bytes both ways.
///
/// Every method may be dropped at any point, as `select!` does, and called again: receiving goes on where it
/// stopped, and a frame that was partly written is completed before the next one begins.
///
/// There are two time limits. Each step has the one that its caller gives ([`recv_within`](Self::recv_within)
/// and its like). And a record has to be complete [`RECORD_LIMIT`] after its first byte, whichever steps that
/// spans: a peer that sends a byte now and then gains nothing.
#[derive(Debug)]
pub struct ControlChannel<T> {
    io: T,
    inbound: Inbound,
    outbound: Outbound,
}

impl<T: AsyncRead + AsyncWrite + Unpin> ControlChannel<T> {
    /// A channel over `io`, at the beginning of a frame in both directions.
    pub fn new(io: T) -> Self {
        Self { io, inbound: Inbound::new(RECORD_LIMIT), outbound: Outbound::new() }
    }

    /// The same with another limit than [`RECORD_LIMIT`], for records of which no byte came yet.
    #[must_use]
    pub fn with_record_limit(mut self, limit: Duration) -> Self {
        self.inbound.set_limit(limit);
        self
    }

    /// The stream beneath, to ask it something. Reading or writing there breaks the channel.
    pub const fn get_ref(&self) -> &T {
        &self.io
    }

    /// The next record, however long it takes to begin.
    ///
    /// # Errors
    /// [`ControlError::Closed`] at an orderly end, any other if the peer or the connection misbehaved.
    pub async fn recv(&mut self) -> Result<Record, ControlError> {
        recv(&mut self.io, &mut self.inbound).await
    }

    /// The next record, if it is complete within `limit`.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), and [`ControlError::TimedOut`].
    pub async fn recv_within(&mut self, limit: Duration) -> Result<Record, ControlError> {
        self.recv_by(Instant::now() + limit).await
    }

    /// The next record, if it is complete by `deadline`: for steps that take several calls.
    ///
    /// # Errors
    /// As [`recv_within`](Self::recv_within).
    pub async fn recv_by(&mut self, deadline: Instant) -> Result<Record, ControlError> {
        by(deadline, self.recv()).await
    }

    /// Sends `record`, after what is left of the record before it. If the future is dropped, the record is
    /// sent by the next call or not at all, never in part.
    ///
    /// # Errors
    /// [`ControlError::Encode`] if it is one that the peer would refuse, [`ControlError::Io`] if the connection fails.
    pub async fn send(&mut self, record: &Record) -> Result<(), ControlError> {
        send(&mut self.io, &mut self.outbound, slice::from_ref(record)).await
    }

    /// Sends `record`, if the peer takes it within `limit`: a peer that stops reading stops this side's writing.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ControlError::TimedOut`].
    pub async fn send_within(&mut self, record: &Record, limit: Duration) -> Result<(), ControlError> {
        by(Instant::now() + limit, self.send(record)).await
    }

    /// Sends `records` one behind the other, as if they were one: in one write where the connection takes so
    /// much, which saves system calls and wakes the peer once. All of them or none, as [`send`](Self::send)
    /// says of one, if the peer takes them within `limit`.
    ///
    /// # Errors
    /// As [`send_within`](Self::send_within).
    pub async fn send_all_within(&mut self, records: &[Record], limit: Duration) -> Result<(), ControlError> {
        by(Instant::now() + limit, send(&mut self.io, &mut self.outbound, records)).await
    }

    /// Sends what is left and closes this side's direction, over TLS with `close_notify`.
    ///
    /// # Errors
    /// If the connection fails, or on [`ControlError::TimedOut`] after `limit`.
    pub async fn shutdown_within(&mut self, limit: Duration) -> Result<(), ControlError> {
        by(Instant::now() + limit, shutdown(&mut self.io, &mut self.outbound)).await
    }

    /// The two directions, to be used by two tasks.
    pub fn into_split(self) -> (ControlReader<ReadHalf<T>>, ControlWriter<WriteHalf<T>>) {
        let (read, write) = tokio::io::split(self.io);
        (
            ControlReader { io: read, inbound: self.inbound },
            ControlWriter { io: write, outbound: self.outbound },
        )
    }
}

/// The receiving half of a [`ControlChannel`].
#[derive(Debug)]
pub struct ControlReader<R> {
    io: R,
    inbound: Inbound,
}

impl<R: AsyncRead + Unpin> ControlReader<R> {
    /// See [`ControlChannel::recv`].
    ///
    /// # Errors
    /// The same.
    pub async fn recv(&mut self) -> Result<Record, ControlError> {
        recv(&mut self.io, &mut self.inbound).await
    }

    /// See [`ControlChannel::recv_within`].
    ///
    /// # Errors
    /// The same.
    pub async fn recv_within(&mut self, limit: Duration) -> Result<Record, ControlError> {
        self.recv_by(Instant::now() + limit).await
    }

    /// See [`ControlChannel::recv_by`].
    ///
    /// # Errors
    /// The same.
    pub async fn recv_by(&mut self, deadline: Instant) -> Result<Record, ControlError> {
        by(deadline, self.recv()).await
    }
}

/// The sending half of a [`ControlChannel`].
#[derive(Debug)]
pub struct ControlWriter<W> {
    io: W,
    outbound: Outbound,
}

impl<W: AsyncWrite + Unpin> ControlWriter<W> {
    /// See [`ControlChannel::send`].
    ///
    /// # Errors
    /// The same.
    pub async fn send(&mut self, record: &Record) -> Result<(), ControlError> {
        send(&mut self.io, &mut self.outbound, slice::from_ref(record)).await
    }

    /// See [`ControlChannel::send_within`].
    ///
    /// # Errors
    /// The same.
    pub async fn send_within(&mut self, record: &Record, limit: Duration) -> Result<(), ControlError> {
        by(Instant::now() + limit, self.send(record)).await
    }

    /// See [`ControlChannel::shutdown_within`].
    ///
    /// # Errors
    /// The same.
    pub async fn shutdown_within(&mut self, limit: Duration) -> Result<(), ControlError> {
        by(Instant::now() + limit, shutdown(&mut self.io, &mut self.outbound)).await
    }
}

async fn by<T>(
    deadline: Instant,
    step: impl Future<Output = Result<T, ControlError>>,
) -> Result<T, ControlError> {
    timeout_at(deadline, step).await.unwrap_or(Err(ControlError::TimedOut))
}

async fn recv<R: AsyncRead + Unpin>(io: &mut R, inbound: &mut Inbound) -> Result<Record, ControlError> {
    loop {
        let missing = match inbound.step()? {
            Step::Done(record) => return Ok(record),
            Step::Read(missing) => missing,
        };
        let due = inbound.due();
        // `read_buf` either has put what it read into the buffer or has read nothing. It makes room as bytes
        // come, whatever is missing.
        let mut rest_of_frame = io.take(missing as u64);
        let read = rest_of_frame.read_buf(&mut *inbound.buffer);
        let count = match due {
            None => read.await?,
            Some((due, limit)) => timeout_at(due, read).await.map_err(|_| ControlError::Overdue(limit))??,
        };
        if count == 0 {
            return Err(inbound.ended(missing));
        }
        inbound.arrived(Instant::now());
    }
}

async fn send<W: AsyncWrite + Unpin>(
    io: &mut W,
    outbound: &mut Outbound,
    records: &[Record],
) -> Result<(), ControlError> {
    flush(io, outbound).await?;
    outbound.put(records)?;
    flush(io, outbound).await
}

async fn flush<W: AsyncWrite + Unpin>(io: &mut W, outbound: &mut Outbound) -> Result<(), ControlError> {
    while !outbound.rest().is_empty() {
        match io.write(outbound.rest()).await? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into()),
            count => outbound.advance(count),
        }
    }
    io.flush().await?;
    outbound.finish();
    Ok(())
}

async fn shutdown<W: AsyncWrite + Unpin>(io: &mut W, outbound: &mut Outbound) -> Result<(), ControlError> {
    flush(io, outbound).await?;
    Ok(io.shutdown().await?)
}

#[cfg(test)]
mod tests;

//! A session as a stream of bytes.
//!
//! What is written leaves as messages; an empty one ends a direction, as TCP's FIN does. Where the peer doesn't read,
//! its session takes no more messages after a bound, and writing waits: that is the flow control.
//!
//! Both directions share the session, and the one that receives lets go of it only when it is polled. So whoever reads
//! or writes drives both, and both are woken where something happens.

use super::{RecvHalf, SendHalf, Session, SessionInfo};
use crate::{SessionError, SessionErrorKind};
use atomic_waker::AtomicWaker;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Wake;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use zeroize::Zeroize;

/// Bytes of a message at most, and bytes that may wait behind it.
const PIECE: usize = 64 << 10;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Receives = Boxed<(RecvHalf, Result<Option<Vec<u8>>, SessionError>)>;
type Sends = Boxed<(SendHalf, Vec<u8>, Result<(), SessionError>)>;

/// A session as a stream of bytes: [`Session::into_stream`].
///
/// It reads and writes as tokio's `TcpStream` does: what is written leaves without a flush, unless the peer has to be
/// waited for; then it leaves when somebody reads, writes or flushes. [`shutdown`](AsyncWriteExt::shutdown) ends this
/// side's direction only, when the peer's queue pair has all of it. The peer then reads the end. Where the connection
/// breaks before, or is cut by somebody on the path, that is an error and never an end: no bytes are lost unnoticed.
///
/// Errors of the session are inside those of [`io`]. Dropping the stream ends the connection at once: what the peer has
/// sent and nobody has read is lost, and the peer learns that its side of the stream failed, unless both have ended.
pub struct SessionStream {
    reader: Reader,
    writer: Writer,
    info: SessionInfo,
    wakers: Arc<Wakers>,
    /// Wakes both.
    waker: Waker,
}

struct Reader {
    /// Here unless it is receiving.
    half: Option<RecvHalf>,
    receives: Option<Receives>,
    /// A message, and how much of it was read.
    message: Vec<u8>,
    read: usize,
    /// No message comes any more: the peer has ended its direction, or the session has failed.
    ended: Option<Result<(), SessionError>>,
}

struct Writer {
    /// Here unless it is sending.
    half: Option<SendHalf>,
    sends: Option<Sends>,
    /// What was written and isn't a message yet.
    pending: Vec<u8>,
    /// The buffer of the message before.
    spare: Vec<u8>,
    finish: Finish,
    failed: Option<SessionError>,
}

/// Of this side's direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Open,
    /// It ends behind what is pending.
    Wanted,
    /// The last message is under way, or has arrived.
    Said,
}

/// Whoever reads and whoever writes.
#[derive(Default)]
struct Wakers {
    reads: AtomicWaker,
    writes: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.reads.wake();
        self.writes.wake();
    }
}

impl Session {
    /// Makes it a stream of bytes. Both sides have to, at the same point of what they say to each other.
    #[must_use = "dropping it ends the connection at once"]
    pub fn into_stream(self) -> SessionStream {
        let info = self.info.clone();
        let (send, recv) = self.split();
        let wakers = Arc::new(Wakers::default());
        SessionStream {
            reader: Reader { half: Some(recv), receives: None, message: Vec::new(), read: 0, ended: None },
            writer: Writer {
                half: Some(send),
                sends: None,
                pending: Vec::new(),
                spare: Vec::new(),
                finish: Finish::Open,
                failed: None,
            },
            info,
            waker: Arc::clone(&wakers).into(),
            wakers,
        }
    }
}

impl SessionStream {
    /// What is known of the session.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// Ends this side's direction, waits for the peer's end, and [closes](Session::close) the session, which proves to
    /// both that all has arrived. What comes meanwhile is lost; the peer has to close its stream, too.
    ///
    /// # Errors
    /// One of that failed. All is freed in any case.
    pub async fn close(mut self) -> io::Result<()> {
        self.shutdown().await?;
        let mut lost = [0; 4096];
        while self.read(&mut lost).await? > 0 {}
        // With both directions ended, nothing is under way.
        let (Some(recv), Some(send)) = (self.reader.half.take(), self.writer.half.take()) else {
            return Err(io_error(&SessionError::Closed));
        };
        let session = send.reunite(recv).map_err(io::Error::other)?;
        session.close().await.map_err(|error| io_error(&error))
    }

    /// Goes on with both directions as far as that is possible now. Who doesn't read needn't wait as long as receiving
    /// polls for messages: it is only asked to let go of the session.
    fn drive(&mut self, reads: bool) {
        let mut cx = Context::from_waker(&self.waker);
        while self.writer.step(&mut cx) {}
        if (reads || self.writer.sends.is_some()) && self.reader.step(&mut cx) {
            self.wakers.reads.wake();
        }
        // The other may have let go of the session just now.
        while self.writer.step(&mut cx) {}
    }

    /// How many bytes can be written now.
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.wakers.writes.register(cx.waker());
        self.drive(false);
        let Writer { pending, finish, failed, .. } = &self.writer;
        if let Some(error) = failed {
            return Poll::Ready(Err(io_error(error)));
        }
        if *finish != Finish::Open {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "this side was shut down")));
        }
        match PIECE.saturating_sub(pending.len()) {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(room)),
        }
    }
}

impl Reader {
    /// Receives, if everything was read; whether that has changed what there is to read.
    fn step(&mut self, cx: &mut Context<'_>) -> bool {
        if self.read < self.message.len() || self.ended.is_some() {
            return false;
        }
        if let Some(mut half) = self.half.take() {
            self.receives = Some(Box::pin(async move {
                let result = half.recv().await;
                (half, result)
            }));
        }
        let Some(receives) = &mut self.receives else { return false };
        let Poll::Ready((half, result)) = receives.as_mut().poll(cx) else { return false };
        (self.half, self.receives) = (Some(half), None);
        self.message.clear();
        self.read = 0;
        match result {
            Ok(Some(message)) if message.is_empty() => self.ended = Some(Ok(())),
            Ok(Some(message)) => self.message = message,
            // The peer has closed the session without an end of the stream.
            Ok(None) => self.ended = Some(Err(SessionError::Closed)),
            Err(error) => self.ended = Some(Err(error)),
        }
        true
    }
}

impl Writer {
    /// Makes one step; whether there may be another.
    fn step(&mut self, cx: &mut Context<'_>) -> bool {
        if self.failed.is_some() {
            return false;
        }
        if let Some(sends) = &mut self.sends {
            let Poll::Ready((half, mut message, result)) = sends.as_mut().poll(cx) else { return false };
            message.clear();
            (self.half, self.sends, self.spare, self.failed) = (Some(half), None, message, result.err());
            return true;
        }
        let last = self.pending.is_empty();
        if last && self.finish != Finish::Wanted {
            return false;
        }
        let Some(mut half) = self.half.take() else { return false };
        let message = core::mem::replace(&mut self.pending, core::mem::take(&mut self.spare));
        if last {
            self.finish = Finish::Said;
        }
        self.sends = Some(Box::pin(async move {
            // The end has arrived when it is acknowledged.
            let result = if last { half.send(&message).await } else { half.post_send(&message).await };
            (half, message, result)
        }));
        true
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.wakers.reads.register(cx.waker());
        self.drive(true);
        let Reader { message, read, ended, .. } = &mut self.reader;
        let rest = message.get(*read..).unwrap_or_default();
        if !rest.is_empty() || out.remaining() == 0 {
            let len = rest.len().min(out.remaining());
            out.put_slice(&rest[..len]);
            *read += len;
            return Poll::Ready(Ok(()));
        }
        match ended {
            Some(Ok(())) => Poll::Ready(Ok(())),
            Some(Err(error)) => Poll::Ready(Err(io_error(error))),
            None => Poll::Pending,
        }
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = match self.poll_room(cx)? {
            Poll::Ready(room) => room,
            Poll::Pending => return Poll::Pending,
        };
        let mut left = room;
        for slice in slices {
            let len = slice.len().min(left);
            self.writer.pending.extend_from_slice(&slice[..len]);
            left -= len;
        }
        self.drive(false);
        Poll::Ready(Ok(room - left))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wakers.writes.register(cx.waker());
        self.drive(false);
        let Writer { sends, pending, failed, .. } = &self.writer;
        match failed {
            Some(error) => Poll::Ready(Err(io_error(error))),
            None if sends.is_some() || !pending.is_empty() => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writer.finish == Finish::Open {
            self.writer.finish = Finish::Wanted;
        }
        self.poll_flush(cx)
    }
}

impl Drop for SessionStream {
    /// Wipes what nobody has read, and what hasn't left, as a session does. What was read or sent is the program's.
    fn drop(&mut self) {
        for bytes in [&mut self.reader.message, &mut self.writer.pending, &mut self.writer.spare] {
            bytes.zeroize();
        }
    }
}

fn io_error(error: &SessionError) -> io::Error {
    let kind = match error.kind() {
        SessionErrorKind::TimedOut => io::ErrorKind::TimedOut,
        SessionErrorKind::Closed => io::ErrorKind::ConnectionReset,
        SessionErrorKind::Refused => io::ErrorKind::PermissionDenied,
        SessionErrorKind::NotAuthentic | SessionErrorKind::Protocol => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.clone())
}

impl fmt::Debug for SessionStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStream").field("info", &self.info).finish_non_exhaustive()
    }
}

//! A control channel's bytes: in whatever pieces they come, and however often its reader starts anew, the
//! same records come out as from all of them at once.

use crate::input::Input;
use secure_rdma::control::{ControlChannel, ControlError, MAX_RECORD, Record};
use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    // The channel asks for time limits; none is met here.
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let pieces = input.piece();
    let stream = input.rest();
    RUNTIME.with(|runtime| {
        let _time = runtime.enter();
        let mut channel = ControlChannel::new(Peer { stream, pieces, at: 0, sent: RefCell::default() });
        let mut rest = stream;
        while let Some(expected) = next(&mut rest) {
            let found = received(&mut channel);
            assert_eq!(found.as_ref().map_err(kind), expected.as_ref().map_err(|kind| *kind));
            let Ok(record) = found else { break };
            sent(&mut channel, &record);
        }
    });
}

/// What the channel makes of the next bytes: a record, or a kind of error.
fn next(rest: &mut &[u8]) -> Option<Result<Record, &'static str>> {
    let Some((header, behind)) = rest.split_first_chunk() else {
        return Some(Err(if rest.is_empty() { "closed" } else { "truncated" }));
    };
    let length = u32::from_be_bytes(*header) as usize;
    if length > MAX_RECORD {
        return Some(Err("too long"));
    }
    let Some((record, behind)) = behind.split_at_checked(length) else { return Some(Err("truncated")) };
    *rest = behind;
    Some(Record::decode(record).map_err(|_| "decode"))
}

fn kind(error: &ControlError) -> &'static str {
    match error {
        ControlError::Closed => "closed",
        ControlError::Truncated { .. } => "truncated",
        ControlError::TooLong(_) => "too long",
        ControlError::Decode(_) => "decode",
        _ => "another",
    }
}

/// The channel's next record. Whenever nothing has come, its future is dropped and made anew.
fn received(channel: &mut ControlChannel<Peer<'_>>) -> Result<Record, ControlError> {
    loop {
        let next = pin!(channel.recv());
        if let Poll::Ready(result) = next.poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

/// Has the channel send `record`, and checks what went out.
fn sent(channel: &mut ControlChannel<Peer<'_>>, record: &Record) {
    {
        let send = pin!(channel.send(record));
        let result = send.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(result, Poll::Ready(Ok(()))), "the peer takes everything at once");
    }
    let bytes = channel.get_ref().sent.take();
    let (header, body) = bytes.split_first_chunk().expect("a frame");
    assert_eq!(u32::from_be_bytes(*header) as usize, body.len());
    assert_eq!(Record::decode(body).as_ref(), Ok(record));
}

/// The other end: gives its bytes in pieces, with nothing between them.
struct Peer<'a> {
    stream: &'a [u8],
    /// How long the pieces are, over and over; 0 is a pause.
    pieces: &'a [u8],
    at: usize,
    sent: RefCell<Vec<u8>>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Were all of them pauses, nothing would ever come.
        let moves = self.pieces.iter().any(|piece| *piece != 0);
        let piece = if moves { usize::from(self.pieces[self.at % self.pieces.len()]) } else { usize::MAX };
        self.at += 1;
        if piece == 0 {
            return Poll::Pending;
        }
        let (now, later) = self.stream.split_at(piece.min(out.remaining()).min(self.stream.len()));
        out.put_slice(now);
        self.stream = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.sent.borrow_mut().extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

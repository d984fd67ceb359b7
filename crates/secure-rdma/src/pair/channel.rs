//! Frames: a byte that says how long a message is, and the message.

use super::PairError;
use super::message::{LONGEST, Message};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

/// How long an answer may take, and how long the peer may leave what is written unread.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// A connection to another agent, after its handshake.
#[derive(Debug)]
pub(super) struct Channel {
    stream: TlsStream<TcpStream>,
    /// The frame that is being received: its length and its bytes, as far as they have come.
    frame: [u8; 1 + LONGEST],
    have: usize,
}

impl Channel {
    pub(super) fn new(stream: TlsStream<TcpStream>) -> Self {
        Self { stream, frame: [0; 1 + LONGEST], have: 0 }
    }

    pub(super) fn tls(&self) -> &TlsStream<TcpStream> {
        &self.stream
    }

    pub(super) async fn send(&mut self, message: Message) -> Result<(), PairError> {
        let bytes = message.to_bytes();
        let len = u8::try_from(bytes.len()).map_err(|_| PairError::Protocol)?;
        let write = async {
            self.stream.write_all(&[&[len], &bytes[..]].concat()).await?;
            self.stream.flush().await
        };
        match timeout(STEP, write).await {
            Ok(written) => written.map_err(|error| PairError::Closed(Some(error))),
            Err(_) => Err(PairError::TimedOut(STEP)),
        }
    }

    /// The next message. Cancelling loses nothing.
    pub(super) async fn receive(&mut self) -> Result<Message, PairError> {
        loop {
            let want = match self.have {
                0 => 1,
                _ => 1 + usize::from(self.frame[0]),
            };
            if want > self.frame.len() || want == 1 && self.have > 0 {
                return Err(PairError::Protocol);
            }
            if self.have == want && want > 1 {
                self.have = 0;
                return Message::from_bytes(&self.frame[1..want]).ok_or(PairError::Protocol);
            }
            match self.stream.read(&mut self.frame[self.have..want]).await {
                Ok(0) => return Err(PairError::Closed(None)),
                Ok(count) => self.have += count,
                // Whoever ends a program doesn't say goodbye.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(PairError::Closed(None));
                }
                Err(error) => return Err(PairError::Closed(Some(error))),
            }
        }
    }

    /// The next message, which has to come soon.
    pub(super) async fn answer(&mut self) -> Result<Message, PairError> {
        timeout(STEP, self.receive()).await.unwrap_or(Err(PairError::TimedOut(STEP)))
    }
}

//! A session in two halves that tasks can own: one sends and does everything else, the other receives.

use super::data::Handover;
use super::{Session, SessionInfo};
use crate::SessionError;
use rdma_verbs::RemoteRegion;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

/// What the two halves share. One task at a time works on the session; what it receives meanwhile is handed over to
/// the one that takes messages.
struct Shared {
    session: Mutex<Session>,
    handover: Arc<Handover>,
    info: SessionInfo,
    region: Option<RemoteRegion>,
    data_len: u64,
    counters: u64,
}

/// The half of a session that sends, writes and reads: [`Session::split`].
///
/// Its methods are those of [`Session`], and may be cancelled as these. Dropping it leaves the other half, which goes
/// on receiving; dropping both ends the connection at once.
pub struct SendHalf(Arc<Shared>);

/// The half of a session that receives messages: [`Session::split`].
///
/// Dropping it leaves the other half. What the peer sends then is kept until it is too much, and the peer waits.
pub struct RecvHalf(Arc<Shared>);

/// Two halves that aren't of one session. They are given back.
#[derive(Debug, thiserror::Error)]
#[error("the two halves aren't of one session")]
pub struct ReuniteError(pub SendHalf, pub RecvHalf);

impl Shared {
    /// The session, for a task that has something to do with it.
    async fn session(&self) -> MutexGuard<'_, Session> {
        let _wish = self.handover.wish();
        self.session.lock().await
    }
}

impl Session {
    /// Splits it into a half that sends, writes and reads, and one that receives, so that one task can do the one
    /// while another does the other. [`SendHalf::reunite`] puts them together again, to [close](Self::close) it.
    #[must_use = "dropping both halves ends the connection at once"]
    pub fn split(mut self) -> (SendHalf, RecvHalf) {
        let handover = self.data.hand_over();
        let shared = Arc::new(Shared {
            handover,
            info: self.info.clone(),
            region: self.remote_region(),
            data_len: self.data_len(),
            counters: self.counters(),
            session: Mutex::new(self),
        });
        (SendHalf(Arc::clone(&shared)), RecvHalf(shared))
    }
}

impl RecvHalf {
    /// What is known of the session.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.0.info
    }

    /// The next message, as [`Session::recv`]. Cancelling loses none.
    ///
    /// # Errors
    /// The session is over.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        let shared = &*self.0;
        loop {
            if let Some(message) = shared.handover.take() {
                return Ok(Some(message));
            }
            let mut session = tokio::select! {
                biased;
                () = shared.handover.came() => continue,
                session = shared.session.lock() => session,
            };
            tokio::select! {
                biased;
                result = session.recv() => return result,
                () = shared.handover.wanted() => {}
            }
        }
    }
}

impl SendHalf {
    /// What is known of the session.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.0.info
    }

    /// As [`Session::remote_region`].
    #[must_use]
    pub fn remote_region(&self) -> Option<RemoteRegion> {
        self.0.region
    }

    /// As [`Session::data_len`].
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.0.data_len
    }

    /// As [`Session::counters`].
    #[must_use]
    pub fn counters(&self) -> u64 {
        self.0.counters
    }

    /// Sends a message, as [`Session::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.0.session().await.send(message).await
    }

    /// Posts a message, as [`Session::post_send`].
    ///
    /// # Errors
    /// As there.
    pub async fn post_send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.0.session().await.post_send(message).await
    }

    /// Posts messages, as [`Session::post_sends`].
    ///
    /// # Errors
    /// As there.
    pub async fn post_sends<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SessionError> {
        self.0.session().await.post_sends(messages).await
    }

    /// Waits until the peer's queue pair has all that was posted, as [`Session::flush`].
    ///
    /// # Errors
    /// As there.
    pub async fn flush(&mut self) -> Result<(), SessionError> {
        self.0.session().await.flush().await
    }

    /// Writes into the client's region of the server, as [`Session::write`].
    ///
    /// # Errors
    /// As there.
    pub async fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        self.0.session().await.write(offset, bytes).await
    }

    /// Posts a write, as [`Session::post_write`].
    ///
    /// # Errors
    /// As there.
    pub async fn post_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        self.0.session().await.post_write(offset, bytes).await
    }

    /// Reads the client's region of the server, as [`Session::read`].
    ///
    /// # Errors
    /// As there.
    pub async fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, SessionError> {
        self.0.session().await.read(offset, len).await
    }

    /// Posts a read, as [`Session::post_read`].
    ///
    /// # Errors
    /// As there.
    pub async fn post_read(&mut self, offset: u64, len: usize) -> Result<(), SessionError> {
        self.0.session().await.post_read(offset, len).await
    }

    /// Posts a read into `buffer`, as [`Session::post_read_into`].
    ///
    /// # Errors
    /// As there.
    pub async fn post_read_into(&mut self, offset: u64, buffer: Vec<u8>) -> Result<(), SessionError> {
        self.0.session().await.post_read_into(offset, buffer).await
    }

    /// What the oldest posted read has brought, as [`Session::next_read`].
    ///
    /// # Errors
    /// As there.
    pub async fn next_read(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.0.session().await.next_read().await
    }

    /// Copies what the client has written, on the server, as [`Session::read_local`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_local(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, SessionError> {
        self.0.session().await.read_local(offset, len).await
    }

    /// Adds to a counter, as [`Session::fetch_add`].
    ///
    /// # Errors
    /// As there.
    pub async fn fetch_add(&mut self, counter: u64, add: u64) -> Result<u64, SessionError> {
        self.0.session().await.fetch_add(counter, add).await
    }

    /// Compares and swaps a counter, as [`Session::compare_swap`].
    ///
    /// # Errors
    /// As there.
    pub async fn compare_swap(&mut self, counter: u64, compare: u64, swap: u64) -> Result<u64, SessionError> {
        self.0.session().await.compare_swap(counter, compare, swap).await
    }

    /// The session, whole again.
    ///
    /// # Errors
    /// `recv` is another session's half.
    pub fn reunite(self, recv: RecvHalf) -> Result<Session, ReuniteError> {
        if !Arc::ptr_eq(&self.0, &recv.0) {
            return Err(ReuniteError(self, recv));
        }
        drop(recv);
        let Some(shared) = Arc::into_inner(self.0) else {
            unreachable!("a session has two halves, which can't be cloned");
        };
        let mut session = shared.session.into_inner();
        session.data.take_back();
        Ok(session)
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf").field("info", &self.0.info).finish_non_exhaustive()
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvHalf").field("info", &self.0.info).finish_non_exhaustive()
    }
}

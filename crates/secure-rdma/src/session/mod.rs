//! Sessions: a queue pair that was set up inside TLS, and what its two ends do with it.
//!
//! | file | what it holds |
//! |---|---|
//! | `bootstrap` | what is exchanged inside TLS until both queue pairs are in RTS |
//! | `path` | where the peer may be sent to |
//! | `packets` | whether packets are sealed, and new keys for them |
//! | `association` | what seals them: the embedded device, or the kernel |
//! | `sharing` | associations of several sessions: a kernel has one for each pair of addresses |
//! | `data` | messages and one-sided operations over the queue pair, in clear and sealed |
//! | `keeper` | the control channel afterwards: heartbeat, errors, the three-step close |
//! | `memory` | sizes of what a session holds and offers |
//! | `options` | what a side wants of its sessions |
//! | `split` | a session in two halves that tasks can own |
//! | `stream` | a session as a stream of bytes |

mod association;
mod bootstrap;
mod data;
mod keeper;
mod memory;
mod options;
mod packets;
mod path;
mod sharing;
mod split;
mod stream;

pub use memory::{Buffers, CounterPolicy};
pub use options::{SessionOptions, Timeouts};
pub use split::{RecvHalf, ReuniteError, SendHalf};
pub use stream::SessionStream;

pub(crate) use bootstrap::{Local, Offer, as_client, as_server, client_ack_timeout};
use options::STEP_LIMIT;
pub(crate) use sharing::Associations;

use crate::SessionError;
use crate::admission::Seat;
use crate::control::{Access, Record};
use crate::tls::Negotiated;
use bootstrap::Given;
use core::any::Any;
use core::fmt;
use data::DataPath;
use keeper::{Farewell, Keeper, Life, Teller};
use rdma_verbs::{Breaker, MemoryRegion, Mtu, OwnPsn, PeerPsn, Qpn, RemoteRegion, SendRequest};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The rhythm of a session's heartbeat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How often the peer wants to hear from this side.
    send_every: Duration,
    /// How often this side wants to hear from the peer.
    expect_every: Duration,
    /// How long the peer may take for what it has to say or take.
    timeouts: Timeouts,
}

/// How a data path is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedBy {
    /// It isn't: everything is in clear.
    Nothing,
    /// Messages and the region's slots are sealed; headers, acknowledgements and counters are in clear.
    Messages,
    /// Each packet is sealed whole, by ESP: counters too.
    Packets,
}

impl SealedBy {
    /// Whether messages, and what is written and read, are sealed.
    #[must_use]
    pub const fn is_sealed(self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Whether counters are.
    #[must_use]
    pub const fn seals_counters(self) -> bool {
        matches!(self, Self::Packets)
    }

    /// Its name: `none`, `messages` or `packets`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Messages => "messages",
            Self::Packets => "packets",
        }
    }
}

impl fmt::Display for SealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One end of a session's queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<P> {
    /// Its number.
    pub qpn: Qpn,
    /// The first PSN that it sends.
    pub psn: P,
    /// Where it receives.
    pub address: SocketAddr,
}

/// What is known of a session.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The other end of the control connection.
    pub peer: SocketAddr,
    /// What the peer calls its software.
    pub peer_software: String,
    /// What the TLS handshake agreed on.
    pub tls: Negotiated,
    /// How the data path is sealed.
    pub sealed: SealedBy,
    /// The device in use here.
    pub device: String,
    /// This side's queue pair.
    pub own: End<OwnPsn>,
    /// The peer's.
    pub remote: End<PeerPsn>,
    /// What the device said of this side's queue pair when it was ready, before there was any traffic.
    pub queue_pair: rdma_verbs::Snapshot,
    /// Payload bytes of a full packet.
    pub path_mtu: Mtu,
    /// The longest message that the peer takes.
    pub peer_max_message: u64,
    /// What the client may do.
    pub allowed: Access,
    /// From the TCP connection to both queue pairs being ready.
    pub setup: Duration,
}

/// The region that a client has on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionLayout {
    region: RemoteRegion,
    /// How many bytes one can write; sealed they take more of the region.
    data: u64,
    /// Its counters, under a key of their own.
    counters: Option<RemoteRegion>,
    /// What the client may do.
    allowed: Access,
}

/// An open session.
///
/// Its operations are asynchronous and may be cancelled. A message whose sending is cancelled reaches the
/// peer as a whole or not at all: if a part of it is on its way, the rest goes out before anything that comes
/// after it, and by itself while the session waits for something else. Dropping it without
/// [`close`](Self::close) ends the connection at once; the peer is left to notice.
pub struct Session {
    data: DataPath,
    keeper: Keeper,
    info: SessionInfo,
    /// How the region is divided, the client's on the server.
    layout: RegionLayout,
    /// The region itself, and the counters, on the server.
    local: Option<Given>,
    /// Why the server has ended it, if it has.
    abort_reason: Arc<OnceLock<SessionError>>,
    /// The seat that it takes among the server's sessions.
    _seat: Option<Seat>,
    /// Its entry in the server's list of them, crossed out when this is dropped.
    registration: Option<Box<dyn Any + Send + Sync>>,
}

/// What ends a session from elsewhere than where it is used.
pub(crate) struct AbortHandle {
    abort_reason: Weak<OnceLock<SessionError>>,
    teller: Teller,
    breaker: Breaker,
}

impl AbortHandle {
    /// Ends the session at once because of `reason`: whoever uses it has that for an error, the peer is told,
    /// and its requests reach nothing any more.
    pub(crate) fn abort(&self, reason: SessionError) {
        // In this order: who notices that the queue pair has failed finds out why.
        if let Some(abort_reason) = self.abort_reason.upgrade() {
            let _ = abort_reason.set(reason.clone());
        }
        self.teller.fail(reason);
        self.breaker.fail();
    }
}

impl Session {
    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &SessionInfo {
        &self.info
    }

    /// What the device tells of its queue pair.
    ///
    /// # Errors
    /// The device can't be asked any more.
    pub fn queue_pair(&self) -> Result<rdma_verbs::Snapshot, SessionError> {
        Ok(self.data.queue_pair().query()?)
    }

    /// Has the threads that wait for the peer look for completions for so long before they sleep, from now on:
    /// [`SessionOptions::busy_poll`], for what has become urgent, or has ceased to be.
    pub fn set_busy_poll(&mut self, time: Duration) {
        self.data.set_busy_poll(time);
    }

    /// This side's memory that the peer may use, on the server, as it is: sealed, it holds ciphertext, which
    /// [`read_local`](Self::read_local) opens. It changes under one's hands.
    #[must_use]
    pub fn region(&self) -> Option<&MemoryRegion> {
        self.local.as_ref().map(|given| &given.data)
    }

    /// This side's memory with the client's counters, 8-byte words in the host's byte order, on the server, if there
    /// are any. They change under one's hands.
    #[must_use]
    pub fn counter_region(&self) -> Option<&MemoryRegion> {
        self.local.as_ref()?.counters.as_ref()
    }

    /// Copies `len` bytes of what the client has written into its region, on the server. A slot that the
    /// client is writing is waited for. Sealed, they are no older than what the client had written before the
    /// last message that has come, or an error; what it has written since, this side can't know before the
    /// next message, or the goodbye, tells it.
    ///
    /// # Errors
    /// This side is the client, they reach outside the region, or the session is over.
    pub async fn read_local(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, SessionError> {
        self.check_aborted()?;
        let Self { data, keeper, local, layout, .. } = self;
        let region = &local.as_ref().ok_or(SessionError::NoRegion)?.data;
        layout.check_data(offset, len as u64)?;
        let mut bytes = Zeroizing::new(vec![0; len]);
        let result = async {
            if let Life::PeerClosing(peer) = keeper.life() {
                data.hear_out(peer).await?;
            }
            data.read_local(region, offset, &mut bytes).await
        }
        .await;
        self.end_if_fatal(result)?;
        Ok(core::mem::take(&mut *bytes))
    }

    /// The address, length and key of the region that this client has on the server.
    #[must_use]
    pub fn remote_region(&self) -> Option<RemoteRegion> {
        self.local.is_none().then_some(self.layout.region)
    }

    /// How many bytes of the client's region [`write`](Self::write) and [`read`](Self::read) reach.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.layout.data
    }

    /// How many counters the client has, on both sides. They travel in clear, also where messages are sealed
    /// ([`SealedBy::seals_counters`]), where there are none unless the server was told so ([`CounterPolicy`]).
    #[must_use]
    pub fn counters(&self) -> u64 {
        self.layout.counters.map_or(0, |counters| counters.len / 8)
    }

    /// The address, length and key of the counters that this client has on the server, if there are any.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn remote_counters(&self) -> Option<RemoteRegion> {
        self.layout.counters.filter(|_| self.local.is_none())
    }

    /// Sends a message; done when the peer's queue pair has all of it. That is not to say that the peer has:
    /// the network's word for it can be forged, which [`close`](Self::close) notices.
    ///
    /// # Errors
    /// It is longer than the peer takes, the server takes none from this client, or the session is over.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.post_send(message).await?;
        self.flush().await
    }

    /// Sends a message, and waits only until it is out of the caller's hands: several can be under way at a
    /// time. They arrive in the order in which they were posted, with what [`post_write`](Self::post_write)
    /// writes; [`flush`](Self::flush) waits for all.
    ///
    /// # Errors
    /// It is longer than the peer takes, the server takes none from this client, or the session is over. An
    /// earlier one that failed may be told of here.
    pub async fn post_send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.post_sends([message]).await
    }

    /// Sends messages as [`post_send`](Self::post_send) does, one after the other. On the embedded device
    /// those that are short share system calls, which makes many times as many messages a second.
    ///
    /// # Errors
    /// One is longer than the peer takes: those before it are sent, that one and those after it aren't.
    /// Others as `post_send`'s.
    pub async fn post_sends<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SessionError> {
        if self.local.is_none() {
            self.may(Access::SEND)?;
        }
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.post_sends(messages)).await;
        self.end_if_fatal(result)
    }

    /// Waits until the peer's queue pair has all that was posted.
    ///
    /// # Errors
    /// Something that was posted failed, or the session is over.
    pub async fn flush(&mut self) -> Result<(), SessionError> {
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.settle("flush")).await;
        self.end_if_fatal(result)
    }

    /// The next message; `None` when the peer has said goodbye and everything it sent was taken.
    ///
    /// # Errors
    /// The session is over. Where the connection has ended without a goodbye, what had arrived comes first.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.check_aborted()?;
        let Self { data, keeper, .. } = self;
        let result = loop {
            match keeper.life() {
                Life::PeerClosing(peer) => break data.rest(peer).await,
                Life::Closed => break Err(SessionError::Closed),
                Life::Failed(reason) if reason.is_closed() => {
                    // What the peer had sent before it left, and was acknowledged, isn't lost.
                    return match data.arrived() {
                        Ok(Some(message)) => Ok(Some(message)),
                        _ => Err(reason),
                    };
                }
                Life::Failed(reason) => return Err(reason),
                Life::Open => {}
            }
            tokio::select! {
                // What has arrived already needs nothing else to be looked at.
                biased;
                message = data.recv() => break message.map(Some),
                _ = keeper.change() => {}
            }
        };
        self.end_if_fatal(result)
    }

    /// Writes `bytes` into this client's region of the server, without the server's doing.
    ///
    /// Sealed, whole slots of 4096 bytes are written. Of the first and the last one, where they aren't
    /// written as a whole, the rest is read before; a client that may not read can write to a part of a slot
    /// once.
    ///
    /// # Errors
    /// They don't fit the region, the server doesn't allow this client to write, or the session is over.
    pub async fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        self.post_write(offset, bytes).await?;
        self.flush().await
    }

    /// Writes as [`write`](Self::write) does, and waits only until the bytes are out of the caller's hands,
    /// and for what it has to read before: several writes can be under way at a time. What was posted to be
    /// read from the same place comes first, and is waited for. A read, and a message, finds them written;
    /// [`flush`](Self::flush) waits for all.
    ///
    /// # Errors
    /// They don't fit the region, or the session is over. An earlier one that failed may be told of here.
    pub async fn post_write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        let region = self.remote_region().ok_or(SessionError::NoRegion)?;
        self.may(Access::WRITE)?;
        self.layout.check_data(offset, bytes.len() as u64)?;
        let may_read = self.may(Access::READ).is_ok();
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.post_write(&region, offset, bytes, may_read)).await;
        self.end_if_fatal(result)
    }

    /// Reads `len` bytes of this client's region of the server, without the server's doing. Sealed, they are
    /// what this client wrote there last, or an error.
    ///
    /// # Errors
    /// They reach outside the region, the server doesn't allow this client to read, or the session is over.
    pub async fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, SessionError> {
        let region = self.readable(offset, len)?;
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.read(&region, offset, len)).await;
        Ok(core::mem::take(&mut *self.end_if_fatal(result)?))
    }

    /// Reads as [`read`](Self::read) does, and waits only until that is asked for: several reads can be under
    /// way at a time, and other operations between them. [`next_read`](Self::next_read) gives what was read,
    /// in the order in which it was posted; until then that takes memory, though none of the buffers.
    ///
    /// It finds what was posted to be written before, and nothing that is posted afterwards: a write to the
    /// same place waits for it. A message doesn't.
    ///
    /// If this is cancelled, nothing was posted.
    ///
    /// # Errors
    /// As `read`'s. An earlier operation that failed may be told of here.
    pub async fn post_read(&mut self, offset: u64, len: usize) -> Result<(), SessionError> {
        self.readable(offset, len)?;
        self.post_read_into(offset, vec![0; len]).await
    }

    /// Posts a read as [`post_read`](Self::post_read) does, of as many bytes as `buffer` has, and into it:
    /// [`next_read`](Self::next_read) gives it back. Who reads again and again into the same few buffers spares the
    /// allocator, and the kernel, their work.
    ///
    /// If this is cancelled, nothing was posted, and the buffer is gone.
    ///
    /// # Errors
    /// As `post_read`'s.
    pub async fn post_read_into(&mut self, offset: u64, buffer: Vec<u8>) -> Result<(), SessionError> {
        let region = self.readable(offset, buffer.len())?;
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.post_read(&region, offset, buffer)).await;
        self.end_if_fatal(result)
    }

    /// What the oldest read has brought of those that were [posted](Self::post_read) and not taken; `None` if
    /// there is none. Cancelling loses nothing.
    ///
    /// # Errors
    /// It failed, something else that was posted did, or the session is over.
    pub async fn next_read(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.next_read()).await;
        self.end_if_fatal(result)
    }

    /// The region where this client may read these bytes.
    fn readable(&self, offset: u64, len: usize) -> Result<RemoteRegion, SessionError> {
        let region = self.remote_region().ok_or(SessionError::NoRegion)?;
        self.may(Access::READ)?;
        self.layout.check_data(offset, len as u64)?;
        Ok(region)
    }

    /// Adds to a counter of this client's on the server, wrapping; returns what it held. **In clear**, unless packets
    /// are sealed.
    ///
    /// # Errors
    /// There is no such counter, or the session is over.
    pub async fn fetch_add(&mut self, counter: u64, add: u64) -> Result<u64, SessionError> {
        let range = self.counter(counter)?;
        let Self { data, keeper, .. } = self;
        let request = |slot| SendRequest::fetch_add(slot, range, add);
        let result = alive(keeper, data.atomic("fetch-add", request)).await;
        self.end_if_fatal(result)
    }

    /// Stores `swap` in a counter of this client's on the server if it holds `compare`; returns what it held. **In
    /// clear**, unless packets are sealed.
    ///
    /// # Errors
    /// There is no such counter, or the session is over.
    pub async fn compare_swap(&mut self, counter: u64, compare: u64, swap: u64) -> Result<u64, SessionError> {
        let range = self.counter(counter)?;
        let Self { data, keeper, .. } = self;
        let request = |slot| SendRequest::compare_swap(slot, range, compare, swap);
        let result = alive(keeper, data.atomic("compare-swap", request)).await;
        self.end_if_fatal(result)
    }

    /// Writes these bytes **as they are, in clear**, to any memory of the peer's that one knows the key of.
    /// The peer's queue pair decides; a refusal ends the connection.
    ///
    /// # Errors
    /// The peer refused, or the session is over.
    #[cfg(feature = "testing")]
    pub async fn write_raw(
        &mut self,
        region: &RemoteRegion,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), SessionError> {
        let Self { data, keeper, .. } = self;
        let result = alive(keeper, data.write_raw(region, offset, bytes)).await;
        self.end_if_fatal(result)
    }

    /// Reads any memory of the peer's that one knows the key of, **as it is**. The peer's queue pair decides;
    /// a refusal ends the connection.
    ///
    /// # Errors
    /// The peer refused, or the session is over.
    #[cfg(feature = "testing")]
    pub async fn read_raw(
        &mut self,
        region: &RemoteRegion,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, SessionError> {
        let Self { data, keeper, .. } = self;
        region.range(offset, len as u64)?;
        let result = alive(keeper, data.read_raw(region, offset, len)).await;
        Ok(core::mem::take(&mut *self.end_if_fatal(result)?))
    }

    /// Closes the session in three steps, when this side's operations have completed. Messages that the peer
    /// still sends are lost.
    ///
    /// An orderly end says that all that was posted was carried out. Where an operation has failed, now or before, so
    /// that nobody knows whether the peer has it, there is none: the session is [aborted](Self::abort), and the peer is
    /// told why. So it is where something else keeps this side from saying goodbye.
    ///
    /// Sealed, a server reads once more what [`read_local`](Self::read_local) has given and the client, as it
    /// then says, had written anew.
    ///
    /// # Errors
    /// The peer didn't take part, an operation had failed, or not everything has arrived that one side has sent the
    /// other; all is freed in any case.
    pub async fn close(mut self) -> Result<(), SessionError> {
        let Self { data, keeper, local, .. } = &mut self;
        let peer = match keeper.life() {
            Life::PeerClosing(peer) => Some(peer),
            _ => None,
        };
        let settled = alive(keeper, async {
            data.settle("closing").await?;
            data.check_known()?;
            data.check_whole()?;
            if let (Some(peer), Some(given)) = (peer, &local) {
                data.hear_out(peer).await?;
                data.check_read(&given.data).await?;
            }
            // The goodbye's counts say whether they arrived; until the peer says goodbye too, it may have no
            // room for them.
            data.announce("closing").await
        });
        if let Err(reason) = settled.await {
            let reason = self.abort_reason.get().cloned().unwrap_or(reason);
            self.abort(reason.clone()).await;
            return Err(reason);
        }
        let (count, counted) = watch::channel(self.data.record_counts());
        self.keeper.close(Farewell { count: counted }).await;
        let limit = self.keeper.close_limit();
        let Self { data, keeper, local, .. } = &mut self;
        let end = async {
            tokio::select! {
                biased;
                life = keeper.end() => life,
                never = data.drain(&count) => match never {},
            }
        };
        match tokio::time::timeout(limit, end).await {
            Ok(Life::Failed(reason)) => return Err(reason),
            Ok(_) => {}
            Err(_) => return Err(SessionError::TimedOut { step: "closing", limit }),
        }
        // Who said goodbye first has heard only now of what was written.
        match local {
            Some(given) => data.check_read(&given.data).await,
            None => Ok(()),
        }
    }

    /// Ends the session because of `reason`, and tells the peer.
    pub async fn abort(mut self, reason: SessionError) {
        self.data.fail();
        self.keeper.fail(reason);
        let _ = tokio::time::timeout(self.keeper.close_limit(), self.keeper.end()).await;
    }

    /// That the server hasn't ended the session, because its client is no longer allowed.
    fn check_aborted(&self) -> Result<(), SessionError> {
        self.abort_reason.get().cloned().map_or(Ok(()), Err)
    }

    /// Ends the session, and tells the peer, if the data path turned out to carry what isn't the peer's, or
    /// what it may not send. Says why it is over if the server has ended it.
    fn end_if_fatal<T>(&mut self, result: Result<T, SessionError>) -> Result<T, SessionError> {
        let result = result.map_err(|error| self.abort_reason.get().cloned().unwrap_or(error));
        if let Err(reason) = &result
            && (reason.is_of_sealing() || reason.is_violation() || matches!(reason, SessionError::CutShort))
        {
            self.data.fail();
            self.keeper.fail(reason.clone());
        }
        result
    }

    /// Waits until the control channel says that the session is over, or about to be; returns why if it
    /// failed. Messages that come meanwhile wait for [`Self::recv`].
    pub async fn ended(&mut self) -> Option<SessionError> {
        loop {
            let Self { data, keeper, .. } = self;
            // The peer may need room for what it has to tell before it can say goodbye.
            let listens = !data.is_full();
            let result = tokio::select! {
                biased;
                life = keeper.change() => return match life {
                    Life::Failed(reason) => Some(reason),
                    _ => None,
                },
                result = data.progress(), if listens => result,
            };
            if let Err(error) = self.end_if_fatal(result) {
                return Some(error);
            }
        }
    }

    /// Whether the server allows this client to do that.
    fn may(&self, operation: Access) -> Result<(), SessionError> {
        let name = |(right, name): (Access, &'static str)| (right == operation).then_some(name);
        match self.layout.allowed.allows(operation) {
            true => Ok(()),
            false => Err(SessionError::NotAllowed {
                operation: Access::NAMES.into_iter().find_map(name).unwrap_or_default(),
            }),
        }
    }

    /// What the server ends it with.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        AbortHandle {
            abort_reason: Arc::downgrade(&self.abort_reason),
            teller: self.keeper.teller(),
            breaker: self.data.queue_pair().breaker(),
        }
    }

    /// Holds `registration`, its entry in the server's list, until it is dropped.
    pub(crate) fn register(&mut self, registration: impl Any + Send + Sync) {
        self.registration = Some(Box::new(registration));
    }

    fn counter(&self, index: u64) -> Result<rdma_verbs::RemoteRange, SessionError> {
        self.remote_region().ok_or(SessionError::NoRegion)?;
        let counters = self.layout.counters.ok_or(SessionError::NoCounters)?;
        let offset = index.saturating_mul(8);
        if index >= counters.len / 8 {
            return Err(SessionError::OutOfRegion {
                offset,
                len: 8,
                part: "counter area",
                size: counters.len,
            });
        }
        Ok(counters.range(offset, 8)?)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("info", &self.info)
            .field("keeper", &self.keeper)
            .finish_non_exhaustive()
    }
}

impl RegionLayout {
    fn check_data(&self, offset: u64, len: u64) -> Result<(), SessionError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.data => Ok(()),
            _ => Err(SessionError::OutOfRegion { offset, len, part: "data area", size: self.data }),
        }
    }
}

/// Carries out `operation`, unless the session turns out to be over.
async fn alive<T>(
    keeper: &mut Keeper,
    operation: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, SessionError> {
    tokio::select! {
        // What the operation itself found says more than that the session is over.
        biased;
        result = operation => result,
        life = keeper.end() => Err(match life {
            Life::Failed(reason) => reason,
            _ => SessionError::Closed,
        }),
    }
}

/// The name of a record, for error messages.
fn name(record: &Record) -> &'static str {
    match record {
        Record::Hello(_) => "hello",
        Record::Endpoint(_) => "endpoint",
        Record::Region(_) => "region",
        Record::Ready => "ready",
        Record::Ping { .. } => "ping",
        Record::Pong { .. } => "pong",
        Record::Error { .. } => "error",
        Record::Bye(_) => "bye",
        Record::ByeAck(_) => "bye-ack",
        Record::Fin => "fin",
        Record::Spi { .. } => "spi",
        Record::Joined { .. } => "joined",
    }
}

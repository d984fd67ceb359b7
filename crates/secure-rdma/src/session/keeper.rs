//! The control channel's keeper: a task that keeps the session alive, and notices when it isn't.
//!
//! Closing takes three steps, so that each side knows that the other's queues have drained before it frees
//! what the other may still use:
//!
//! ```text
//!   closing side                        other side
//!   (its sends have completed)
//!   Bye      ─────────────────────────▶ recv() returns None; its sends complete
//!            ◀───────────────────────── ByeAck
//!   Fin      ─────────────────────────▶
//!   frees everything                    frees everything
//! ```
//!
//! Each side counts the fragments, of messages and manifests, that it has sent and that have arrived, and the closing
//! records say how many: the answering side sends ByeAck, and the closing side Fin, only when all that the other has
//! sent has arrived. Otherwise the session has failed: an attacker can drop the last fragments and forge their
//! acknowledgements. A genuine acknowledgement, too, may be there before the completion is.

use super::data::RecordCounts;
use super::packets::LOOK;
use super::sharing::Member;
use super::{Timeouts, Timing};
use crate::SessionError;
use crate::control::{ControlChannel, ControlReader, ControlWriter, Fragments, Pace, Record};
use core::fmt;
use rdma_verbs::esp::Spi;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

/// Heartbeats that may be missed.
const MISSED: u32 = 3;

/// What a keeper knows of the session.
#[derive(Clone, Debug)]
pub(crate) enum Life {
    /// Both sides are there.
    Open,
    /// The peer has said goodbye, and waits for this side's. That is how many fragments it has sent and taken.
    PeerClosing(Fragments),
    /// Closed, as both sides wanted.
    Closed,
    /// Over, for this reason.
    Failed(SessionError),
}

/// What the session wants of its keeper.
enum Wish {
    /// Close, now that this side's queues have drained.
    Close(Farewell),
    /// Tell the peer, and end.
    Fail(SessionError),
}

/// What a side that says goodbye knows of the data path.
pub(crate) struct Farewell {
    /// How far it has come: nothing more is sent, but what the peer has sent is still taken.
    pub(crate) count: watch::Receiver<RecordCounts>,
}

impl Farewell {
    fn fragments(&self) -> Fragments {
        self.count.borrow().fragments
    }

    /// Waits until everything is here that the peer has sent.
    async fn heard(&mut self, peer: Fragments, limit: Duration) -> Result<(), SessionError> {
        let done = |counts: &RecordCounts| counts.broken.is_some() || counts.fragments.arrived >= peer.sent;
        let _ = timeout(limit, self.count.wait_for(done)).await;
        let RecordCounts { fragments, broken } = self.count.borrow().clone();
        match broken {
            Some(reason) => Err(reason),
            None => agree("the peer", peer.sent, fragments.arrived),
        }
    }

    /// Whether everything is there that this side has sent.
    fn was_heard(&self, peer: Fragments) -> Result<(), SessionError> {
        agree("this side", self.fragments().sent, peer.arrived)
    }
}

fn agree(who: &'static str, sent: u64, arrived: u64) -> Result<(), SessionError> {
    if sent == arrived { Ok(()) } else { Err(SessionError::Truncated { who, sent, arrived }) }
}

/// A session's handle on its keeper. When it is dropped the keeper ends, and with it the control channel.
pub(crate) struct Keeper {
    wishes: mpsc::Sender<Wish>,
    life: watch::Receiver<Life>,
    timeouts: Timeouts,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("life", &*self.life.borrow()).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Starts a keeper for `control`. Where packets are sealed, it sees to their keys.
    pub(crate) fn start<T>(control: ControlChannel<T>, timing: Timing, rekeying: Option<Member>) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (wishes, wanted) = mpsc::channel(1);
        let (set_life, life) = watch::channel(Life::Open);
        let timeouts = timing.timeouts;
        // In a box: tokio moves a task several times, with the TLS connection that is in this one.
        tokio::spawn(Box::pin(async move {
            let (reader, writer) = control.into_split();
            let now = Instant::now();
            let mut task = Task {
                reader,
                writer,
                wanted,
                life: set_life,
                timing,
                heard: now,
                pings: 0,
                rekeying,
                pace: Pace::new(now),
            };
            let end = task.run().await;
            if let Life::Failed(reason) = &end
                && let Some((kind, text)) = reason.for_peer()
            {
                let _ =
                    task.writer.send_within(&Record::Error { code: kind.into(), text }, timeouts.step).await;
            }
            let _ = task.writer.shutdown_within(timeouts.step).await;
            let Task { reader, writer, life, .. } = task;
            // Who hears of the end may rely on it that TLS's secrets are wiped.
            drop((reader, writer));
            life.send_replace(end);
        }));
        Self { wishes, life, timeouts }
    }

    /// What is known now.
    pub(crate) fn life(&self) -> Life {
        self.life.borrow().clone()
    }

    /// Waits until the session isn't open any more.
    pub(crate) async fn change(&mut self) -> Life {
        match self.life.wait_for(|life| !matches!(life, Life::Open)).await {
            Ok(life) => life.clone(),
            Err(_) => Life::Failed(SessionError::Closed),
        }
    }

    /// Waits until the session is over.
    pub(crate) async fn end(&mut self) -> Life {
        match self.life.wait_for(|life| matches!(life, Life::Closed | Life::Failed(_))).await {
            Ok(life) => life.clone(),
            Err(_) => Life::Failed(SessionError::Closed),
        }
    }

    /// How long closing takes at most.
    pub(crate) fn close_limit(&self) -> Duration {
        self.timeouts.close()
    }

    /// Says goodbye; [`Self::end`] tells when that is done.
    pub(crate) async fn close(&self, farewell: Farewell) {
        let _ = self.wishes.send(Wish::Close(farewell)).await;
    }

    /// What ends the session from elsewhere.
    pub(crate) fn teller(&self) -> Teller {
        Teller(self.wishes.downgrade())
    }

    /// Tells the peer what went wrong, and ends.
    pub(crate) fn fail(&self, reason: SessionError) {
        // If there is a wish already, the session is ending anyway.
        let _ = self.wishes.try_send(Wish::Fail(reason));
    }
}

/// Tells a keeper that its session is over, without keeping it.
pub(crate) struct Teller(mpsc::WeakSender<Wish>);

impl Teller {
    /// As [`Keeper::fail`].
    pub(crate) fn fail(&self, reason: SessionError) {
        if let Some(wishes) = self.0.upgrade() {
            let _ = wishes.try_send(Wish::Fail(reason));
        }
    }
}

struct Task<R, W> {
    reader: ControlReader<R>,
    writer: ControlWriter<W>,
    wanted: mpsc::Receiver<Wish>,
    life: watch::Sender<Life>,
    timing: Timing,
    heard: Instant,
    pings: u64,
    rekeying: Option<Member>,
    /// How often the peer may be heard and is answered.
    pace: Pace,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Task<R, W> {
    /// How long each step may take.
    const fn limit(&self) -> Duration {
        self.timing.timeouts.step
    }

    /// Runs until the session is over; returns how.
    async fn run(&mut self) -> Life {
        let mut beat =
            tokio::time::interval_at(Instant::now() + self.timing.send_every, self.timing.send_every);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let silence = self.timing.expect_every * MISSED;
        loop {
            let owed = self.pace.due();
            let step = tokio::select! {
                // In this order: what has come is taken before it is said that nothing has, however late this task
                // looks, because its process was stopped for a while.
                biased;
                wish = self.wanted.recv() => match wish {
                    Some(Wish::Close(farewell)) => return self.close(farewell).await,
                    Some(Wish::Fail(reason)) => Err(reason),
                    None => Err(SessionError::Closed),
                },
                record = self.reader.recv() => match record {
                    Ok(record) => self.take(record).await,
                    Err(error) => Err(SessionError::control("keeping the session", self.limit())(error)),
                },
                () = tokio::time::sleep_until(owed.unwrap_or(self.heard)), if owed.is_some() => {
                    match self.pace.answer(Instant::now()) {
                        Some(n) => self.say(&Record::Pong { n }).await.map(|()| None),
                        None => Ok(None),
                    }
                }
                _ = beat.tick() => {
                    self.pings += 1;
                    self.say(&Record::Ping { n: self.pings }).await.map(|()| None)
                }
                now = look.tick(), if self.rekeying.is_some() => self.look(now).await.map(|()| None),
                () = tokio::time::sleep_until(self.heard + silence) => Err(SessionError::Silent(silence)),
            };
            match step {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(reason) => return Life::Failed(reason),
            }
        }
    }

    /// Takes a record of an open session; returns how the session ended if it did.
    async fn take(&mut self, record: Record) -> Result<Option<Life>, SessionError> {
        self.heard = Instant::now();
        match record {
            Record::Ping { n } => self.ping(n).await?,
            Record::Pong { .. } => self.pong()?,
            Record::Spi { epoch, spi } => self.told(epoch, spi)?,
            Record::Bye(fragments) => {
                self.life.send_replace(Life::PeerClosing(fragments));
            }
            Record::Error { code, text } => return Err(SessionError::Peer { code, text }),
            other => {
                let found = super::name(&other);
                return Err(SessionError::Unexpected { step: "keeping the session", found });
            }
        }
        Ok(None)
    }

    /// Gives the peer a new key for its packets, if it is time.
    async fn look(&mut self, now: Instant) -> Result<(), SessionError> {
        match self.rekeying.as_mut().map(|rekeying| rekeying.look(now)).transpose()?.flatten() {
            Some(record) => self.say(&record).await,
            None => Ok(()),
        }
    }

    /// The peer takes packets of this side's next key by `spi`.
    fn told(&mut self, epoch: u64, spi: Spi) -> Result<(), SessionError> {
        // A peer that asks for key after key would keep this side busy.
        self.pong()?;
        let found = super::name(&Record::Spi { epoch, spi });
        let step = "keeping the session";
        self.rekeying.as_mut().ok_or(SessionError::Unexpected { step, found })?.told(epoch, spi)
    }

    /// Takes a ping, which is answered now or soon.
    async fn ping(&mut self, n: u64) -> Result<(), SessionError> {
        self.pong()?;
        match self.pace.ping(n, Instant::now()) {
            Some(n) => self.say(&Record::Pong { n }).await,
            None => Ok(()),
        }
    }

    /// Takes a record of the heartbeat that needs no answer.
    fn pong(&mut self) -> Result<(), SessionError> {
        if self.pace.allows(Instant::now()) {
            Ok(())
        } else {
            Err(SessionError::Flooded { limit: Pace::limit() })
        }
    }

    /// Says goodbye, first or in answer to the peer's.
    async fn close(&mut self, farewell: Farewell) -> Life {
        let life = self.life.borrow().clone();
        let result = match life {
            Life::PeerClosing(peer) => self.answer_goodbye(farewell, peer).await,
            _ => self.say_goodbye(farewell).await,
        };
        match result {
            Ok(()) => Life::Closed,
            Err(reason) => Life::Failed(reason),
        }
    }

    async fn say_goodbye(&mut self, mut farewell: Farewell) -> Result<(), SessionError> {
        self.say(&Record::Bye(farewell.fragments())).await?;
        let deadline = Instant::now() + self.limit();
        // Where both say goodbye at once, each answers the other.
        let mut answered = false;
        loop {
            match self.next("closing", deadline).await? {
                Record::Bye(peer) if !answered => {
                    answered = true;
                    farewell.heard(peer, self.timing.timeouts.missing).await?;
                    self.say(&Record::ByeAck(farewell.fragments())).await?;
                }
                Record::ByeAck(peer) => {
                    farewell.was_heard(peer)?;
                    farewell.heard(peer, self.timing.timeouts.missing).await?;
                    return self.say(&Record::Fin).await;
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    async fn answer_goodbye(&mut self, mut farewell: Farewell, peer: Fragments) -> Result<(), SessionError> {
        farewell.heard(peer, self.timing.timeouts.missing).await?;
        self.say(&Record::ByeAck(farewell.fragments())).await?;
        match self.next("closing", Instant::now() + self.limit()).await? {
            Record::Fin => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The next record that isn't about the heartbeat.
    async fn next(&mut self, step: &'static str, deadline: Instant) -> Result<Record, SessionError> {
        loop {
            match self.reader.recv_by(deadline).await.map_err(SessionError::control(step, self.limit()))? {
                Record::Ping { n } => self.ping(n).await?,
                Record::Pong { .. } => self.pong()?,
                Record::Spi { epoch, spi } => self.told(epoch, spi)?,
                Record::Error { code, text } => return Err(SessionError::Peer { code, text }),
                other => return Ok(other),
            }
        }
    }

    async fn say(&mut self, record: &Record) -> Result<(), SessionError> {
        self.writer
            .send_within(record, self.limit())
            .await
            .map_err(SessionError::control("keeping the session", self.limit()))
    }
}

fn unexpected(record: &Record) -> SessionError {
    SessionError::Unexpected { step: "closing", found: super::name(record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn keeper() -> (Keeper, ControlChannel<DuplexStream>) {
        let (own, peers) = duplex(1 << 16);
        let every = Duration::from_secs(5);
        let timing = Timing { send_every: every, expect_every: every, timeouts: Timeouts::DEFAULT };
        (Keeper::start(ControlChannel::new(own), timing, None), ControlChannel::new(peers))
    }

    async fn pong(peer: &mut ControlChannel<DuplexStream>) -> u64 {
        match peer.recv().await {
            Ok(Record::Pong { n }) => n,
            other => panic!("{other:?}"),
        }
    }

    /// As after SIGSTOP and SIGCONT: the time has passed, and what the peer has said meanwhile is there.
    #[tokio::test(start_paused = true)]
    async fn who_was_stopped_for_long_takes_what_has_come_before_it_calls_its_peer_silent() {
        for n in 0..40 {
            let (keeper, mut peer) = keeper();
            tokio::task::yield_now().await;
            peer.send(&Record::Pong { n }).await.expect("sent");
            tokio::time::advance(Duration::from_secs(60)).await;
            tokio::task::yield_now().await;
            assert!(matches!(keeper.life(), Life::Open), "{n}: {:?}", keeper.life());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_silent_when_nothing_was_heard_for_three_heartbeats_and_not_before() {
        let (mut keeper, mut peer) = keeper();
        let begin = Instant::now();
        for n in 0..10 {
            peer.send(&Record::Pong { n }).await.expect("sent");
            tokio::time::sleep(Duration::from_secs(14)).await;
            assert!(matches!(keeper.life(), Life::Open), "{n}: {:?}", keeper.life());
        }
        let end = keeper.end().await;
        assert!(
            matches!(end, Life::Failed(SessionError::Silent(limit)) if limit == Duration::from_secs(15)),
            "{end:?}"
        );
        assert_eq!(begin.elapsed().as_secs(), 9 * 14 + 15);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_that_come_at_once_are_answered_together_and_every_last_one_is() {
        let (keeper, mut peer) = keeper();
        let begin = Instant::now();
        for round in 0..3 {
            for n in 0..100 {
                peer.send(&Record::Ping { n: 1000 * round + n }).await.expect("sent");
            }
            let mut answers = Vec::new();
            while answers.last() != Some(&(1000 * round + 99)) {
                answers.push(pong(&mut peer).await);
            }
            assert!(answers.len() <= 2, "{answers:?}");
        }
        assert!(begin.elapsed() <= Duration::from_millis(60), "{:?}", begin.elapsed());
        assert!(matches!(keeper.life(), Life::Open));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_pings_or_pongs_ends_the_session() {
        for record in [Record::Ping { n: 7 }, Record::Pong { n: 7 }] {
            let (mut keeper, peer) = keeper();
            let (mut reader, mut writer) = peer.into_split();
            let flood = async { while writer.send(&record).await.is_ok() {} };
            let told = async {
                loop {
                    match reader.recv().await {
                        Ok(Record::Error { text, .. }) => break text,
                        Ok(_) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            let (told, end) = tokio::join!(told, async {
                tokio::select! {
                    end = keeper.end() => end,
                    () = flood => keeper.end().await,
                }
            });
            assert!(matches!(end, Life::Failed(SessionError::Flooded { .. })), "{end:?}");
            assert!(told.as_str().contains("records of the heartbeat a second"), "{told}");
        }
    }
}

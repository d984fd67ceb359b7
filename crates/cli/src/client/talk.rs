//! What the lines do in a session.

use super::line::{HELP, Line};
use crate::failure::Failure;
use crate::link::data_path;
use crate::output;
use secure_rdma::{Session, SessionError};
use secure_rdma_files::shown;
use std::time::{Duration, Instant};

/// How long an echo may take. That the server is alive is watched on the control channel all the while.
const ECHO_LIMIT: Duration = Duration::from_secs(30);

/// The counter that `add` and `swap` use.
const COUNTER: u64 = 0;

/// What comes after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Next,
    Quit,
}

/// A session, and what was done in it.
#[derive(Debug)]
pub(crate) struct Talk {
    /// None between two sessions.
    session: Option<Session>,
    since: Instant,
    /// Length of what was written last.
    written: Option<usize>,
    sent: Moved,
    writes: Moved,
    reads: Moved,
    atomics: u64,
}

/// Operations and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    times: u64,
    bytes: u64,
}

impl Moved {
    fn count(&mut self, bytes: usize) {
        self.times += 1;
        self.bytes += bytes as u64;
    }
}

/// Whether the session is as good as before.
pub(crate) fn may_go_on(failure: &Failure) -> bool {
    use SessionError::{MessageTooLong, NoCounters, NoRegion, NotAllowed, OutOfRegion, PartOfSlot};
    match failure {
        Failure::Line(_) => true,
        Failure::Session(error) => {
            matches!(
                error,
                MessageTooLong { .. }
                    | OutOfRegion { .. }
                    | NoRegion
                    | NoCounters
                    | NotAllowed { .. }
                    | PartOfSlot
            )
        }
        _ => false,
    }
}

/// Whether the session is over, or of no use any more.
pub(crate) fn ends_session(failure: &Failure) -> bool {
    matches!(failure, Failure::Session(_) | Failure::Left) && !may_go_on(failure)
}

impl Talk {
    pub(crate) fn new(session: Session) -> Self {
        let none = Moved::default();
        Self {
            session: Some(session),
            since: Instant::now(),
            written: None,
            sent: none,
            writes: none,
            reads: none,
            atomics: 0,
        }
    }

    /// Leaves a session because of `failure`. If the server has said goodbye, it is answered; if the session has failed
    /// here, the server is told so, as far as it can be: to say goodbye would mean that all is well.
    pub(crate) async fn leave(&mut self, failure: &Failure) {
        let Some(session) = self.session.take() else { return };
        match failure {
            Failure::Session(reason) if ends_session(failure) => session.abort(reason.clone()).await,
            _ => {
                // Why it is over has been told.
                let _ = session.close().await;
            }
        }
    }

    /// Goes on in another session. Its region holds nothing of what was written.
    pub(crate) fn go_on_in(&mut self, session: Session) {
        self.session = Some(session);
        self.written = None;
    }

    /// Waits until the server ends the session.
    pub(crate) async fn over(&mut self) -> Failure {
        match &mut self.session {
            Some(session) => ended(session.ended().await),
            None => Failure::Left,
        }
    }

    pub(crate) async fn close(mut self) -> Result<(), SessionError> {
        match self.session.take() {
            Some(session) => session.close().await,
            None => Ok(()),
        }
    }

    fn session(&mut self) -> Result<&mut Session, Failure> {
        self.session.as_mut().ok_or(Failure::Left)
    }

    /// Does what a line says. Results go to standard output.
    pub(crate) async fn carry_out(&mut self, line: &str) -> Result<Turn, Failure> {
        match line.parse::<Line>().map_err(|error| Failure::Line(error.to_string()))? {
            Line::Empty => {}
            Line::Send(text) => self.send(text.as_bytes()).await?,
            Line::Write(text) => {
                self.session()?.write(0, text.as_bytes()).await?;
                self.written = Some(text.len());
                self.writes.count(text.len());
                output::line(format_args!("{} bytes written", text.len()))?;
            }
            Line::Read(len) => {
                let len = len.or(self.written).ok_or_else(|| {
                    Failure::Line("nothing was written yet: say how much to read (read LEN)".into())
                })?;
                let bytes = self.session()?.read(0, len).await?;
                self.reads.count(bytes.len());
                output::line(format_args!("{}", shown(&bytes)))?;
            }
            Line::Add(add) => {
                let before = self.session()?.fetch_add(COUNTER, add).await?;
                self.atomics += 1;
                output::line(format_args!("{before} + {add} = {}", before.wrapping_add(add)))?;
            }
            Line::Swap { compare, new } => {
                let before = self.session()?.compare_swap(COUNTER, compare, new).await?;
                self.atomics += 1;
                if before == compare {
                    output::line(format_args!("it held {before}, now {new}"))?;
                } else {
                    output::line(format_args!("it holds {before}, not {compare}: unchanged"))?;
                }
            }
            Line::Stats => self.stats()?,
            Line::Help => output::line(format_args!("{HELP}"))?,
            Line::Quit => return Ok(Turn::Quit),
        }
        Ok(Turn::Next)
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        self.session()?.send(message).await?;
        self.sent.count(message.len());
        let echo = tokio::time::timeout(ECHO_LIMIT, self.session()?.recv()).await;
        let echo =
            echo.map_err(|_| SessionError::TimedOut { step: "waiting for the echo", limit: ECHO_LIMIT })?;
        let echo = echo?.ok_or_else(|| ended(None))?;
        output::line(format_args!("{}", shown(&echo)))?;
        if echo != message {
            return Err(Failure::Other(
                "the echo is not what was sent: the server, or the network, is faulty".into(),
            ));
        }
        Ok(())
    }

    fn stats(&self) -> Result<(), Failure> {
        let session = self.session.as_ref().ok_or(Failure::Left)?;
        let info = session.info();
        let counters = session.queue_pair()?.counters;
        for (what, Moved { times, bytes }) in
            [("messages sent and echoed", self.sent), ("writes", self.writes), ("reads", self.reads)]
        {
            output::line(format_args!("{what}: {times}, {bytes} bytes"))?;
        }
        output::line(format_args!("atomics: {}", self.atomics))?;
        // libibverbs' devices don't count for each queue pair.
        if let Some(counters) = counters {
            let (lost, timeouts) = (counters.requester.retransmitted, counters.requester.timeouts);
            output::line(format_args!("packets sent again: {lost}, timeouts: {timeouts}"))?;
        }
        output::line(format_args!("region: {} bytes, {} counters", session.data_len(), session.counters()))?;
        output::line(format_args!(
            "connected for {:.1} s over {}, path MTU {}",
            self.since.elapsed().as_secs_f64(),
            info.device,
            info.path_mtu
        ))?;
        output::line(format_args!("data path: {}", data_path(info)))
    }
}

/// The server ended the session.
fn ended(reason: Option<SessionError>) -> Failure {
    match reason {
        Some(reason) => Failure::Session(reason),
        None => Failure::Left,
    }
}

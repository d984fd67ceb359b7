//! `--reconnect`: when to connect again, and when not.

use crate::failure::Failure;
use crate::link::Link;
use crate::output;
use crate::runtime::Interruption;
use secure_rdma::control::ErrorKind;
use secure_rdma::{Report, Session, SessionError, SessionErrorKind};
use std::time::{Duration, Instant};

/// The first pause, at most.
const FIRST: Duration = Duration::from_millis(200);

/// The longest pause. A session that has lasted for so long has the pauses begin anew.
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the next try: twice as long as before it, up to a limit, and by chance between half of that
/// and all of it, so that the clients of a server that was restarted don't come in step.
#[derive(Debug)]
struct Backoff {
    /// The next pause, at most.
    next: Duration,
}

impl Backoff {
    const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause; `chance` is a number that nobody can foresee.
    fn pause(&mut self, chance: u64) -> Duration {
        let most = self.next;
        self.next = (most * 2).min(LONGEST);
        let half = most / 2;
        let steps = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_micros(chance % steps)
    }
}

/// What connects again, with the identity that it connected with first.
#[derive(Debug)]
pub(crate) struct Reconnection {
    link: Link,
    backoff: Backoff,
    since: Instant,
}

impl Reconnection {
    /// For a session that was opened now.
    pub(crate) fn new(link: Link) -> Self {
        Self { link, backoff: Backoff::new(), since: Instant::now() }
    }

    /// Another session, after one has ended because of `failure`. It tries for as long as that may help.
    ///
    /// # Errors
    /// `failure`, if it is none that another session mends; why the server doesn't let this client in; or the user has
    /// had enough of it.
    pub(crate) async fn again(
        &mut self,
        failure: Failure,
        interruption: &mut Interruption,
    ) -> Result<Session, Failure> {
        if !is_passing(&failure) {
            return Err(failure);
        }
        if self.since.elapsed() >= LONGEST {
            self.backoff = Backoff::new();
        }
        let mut reason = failure;
        loop {
            let chance = getrandom::u64().map_err(|error| {
                Failure::Other(format!(
                    "the system gives no random numbers: {error}; {}",
                    Report::new(&reason)
                ))
            })?;
            let pause = self.backoff.pause(chance);
            output::note(format_args!(
                "not connected: {}; next try in {:.1} s",
                Report::new(&reason),
                pause.as_secs_f64()
            ));
            let tried = async {
                tokio::time::sleep(pause).await;
                self.link.connect().await
            };
            let tried = tokio::select! {
                tried = tried => tried,
                () = interruption.arrived() => return Err(Failure::interrupted()),
            };
            match tried {
                Ok(session) => {
                    self.since = Instant::now();
                    return Ok(session);
                }
                Err(error) if may_be_tried_again(&error) => reason = Failure::Session(error),
                Err(error) => return Err(Failure::Session(error)),
            }
        }
    }
}

/// Whether a session that has ended so may be followed by another. Why a server has sent its client away, it says again
/// to who comes again. What isn't authentic or breaks the protocol is for a person to look at.
fn is_passing(failure: &Failure) -> bool {
    use SessionErrorKind::{Closed, Refused, TimedOut, Unreachable};
    match failure {
        Failure::Left => true,
        Failure::Session(error) => matches!(error.kind(), Closed | Refused | TimedOut | Unreachable),
        _ => false,
    }
}

/// Whether who wasn't let in may be later: nobody answered, or there was no room.
fn may_be_tried_again(error: &SessionError) -> bool {
    use SessionErrorKind::{Closed, TimedOut, Unreachable};
    match error {
        SessionError::Peer { code, .. } if code.kind() == Some(ErrorKind::Full) => true,
        // A name that nobody knows is a mistake, or a resolver that has gone with the network.
        error => matches!(error.kind(), Closed | TimedOut | Unreachable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secure_rdma::control::Text;
    use std::io;
    use std::sync::Arc;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_by_chance_between_half_and_all_of_it() {
        let mut backoffs = [Backoff::new(), Backoff::new(), Backoff::new()];
        let mut most = FIRST;
        for _ in 0..20 {
            let half = u64::try_from(most.as_micros() / 2).unwrap();
            let [shortest, longest, other] = &mut backoffs;
            assert_eq!(shortest.pause(0), most / 2);
            assert_eq!(longest.pause(half), most);
            let pause = other.pause(u64::MAX);
            assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
            most = (most * 2).min(LONGEST);
        }
        assert_eq!(most, LONGEST);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let connect = SessionError::Connect {
            address: "127.0.0.1:1".parse().unwrap(),
            source: Arc::new(io::ErrorKind::ConnectionRefused.into()),
        };
        let peer = |kind: ErrorKind| SessionError::Peer { code: kind.into(), text: Text::lossy("why") };
        for error in [connect, SessionError::Closed, peer(ErrorKind::Full)] {
            assert!(may_be_tried_again(&error), "{error}");
            assert!(is_passing(&Failure::Session(error)));
        }
        for error in [
            peer(ErrorKind::NotAllowed),
            peer(ErrorKind::Seal),
            SessionError::Version { own: 1, peer: 2 },
            SessionError::Protocol { what: "nonsense" },
        ] {
            assert!(!may_be_tried_again(&error), "{error}");
        }
        // Whom the server has sent away asks once more, and is told.
        assert!(is_passing(&Failure::Session(peer(ErrorKind::NotAllowed))));
        assert!(is_passing(&Failure::Left));
        assert!(!is_passing(&Failure::Session(SessionError::Protocol { what: "nonsense" })));
        assert!(!is_passing(&Failure::Line("what".into())));
    }
}

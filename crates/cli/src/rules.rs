//! What a server goes by, from files that may change while it runs.

use crate::args::OnReloadFailure;
use crate::descriptors::Reserve;
use crate::failure::Failure;
use crate::output;
use crate::trust::ensure_own;
use secure_rdma::certs::{CertsError, Identity, Name, Store, Timestamp};
use secure_rdma::tls::ClientAuth;
use secure_rdma::{FilesChanging, ReloadCause, ReloadSchedule, Reloaded, Report, Server, SessionError};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long before their end revocation lists are warned of.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often it is looked whether the server's certificate ends soon.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Once a day by the clock that certificates go by. That one may be set, in both directions, and goes on while the
/// machine sleeps, as those that time limits go by don't.
#[derive(Debug)]
struct Daily {
    last: Timestamp,
}

impl Daily {
    fn is_due(&mut self, now: Timestamp) -> bool {
        let due = now < self.last || now >= self.last.plus(DAY);
        if due {
            self.last = now;
        }
        due
    }
}

/// What the server proves itself with.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    pub(crate) store: Store,
    pub(crate) names: Vec<Name>,
}

impl Credentials {
    /// The certificate, another one if it ends soon.
    pub(crate) fn identity(&self) -> Result<Identity, CertsError> {
        ensure_own(&self.store, &self.names)
    }
}

/// Why the files can't be gone by, in words: nothing but people goes by it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

impl From<CertsError> for Unusable {
    fn from(error: CertsError) -> Self {
        Self(Report::new(&error).to_string())
    }
}

impl From<SessionError> for Unusable {
    fn from(error: SessionError) -> Self {
        Self(Report::new(&error).to_string())
    }
}

impl From<FilesChanging> for Unusable {
    fn from(error: FilesChanging) -> Self {
        Self(error.to_string())
    }
}

/// The rules, their files, and when these are read.
#[derive(Debug)]
pub(crate) struct Rules {
    credentials: Credentials,
    clients: ClientAuth,
    on_failure: OnReloadFailure,
    schedule: ReloadSchedule,
    daily: Daily,
    reserve: Reserve,
}

impl Rules {
    pub(crate) fn new(credentials: Credentials, clients: ClientAuth, on_failure: OnReloadFailure) -> Self {
        let schedule = ReloadSchedule::new(files(&credentials, &clients));
        let daily = Daily { last: Timestamp::now() };
        Self { credentials, clients, on_failure, schedule, daily, reserve: Reserve::hold() }
    }

    /// From now on changes count.
    pub(crate) fn watch(&mut self) {
        self.schedule = ReloadSchedule::new(files(&self.credentials, &self.clients));
    }

    /// Waits until they have to be read again. Cancelling loses nothing.
    pub(crate) async fn due(&mut self) -> ReloadCause {
        self.schedule.due().await
    }

    /// Has `server` go by what the files say now, `because`. If anything in them is wrong, everything stays as it
    /// was, is said, and is tried again.
    pub(crate) fn reload(&mut self, server: &Server, because: &dyn fmt::Display) -> Result<(), Failure> {
        let Self { credentials: Credentials { store, names }, clients, schedule, .. } = self;
        let read = || {
            // The files as they are: none is made here, least of all in place of one that is being replaced.
            let identity = store.current_server(names)?;
            Ok::<_, Unusable>(server.read_rules(&identity, clients)?)
        };
        match self.reserve.lend(|| schedule.attempt(read)) {
            Ok(rules) => {
                let Reloaded { ended, revocations_until } = server.apply(rules);
                warn_of_end(revocations_until);
                output::event(
                    "reloaded",
                    &[("because", because.to_string().into()), ("sessions_ended", ended.into())],
                    format_args!(
                        "reloaded ({because}): certificates and what is asked of clients; sessions ended: {ended}"
                    ),
                )
            }
            Err(failed) => {
                let stays = match self.on_failure {
                    OnReloadFailure::Keep => "what was loaded before stays in use",
                    OnReloadFailure::Close => "open sessions go on, nobody else is let in",
                };
                if self.on_failure == OnReloadFailure::Close {
                    server.turn_away();
                }
                tracing::error!("not reloaded ({because}), {stays}: {failed}");
                output::event(
                    "not_reloaded",
                    &[("because", because.to_string().into()), ("error", failed.error.to_string().into())],
                    format_args!("NOT reloaded ({because}), {stays}: {failed}"),
                )
            }
        }
    }

    /// Has `server` use a new certificate in time, and warns of lists that end soon: once a day, however often it is
    /// called.
    pub(crate) async fn renew_daily(&mut self, server: &Server) {
        if self.daily.is_due(Timestamp::now()) {
            self.renew(server).await;
            warn_of_end(server.revocations_until());
        }
    }

    /// If no new certificate can be had, the old one may still be good for a while.
    async fn renew(&self, server: &Server) {
        let credentials = self.credentials.clone();
        let renewed = match tokio::task::spawn_blocking(move || credentials.identity()).await {
            Ok(Ok(identity)) => server.renew(&identity).map_err(|error| Report::new(&error).to_string()),
            Ok(Err(error)) => Err(Report::new(&error).to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = renewed {
            tracing::warn!("the server's certificate was not renewed: {error}");
        }
    }
}

/// The files that say what a server is and what it asks of its clients.
fn files(credentials: &Credentials, clients: &ClientAuth) -> Vec<PathBuf> {
    let mut files = credentials.store.server_files().to_vec();
    files.extend(clients.files());
    files
}

/// Warns of revocation lists that end soon.
pub(crate) fn warn_of_end(revocations_until: Option<Timestamp>) {
    if let Some(end) = revocations_until.filter(|end| *end < Timestamp::now().plus(ENDS_SOON)) {
        tracing::warn!("a revocation list (--crl) ends on {end}: renew it before, or nobody will be let in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_over_after_a_day_and_whenever_the_clock_is_set_back() {
        let begin = Timestamp::from_unix(1_000_000_000);
        let (mut daily, second) = (Daily { last: begin }, Duration::from_secs(1));
        assert!(!daily.is_due(begin) && !daily.is_due(begin.plus(DAY).minus(second)));
        assert!(daily.is_due(begin.plus(DAY)) && !daily.is_due(begin.plus(DAY)));
        let ahead = begin.plus(DAY * 400);
        assert!(daily.is_due(ahead) && !daily.is_due(ahead.plus(second)));
        assert!(daily.is_due(begin) && !daily.is_due(begin.plus(second)));
    }
}

//! Sessions, one after the other if need be, until all is moved.

use super::connection::{connect, unless_interrupted};
use super::summary::Summary;
use crate::args::MoveArgs;
use crate::failure::Failure;
use crate::link::Link;
use crate::output;
use crate::reconnect::Reconnection;
use crate::runtime::Interruption;
use secure_rdma::Report;
use secure_rdma_files::{FilesClient, FilesError, Pace};
use std::time::Instant;

/// What is to be moved, and what does it.
pub(super) trait Work {
    /// Does what isn't done yet. It may be called again, with another session, when that has ended.
    ///
    /// # Errors
    /// The session has ended, or nothing can be moved at all.
    async fn go_on(&mut self, client: &mut FilesClient, pace: &mut Pace) -> Result<(), FilesError>;

    /// What became of all, when it is done.
    fn summary(self) -> Summary;
}

/// Has `work` done, in as many sessions as it takes if the user wants that, and says what became of it.
pub(super) async fn carry_out(
    link: Link,
    args: &MoveArgs,
    mut interruption: Interruption,
    mut work: impl Work,
) -> Result<(), Failure> {
    let since = Instant::now();
    let mut pace = args.limit_rate.map_or_else(Pace::unlimited, |rate| Pace::at_most(rate.0));
    let mut client = unless_interrupted(&mut interruption, connect(&link)).await?;
    let mut reconnection = args.reconnect.then(|| Reconnection::new(link));
    let moved = loop {
        let going = async { work.go_on(&mut client, &mut pace).await.map_err(Failure::from) };
        let failure = match unless_interrupted(&mut interruption, going).await {
            Ok(()) => break Ok(client),
            Err(failure) => failure,
        };
        match (&failure, &mut reconnection) {
            (Failure::Session(_), Some(reconnection)) => {
                // How it went doesn't matter any more: it is answered if the server has said goodbye.
                let _ = client.close().await;
                let session = reconnection.again(failure, &mut interruption).await?;
                output::note(format_args!("connected again, going on where it was broken off"));
                client =
                    unless_interrupted(&mut interruption, async { Ok(FilesClient::open(session).await?) })
                        .await?;
            }
            _ => break Err((failure, client)),
        }
    };
    match moved {
        Ok(client) => {
            let closed = client.close().await;
            work.summary().tell(since.elapsed(), args.json)?;
            Ok(closed?)
        }
        Err((failure, client)) => {
            // What went wrong first is what the user has to know, and that what has come isn't lost.
            let _ = client.close().await;
            if matches!(failure, Failure::Session(_)) {
                output::note(format_args!(
                    "what has come is kept beside its place: the same command goes on where this one ended"
                ));
            }
            tracing::debug!("ended because of: {}", Report::new(&failure));
            Err(failure)
        }
    }
}

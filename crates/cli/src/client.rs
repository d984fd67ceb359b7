//! `secure-rdma client`.

mod input;
mod line;
mod prompt;
mod talk;

use crate::args::ClientArgs;
use crate::exit::tell;
use crate::failure::Failure;
use crate::link::{Greeting, LinkBuilder};
use crate::reconnect::Reconnection;
use crate::runtime::{self, Interruption};
use crate::{logging, output};
use input::Lines;
use secure_rdma::{Buffers, Session};
use std::io::{self, IsTerminal};
use talk::{Talk, Turn};

pub(crate) fn run(args: ClientArgs) -> Result<(), Failure> {
    logging::start(args.link.verbose);
    let link = LinkBuilder::new(
        &args.link,
        args.place,
        args.server_name.as_ref(),
        Greeting::Full,
        Buffers::DEFAULT,
    )?;
    let runtime = runtime::start()?;
    let result = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        let link = link.build()?;
        let session = tokio::select! {
            session = link.connect() => session?,
            () = interruption.arrived() => return Err(Failure::interrupted()),
        };
        let reconnection = args.reconnect.then(|| Reconnection::new(link));
        let lines = if !args.exec.is_empty() {
            Lines::given(args.exec)
        } else if io::stdin().is_terminal() {
            Lines::typed(args.link.trust.certs.path().ok())?
        } else {
            Lines::piped()?
        };
        converse(session, lines, interruption, reconnection).await
    });
    // The thread that waits for lines isn't waited for.
    runtime.shutdown_background();
    result
}

/// Carries out lines until there are no more, one fails, or the session is over and no other is to follow it; at a
/// terminal a line that fails is no reason to stop.
async fn converse(
    session: Session,
    mut lines: Lines,
    mut interruption: Interruption,
    mut reconnection: Option<Reconnection>,
) -> Result<(), Failure> {
    let mut talk = Talk::new(session);
    // Lines of which nobody knows whether the server has carried them out.
    let mut unknown = 0_u64;
    let result = loop {
        let line = tokio::select! {
            line = lines.next() => line,
            failure = talk.over() => {
                match resume(&mut talk, &mut reconnection, failure, &mut interruption).await {
                    Ok(()) => continue,
                    Err(failure) => break Err(failure),
                }
            }
            () = interruption.arrived() => break Err(Failure::interrupted()),
        };
        let line = match line {
            None => break Ok(()),
            Some(Err(failure)) => break Err(failure),
            Some(Ok(line)) => line,
        };
        let turn = tokio::select! {
            turn = talk.carry_out(&line) => turn,
            () = interruption.arrived() => break Err(Failure::interrupted()),
        };
        match turn {
            Ok(Turn::Next) => {}
            Ok(Turn::Quit) => break Ok(()),
            Err(failure) if lines.is_forgiving() && talk::may_go_on(&failure) => tell(&failure),
            Err(failure) if reconnection.is_some() && talk::ends_session(&failure) => {
                unknown += 1;
                if let Err(failure) = output::line(format_args!("unknown: {line}")) {
                    break Err(failure);
                }
                if let Err(failure) = resume(&mut talk, &mut reconnection, failure, &mut interruption).await {
                    break Err(failure);
                }
            }
            Err(failure) => break Err(failure),
        }
    };
    match result {
        Ok(()) => {
            talk.close().await?;
            if unknown == 0 { Ok(()) } else { Err(in_doubt(unknown)) }
        }
        Err(failure) => {
            // What went wrong first is what the user has to know.
            talk.leave(&failure).await;
            Err(failure)
        }
    }
}

/// Goes on in another session, after one has ended because of `failure`.
async fn resume(
    talk: &mut Talk,
    reconnection: &mut Option<Reconnection>,
    failure: Failure,
    interruption: &mut Interruption,
) -> Result<(), Failure> {
    let Some(reconnection) = reconnection else { return Err(failure) };
    tokio::select! {
        () = talk.leave(&failure) => {}
        () = interruption.arrived() => return Err(Failure::interrupted()),
    }
    talk.go_on_in(reconnection.again(failure, interruption).await?);
    output::note(format_args!(
        "connected again: this is a new session, and its region and counters are new; what was written is gone"
    ));
    Ok(())
}

/// Not everything was done as far as anybody knows.
fn in_doubt(lines: u64) -> Failure {
    Failure::Other(format!(
        "{lines} of the lines are reported as unknown: the session ended before it was known whether the server had \
         carried them out, and they were not repeated"
    ))
}

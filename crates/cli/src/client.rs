//! `secure-rdma client`.

mod input;
mod line;
mod prompt;
mod reconnect;
mod talk;

use crate::args::ClientArgs;
use crate::failure::{Failure, tell};
use crate::place::Place;
use crate::runtime::{self, Interruption};
use crate::trust::server_name;
use crate::{logging, output};
use input::Lines;
use rdma_verbs::Device;
use reconnect::Reconnection;
use secure_rdma::certs::Name;
use secure_rdma::control::Access;
use secure_rdma::{Client, SealedBy, Session, SessionError, SessionInfo, SessionOptions};
use std::io::{self, IsTerminal};
use talk::{Talk, Turn};

pub(crate) fn run(args: ClientArgs) -> Result<(), Failure> {
    logging::start(args.verbose);
    let name = server_name(args.server_name.as_ref(), &args.place)?;
    let options = SessionOptions::default().seal(args.seal.policy()).packets(Some(args.seal.packets()));
    let mut client = Client::builder(args.trust.trust()?).options(options);
    if let Some(identity) = args.trust.own()? {
        client = client.identity(identity);
    }
    if let Some(lists) = &args.crl {
        client = client.revocations(lists.as_path());
        if let Some(path) = args.trust.revocations_seen() {
            client = client.remember_revocations(path);
        }
    }
    let runtime = runtime::start()?;
    let result = runtime.block_on(async {
        let mut interruption = Interruption::watch()?;
        let client = client.device(Device::open(&args.device.device)?).build()?;
        let link = Link { client, place: args.place, name, verbose: args.verbose };
        let session = tokio::select! {
            session = link.connect() => session?,
            () = interruption.arrived() => return Err(interrupted()),
        };
        let reconnection = args.reconnect.then(|| Reconnection::new(link));
        let lines = if !args.exec.is_empty() {
            Lines::given(args.exec)
        } else if io::stdin().is_terminal() {
            Lines::typed(args.trust.certs.path().ok())?
        } else {
            Lines::piped()?
        };
        converse(session, lines, interruption, reconnection).await
    });
    // The thread that waits for lines isn't waited for.
    runtime.shutdown_background();
    result
}

/// What connects to the server.
#[derive(Debug)]
struct Link {
    client: Client,
    place: Place,
    name: Name,
    verbose: bool,
}

impl Link {
    /// Opens a session, and says what it is.
    async fn connect(&self) -> Result<Session, SessionError> {
        let session = self.client.connect(&self.place.host, self.place.port, &self.name).await?;
        greet(&session, &self.name, self.verbose);
        Ok(session)
    }
}

/// Says where one is. None of it is a result: it goes to standard error.
fn greet(session: &Session, name: &Name, verbose: bool) {
    let info = session.info();
    let SessionInfo { tls, own, remote, .. } = info;
    output::note(format_args!(
        "connected to {name} at {} ({}), device {}",
        info.peer, info.peer_software, info.device
    ));
    output::note(format_args!("control channel: {}, {}, {}", tls.version, tls.suite, tls.group));
    match (info.sealed, session.counters()) {
        (SealedBy::Messages, 1..) => {
            output::note(format_args!("data path: {}; counters (add, swap): NOT sealed", data_path(info)));
        }
        (SealedBy::Messages, 0) => {
            output::note(format_args!("data path: {}; counters (add, swap): none", data_path(info)));
        }
        (SealedBy::Packets, _) => {
            output::note(format_args!("data path: {}", data_path(info)));
        }
        (SealedBy::Nothing, _) => {
            output::note(format_args!(
                "data path: NOT sealed (what you send, write and read travels in clear)"
            ));
        }
    }
    if info.allowed != Access::ALL {
        output::note(format_args!(
            "allowed here: {}; a region of {} bytes",
            info.allowed,
            session.data_len()
        ));
    }
    if verbose {
        output::note(format_args!(
            "QPN {:#08x} here, {:#08x} there; PSN {:#08x} here, {:#08x} there; path MTU {}",
            own.qpn.get(),
            remote.qpn.get(),
            own.psn.get().get(),
            remote.psn.get().get(),
            info.path_mtu
        ));
        if let (Some(send), Some(receive)) = (info.queue_pair.send, info.queue_pair.receive) {
            output::note(format_args!(
                "the device has sq_psn {:#08x} to send with, rq_psn {:#08x} to receive with",
                send.sq_psn.get(),
                receive.rq_psn.get()
            ));
        }
    }
}

/// How the data path is sealed, if it is.
fn data_path(info: &SessionInfo) -> String {
    match info.sealed {
        SealedBy::Nothing => "NOT sealed".into(),
        by => format!("sealed, {}, by {}", info.tls.suite, by.name()),
    }
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
            () = interruption.arrived() => break Err(interrupted()),
        };
        let line = match line {
            None => break Ok(()),
            Some(Err(failure)) => break Err(failure),
            Some(Ok(line)) => line,
        };
        let turn = tokio::select! {
            turn = talk.carry_out(&line) => turn,
            () = interruption.arrived() => break Err(interrupted()),
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
            let _ = talk.close().await;
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
        () = talk.leave() => {}
        () = interruption.arrived() => return Err(interrupted()),
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

fn interrupted() -> Failure {
    Failure::Other("interrupted".into())
}

/// The server ended the session.
fn ended(reason: Option<SessionError>) -> Failure {
    match reason {
        Some(reason) => Failure::Session(reason),
        None => Failure::Left,
    }
}

//! What every attack needs: sessions on this machine's loopback interface, time limits, and words for how a
//! session ended.

use crate::world::{World, messages};
use secure_rdma::SealedBy::{self, Messages, Nothing, Packets};
use secure_rdma::control::SealPolicy::{Off, Required};
use secure_rdma::control::{ErrorKind, PacketPolicy};
use secure_rdma::seal::SealError;
use secure_rdma::{Buffers, Report, Session, SessionError, SessionOptions};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// This machine can't play the attack, and has said so.
#[derive(Debug)]
pub(crate) struct Skipped;

/// The open session, on which an attack has to work, or it proves nothing; and the one whose messages and slots are
/// sealed, but no packet.
pub(crate) const BOTH: [SealedBy; 2] = [Nothing, Messages];

/// Every kind of session.
pub(crate) const ALL: [SealedBy; 3] = [Nothing, Messages, Packets];

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing comes where nothing must come.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn run<T>(what: impl Future<Output = T>) -> T {
    Runtime::new().expect("a runtime").block_on(what)
}

/// The same on one thread, where none of them goes on while another has to wait for the processor.
pub(crate) fn run_on_one_thread<T>(what: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(what)
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

/// Waits until it is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    within(async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Options with which sessions are sealed so.
pub(crate) fn options(sealed: SealedBy) -> SessionOptions {
    match sealed {
        Nothing => messages().seal(Off).buffers(BUFFERS),
        Messages => messages().seal(Required).buffers(BUFFERS),
        Packets => SessionOptions::default().packets(Some(PacketPolicy::Required)),
    }
}

/// A packet is a fragment of a message: what is done to one is done to the other.
const BUFFERS: Buffers = Buffers { size: 4096, ..Buffers::DEFAULT };

/// Both ends of a session over IPv6, whose packets have no identification for a forger to guess.
pub(crate) async fn session(seal: SealedBy) -> (World, Session, Session) {
    let mut world = World::with("::1", options(seal), options(seal), |_| {}).await;
    let (client, server) = world.session().await;
    assert_eq!(client.info().sealed, seal);
    (world, client, server)
}

/// The next message.
pub(crate) async fn message(session: &mut Session) -> Vec<u8> {
    within(session.recv()).await.expect("received").expect("a message")
}

/// Nothing is delivered.
pub(crate) async fn silence(session: &mut Session) {
    let heard = tokio::time::timeout(QUIET, session.recv()).await;
    assert!(heard.is_err(), "{heard:?}");
}

/// Two sides that say goodbye to each other; `left` leaves first.
pub(crate) async fn goodbye(
    left: Session,
    mut stayed: Session,
) -> (Result<(), SessionError>, Result<(), SessionError>) {
    let answer = async {
        let end = stayed.recv().await;
        match end {
            Ok(None) => stayed.close().await,
            Ok(Some(message)) => panic!("delivered at the end: {message:?}"),
            Err(error) => Err(error),
        }
    };
    within(async { tokio::join!(left.close(), answer) }).await
}

/// A side of a session, for the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// The sealed session is over at the side that has found `error`, for good, and the other is told why. Says
/// so for the page.
pub(crate) async fn is_over(
    (who, finder): (Side, &mut Session),
    other: &mut Session,
    error: &SessionError,
) -> String {
    let recv = finder.recv().await.map(drop).expect_err("over");
    let send = finder.send(b"more").await.expect_err("over");
    for again in [recv, send] {
        assert_eq!(again.to_string(), error.to_string());
    }
    let told = within(other.ended()).await.expect("not an orderly end");
    assert_told(error, &told);
    ended(who, error)
}

/// `told` is what the other side hears of `error`.
pub(crate) fn assert_told(error: &SessionError, told: &SessionError) {
    let expected = match error {
        SessionError::Protocol { .. } => ErrorKind::Unexpected,
        _ => ErrorKind::Forged,
    };
    assert!(matches!(told, SessionError::Peer { code, .. } if code.kind() == Some(expected)), "{told}");
    assert_eq!(told.to_string(), format!("the peer ended the session: {}", Report::new(error)));
}

/// The page's words for a session that one side ended, and told the other why: the error itself is a note.
pub(crate) fn ended(who: Side, error: &SessionError) -> String {
    format!("no wrong byte; the {who} ends it {}", note(error))
}

/// A mark for a note that has the error.
pub(crate) fn note(error: &SessionError) -> String {
    let label = match error {
        SessionError::Forged(SealError::Message { counter }) => format!("fragment-{counter}"),
        SessionError::Forged(SealError::Slot { slot }) => format!("slot-{slot}"),
        SessionError::Forged(SealError::RolledBack { slot }) => format!("rolled-back-{slot}"),
        SessionError::Forged(SealError::Withheld { slot }) => format!("withheld-{slot}"),
        SessionError::Truncated { arrived, .. } => format!("cut-off-{arrived}"),
        SessionError::Protocol { .. } => "protocol".into(),
        other => panic!("{other}"),
    };
    let mark = format!("[^{label}]");
    NOTES.lock().expect("no panic").insert(label, Report::new(error).to_string());
    mark
}

/// The errors that [`ended`] has named.
pub(crate) static NOTES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

pub(crate) fn quote(error: &SessionError) -> String {
    format!("“{}”", Report::new(error))
}

//! Attacks on the kernel's Soft-RoCE, by raw packets from an attacker on the path: on an open session, on one whose
//! messages are sealed, and on one whose packets the kernel seals. docs/attacks.md says what comes of each.
//!
//! | file | what it holds |
//! |---|---|
//! | `requests` | requests in the client's name |
//! | `answers` | answers in the client's name, to the kernel's own requests |
//! | `on_the_way` | what is read, changed and repeated on the way |
//! | `sealed` | all of these where the kernel seals |
//! | `path` | the sessions |

mod answers;
mod on_the_way;
mod path;
mod requests;
mod sealed;

use crate::guest::SLOW;
use path::{Ends, Path};
use secure_rdma::seal::SealError;
use secure_rdma::{Report, SealedBy, Session, SessionError};

/// What is said of packets in clear where the kernel seals.
const DROPPED: &str = "nothing: each is dropped by the kernel's policy and counted (`XfrmInTmplMismatch`)";

/// What is said of sealed packets that were changed, and of those that come again.
const CHANGED: &str =
    "nothing: dropped by the kernel and counted (`XfrmInStateProtoError`); the genuine packet arrives";
const REPEATED: &str = "nothing: dropped by the kernel and counted (`XfrmInStateSeqError`)";

const PAGE: &str = include_str!("../../../../../docs/attacks.md");

/// Lines of the page's table.
const LINES: usize = 13;

/// The open session, on which an attack has to work, and the one whose messages and slots are sealed.
const BOTH: [SealedBy; 2] = [SealedBy::Nothing, SealedBy::Messages];

/// The page has the line of that attack: who can do it and what it takes, and what comes of it in each session.
#[track_caller]
fn is_on_the_page(name: &str, [attacker, knows]: [&str; 2], [open, messages, packets]: [&str; 3]) {
    let messages = if messages == open { "the same" } else { messages };
    let line = format!("| {name} | {attacker} | {knows} | {open} | {messages} | {packets} |");
    assert!(PAGE.lines().any(|other| other == line), "not in docs/attacks.md:\n{line}");
}

#[test]
fn the_page_has_no_other_lines_of_the_kernels_device() {
    let (_, section) = PAGE.split_once("\n## The kernel's device\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    assert_eq!(rows.count(), 1 + LINES);
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SLOW, what).await.expect("in time")
}

async fn message(session: &mut Session) -> Vec<u8> {
    within(session.recv()).await.unwrap().expect("a message")
}

/// Plays on an open session and on one whose messages are sealed. Returns what is said of both.
#[expect(clippy::needless_pass_by_value, reason = "closures are made where they are played")]
fn both(play: impl AsyncFn(&Path, &mut Ends) -> String) -> [String; 2] {
    BOTH.map(|seal| {
        let path = Path::new(seal);
        let mut ends = path.session();
        path.run(play(&path, &mut ends))
    })
}

/// What the page says of a sealed session that ends before a byte of what was forged is seen. The error is a note.
#[track_caller]
fn ended(who: &str, error: &SessionError) -> String {
    let label = match error {
        SessionError::Forged(SealError::Message { counter }) => format!("fragment-{counter}"),
        SessionError::Forged(SealError::Slot { slot }) => format!("slot-{slot}"),
        other => panic!("{other}"),
    };
    let note = format!("[^{label}]: {}", Report::new(error));
    assert!(PAGE.lines().any(|line| line == note), "not in docs/attacks.md:\n{note}");
    format!("no wrong byte; the {who} ends it [^{label}]")
}

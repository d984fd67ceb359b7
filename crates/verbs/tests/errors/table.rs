//! docs/errors.md.

use crate::cases::Case;
use crate::fate::Pair;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// The variable that names the directory of what was seen.
const VARIABLE: &str = "SECURE_RDMA_TABLE";

const HEAD: &str = "\
# What becomes of a failed request

One row for each cause, one column for each pair of devices: requester A → responder B, each either Linux'
Soft-RoCE (`rxe`, through libibverbs, in Debian 12's Linux 6.1) or the embedded device. The table is made by
the test that causes these errors on all four (`crates/verbs/tests/errors.rs`), in the virtual machine that
has Soft-RoCE; it fails where this page says anything else.

Of each end it says what its requests complete with, in the order in which they were posted (`×2`: so do two
in a row), the state of its queue pair afterwards, and the asynchronous event, if there is one. Where receive
requests aren't mentioned, none has completed. Statuses, states and events have libibverbs' names without
`IBV_WC_`, `IBV_QPS_` and `IBV_EVENT_`.

Soft-RoCE tells of no asynchronous event for any of this, in either role; hardware does, and the embedded
device too (IBA 11.6.3.2, affiliated asynchronous errors). All other differences have a note.
";

fn directory() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).map(PathBuf::from)
}

fn file(pair: Pair) -> Option<PathBuf> {
    Some(directory()?.join(format!("{}-{}", pair.0, pair.1)))
}

/// Keeps what was seen on one pair, if that is wanted.
pub(crate) fn write_column(pair: Pair, column: &[(&str, String)]) {
    if let Some(file) = file(pair) {
        let lines: String = column.iter().map(|(_, seen)| format!("{seen}\n")).collect();
        fs::write(&file, lines).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}

/// What was seen on one pair; `None` if nothing is kept.
pub(crate) fn read_column(pair: Pair) -> Option<Vec<String>> {
    let file = file(pair)?;
    let lines = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    Some(lines.lines().map(str::to_owned).collect())
}

/// The whole page.
pub(crate) fn markdown(cases: &[Case], columns: &[Vec<String>; 4]) -> String {
    let mut page = format!("{HEAD}\n| cause |");
    for pair in Pair::ALL {
        write!(page, " {pair} |").expect("a string");
    }
    page.push_str("\n|---|---|---|---|---|\n");
    let mut notes = Vec::new();
    for (row, case) in cases.iter().enumerate() {
        write!(page, "| {}", case.cause).expect("a string");
        for differs in &case.differs {
            let number = notes.iter().position(|note| note == &differs.because).unwrap_or_else(|| {
                notes.push(differs.because);
                notes.len() - 1
            });
            write!(page, " [^{}]", number + 1).expect("a string");
        }
        for column in columns {
            assert_eq!(column.len(), cases.len(), "what was seen belongs to another version of the test");
            write!(page, " | {}", column[row].replace("; ", "<br>")).expect("a string");
        }
        page.push_str(" |\n");
    }
    for (number, note) in notes.iter().enumerate() {
        write!(page, "\n[^{}]: {note}\n", number + 1).expect("a string");
    }
    page
}

/// Compares the page with the one in the repository; leaves the new one where it can be taken from.
pub(crate) fn compare(page: &str) {
    let committed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors.md");
    if fs::read_to_string(&committed).is_ok_and(|committed| committed == page) {
        return;
    }
    let new = directory().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()).join("errors.md");
    fs::write(&new, page).unwrap_or_else(|error| panic!("{}: {error}", new.display()));
    let new = new.display();
    match directory() {
        Some(_) => panic!("docs/errors.md isn't what was seen, which is {new}"),
        None => {
            panic!("docs/errors.md isn't what the test expects; if it should be: cp {new} docs/errors.md")
        }
    }
}

//! Every error that one end can cause, seen at both: the same on every pair of devices, and as docs/errors.md says.
//!
//! `SECURE_RDMA_TABLE` names a directory that what was seen is written to, one file for each pair of devices.

#[path = "errors/cases.rs"]
mod cases;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;
#[path = "errors/fate.rs"]
mod fate;
#[path = "errors/stage.rs"]
mod stage;
#[path = "errors/table.rs"]
mod table;
#[path = "errors/transports.rs"]
mod transports;

use cases::cases;
use common::places;
use fate::Pair;

#[test]
fn every_error_ends_as_its_cause_demands_at_both_ends() {
    let pair = Pair::of(&places());
    let mut column = Vec::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let expected = case.expected(pair);
        let seen = case.play(&expected);
        if seen != expected {
            wrong.push(format!("{}\n  expected: {expected}\n      seen: {seen}", case.cause));
        }
        column.push((case.cause, seen.to_string()));
    }
    table::write_column(pair, &column);
    assert!(wrong.is_empty(), "{pair}: {} of {} causes\n{}", wrong.len(), column.len(), wrong.join("\n"));
}

#[test]
fn the_table_in_the_docs_is_what_was_seen() {
    let cases = cases();
    let columns = Pair::ALL.map(|pair| {
        table::read_column(pair)
            .unwrap_or_else(|| cases.iter().map(|case| case.expected(pair).to_string()).collect())
    });
    table::compare(&table::markdown(&cases, &columns));
}

//! What was simulated, as tables.

use simulator::{Fault, Operation, TRANSPORTS, Tally, Way};
use std::path::Path;
use std::{fs, io};

/// What of a page is made by the command stands between these lines.
const MARKS: [&str; 2] = ["<!-- made by the simulator: begin -->", "<!-- made by the simulator: end -->"];

/// The tables, in Markdown.
pub(crate) fn tables(tally: &Tally) -> String {
    let seconds = |ns: u64| {
        let (whole, rest) = (ns / 1_000_000_000, ns / 100_000_000 % 10);
        format!("{}.{rest} s", group(whole))
    };
    let mut text = String::from("| what | how much |\n|---|--:|\n");
    for (name, count) in [
        ("seeds", group(tally.seeds)),
        ("devices", group(tally.devices)),
        ("queue pairs", group(tally.queue_pairs)),
        ("steps of devices and programs", group(tally.steps)),
        ("packets sent", group(tally.packets)),
        ("virtual time", seconds(tally.virtual_ns)),
        ("longest time from the last fault to the end", seconds(tally.longest_end_ns)),
    ] {
        text += &format!("| {name} | {count} |\n");
    }
    text += "\n| work requests | posted | succeeded | failed | flushed | lost with their queue pair |\n";
    text += "|---|--:|--:|--:|--:|--:|\n";
    for ((_, transport), operations) in TRANSPORTS.into_iter().zip(&tally.operations) {
        for (operation, name) in Operation::ALL {
            let ends = operations[operation as usize];
            if ends.posted > 0 {
                // What a shared receive queue's request was posted for, and what it is used for, may differ.
                let lost = ends.posted.saturating_sub(ends.succeeded + ends.failed + ends.flushed);
                let row =
                    [ends.posted, ends.succeeded, ends.failed, ends.flushed, lost].map(group).join(" | ");
                text += &format!("| {transport} {name} | {row} |\n");
            }
        }
    }
    text += "\n| of these | |\n|---|--:|\n";
    for (way, name) in Way::ALL {
        text += &format!("| {name} | {} |\n", group(tally.ways[way as usize]));
    }
    text += "\n| faults | |\n|---|--:|\n";
    for (fault, name) in Fault::ALL {
        text += &format!("| {name} | {} |\n", group(tally.faults[fault as usize]));
    }
    text
}

/// Puts the tables into a page.
pub(crate) fn write(path: &Path, tally: &Tally) -> io::Result<()> {
    let page = fs::read_to_string(path)?;
    let missing = || io::Error::other(format!("the page has no lines {MARKS:?}"));
    let (before, rest) = page.split_once(MARKS[0]).ok_or_else(missing)?;
    let (_, after) = rest.split_once(MARKS[1]).ok_or_else(missing)?;
    fs::write(path, format!("{before}{}\n\n{}\n{}{after}", MARKS[0], tables(tally), MARKS[1]))
}

/// A number with a comma before each three digits.
fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

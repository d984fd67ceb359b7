//! What each path may take: a text file, a line each.

use crate::error::Error;
use std::collections::BTreeMap;
use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.txt");

/// Differences below this share of the budget may be the compiler's, which inlines otherwise when something
/// elsewhere has changed.
const TOLERANCE: f64 = 0.1;

const HEAD: &str = "# Instructions that each hot path may take; `cargo run --release -p budgets` compares, \
    with `-- --record` measures anew.\n";

/// Instructions by path.
#[derive(Default)]
pub(crate) struct Budgets(BTreeMap<String, u64>);

impl Budgets {
    /// What is recorded.
    pub(crate) fn read() -> Result<Self, Error> {
        let wrong = |reason: String| Error::File { file: FILE.into(), reason };
        let text = fs::read_to_string(FILE).map_err(|error| wrong(error.to_string()))?;
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let entry = |line: &str| {
            let (count, name) = line.trim().split_once("  ")?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        lines
            .map(|line| {
                entry(line).ok_or_else(|| wrong(format!("\"{line}\" is no count, two spaces and a name")))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(crate) fn set(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count);
    }

    /// Records these.
    pub(crate) fn write(&self) -> Result<(), Error> {
        let lines: String = self.0.iter().map(|(name, count)| format!("{count:>8}  {name}\n")).collect();
        fs::write(FILE, format!("{HEAD}{lines}"))
            .map_err(|error| Error::File { file: FILE.into(), reason: error.to_string() })
    }

    /// Says how `count` compares; whether it is within the budget.
    #[expect(clippy::cast_precision_loss, reason = "the counts are far below 2^52")]
    pub(crate) fn judge(&self, name: &str, count: u64) -> bool {
        let Some(budget) = self.0.get(name).copied() else {
            println!("{count:>8}  {name}: NO BUDGET; record one (-- --record)");
            return false;
        };
        let change = count as f64 / budget as f64 - 1.0;
        let verdict = if change > TOLERANCE {
            "TOO MANY: make it cheaper, or say in the commit why not and record them (-- --record)"
        } else if change < -TOLERANCE {
            "fewer: record them (-- --record)"
        } else {
            "kept"
        };
        println!("{count:>8}  {name}: budget {budget}, {:+.1} %, {verdict}", change * 100.0);
        change <= TOLERANCE
    }
}

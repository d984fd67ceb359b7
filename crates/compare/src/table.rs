//! Results as tables.

use crate::figure::Unit;
use crate::goals::Ratio;
use crate::outcome::Outcome;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};

/// All figures, those of one operation and size together.
pub(crate) fn figures(outcomes: &[Outcome]) -> Table {
    let mut table = table(&["", "contender", "median", "least–most", "", "p99", "p99.9"], &[2, 3, 5, 6]);
    let mut last = None;
    for outcome in outcomes {
        let Outcome { name, figure, spread, latency, .. } = outcome;
        let unit = figure.op.unit();
        let label = if last == Some(*figure) { String::new() } else { figure.to_string() };
        last = Some(*figure);
        let percentile = |value: Option<f64>| value.map_or_else(String::new, |value| number(value, unit));
        table.add_row([
            label,
            name.clone(),
            number(spread.median, unit),
            format!("{}–{}", number(spread.least, unit), number(spread.most, unit)),
            unit.to_string(),
            percentile(latency.map(|latency| latency.p99)),
            percentile(latency.map(|latency| latency.p999)),
        ]);
    }
    table
}

/// Ratios beside their goals.
pub(crate) fn ratios(ratios: &[Ratio]) -> Table {
    let mut table = table(&["ratio of medians", "", "goal", ""], &[1]);
    for Ratio { name, value, at_least, at_most, met } in ratios {
        let goal = match (at_least, at_most) {
            (Some(least), _) => format!("≥ {least}"),
            (_, Some(most)) => format!("≤ {most}"),
            _ => String::new(),
        };
        let verdict = match met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "",
        };
        let value = if *value >= 100. { format!("{value:.0}") } else { format!("{value:.2}") };
        table.add_row([name.clone(), value, goal, verdict.to_owned()]);
    }
    table
}

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond | Unit::Bytes => format!("{value:.0}"),
        Unit::Mops => format!("{value:.3}"),
        Unit::Gbps | Unit::Micros => format!("{value:.2}"),
    }
}

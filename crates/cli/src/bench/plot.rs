//! Results as a picture: a line over the sizes for each number.

use super::report::{Numbers, Report};
use super::statistics::Latency;
use crate::failure::Failure;
use crate::plot::{self, Line, LineChart};
use plotters::prelude::{IntoDrawingArea, SVGBackend};
use std::path::Path;

const SIZE: (u32, u32) = (960, 540);

/// The height of letters.
const FONT: u32 = 13;

/// Draws a report into a file.
pub(super) fn draw(report: &Report, path: &Path) -> Result<(), Failure> {
    let (what, unit) = match report.measure {
        "lat" => ("latency", "µs"),
        _ => ("bandwidth", "Gb/s"),
    };
    let sealed = if report.sealed { "sealed" } else { "in clear" };
    let caption = format!("{} {what}, {sealed}", report.operation.name());
    let chart = LineChart { caption, unit, logarithmic: false, font: FONT, lines: lines(report) };
    plot::draw(&chart, &SVGBackend::new(path, SIZE).into_drawing_area())
        .map_err(|error| Failure::Other(format!("drawing {}: {error}", path.display())))
}

fn lines(report: &Report) -> Vec<Line<'static>> {
    let line = |name, number: fn(&Numbers) -> f64| {
        (name, report.results.iter().map(|row| (f64::from(row.bytes), number(&row.numbers))).collect())
    };
    match report.measure {
        "lat" => vec![
            line("typical", |numbers| of_latency(numbers, |latency| latency.typical)),
            line("99 %", |numbers| of_latency(numbers, |latency| latency.p99)),
            line("99.9 %", |numbers| of_latency(numbers, |latency| latency.p999)),
        ],
        _ => vec![
            line("average", |numbers| match numbers {
                Numbers::Bandwidth { bw_average_gbps, .. } => *bw_average_gbps,
                Numbers::Latency(_) => 0.,
            }),
            line("peak", |numbers| match numbers {
                Numbers::Bandwidth { bw_peak_gbps, .. } => *bw_peak_gbps,
                Numbers::Latency(_) => 0.,
            }),
        ],
    }
}

fn of_latency(numbers: &Numbers, number: fn(&Latency) -> f64) -> f64 {
    match numbers {
        Numbers::Latency(latency) => number(latency),
        Numbers::Bandwidth { .. } => 0.,
    }
}

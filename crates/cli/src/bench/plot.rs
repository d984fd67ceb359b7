//! Results as a picture: a line over the sizes for each number.

use super::report::{Numbers, Report};
use super::statistics::Latency;
use crate::failure::Failure;
use plotters::prelude::{
    ChartBuilder, Circle, Color, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};
use plotters::style::TextStyle;
use std::path::Path;

const SIZE: (u32, u32) = (960, 540);
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x45);
const FAINT: RGBColor = RGBColor(0xd9, 0xde, 0xe5);
const COLOURS: [RGBColor; 3] =
    [RGBColor(0x3a, 0x9d, 0x6e), RGBColor(0x4c, 0x8b, 0xd6), RGBColor(0xe0, 0x9f, 0x3e)];

/// A name with a number for each size.
type Line = (&'static str, Vec<(f64, f64)>);

/// Draws a report into a file.
pub(super) fn draw(report: &Report, path: &Path) -> Result<(), Failure> {
    chart(report, path).map_err(|error| Failure::Other(format!("drawing {}: {error}", path.display())))
}

fn lines(report: &Report) -> Vec<Line> {
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

fn chart(report: &Report, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let lines = lines(report);
    let ink = |size: u32| TextStyle::from((FONT, size).into_font()).color(&INK);
    let points = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let most = points().map(|(_, value)| value).fold(0., f64::max);
    let first = points().map(|(size, _)| size).fold(f64::INFINITY, f64::min);
    let last = points().map(|(size, _)| size).fold(1., f64::max);
    let (what, unit) = match report.measure {
        "lat" => ("latency", "µs"),
        _ => ("bandwidth", "Gb/s"),
    };
    let sealed = if report.sealed { "sealed" } else { "in clear" };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{} {what}, {sealed}", report.operation.name()), ink(22))
        .margin(20)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (first.min(last) / 1.5..last * 1.5).log_scale().base(2.),
            0f64..if most > 0. { most * 1.1 } else { 1. },
        )?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style(ink(13))
        .axis_desc_style(ink(14))
        .x_desc("bytes of a message")
        .y_desc(unit)
        .x_label_formatter(&|size| bytes(*size))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(FAINT)
        .label_font(ink(14))
        .draw()?;
    root.present()?;
    Ok(())
}

/// `4 KiB`, where it comes out.
fn bytes(size: f64) -> String {
    for (unit, name) in [(1_048_576., "MiB"), (1024., "KiB")] {
        if size >= unit {
            return format!("{} {name}", (size / unit * 10.).round() / 10.);
        }
    }
    format!("{} B", size.round())
}

//! Lines over the sizes of messages, drawn as SVG: what `bench` and `experiment` show of their figures.

use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, Color, DrawingArea, DrawingBackend, IntoFont,
    IntoLogRange, LineSeries, PathElement, RGBColor, Ranged, SeriesLabelPosition, WHITE,
};
use plotters::style::TextStyle;
use std::error::Error;

pub(crate) const FONT: &str = "sans-serif";
pub(crate) const INK: RGBColor = RGBColor(0x33, 0x3a, 0x45);
pub(crate) const FAINT: RGBColor = RGBColor(0xd9, 0xde, 0xe5);
/// Of the first line, the second, and so on.
pub(crate) const COLOURS: [RGBColor; 3] =
    [RGBColor(0x3a, 0x9d, 0x6e), RGBColor(0x4c, 0x8b, 0xd6), RGBColor(0xe0, 0x9f, 0x3e)];

/// A figure over the sizes of messages.
#[derive(Debug)]
pub(crate) struct LineChart<'a> {
    /// What stands above it; nothing if it is empty.
    pub(crate) caption: String,
    pub(crate) unit: &'a str,
    /// Whether the figures' axis is logarithmic.
    pub(crate) logarithmic: bool,
    /// The height of letters, in pixels.
    pub(crate) font: u32,
    /// At most as many as there are [`COLOURS`].
    pub(crate) lines: Vec<Line<'a>>,
}

/// A name with a figure for each size.
pub(crate) type Line<'a> = (&'a str, Vec<(f64, f64)>);

/// Letters of that height.
pub(crate) fn ink(size: u32) -> TextStyle<'static> {
    TextStyle::from((FONT, size).into_font()).color(&INK)
}

/// Draws it.
///
/// # Errors
/// The backend can't draw, or write.
pub(crate) fn draw<B>(chart: &LineChart<'_>, root: &DrawingArea<B, Shift>) -> Result<(), Box<dyn Error>>
where
    B: DrawingBackend,
    B::ErrorType: 'static,
{
    let points = || chart.lines.iter().flat_map(|(_, points)| points.iter().copied());
    let values = || points().map(|(_, value)| value);
    let most = values().fold(0., f64::max);
    let most = if most > 0. { most } else { 1. };
    let first = points().map(|(size, _)| size).fold(f64::INFINITY, f64::min);
    let last = points().map(|(size, _)| size).fold(1., f64::max);
    let sizes = || (first.min(last) / 1.5..last * 1.5).log_scale().base(2.);
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(root);
    let label = chart.font * 3;
    builder.margin(chart.font).x_label_area_size(label).y_label_area_size(label + chart.font * 2);
    if !chart.caption.is_empty() {
        builder.caption(&chart.caption, ink(chart.font * 5 / 3));
    }
    let least = values().filter(|value| *value > 0.).fold(most, f64::min);
    if chart.logarithmic {
        let figures = (least / 1.5..most * 2.).log_scale();
        draw_lines(chart, &mut builder.build_cartesian_2d(sizes(), figures)?)?;
    } else {
        draw_lines(chart, &mut builder.build_cartesian_2d(sizes(), 0f64..most * 1.1)?)?;
    }
    root.present()?;
    Ok(())
}

/// Draws axes, lines and their names, whatever the figures' axis is.
fn draw_lines<'a, B, Y>(
    chart: &LineChart<'_>,
    drawn: &mut ChartContext<'a, B, Cartesian2d<LogCoord<f64>, Y>>,
) -> Result<(), Box<dyn Error>>
where
    B: DrawingBackend + 'a,
    B::ErrorType: 'static,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    drawn
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style(ink(chart.font))
        .axis_desc_style(ink(chart.font))
        .x_desc("bytes of a message")
        .y_desc(chart.unit)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&|size| bytes(*size))
        .draw()?;
    for ((name, points), colour) in chart.lines.iter().zip(COLOURS) {
        drawn
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        drawn.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    drawn
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(FAINT)
        .label_font(ink(chart.font))
        .draw()?;
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

//! The pictures of a report, as SVG.

use crate::experiment::document::{Document, Lines, Part, Point, Psns};
use crate::plot::{self, COLOURS, FAINT, LineChart, ink};
use plotters::prelude::{
    ChartBuilder, Color, IntoDrawingArea, IntoSegmentedCoord, PathElement, Rectangle, SVGBackend,
    SegmentValue, Text, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

/// So wide that letters can still be read where a phone shrinks it to 360 pixels.
const SIZE: (u32, u32) = (640, 400);

/// The height of letters.
const FONT: u32 = 19;

/// What there is to draw; what wasn't measured is missing.
#[derive(Debug, Default)]
pub(super) struct Plots {
    pub(super) iterations: Option<String>,
    pub(super) bandwidth: Option<String>,
    pub(super) latency: Option<String>,
    pub(super) psns: Option<String>,
}

impl Plots {
    pub(super) fn draw(document: &Document) -> Result<Self, Box<dyn Error>> {
        let mut plots = Self { iterations: iterations(document)?, ..Self::default() };
        if let Part::Measured(sizes) = &document.sizes {
            plots.bandwidth = Some(over_sizes(&sizes.bandwidth_gbps, "Gb/s", false)?);
            plots.latency = Some(over_sizes(&sizes.latency_us, "µs, half a round trip", true)?);
        }
        if let Part::Measured(psns) = &document.psns {
            plots.psns = Some(histogram(psns)?);
        }
        Ok(plots)
    }

    /// The files' names, and what is in them.
    pub(super) fn named(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("iterations.svg", &self.iterations),
            ("bandwidth.svg", &self.bandwidth),
            ("latency.svg", &self.latency),
            ("psns.svg", &self.psns),
        ];
        all.into_iter().filter_map(|(name, plot)| Some((name, plot.as_deref()?))).collect()
    }
}

fn over_sizes(lines: &Lines, unit: &str, logarithmic: bool) -> Result<String, Box<dyn Error>> {
    let line = |points: &[Point]| points.iter().map(|point| (f64::from(point.bytes), point.value)).collect();
    let lines = vec![("sealed", line(&lines.sealed)), ("in clear", line(&lines.clear))];
    let chart = LineChart { caption: String::new(), unit, logarithmic, font: FONT, lines };
    let mut svg = String::new();
    plot::draw(&chart, &SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())?;
    Ok(svg)
}

/// PSNs in equal parts of the 24 bits, and how many there would be in each on average.
fn histogram(psns: &Psns) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let most = psns.bins.iter().max().copied().unwrap_or(0).max(1);
        let count = f64::from(u32::try_from(psns.bins.len())?).max(1.);
        // In sixteenths of the 24 bits: a tick stands at a round hexadecimal number.
        let width = 16. / count;
        let mut chart = ChartBuilder::on(&root)
            .margin(FONT)
            .x_label_area_size(FONT * 3)
            .y_label_area_size(FONT * 4)
            .build_cartesian_2d(0f64..16., 0f64..f64::from(most) * 1.15)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .label_style(ink(FONT))
            .axis_desc_style(ink(FONT))
            .x_desc("first PSN")
            .y_desc("connections' ends")
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&sixteenths)
            .y_label_formatter(&|count| format!("{count:.0}"))
            .draw()?;
        chart.draw_series(psns.bins.iter().zip(0u32..).map(|(found, bin)| {
            let left = f64::from(bin) * width;
            let corners = [(left, 0.), (left + width, f64::from(*found))];
            let mut bar = Rectangle::new(corners, COLOURS[0].filled());
            bar.set_margin(0, 0, 1, 1);
            bar
        }))?;
        let expected = 2. * f64::from(u32::try_from(psns.pairs.len())?) / count;
        let line = [(0., expected), (16., expected)];
        chart.draw_series([PathElement::new(line, COLOURS[2].stroke_width(2))])?;
        root.present()?;
    }
    Ok(svg)
}

/// The PSN that is so many sixteenths of the 24 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a label, from 0 to 16")]
fn sixteenths(of: &f64) -> String {
    format!("{:#08x}", (of * f64::from(1 << 20)) as u32)
}

/// The original's iteration beside each of ours, a bar for each.
fn iterations(document: &Document) -> Result<Option<String>, Box<dyn Error>> {
    let mut bars = vec![("original, in clear".to_owned(), document.original.iteration_us, 2)];
    for platform in &document.platforms {
        if let (Some(device), Some(found)) = (&platform.device, platform.result.measured()) {
            bars.push((format!("{device}, in clear"), found.clear.iteration_us.median, 1));
            bars.push((format!("{device}, sealed"), found.sealed.iteration_us.median, 0));
        }
    }
    if bars.len() == 1 {
        return Ok(None);
    }
    let most = bars.iter().map(|(_, value, _)| *value).fold(0., f64::max);
    let count = i32::try_from(bars.len())?;
    let mut svg = String::new();
    {
        let size = (SIZE.0, u32::try_from(count)? * FONT * 3 + FONT * 5);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(FONT)
            .x_label_area_size(FONT * 3)
            .y_label_area_size(FONT * 10)
            .build_cartesian_2d(0f64..most * 1.25, (0..count - 1).into_segmented())?;
        let name = |at: &SegmentValue<i32>| match at {
            // The first is on top.
            SegmentValue::CenterOf(at) => usize::try_from(count - 1 - at)
                .ok()
                .and_then(|at| bars.get(at))
                .map(|(name, _, _)| name.clone())
                .unwrap_or_default(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .label_style(ink(FONT))
            .axis_desc_style(ink(FONT))
            .x_desc("µs an iteration: 4096 bytes there and back")
            .x_labels(6)
            .y_labels(bars.len())
            .y_label_formatter(&name)
            .draw()?;
        let rows = || bars.iter().zip((0..count).rev());
        chart.draw_series(rows().map(|((_, value, colour), at)| {
            let corners = [(0., SegmentValue::Exact(at)), (*value, SegmentValue::Exact(at + 1))];
            let mut bar = Rectangle::new(corners, COLOURS[*colour].filled());
            bar.set_margin(8, 8, 0, 0);
            bar
        }))?;
        let right = ink(FONT).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series(rows().map(|((_, value, _), at)| {
            Text::new(format!("  {value:.1}"), (*value, SegmentValue::CenterOf(at)), right.clone())
        }))?;
        root.present()?;
    }
    Ok(Some(svg))
}

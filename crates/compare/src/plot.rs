//! Results as a picture: a panel for each operation and size, a bar for each contender, with a line from the
//! least to the most.

use crate::failure::{Failure, While};
use crate::figure::Unit;
use crate::outcome::Outcome;
use core::fmt;
use plotters::coord::Shift;
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, EmptyElement, IntoDrawingArea, IntoFont, IntoSegmentedCoord,
    PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::TextStyle;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// Pixels.
const WIDTH: u32 = 1240;
const BAR: u32 = 26;
/// Of a panel beside its bars: title, axis and margins.
const FRAME: u32 = 92;
const LABELS: u32 = 190;

const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x45);
const FAINT: RGBColor = RGBColor(0xd9, 0xde, 0xe5);

/// Bars that are drawn together.
struct Panel<'a> {
    title: String,
    unit: Unit,
    bars: Vec<(String, &'a Outcome)>,
}

/// Draws all outcomes into a file.
pub(crate) fn draw(outcomes: &[Outcome], path: &Path) -> Result<(), Failure> {
    let panels = panels(outcomes);
    let rows: Vec<_> = panels.chunks(2).collect();
    let heights: Vec<u32> = rows
        .iter()
        .map(|row| row.iter().map(|panel| panel.bars.len()).max().unwrap_or(0))
        .map(|bars| FRAME + BAR * u32::try_from(bars).unwrap_or(u32::MAX / BAR / 2))
        .collect();
    let root = SVGBackend::new(path, (WIDTH, heights.iter().sum::<u32>().max(1))).into_drawing_area();
    let doing = || format!("drawing {}", path.display());
    root.fill(&WHITE).during(doing())?;
    let mut rest = root.clone();
    for (row, height) in rows.iter().zip(heights) {
        let (this, below) = rest.split_vertically(height);
        for (panel, area) in row.iter().zip(this.split_evenly((1, 2))) {
            panel.draw(&area).during(doing())?;
        }
        rest = below;
    }
    root.present().during(doing())
}

/// Bandwidths of a size share a panel, whatever moved the bytes; so do all rates.
fn panels(outcomes: &[Outcome]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for outcome in outcomes {
        let (figure, unit) = (outcome.figure, outcome.figure.op.unit());
        let (title, label) = match unit {
            Unit::Gbps => {
                let what = figure.to_string();
                let (op, size) = what.split_once(' ').unwrap_or((&what, ""));
                let (with, op) = op.strip_prefix("loss-").map_or(("", op), |op| (" with 1 % loss", op));
                (format!("Bandwidth{with}, {size}"), format!("{} {op}", outcome.name))
            }
            Unit::Mops => {
                let pairs = figure.op.name().replace("rate", "").replace('-', " ");
                (format!("Messages of {} B", figure.size), format!("{}{pairs}", outcome.name))
            }
            Unit::Micros => (capital(&figure.to_string()), outcome.name.clone()),
            Unit::PerSecond => ("Connections set up".into(), outcome.name.clone()),
            Unit::Bytes => ("Memory of an idle client".into(), outcome.name.clone()),
        };
        match panels.iter_mut().find(|panel| panel.title == title) {
            Some(panel) => panel.bars.push((label, outcome)),
            None => panels.push(Panel { title, unit, bars: vec![(label, outcome)] }),
        }
    }
    panels
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn colour(name: &str) -> RGBColor {
    match name {
        "udp-limit" => RGBColor(0x9a, 0xa5, 0xb1),
        "roce-socket" => RGBColor(0x6b, 0x78, 0x86),
        "tcp" => RGBColor(0x4c, 0x8b, 0xd6),
        "tls" => RGBColor(0x2f, 0x5f, 0xa8),
        name if name.starts_with("quic") => RGBColor(0xe0, 0x9f, 0x3e),
        name if name.ends_with("-sealed") || name.ends_with("-esp") => RGBColor(0x7b, 0x4f, 0xb3),
        name if name.ends_with("-stream") => RGBColor(0xb0, 0x5a, 0x9c),
        "embedded" => RGBColor(0x3a, 0x9d, 0x6e),
        // libibverbs' devices.
        _ => RGBColor(0xc2, 0x4d, 0x52),
    }
}

impl Panel<'_> {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), Box<dyn std::error::Error>> {
        let most = self.bars.iter().map(|(_, outcome)| outcome.spread.most).fold(0., f64::max);
        // Room for the number behind the longest bar.
        let width = if most > 0. { most * 1.18 } else { 1. };
        let last = self.bars.len().saturating_sub(1);
        let ink = |size: u32| TextStyle::from((FONT, size).into_font()).color(&INK);
        let mut chart = ChartBuilder::on(area)
            .caption(format!("{}, {}", self.title, self.unit), ink(18))
            .margin(14)
            .x_label_area_size(26)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0f64..width, (0..last.max(1)).into_segmented())?;
        // The first at the top: places count from below.
        let name = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(place) => {
                let bar = last.checked_sub(*place).and_then(|at| self.bars.get(at));
                bar.map_or_else(String::new, |(label, _)| label.clone())
            }
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .bold_line_style(FAINT)
            .axis_style(FAINT)
            .x_labels(6)
            .y_labels(self.bars.len())
            .label_style(ink(13))
            .y_label_formatter(&name)
            .draw()?;
        for (at, (_, Outcome { name, spread, .. })) in self.bars.iter().enumerate() {
            let place = last - at;
            let (low, high) = (SegmentValue::Exact(place), SegmentValue::Exact(place + 1));
            let mut bar = Rectangle::new([(0., low), (spread.median, high)], colour(name).filled());
            bar.set_margin(4, 4, 0, 0);
            let middle = SegmentValue::CenterOf(place);
            let line =
                PathElement::new(vec![(spread.least, middle.clone()), (spread.most, middle.clone())], INK);
            let number = Number(spread.median, self.unit).to_string();
            let style = ink(12).pos(Pos::new(HPos::Left, VPos::Center));
            let number =
                EmptyElement::at((spread.most.max(spread.median), middle)) + Text::new(number, (7, 0), style);
            chart.plotting_area().draw(&bar)?;
            chart.plotting_area().draw(&line)?;
            chart.plotting_area().draw(&number)?;
        }
        Ok(())
    }
}

/// A number with as many digits as one can read.
struct Number(f64, Unit);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(value, Unit::PerSecond | Unit::Bytes) => write!(f, "{value:.0}"),
            Self(value, _) if *value < 10. => write!(f, "{value:.2}"),
            Self(value, _) => write!(f, "{value:.1}"),
        }
    }
}

//! Bars as SVG.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::Summary;

/// One bar: what, in which colour, and how long.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Named at its side.
    pub label: String,
    /// Bars of one group have one colour.
    pub group: usize,
    /// Its length is the median; a line goes from the lowest to the highest.
    pub summary: Summary,
}

const WIDTH: u32 = 860;
const BAR: u32 = 26;
const MARGIN: i32 = 12;
const LABELS: u32 = 250;
const HEADING: u32 = 40;
const AXIS: u32 = 45;

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x6f, 0xb4),
    RGBColor(0x7f, 0x8c, 0x8d),
    RGBColor(0xd3, 0x7a, 0x1f),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0x8e, 0x44, 0xad),
    RGBColor(0xb0, 0x3a, 0x2e),
];

/// Writes a chart of horizontal bars with the axis `unit`.
pub(super) fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> Result<()> {
    let height = HEADING + AXIS + BAR * bars.len() as u32 + 2 * MARGIN as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    draw(&area, title, unit, bars).map_err(|error| anyhow!("{error}"))?;
    area.present().map_err(|error| anyhow!("{error}")).with_context(|| format!("cannot write {path:?}"))
}

type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, unit: &str, bars: &[Bar]) -> Drawn {
    area.fill(&WHITE)?;
    let longest = bars.iter().map(|bar| bar.summary.highest).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let count = bars.len() as i32;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(MARGIN)
        .x_label_area_size(AXIS)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(0.0..longest * 1.12, (0..count).into_segmented())?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(unit)
        .x_labels(8)
        .y_labels(bars.len() + 1)
        .y_label_style(("sans-serif", 13))
        .y_label_formatter(&|place| label(bars, place))
        .draw()?;
    for (row, bar) in bars.iter().rev().enumerate() {
        let (low, high) = (SegmentValue::Exact(row as i32), SegmentValue::Exact(row as i32 + 1));
        let colour = COLOURS[bar.group % COLOURS.len()];
        let mut rectangle = Rectangle::new([(0.0, low), (bar.summary.median, high)], colour.filled());
        rectangle.set_margin(4, 4, 0, 0);
        chart.draw_series([rectangle])?;
        let middle = SegmentValue::CenterOf(row as i32);
        let range = [(bar.summary.lowest, middle.clone()), (bar.summary.highest, middle.clone())];
        chart.draw_series([PathElement::new(range, BLACK)])?;
        let text = format!(" {:.3}", bar.summary.median);
        let place = (bar.summary.highest, middle);
        chart.draw_series([Text::new(text, place, ("sans-serif", 12))])?;
    }
    Ok(())
}

/// The first bar is on top.
fn label(bars: &[Bar], place: &SegmentValue<i32>) -> String {
    match place {
        SegmentValue::CenterOf(row) => {
            bars.iter().rev().nth(*row as usize).map(|bar| bar.label.clone()).unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_named_and_its_median_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        let bar = |label: &str, value: f64| Bar {
            label: label.into(),
            group: 0,
            summary: Summary::of([value]).unwrap(),
        };
        bars(&path, "speed", "Mpps", &[bar("ours", 2.125), bar("theirs", 1.5)]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for part in ["speed", "Mpps", "ours", "theirs", "2.125", "1.500"] {
            assert!(text.contains(part), "{part} is missing");
        }
    }
}

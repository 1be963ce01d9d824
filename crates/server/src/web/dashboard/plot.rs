//! Plots as SVG, drawn on the server. Colours are named by the style sheet, so that they fit light and dark: what is drawn
//! in one of the colours below is given another by a rule of `dashboard.css`. Every plot has a table beside it.

use std::collections::BTreeMap;

use maud::Markup;
use nudge_engine::Archetype;
use nudge_store::ConfidenceStep;
use plotters::prelude::*;

use super::error::PageError;
use super::ui::drawn;
use crate::usecases::job_result::band;
use crate::usecases::report::{Trend, Unit};

/// Width and height of a plot in its own units; it is as wide as the page.
const SIZE: (u32, u32) = (760, 240);
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);

const ACCENT: RGBColor = RGBColor(14, 1, 1);

/// The colour that stands for an archetype.
const fn colour(archetype: Archetype) -> RGBColor {
    match archetype {
        Archetype::BigSpender => RGBColor(11, 1, 1),
        Archetype::HighFlexibility => RGBColor(12, 1, 1),
        Archetype::AverageUser => RGBColor(13, 1, 1),
    }
}

fn failed(error: impl std::fmt::Display) -> PageError {
    PageError::Plot(error.to_string())
}

/// Names a twentieth of the confidence.
pub fn step_name(step: u8) -> String {
    if step >= 20 {
        "1".to_owned()
    } else {
        format!("{:.2}–{:.2}", f64::from(step) / 20.0, f64::from(step) / 20.0 + 0.04)
    }
}

/// Counts by twentieth from the lowest to the highest, in the order of [`Archetype::ALL`].
pub fn by_step(steps: &[ConfidenceStep]) -> BTreeMap<u8, [u64; 3]> {
    let first = steps.iter().map(|step| step.step).min().unwrap_or(8);
    let mut rows: BTreeMap<u8, [u64; 3]> = (first.min(20)..=20).map(|step| (step, [0; 3])).collect();
    for step in steps {
        let place = Archetype::ALL.iter().position(|archetype| *archetype == step.archetype);
        let row = rows.entry(step.step.min(20)).or_default();
        if let Some(cell) = place.and_then(|place| row.get_mut(place)) {
            *cell += step.count;
        }
    }
    rows
}

/// Draws how many users have which confidence, stacked by archetype.
///
/// # Errors
/// When it cannot be drawn.
pub fn confidences(steps: &[ConfidenceStep]) -> Result<Markup, PageError> {
    let rows = by_step(steps);
    let most = rows.values().map(|row| row.iter().sum::<u64>()).max().unwrap_or(0).max(1) as f64;
    let first = f64::from(rows.keys().next().copied().unwrap_or(8));
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(56)
            .build_cartesian_2d(first..21.0, 0.0..most * 1.08)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(("sans-serif", 13, &INK))
            .x_labels(8)
            .y_labels(5)
            .x_label_formatter(&|step| format!("{:.2}", step / 20.0))
            .y_label_formatter(&|count| super::ui::count(*count as u64))
            .draw()
            .map_err(failed)?;
        for (step, counts) in &rows {
            let mut below = 0.0;
            for (count, archetype) in counts.iter().zip(Archetype::ALL) {
                let top = below + *count as f64;
                if *count > 0 {
                    let (left, right) = (f64::from(*step) + 0.12, f64::from(*step) + 0.88);
                    let bar = Rectangle::new([(left, below), (right, top)], colour(*archetype).filled());
                    chart.draw_series(std::iter::once(bar)).map_err(failed)?;
                }
                below = top;
            }
        }
        root.present().map_err(failed)?;
    }
    Ok(drawn(svg))
}

/// A run's day, and the shares after it in the order of [`Archetype::ALL`].
pub type RunShares = (String, [Option<f64>; 3]);

/// Draws the shares of the archetypes from run to run, the bands in which they are expected behind them.
///
/// # Errors
/// When it cannot be drawn.
pub fn shares(runs: &[RunShares]) -> Result<Markup, PageError> {
    let last = (runs.len().max(2) - 1) as f64;
    let name = |at: &f64| runs.get(at.round() as usize).map_or_else(String::new, |(day, _)| day.clone());
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.3..last + 0.3, 0.0..0.8)
            .map_err(failed)?;
        for archetype in Archetype::ALL {
            let (low, high) = band(*archetype);
            let corners = [(-0.3, low), (last + 0.3, high)];
            let shade = Rectangle::new(corners, colour(*archetype).mix(0.14).filled());
            chart.draw_series(std::iter::once(shade)).map_err(failed)?;
        }
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(("sans-serif", 13, &INK))
            .x_labels(runs.len().min(8))
            .y_labels(5)
            .x_label_formatter(&name)
            .y_label_formatter(&|share| format!("{:.0} %", 100.0 * share))
            .draw()
            .map_err(failed)?;
        for (place, archetype) in Archetype::ALL.iter().enumerate() {
            let points: Vec<(f64, f64)> = runs
                .iter()
                .enumerate()
                .filter_map(|(n, (_, shares))| Some((n as f64, (*shares.get(place)?)?)))
                .collect();
            let stroke = colour(*archetype).stroke_width(2);
            chart.draw_series(LineSeries::new(points.iter().copied(), stroke)).map_err(failed)?;
            let dots = points.iter().map(|point| Circle::new(*point, 3, colour(*archetype).filled()));
            chart.draw_series(dots).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(drawn(svg))
}

/// Draws a figure day by day: a line with its points, and its interval behind it. A day without a value is a gap.
///
/// # Errors
/// When it cannot be drawn.
pub fn trend(trend: &Trend, unit: Unit) -> Result<Markup, PageError> {
    let points: Vec<(f64, f64, f64, f64)> = trend
        .points
        .iter()
        .enumerate()
        .filter_map(|(day, point)| {
            let value = point.value?;
            let (low, high) = point.interval.map_or((value, value), |interval| (interval.low, interval.high));
            Some((day as f64, value, low, high))
        })
        .collect();
    let share = unit == Unit::Share;
    let greatest = points.iter().map(|(_, value, ..)| *value).fold(0.0, f64::max);
    let widest = points.iter().map(|(.., high)| *high).fold(greatest, f64::max);
    // An interval of a few is as wide as can be; it is cut off rather than the line made flat.
    let top = if share { 1.0 } else { widest.min(greatest * 2.5).max(f64::MIN_POSITIVE) * 1.05 };
    let last = (trend.points.len().max(2) - 1) as f64;
    let name = |day: &f64| {
        let point = trend.points.get(day.round() as usize);
        point.map_or_else(String::new, |point| point.day.strftime("%d %b").to_string())
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (520, 210)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(58)
            .build_cartesian_2d(-0.3..last + 0.3, 0.0..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(("sans-serif", 13, &INK))
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&name)
            .y_label_formatter(&|value| unit.text(*value))
            .draw()
            .map_err(failed)?;
        for run in points.chunk_by(|a, b| b.0 - a.0 < 1.5) {
            let upper = run.iter().map(|(day, _, _, high)| (*day, high.min(top)));
            let lower = run.iter().rev().map(|(day, _, low, _)| (*day, low.max(0.0)));
            let band = Polygon::new(upper.chain(lower).collect::<Vec<_>>(), ACCENT.mix(0.16).filled());
            chart.draw_series(std::iter::once(band)).map_err(failed)?;
            let line =
                LineSeries::new(run.iter().map(|(day, value, ..)| (*day, *value)), ACCENT.stroke_width(2));
            chart.draw_series(line).map_err(failed)?;
        }
        let dots = points.iter().map(|(day, value, ..)| Circle::new((*day, *value), 2, ACCENT.filled()));
        chart.draw_series(dots).map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(drawn(svg))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_carries_no_style_of_its_own() {
        let steps = [
            ConfidenceStep { archetype: Archetype::BigSpender, step: 13, count: 1_200, sum: 800.0 },
            ConfidenceStep { archetype: Archetype::AverageUser, step: 20, count: 7, sum: 7.0 },
        ];
        let svg = confidences(&steps).unwrap().into_string();
        assert!(svg.contains("<svg") && svg.contains("#0B0101") && svg.contains("#0D0101"), "{svg}");
        for forbidden in ["style=", "<style", "<script", "href"] {
            assert!(!svg.contains(forbidden), "{forbidden} in {svg}");
        }
        assert_eq!(by_step(&steps)[&13], [1_200, 0, 0]);
    }
}

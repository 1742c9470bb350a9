//! The figure of a table: its rows below each other, or over a number of the recipe.

use toml::Value;

use super::fold::{Measured, Statistic, TableReport};
use crate::experiments::{AxisScale, PlotConfig, PlotValue, Row, SeriesConfig, Table};
use crate::plot::{Axis, Figure, Panel, Point, Series};

/// Why a table cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoFigure {
    /// The table does not say what to draw.
    #[error(
        "{table} has no [plot] in its table.toml, which says what to draw; add one \
         (docs/reproducing.md says how)"
    )]
    NoPlot {
        /// The table.
        table: String,
    },
    /// No row that can be drawn has been measured.
    #[error("{table} has no record of a row{} at {scale} scale; run `anp reproduce` first",
        .x.as_ref().map_or_else(String::new, |x| format!(" with a {x}")))]
    NoPoints {
        /// The table.
        table: String,
        /// The key of the horizontal axis, if there is one.
        x: Option<String>,
        /// The scale.
        scale: String,
    },
}

/// Draw what has been measured of `table`: means over the seeds with their 95 % intervals, of the
/// rows or against the number that the table's `[plot]` names. `report` is of the same table.
///
/// # Errors
///
/// [`NoFigure`].
pub fn figure(table: &Table, report: &TableReport) -> Result<Figure, NoFigure> {
    let Some(plot) = &table.file.plot else {
        return Err(NoFigure::NoPlot { table: table.id.clone() });
    };
    let no_points = || {
        let (table, x) = (table.id.clone(), plot.x.clone());
        NoFigure::NoPoints { table, x, scale: report.scale.to_string() }
    };
    let Some(x) = &plot.x else { return of_rows(plot, report).ok_or_else(no_points) };
    let rows = table.rows.iter().zip(&report.rows);
    let measured: Vec<_> = rows
        .filter_map(|(row, found)| Some((number(row, report, x), found.measured()?, found)))
        .collect();
    let drawn = |x: f64| plot.scale == AxisScale::Linear || x > 0.0;
    let mut points: Vec<(f64, &Measured)> = measured
        .iter()
        .filter_map(|(x, measured, _)| Some(((*x)?, *measured)))
        .filter(|&(x, _)| drawn(x))
        .collect();
    points.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    let (Some(&(first, _)), Some(&(last, _))) = (points.first(), points.last()) else {
        return Err(no_points());
    };
    let mut figure = empty(report);
    for config in &plot.panels {
        let x = axis(plot.scale, &plot.label);
        let mut panel = Panel::new("", x, axis(config.scale, &config.label));
        for SeriesConfig { value, name } in &config.series {
            let point = |&(x, measured): &(f64, &Measured)| {
                let statistic = value.of(measured)?;
                let interval = statistic.interval();
                Some(Point { x, y: statistic.mean, interval })
            };
            panel = panel.with_series(Series::line(name, points.iter().filter_map(point)));
        }
        // One line each: the first number that there is.
        for (_, measured, row) in measured.iter().filter(|(x, ..)| x.is_none()) {
            let numbers = config.series.iter().filter_map(|it| it.value.of(measured));
            if let Some(Statistic { mean, .. }) = numbers.into_iter().next() {
                let ends = [(first, mean), (last, mean)];
                panel = panel.with_series(Series::curve(row.name.clone(), ends));
            }
        }
        figure = figure.with_panel(panel);
    }
    Ok(figure)
}

fn empty(report: &TableReport) -> Figure {
    Figure::new(format!("{}, {} scale", report.title, report.scale))
}

/// The rows that have been measured, the first at the top; `None` if there are none.
fn of_rows(plot: &PlotConfig, report: &TableReport) -> Option<Figure> {
    let rows: Vec<_> =
        report.rows.iter().rev().filter_map(|row| Some((&row.name, row.measured()?))).collect();
    if rows.is_empty() {
        return None;
    }
    let mut figure = empty(report);
    for config in &plot.panels {
        let names = Axis::named("", rows.iter().map(|(name, _)| name.as_str()));
        let mut panel = Panel::new("", axis(config.scale, &config.label), names);
        for SeriesConfig { value, name } in &config.series {
            let point = |(place, (_, measured)): (usize, &(&String, &Measured))| {
                let statistic = value.of(measured)?;
                let interval = statistic.interval();
                Some(Point { x: statistic.mean, y: place as f64, interval })
            };
            let points = rows.iter().enumerate().filter_map(point);
            panel = panel.with_series(Series::points(name, points).across());
        }
        figure = figure.with_panel(panel);
    }
    Some(figure)
}

fn axis(scale: AxisScale, label: &str) -> Axis {
    match scale {
        AxisScale::Linear => Axis::linear(label),
        AxisScale::Log => Axis::log(label),
    }
}

/// The number under `key` in the recipe of a row, if it has one.
fn number(row: &Row, report: &TableReport, key: &str) -> Option<f64> {
    let recipe = row.runs(report.scale, &report.overrides).ok()??.recipe;
    let recipe = Value::try_from(recipe).expect("TOML can hold a recipe");
    let value = key.split('.').try_fold(&recipe, |value, segment| match value {
        Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
        value => value.get(segment),
    })?;
    value.as_float().or(value.as_integer().map(|it| it as f64))
}

impl PlotValue {
    fn of(self, measured: &Measured) -> Option<Statistic> {
        match self {
            Self::Valid => measured.valid,
            Self::Test => Some(measured.test),
            Self::OneSample => measured.one_sample,
            Self::Nll => measured.nll,
            Self::InformationX => measured.information_x,
            Self::InformationY => measured.information_y,
            Self::Penalty => Some(measured.penalty),
            Self::ActivationNorm => Some(measured.activation_norm),
        }
    }
}

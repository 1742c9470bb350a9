//! A list of rows; `docs/records.md` describes the keys.

use serde::Serialize;

use super::fold::{Failure, Measured, RowReport, RowState, TableReport, Verdict};
use crate::experiments::{Metric, Published};
use crate::recipe::{MixedPrecision, Scale};
use crate::tuning::Tuning;

#[derive(Serialize)]
struct JsonRow<'a> {
    table: &'a str,
    row: &'a str,
    name: &'a str,
    /// Whether this project added the row.
    added: bool,
    scale: Scale,
    metric: Metric,
    /// `bf16` if products round their operands to it.
    mixed_precision: Option<MixedPrecision>,
    /// The values that its sweep chooses from.
    tuning: Option<&'a Tuning>,
    /// `measured`, `failed`, `not_run`, `unfit`, `other_scales` or `not_built`.
    state: &'static str,
    paper: Option<&'a Published>,
    ours: Option<&'a Measured>,
    /// Ours minus the paper's number.
    difference: JsonDifference,
    verdict: Option<Verdict>,
    records: Vec<String>,
    failures: &'a [Failure],
}

#[derive(Serialize)]
struct JsonDifference {
    valid: Option<f64>,
    test: Option<f64>,
}

pub(super) fn render(reports: &[TableReport]) -> String {
    let rows: Vec<_> = reports
        .iter()
        .flat_map(|report| report.rows.iter().map(|row| json_row(report, row)))
        .collect();
    let mut text = serde_json::to_string_pretty(&rows).expect("rows have string keys only");
    text.push('\n');
    text
}

fn json_row<'a>(report: &'a TableReport, row: &'a RowReport) -> JsonRow<'a> {
    let [valid, test] = row.differences();
    JsonRow {
        table: &report.table,
        row: &row.row,
        name: &row.name,
        added: row.ours,
        scale: report.scale,
        metric: report.metric,
        mixed_precision: row.mixed_precision,
        tuning: row.tuning.as_ref(),
        state: state(row),
        paper: row.published.as_ref(),
        ours: row.measured(),
        difference: JsonDifference { valid, test },
        verdict: report.verdict(row),
        records: row.records(),
        failures: &row.failures,
    }
}

/// Name of a row's state, here and in CSV.
pub(super) fn state(row: &RowReport) -> &'static str {
    match row.state {
        RowState::NotBuilt => "not_built",
        RowState::OtherScales(_) => "other_scales",
        RowState::Unfit => "unfit",
        RowState::NotRun if !row.failures.is_empty() => "failed",
        RowState::NotRun => "not_run",
        RowState::Measured(_) => "measured",
    }
}

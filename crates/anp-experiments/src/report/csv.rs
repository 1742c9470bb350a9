//! One line per row, for a spreadsheet; `docs/records.md` describes the columns.

use super::fold::{Measured, RowReport, TableReport};
use super::json::state;
use crate::experiments::Published;

type Column = (&'static str, fn(&TableReport, &RowReport) -> String);

const COLUMNS: [Column; 30] = [
    ("table", |report, _| report.table.clone()),
    ("row", |_, row| row.row.clone()),
    ("name", |_, row| row.name.clone()),
    ("added", |_, row| row.ours.to_string()),
    ("scale", |report, _| report.scale.to_string()),
    ("metric", |report, _| report.metric.to_string()),
    ("mixed_precision", |_, row| row.mixed_precision.map_or_else(String::new, |it| it.to_string())),
    ("tuned_key", |_, row| row.tuning.as_ref().map_or_else(String::new, |it| it.key.clone())),
    ("tuned_value", |_, row| {
        let tuning = row.tuning.as_ref();
        number(tuning.and_then(|it| Some(it.tried[it.best?].value)))
    }),
    ("state", |_, row| state(row).to_owned()),
    ("paper_valid", |_, row| published(row, |it| it.valid)),
    ("paper_test", |_, row| published(row, |it| it.test)),
    ("paper_source", |_, row| {
        row.published.as_ref().map_or_else(String::new, |it| it.source.clone())
    }),
    ("ours_valid_mean", |_, row| ours(row, |it| Some(it.valid?.mean))),
    ("ours_valid_sd", |_, row| ours(row, |it| it.valid?.sd)),
    ("ours_test_mean", |_, row| ours(row, |it| Some(it.test.mean))),
    ("ours_test_sd", |_, row| ours(row, |it| it.test.sd)),
    ("ours_best_epoch_mean", |_, row| ours(row, |it| Some(it.best_epoch?.mean))),
    ("ours_one_sample_mean", |_, row| ours(row, |it| Some(it.one_sample?.mean))),
    ("ours_one_sample_sd", |_, row| ours(row, |it| it.one_sample?.sd)),
    ("ours_information_x_mean", |_, row| ours(row, |it| Some(it.information_x?.mean))),
    ("ours_information_x_sd", |_, row| ours(row, |it| it.information_x?.sd)),
    ("ours_information_y_mean", |_, row| ours(row, |it| Some(it.information_y?.mean))),
    ("ours_information_y_sd", |_, row| ours(row, |it| it.information_y?.sd)),
    ("n", |_, row| row.measured().map_or(0, |it| it.test.n).to_string()),
    ("difference_valid", |_, row| number(row.differences()[0])),
    ("difference_test", |_, row| number(row.differences()[1])),
    ("penalty", |_, row| ours(row, |it| Some(it.penalty.mean))),
    ("activation_norm", |_, row| ours(row, |it| Some(it.activation_norm.mean))),
    ("records", |_, row| row.records().join(";")),
];

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn published(row: &RowReport, value: fn(&Published) -> Option<f64>) -> String {
    number(row.published.as_ref().and_then(value))
}

fn ours(row: &RowReport, value: fn(&Measured) -> Option<f64>) -> String {
    number(row.measured().and_then(value))
}

/// # Panics
///
/// Never: writing to memory does not fail, and every line has as many fields as the header.
pub(super) fn render(reports: &[TableReport]) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let header = COLUMNS.map(|(name, _)| name.to_owned());
    let rows = reports.iter().flat_map(|report| report.rows.iter().map(move |row| (report, row)));
    let lines = rows.map(|(report, row)| COLUMNS.map(|(_, value)| value(report, row)));
    for line in std::iter::once(header).chain(lines) {
        writer.write_record(line).expect("memory can be written to");
    }
    let bytes = writer.into_inner().expect("memory can be written to");
    String::from_utf8(bytes).expect("all fields are text")
}

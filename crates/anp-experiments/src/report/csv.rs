//! One line a row, for a spreadsheet.

use super::fold::{RowReport, TableReport};
use super::json::state;

const HEADER: [&str; 21] = [
    "table",
    "row",
    "name",
    "added",
    "scale",
    "metric",
    "state",
    "paper_valid",
    "paper_test",
    "paper_source",
    "ours_valid_mean",
    "ours_valid_sd",
    "ours_test_mean",
    "ours_test_sd",
    "ours_best_epoch_mean",
    "n",
    "difference_valid",
    "difference_test",
    "penalty",
    "activation_norm",
    "records",
];

/// # Panics
///
/// Never: writing to memory does not fail, and every line has as many fields as the header.
pub(super) fn render(reports: &[TableReport]) -> String {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).expect("memory can be written to");
    for report in reports {
        for row in &report.rows {
            writer.write_record(fields(report, row)).expect("memory can be written to");
        }
    }
    let bytes = writer.into_inner().expect("memory can be written to");
    String::from_utf8(bytes).expect("all fields are text")
}

fn fields(report: &TableReport, row: &RowReport) -> [String; HEADER.len()] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let published = row.published.as_ref();
    let ours = row.measured();
    let [difference_valid, difference_test] = row.differences();
    let records = ours.map_or_else(Vec::new, |ours| {
        ours.records.iter().map(|path| path.display().to_string()).collect()
    });
    [
        report.table.clone(),
        row.row.clone(),
        row.name.clone(),
        row.ours.to_string(),
        report.scale.to_string(),
        report.metric.to_string(),
        state(row).to_owned(),
        number(published.and_then(|it| it.valid)),
        number(published.and_then(|it| it.test)),
        published.map_or_else(String::new, |it| it.source.clone()),
        number(ours.and_then(|it| it.valid).map(|it| it.mean)),
        number(ours.and_then(|it| it.valid?.sd)),
        number(ours.map(|it| it.test.mean)),
        number(ours.and_then(|it| it.test.sd)),
        number(ours.and_then(|it| it.best_epoch).map(|it| it.mean)),
        ours.map_or(0, |it| it.test.n).to_string(),
        number(difference_valid),
        number(difference_test),
        number(ours.map(|it| it.penalty.mean)),
        number(ours.map(|it| it.activation_norm.mean)),
        records.join(";"),
    ]
}

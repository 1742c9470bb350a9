use std::path::PathBuf;

use anp_core::LossReduction;
use anp_testing::package;

use super::*;
use crate::experiments::{Experiments, Table};
use crate::plot;
use crate::recipe::{Scale, content_hash};
use crate::record::{
    Record, StoredRecord, TextRecord, test_image_record, test_record, test_vib_record,
};

/// One with rows of all kinds, where one is made to lack its recipes.
const TABLE: &str = "table1";
const NOT_BUILT: &str = "bayes_by_backprop";

fn table(id: &str) -> Table {
    let root = package().join("../../experiments");
    let mut table = Experiments::locate(Some(&root)).unwrap().table(id).unwrap();
    for row in table.rows.iter_mut().filter(|row| row.id == NOT_BUILT) {
        row.sections.clear();
    }
    table
}

/// A record of each row that can run at `scale`, for two seeds, with the test perplexities `test`
/// and `test` + 1.
fn records(table: &Table, scale: Scale, test: f64) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    for row in &table.rows {
        let Some(runs) = row.runs(scale, &[]).unwrap() else { continue };
        let recipe = runs.recipe.text().unwrap();
        for (seed, test) in [(1, test), (2, test + 1.0)] {
            let mut record = test_record(&table.id, &row.id, scale, seed, &recipe);
            record.result.test.perplexity = test;
            let record = Record::from(record);
            let path = PathBuf::from("records").join(record.file_name());
            records.push(StoredRecord { path, record });
        }
    }
    records
}

fn text(stored: &mut StoredRecord) -> &mut TextRecord {
    let Record::Text(record) = &mut stored.record else { panic!("it is of a language model") };
    record
}

/// Our test accuracy is that after the last epoch, beside that of the best one; higher is better.
#[test]
fn a_table_of_images_shows_accuracies() {
    let table = table("table4");
    let runs = table.rows[0].runs(Scale::Paper, &[]).unwrap().unwrap();
    let recipe = runs.recipe.image().unwrap();
    let mut records = Vec::new();
    for (seed, accuracy) in [(1, 96.0), (2, 96.5)] {
        let mut record =
            test_image_record("table4", &table.rows[0].id, Scale::Paper, seed, &recipe);
        record.result.test.accuracy = accuracy;
        record.result.best.accuracy = accuracy + 0.25;
        let record = Record::from(record);
        let path = PathBuf::from("records").join(record.file_name());
        records.push(StoredRecord { path, record });
    }
    let report = fold(&table, Scale::Paper, &[], &records).unwrap();
    let measured = report.rows[0].measured().unwrap();
    assert_eq!((measured.valid, measured.test.mean), (None, 96.25));
    assert_eq!(measured.best_epoch.unwrap().mean, 96.5);
    assert_eq!(report.verdict(&report.rows[0]), Some(Verdict::Match));
    let text = render(std::slice::from_ref(&report), Format::Text, 200);
    for part in ["accuracy, in percent, higher is better", "96.19", "96.25 ± 0.35", "96.50 ± 0.35"]
    {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    for format in [Format::Markdown, Format::Csv, Format::Json] {
        let text = render(std::slice::from_ref(&report), format, 200);
        assert!(text.contains("96.25"), "{text}");
    }
}

/// Errors beside the information, and the interval of each in the figure.
#[test]
fn a_table_of_errors_shows_and_draws_the_information() {
    let table = table("vib");
    let mut records = Vec::new();
    for (row, shift) in table.rows.iter().zip(0..) {
        let recipe = row.runs(Scale::Small, &[]).unwrap().unwrap().recipe.vib().unwrap();
        for (seed, error) in [(1, 10.0), (2, 11.0)] {
            let mut record = test_vib_record("vib", &row.id, Scale::Small, seed, &recipe);
            record.result.test.averaged.accuracy = 100.0 - error - f64::from(shift);
            let record = Record::from(record);
            let path = PathBuf::from("records").join(record.file_name());
            records.push(StoredRecord { path, record });
        }
    }
    let report = fold(&table, Scale::Small, &[], &records).unwrap();
    let measured = row(&report, "beta_1e3").measured().unwrap();
    assert_eq!((measured.test.mean, measured.one_sample.unwrap().mean), (15.5, 20.0));
    // t(0.975, 1 degree of freedom) = 12.7062, times the standard error 1/2.
    let (low, high) = measured.test.interval().unwrap();
    assert!((low - 9.1469).abs() < 1e-3 && (high - 21.8531).abs() < 1e-3, "{low}, {high}");
    let text = render(std::slice::from_ref(&report), Format::Text, 200);
    for part in
        ["error, in percent, lower is better", "I(X; Z)", "15.50 ± 0.71", "20.00", "1.50 ± 0.00"]
    {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    let csv = render(std::slice::from_ref(&report), Format::Csv, 200);
    assert!(csv.contains("ours_information_x_mean"), "{csv}");

    let figure = figure(&table, &report).unwrap();
    let panel = &figure.panels[0];
    let names: Vec<_> = panel.series.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["one sample", "12 samples averaged", "no bottleneck"]);
    // Without a bottleneck and with β = 0 there is no place on a logarithmic axis.
    let points = &panel.series[1].points;
    assert_eq!(points.len(), table.rows.len() - 2);
    assert_eq!((points[0].x, points[0].y, points[0].interval.is_some()), (1e-6, 12.5, true));
    assert_eq!(panel.series[2].points.iter().map(|it| it.x).collect::<Vec<_>>(), [1e-6, 1.0]);

    let empty = fold(&table, Scale::Small, &[], &[]).unwrap();
    let message = super::figure(&table, &empty).unwrap_err().to_string();
    assert!(message.contains("no record of a row with a model.vib.beta at small"), "{message}");
    let other = super::tests::table(TABLE);
    let report = fold(&other, Scale::Demo, &[], &[]).unwrap();
    let message = super::figure(&other, &report).unwrap_err().to_string();
    assert!(message.starts_with("table1 has no [plot] in its table.toml"), "{message}");
}

/// The first row is at the top, so at the highest place.
#[test]
fn a_figure_without_a_key_has_the_rows_below_each_other() {
    let table = table("bound");
    let report = fold(&table, Scale::Demo, &[], &records(&table, Scale::Demo, 100.0)).unwrap();
    let figure = figure(&table, &report).unwrap();
    let panel = &figure.panels[0];
    let names: Vec<_> = table.rows.iter().rev().map(|row| row.name.clone()).collect();
    assert_eq!(panel.y.scale, plot::Scale::Named(names));
    let test = &panel.series[0];
    assert_eq!((test.points.len(), test.interval), (table.rows.len(), plot::Interval::Across));
    let top = test.points.last().unwrap();
    assert_eq!((top.x, top.y), (100.5, table.rows.len() as f64 - 1.0));
    // Half a difference of 1, times the quantile of one degree of freedom, 12.706.
    let (low, high) = top.interval.unwrap();
    assert!((100.5 - low - 0.5 * 12.706).abs() < 1e-3 && (high - 100.5 + low - 100.5).abs() < 1e-9);

    let none = fold(&table, Scale::Demo, &[], &[]).unwrap();
    let message = super::figure(&table, &none).unwrap_err().to_string();
    assert_eq!(message, "bound has no record of a row at demo scale; run `anp reproduce` first");
}

fn report(scale: Scale, test: f64) -> TableReport {
    let table = table(TABLE);
    let records = records(&table, scale, test);
    fold(&table, scale, &[], &records).unwrap()
}

fn row<'a>(report: &'a TableReport, id: &str) -> &'a RowReport {
    report.rows.iter().find(|row| row.row == id).unwrap()
}

#[test]
fn rows_say_what_there_is_of_them() {
    let report = report(Scale::Demo, 80.0);
    assert_eq!(row(&report, "lstm").measured().unwrap().test.mean, 80.5);
    assert_eq!(row(&report, NOT_BUILT).state, RowState::NotBuilt);
    assert_eq!(row(&report, "lstm_same_schedule").state, RowState::OtherScales(vec![Scale::Paper]));
    let empty = fold(&table(TABLE), Scale::Demo, &[], &[]).unwrap();
    assert_eq!(row(&empty, "lstm").state, RowState::NotRun);
}

#[test]
fn a_run_that_failed_is_shown_with_its_reason() {
    let table = table(TABLE);
    let mut records = records(&table, Scale::Demo, 80.0);
    records
        .retain(|stored| (stored.record.head().row, stored.record.head().seed) == ("lstm_anp", 1));
    let mut report = fold(&table, Scale::Demo, &[], &records).unwrap();
    let failure = |seed| Failure { seed, reason: "the loss became inf".to_owned() };
    report.add_failure(TABLE, "lstm", failure(1));
    report.add_failure(TABLE, "lstm_anp", failure(2));
    report.add_failure("table9", "lstm", failure(3));

    let text = render(std::slice::from_ref(&report), Format::Text, 200);
    let line = text.lines().find(|line| line.starts_with("LSTM [1]")).unwrap();
    assert!(line.contains(" failed "), "{text}");
    let name = &row(&report, "lstm_anp").name;
    assert!(text.contains(&format!("failed: {name}, seed 2: the loss became inf")), "{text}");
    assert!(!text.contains("seed 3"), "of another table:\n{text}");

    let rows: Vec<serde_json::Value> =
        serde_json::from_str(&render(&[report], Format::Json, 100)).unwrap();
    let find = |id: &str| rows.iter().find(|row| row["row"] == id).unwrap();
    assert_eq!((&find("lstm")["state"], &find("lstm")["ours"]), (&"failed".into(), &().into()));
    assert_eq!(find("lstm_anp")["state"], "measured");
    assert_eq!(find("lstm_anp")["failures"][0]["seed"], 2);
    assert_eq!(find("lstm_anp")["failures"][0]["reason"], "the loss became inf");
    assert_eq!(find(NOT_BUILT)["failures"], serde_json::json!([]));
}

#[test]
fn one_seed_has_no_spread() {
    assert_eq!(Statistic::of(&[3.0]), Some(Statistic { mean: 3.0, sd: None, n: 1 }));
    assert_eq!(Statistic::of(&[1.0, 3.0]).unwrap().sd, Some(2.0_f64.sqrt()));
    assert_eq!(Statistic::of(&[]), None);
}

#[test]
fn the_penalty_is_that_of_the_best_epoch_in_nats_a_token() {
    let report = report(Scale::Demo, 80.0);
    let penalty = |id| row(&report, id).measured().unwrap().penalty.mean;
    assert_eq!(penalty("lstm"), 0.0);
    assert_eq!(penalty("lstm_anp"), 0.5 / 35.0);

    // Beside a mean over the tokens it is one already.
    let table = table(TABLE);
    let mut records = records(&table, Scale::Demo, 80.0);
    for stored in &mut records {
        let record = text(stored);
        record.recipe.training.loss = Some(LossReduction::MeanOverTokens);
        record.recipe_hash = content_hash(&record.recipe);
    }
    let overrides = ["training.loss=mean_over_tokens".to_owned()];
    let report = fold(&table, Scale::Demo, &overrides, &records).unwrap();
    assert_eq!(row(&report, "lstm_anp").measured().unwrap().penalty.mean, 0.5);
}

#[test]
fn only_the_paper_s_scale_is_judged() {
    let published = row(&report(Scale::Paper, 0.0), "lstm_anp").published.clone().unwrap();
    let on_target = published.test.unwrap() - 0.5;
    let verdict = |report: &TableReport| report.verdict(row(report, "lstm_anp"));

    assert_eq!(verdict(&report(Scale::Paper, on_target)), Some(Verdict::Match));
    let edge = on_target + published.tolerance;
    assert_eq!(verdict(&report(Scale::Paper, edge - 1e-9)), Some(Verdict::Match));
    for miss in [edge + 0.01, on_target - published.tolerance - 0.01] {
        let report = report(Scale::Paper, miss);
        assert_eq!(verdict(&report), Some(Verdict::Miss));
        assert!(report.misses());
    }
    for scale in [Scale::Demo, Scale::Small] {
        let report = report(scale, 500.0);
        assert_eq!(verdict(&report), None);
        assert!(!report.misses());
    }
}

#[test]
fn changed_recipes_are_not_judged() {
    let table = table(TABLE);
    let overrides = ["training.max_epochs=1".to_owned()];
    let mut records = records(&table, Scale::Paper, 500.0);
    for stored in &mut records {
        let record = text(stored);
        record.recipe.training.max_epochs = 1;
        record.recipe_hash = content_hash(&record.recipe);
    }
    let report = fold(&table, Scale::Paper, &overrides, &records).unwrap();
    assert!(row(&report, "lstm").measured().is_some());
    assert!(!report.misses());
    assert!(render(&[report], Format::Text, 100).contains("training.max_epochs=1"));
}

/// A key of one kind of network leaves the rows of other kinds out; an unknown key is an error.
#[test]
fn overrides_need_not_fit_every_row() {
    let fold = |text: &str| fold(&table("table2"), Scale::Demo, &[text.to_owned()], &[]);
    let report = fold("model.lstm.d_hidden=50").unwrap();
    assert_eq!(row(&report, "lstm").state, RowState::NotRun);
    assert_eq!(row(&report, "sru").state, RowState::Unfit);
    assert!(render(&[report], Format::Text, 200).contains("--set does not fit"));
    assert!(fold("training.epochs=3").is_err());
}

#[test]
fn a_table_without_records_misses_nothing() {
    assert!(!fold(&table(TABLE), Scale::Paper, &[], &[]).unwrap().misses());
}

#[test]
fn the_latest_record_of_a_seed_counts() {
    let table = table(TABLE);
    let mut records = records(&table, Scale::Demo, 80.0);
    let mut again = records[0].clone();
    again.path = PathBuf::from("records/again.json");
    text(&mut again).provenance.finished_at = "2026-01-01T00:00:00Z".to_owned();
    text(&mut again).result.test.perplexity = 70.0;
    let earlier = records[0].path.clone();

    for position in [0, records.len()] {
        let mut records = records.clone();
        records.insert(position, again.clone());
        let report = fold(&table, Scale::Demo, &[], &records).unwrap();
        let measured = row(&report, "lstm").measured().unwrap();
        assert_eq!((measured.test.n, measured.test.mean), (2, 75.5));
        let reason = UncountedReason::SameSeed;
        assert_eq!(report.uncounted, [Uncounted { path: earlier.clone(), reason }]);
    }

    // A record of the same recipe counts whatever row it was made for. One of another scale, or of
    // another row with another recipe, is ignored.
    records.retain(|stored| stored.record.head().row == "lstm");
    let mut other = records[0].clone();
    text(&mut other).recipe_hash = "0".repeat(64);
    records.push(other);
    for stored in &mut records {
        text(stored).table = "table9".to_owned();
    }
    text(&mut records[1]).scale = Scale::Small;
    let report = fold(&table, Scale::Demo, &[], &records).unwrap();
    assert_eq!(row(&report, "lstm").measured().unwrap().test.n, 1);
    assert_eq!(report.uncounted, []);
}

#[test]
fn text_fits_the_terminal() {
    for (scale, test) in [(Scale::Demo, 1234.5), (Scale::Paper, 72.0)] {
        for width in [80, 100, 160] {
            let text = render(&[report(scale, test)], Format::Text, width);
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
        }
    }
}

#[test]
fn text_says_the_scale_the_sources_and_what_is_missing() {
    let text = render(&[report(Scale::Demo, 80.0)], Format::Text, 200);
    for phrase in [
        "Table 1",
        "perplexity, lower is better",
        "Scale demo",
        "NOT comparable with the paper",
        "not built yet",
        "at paper scale",
        "copied by the paper from Xie et al. 2017",
        "added by this project",
        "80.50 ± 0.71",
    ] {
        assert!(text.contains(phrase), "`{phrase}` is missing:\n{text}");
    }
    assert!(!text.contains("MISS"), "{text}");

    let text = render(&[report(Scale::Paper, 90.0)], Format::Text, 200);
    assert!(text.contains("Scale paper") && text.contains("+14.20 MISS"), "{text}");
}

#[test]
fn markdown_is_one_table() {
    let text = render(&[report(Scale::Small, 80.0)], Format::Markdown, 100);
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(lines.len(), 2 + table(TABLE).rows.len());
    for line in &lines {
        assert_eq!(line.matches('|').count(), lines[0].matches('|').count(), "{line}");
    }
    assert!(text.contains("Scale small"), "{text}");
}

/// The keys that other programs rely on.
#[test]
fn json_is_a_list_of_rows() {
    let text = render(&[report(Scale::Demo, 80.0), report(Scale::Paper, 75.8)], Format::Json, 100);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 2 * table(TABLE).rows.len());
    let find = |id: &str, scale: &str| {
        rows.iter().find(|row| row["row"] == id && row["scale"] == scale).unwrap()
    };

    let anp = find("lstm_anp", "paper");
    assert_eq!(anp["table"], TABLE);
    assert_eq!(anp["metric"], "perplexity");
    assert_eq!((&anp["paper"]["valid"], &anp["paper"]["test"]), (&79.6.into(), &76.3.into()));
    assert_eq!(anp["ours"]["test"]["mean"], 76.3);
    assert_eq!(anp["ours"]["test"]["n"], 2);
    assert!(anp["ours"]["valid"]["sd"].is_number());
    assert_eq!(anp["verdict"], "match");
    assert_eq!(anp["records"].as_array().unwrap().len(), 2);

    let absent = find(NOT_BUILT, "demo");
    assert_eq!(absent["state"], "not_built");
    assert!(absent["ours"].is_null() && absent["verdict"].is_null());
    assert_eq!(absent["records"], serde_json::json!([]));
    assert!(find("lstm_same_schedule", "demo")["paper"].is_null());
}

#[test]
fn csv_has_one_line_a_row() {
    let text = render(&[report(Scale::Demo, 80.0)], Format::Csv, 100);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let lines: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(lines.len(), table(TABLE).rows.len());
    let documented = include_str!("../../../../docs/records.md");
    let described = documented.split("CSV has one line per row").nth(1).unwrap();
    for name in &header {
        assert!(described.contains(&format!("`{name}`")), "docs/records.md does not have {name}");
    }
    let column = |name: &str| header.iter().position(|other| other == name).unwrap();
    let anp = lines.iter().find(|line| &line[column("row")] == "lstm_anp").unwrap();
    assert_eq!(&anp[column("paper_test")], "76.3");
    assert_eq!(&anp[column("ours_test_mean")], "80.5");
    assert_eq!(&anp[column("n")], "2");
}

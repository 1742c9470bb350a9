use std::fs;

use super::*;
use crate::engine::RunId;
use crate::experiments::{Experiments, Table};
use crate::recipe::{Scale, test_recipe};
use crate::record::{Record, StoredRecord, load_folder, test_record};
use crate::report::{self, RowState, Statistic};

/// A folder with one table of three rows: two that can run at demo scale, and one that cannot.
fn experiments() -> (tempfile::TempDir, Vec<Table>) {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    fs::create_dir(&table).unwrap();
    let with_penalty = toml::Value::try_from(test_recipe()).unwrap();
    for (name, text) in [
        ("table", "title = 'T'\nmetric = 'perplexity'\nrows = ['a', 'b', 'c']\n".to_owned()),
        ("a", "name = 'A'\nours = true\nextends = 't/b'\nbase.penalty = []\n".to_owned()),
        (
            "b",
            format!("name = 'B'\nours = true\nscale.demo = {with_penalty}\nbase.seeds = [1, 2]\n"),
        ),
        ("c", "name = 'C'\nours = true\n".to_owned()),
    ] {
        fs::write(table.join(format!("{name}.toml")), text).unwrap();
    }
    let tables = vec![Experiments::locate(Some(folder.path())).unwrap().table("t").unwrap()];
    (folder, tables)
}

fn finished(run: &PlannedRun) -> Result<Outcome<Record>, TrainError> {
    let recipe = run.recipe.clone().text().unwrap();
    let record = test_record(&run.id.table, &run.id.row, run.id.scale, run.id.seed, &recipe);
    Ok(Outcome::Finished(Box::new(record.into())))
}

/// A table of one row, tuned over three strengths; it has two seeds.
fn tuned() -> (tempfile::TempDir, Vec<Table>) {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    fs::create_dir(&table).unwrap();
    let recipe = toml::Value::try_from(test_recipe()).unwrap();
    let row = format!(
        "name = 'A'\nours = true\nscale.demo = {recipe}\nbase.seeds = [4, 5]\n\
         base.sweep = {{ key = 'penalty.0.eta', values = [0.1, 0.2, 0.3] }}\n"
    );
    fs::write(table.join("a.toml"), row).unwrap();
    let file = "title = 'T'\nmetric = 'perplexity'\nrows = ['a']\n";
    fs::write(table.join("table.toml"), file).unwrap();
    let tables = vec![Experiments::locate(Some(folder.path())).unwrap().table("t").unwrap()];
    (folder, tables)
}

fn eta(run: &PlannedRun) -> f64 {
    run.recipe.clone().text().unwrap().penalties[0].eta
}

/// Validation is best with a strength of 0.2, on the first seed; test and the other seed, where
/// other strengths are better, must not matter.
#[test]
fn a_sweep_runs_every_value_once_and_the_best_with_all_seeds() {
    let (_folder, tables) = tuned();
    let records = tempfile::tempdir().unwrap();
    let of = |selection: &Selection| {
        let stored = load_folder(records.path()).unwrap();
        let plan = plan(&tables, Scale::Demo, selection, &stored).unwrap();
        let runs: Vec<_> = plan.runs.iter().map(|run| (eta(run), run.id.seed)).collect();
        (plan, runs)
    };
    let finished = |run: &PlannedRun| {
        let recipe = run.recipe.clone().text().unwrap();
        let RunId { table, row, scale, seed } = &run.id;
        let mut record = test_record(table, row, *scale, *seed, &recipe);
        record.result.valid.perplexity = 90.0 + (eta(run) - 0.2).abs();
        record.result.test.perplexity = 80.0 - eta(run);
        Ok(Outcome::Finished(Box::new(record.into())))
    };
    let report = || {
        let stored = load_folder(records.path()).unwrap();
        report::fold(&tables[0], Scale::Demo, &[], &stored).unwrap()
    };

    let (first, runs) = of(&Selection::default());
    assert_eq!((runs, first.later), (vec![(0.1, 4), (0.2, 4), (0.3, 4)], 1));
    execute(&first.runs[..2], records.path(), |_, run| finished(run), |_| ()).unwrap();
    assert_eq!(of(&Selection::default()).1, [(0.3, 4)]);
    let row = &report().rows[0];
    assert_eq!((&row.state, row.tuning.as_ref().unwrap().best), (&RowState::NotRun, None));
    let text = report::render(&[report()], report::Format::Text, 100);
    assert!(text.contains("tuning: 2 of 3"), "{text}");

    execute(&first.runs[2..], records.path(), |_, run| finished(run), |_| ()).unwrap();
    let (second, runs) = of(&Selection::default());
    assert_eq!((runs, second.later, second.recorded), (vec![(0.2, 5)], 0, 3));
    let three = Selection { num_seeds: Some(3), ..Selection::default() };
    assert_eq!(of(&three).1, [(0.2, 5), (0.2, 6)]);
    execute(&second.runs, records.path(), |_, run| finished(run), |_| ()).unwrap();
    assert_eq!(of(&Selection::default()).1, []);

    let report = report();
    assert_eq!(report.uncounted, [], "the other candidates are no strangers");
    let measured = report.rows[0].measured().unwrap();
    assert_eq!((measured.test.mean, measured.test.n), (79.8, 2));
    let tuning = report.rows[0].tuning.as_ref().unwrap();
    assert_eq!((tuning.best, tuning.is_at_an_end()), (Some(1), false));
    let text = report::render(std::slice::from_ref(&report), report::Format::Text, 100);
    let tried = "penalty.0.eta on validation: 0.1: 90.1, 0.2: 90.0 (best), 0.3: 90.1";
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains(tried), "{text}");
    let csv = report::render(&[report], report::Format::Csv, 100);
    assert!(csv.contains("penalty.0.eta,0.2,measured"), "{csv}");
}

fn planned(tables: &[Table], selection: &Selection, records: &[StoredRecord]) -> Vec<String> {
    let plan = plan(tables, Scale::Demo, selection, records).unwrap();
    plan.runs.iter().map(|run| format!("{} {}", run.id.row, run.id.seed)).collect()
}

#[test]
fn exactly_what_has_no_record_is_run() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    assert_eq!(planned(&tables, &Selection::default(), &[]), ["a 1", "a 2", "b 1", "b 2"]);

    execute(&all.runs[1..3], records.path(), |_, run| finished(run), |_| ()).unwrap();
    let stored = load_folder(records.path()).unwrap();
    assert_eq!(planned(&tables, &Selection::default(), &stored), ["a 1", "b 2"]);
    assert_eq!(plan(&tables, Scale::Demo, &Selection::default(), &stored).unwrap().recorded, 2);

    let force = Selection { force: true, ..Selection::default() };
    assert_eq!(planned(&tables, &force, &stored), ["a 1", "a 2", "b 1", "b 2"]);
    assert_eq!(plan(&tables, Scale::Paper, &force, &stored).unwrap().runs, []);
}

#[test]
fn a_selection_narrows_rows_and_seeds() {
    let (_folder, tables) = experiments();
    let selection =
        Selection { rows: vec!["b".to_owned()], num_seeds: Some(3), ..Selection::default() };
    assert_eq!(planned(&tables, &selection, &[]), ["b 1", "b 2", "b 3"]);

    let selection = Selection { rows: vec!["d".to_owned()], ..Selection::default() };
    let message = plan(&tables, Scale::Demo, &selection, &[]).unwrap_err().to_string();
    assert_eq!(message, "there is no row `d`; there are a, b, c");
}

#[test]
fn another_recipe_is_run_again_and_reported_as_not_counted() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let selection = Selection {
        overrides: vec!["training.max_epochs=1".to_owned()],
        rows: vec!["a".to_owned()],
        ..Selection::default()
    };
    let changed = plan(&tables, Scale::Demo, &selection, &[]).unwrap();
    execute(&changed.runs, records.path(), |_, run| finished(run), |_| ()).unwrap();
    let stored = load_folder(records.path()).unwrap();

    assert_eq!(planned(&tables, &Selection::default(), &stored), ["a 1", "a 2", "b 1", "b 2"]);
    let report = report::fold(&tables[0], Scale::Demo, &[], &stored).unwrap();
    assert_eq!(report.rows[0].state, RowState::NotRun);
    assert_eq!(report.uncounted.len(), 2);
    let report = report::fold(&tables[0], Scale::Demo, &selection.overrides, &stored).unwrap();
    assert_eq!(report.rows[0].measured().unwrap().test.n, 2);
    assert_eq!(report.uncounted, []);
}

#[test]
fn an_override_that_fits_no_recipe_is_refused_at_once() {
    let (_folder, tables) = experiments();
    let selection =
        Selection { overrides: vec!["training.epochs=1".to_owned()], ..Selection::default() };
    assert!(plan(&tables, Scale::Demo, &selection, &[]).is_err());
}

#[test]
fn an_interrupted_run_and_those_after_it_have_no_record() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let checkpoint = Some(PathBuf::from("checkpoint"));
    let run = |index, run: &PlannedRun| match index {
        1 => Ok(Outcome::Interrupted { checkpoint: checkpoint.clone() }),
        _ => finished(run),
    };
    let ended = execute(&all.runs, records.path(), run, |_| ()).unwrap();
    assert_eq!(ended.interrupted, Some(Interrupted { checkpoint, remaining: 3 }));
    assert!(ended.failed.is_empty());
    let stored = load_folder(records.path()).unwrap();
    assert_eq!(planned(&tables, &Selection::default(), &stored), ["a 2", "b 1", "b 2"]);
}

fn fail() -> Result<Outcome<Record>, TrainError> {
    Err(TrainError::Training("the device is gone".to_owned()))
}

#[test]
fn a_failed_run_is_named_at_once_and_the_others_are_made() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let made = std::cell::Cell::new(0);
    let mut told = Vec::new();
    let run = |index, run: &PlannedRun| {
        made.set(made.get() + 1);
        if index == 1 { fail() } else { finished(run) }
    };
    let on_failure = |failed: &FailedRun| told.push((made.get(), failed.to_string()));
    let ended = execute(&all.runs, records.path(), run, on_failure).unwrap();
    assert_eq!(told, [(2, format!("the run {} failed", all.runs[1].name()))]);
    assert_eq!(ended.interrupted, None);
    let failed: Vec<_> = ended.failed.iter().map(|failed| &failed.run).collect();
    assert_eq!(failed, [&all.runs[1]]);
    let stored = load_folder(records.path()).unwrap();
    assert_eq!(planned(&tables, &Selection::default(), &stored), ["a 2"]);
}

#[test]
fn failed_runs_are_left_to_make_after_an_interruption() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let run = |index, run: &PlannedRun| match index {
        0 => fail(),
        1 => finished(run),
        _ => Ok(Outcome::Interrupted { checkpoint: None }),
    };
    let ended = execute(&all.runs, records.path(), run, |_| ()).unwrap();
    assert_eq!(ended.interrupted, Some(Interrupted { checkpoint: None, remaining: 3 }));
    assert_eq!(ended.failed.len(), 1);
}

#[test]
fn a_record_that_cannot_be_written_ends_the_runs() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let file = records.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let mut started = 0;
    let run = |_, run: &PlannedRun| {
        started += 1;
        finished(run)
    };
    let err = execute(&all.runs, &file, run, |_| ()).unwrap_err();
    assert_eq!(started, 1);
    assert!(err.to_string().contains("has no record yet"), "{err}");
}

#[test]
fn the_table_is_made_of_the_records_of_a_reproduction() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    execute(&all.runs, records.path(), |_, run| finished(run), |_| ()).unwrap();
    let stored = load_folder(records.path()).unwrap();
    let report = report::fold(&tables[0], Scale::Demo, &[], &stored).unwrap();

    let tests: Vec<f64> = stored
        .iter()
        .filter(|stored| stored.record.head().row == "b")
        .map(|stored: &StoredRecord| -> f64 {
            stored.record.clone().text().unwrap().result.test.perplexity
        })
        .collect();
    let [low, high] = tests[..] else { panic!("two seeds, not {tests:?}") };
    let expected =
        Statistic { mean: (low + high) / 2.0, sd: Some((high - low) / 2.0_f64.sqrt()), n: 2 };
    let found = report.rows[1].measured().unwrap().test;
    assert_eq!((found.mean, found.n), (expected.mean, expected.n));
    assert!((found.sd.unwrap() - expected.sd.unwrap()).abs() < 1e-12);
    assert_eq!(report.rows[2].state, RowState::NotBuilt);
}

use std::fs;

use super::*;
use crate::experiments::{Experiments, Table};
use crate::recipe::{Scale, test_recipe};
use crate::record::{AnyRecord, StoredRecord, load_folder, test_record};
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

fn finished(run: &PlannedRun) -> Result<Outcome<AnyRecord>, TrainError> {
    let recipe = run.recipe.clone().text().unwrap();
    let record = test_record(&run.table, &run.row, run.scale, run.seed, &recipe);
    Ok(Outcome::Finished(Box::new(record.into())))
}

fn planned(tables: &[Table], selection: &Selection, records: &[StoredRecord]) -> Vec<String> {
    let plan = plan(tables, Scale::Demo, selection, records).unwrap();
    plan.runs.iter().map(|run| format!("{} {}", run.row, run.seed)).collect()
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
fn an_override_that_fits_no_recipe_is_refused_before_anything_runs() {
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

fn fail() -> Result<Outcome<AnyRecord>, TrainError> {
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
fn runs_that_failed_are_among_those_that_are_left_after_an_interruption() {
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
        .filter(|stored| stored.record.row() == "b")
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

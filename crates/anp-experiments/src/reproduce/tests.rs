use std::fs;

use super::*;
use crate::experiments::{Experiments, RowFile, Section};
use crate::recipe::test_recipe;
use crate::record::{Record, load_folder, test_record};
use crate::report::{self, RowState, Statistic};

/// A folder with one table of three rows: two that can be run at demo scale, and one that cannot.
fn experiments() -> (tempfile::TempDir, Vec<Table>) {
    let recipe = test_recipe();
    let section = |penalties: bool| Section {
        seeds: vec![1, 2],
        data: recipe.data.clone(),
        model: recipe.model.clone(),
        penalties: if penalties { recipe.penalties.clone() } else { Vec::new() },
        training: recipe.training.clone(),
    };
    let row = |name: &str, demo| RowFile {
        name: name.to_owned(),
        ours: true,
        published: None,
        demo,
        small: None,
        paper_scale: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("t");
    fs::create_dir(&table).unwrap();
    let header = "title = 'T'\nmetric = 'perplexity'\nrows = ['a', 'b', 'c']\n";
    fs::write(table.join("table.toml"), header).unwrap();
    for (id, row) in [
        ("a", row("A", Some(section(false)))),
        ("b", row("B", Some(section(true)))),
        ("c", row("C", None)),
    ] {
        fs::write(table.join(format!("{id}.toml")), toml::to_string(&row).unwrap()).unwrap();
    }
    let tables = vec![Experiments::locate(Some(folder.path())).unwrap().table("t").unwrap()];
    (folder, tables)
}

fn finished(run: &PlannedRun) -> Result<Outcome, TrainError> {
    let record = test_record(&run.table, &run.row, run.scale, run.seed, &run.recipe);
    Ok(Outcome::Finished(Box::new(record)))
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

    execute(&all.runs[1..3], records.path(), |_, run| finished(run)).unwrap();
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
    execute(&changed.runs, records.path(), |_, run| finished(run)).unwrap();
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
    let ended = execute(&all.runs, records.path(), |index, run| match index {
        1 => Ok(Outcome::Interrupted { checkpoint: checkpoint.clone() }),
        _ => finished(run),
    });
    assert_eq!(ended.unwrap(), Ended::Interrupted { checkpoint, remaining: 3 });
    let stored = load_folder(records.path()).unwrap();
    assert_eq!(planned(&tables, &Selection::default(), &stored), ["a 2", "b 1", "b 2"]);
}

#[test]
fn a_failed_run_is_named_and_earlier_records_stay() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let err = execute(&all.runs, records.path(), |index, run| match index {
        2 => Err(TrainError::Training("the device is gone".to_owned())),
        _ => finished(run),
    })
    .unwrap_err();
    assert_eq!(err.to_string(), format!("the run {} failed", all.runs[2].name()));
    assert_eq!(load_folder(records.path()).unwrap().len(), 2);
}

#[test]
fn a_record_that_cannot_be_written_ends_the_runs() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let file = records.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    let mut started = 0;
    let err = execute(&all.runs, &file, |_, run| {
        started += 1;
        finished(run)
    })
    .unwrap_err();
    assert_eq!(started, 1);
    assert!(err.to_string().contains("has no record yet"), "{err}");
}

#[test]
fn the_table_is_made_of_the_records_of_a_reproduction() {
    let (_folder, tables) = experiments();
    let records = tempfile::tempdir().unwrap();
    let all = plan(&tables, Scale::Demo, &Selection::default(), &[]).unwrap();
    execute(&all.runs, records.path(), |_, run| finished(run)).unwrap();
    let stored = load_folder(records.path()).unwrap();
    let report = report::fold(&tables[0], Scale::Demo, &[], &stored).unwrap();

    let tests: Vec<f64> = stored
        .iter()
        .filter(|stored| stored.record.row == "b")
        .map(|stored: &StoredRecord| -> f64 {
            let Record { result, .. } = &stored.record;
            result.test.perplexity
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

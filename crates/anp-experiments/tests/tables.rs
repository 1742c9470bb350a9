//! `anp reproduce`, `anp report` and `anp train` as a user runs them: output, refusals, exit codes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anp_experiments::experiments::Experiments;
use anp_experiments::recipe::{Scale, content_hash};
use anp_experiments::record::{
    ActivationStatistics, EpochRecord, Provenance, Record, RunRecord, RunResult, SCHEMA_VERSION,
    Score,
};
use anp_testing::package;

fn experiments() -> PathBuf {
    package().join("../../experiments")
}

/// Run `anp` with the committed tables, the records in `records`, and these words.
fn anp(words: &[&str], records: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anp"))
        .args(words)
        .arg("--experiments")
        .arg(experiments())
        .arg("--records")
        .arg(records)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A record of each run of `table` at paper scale: the published test perplexity plus `distance`.
fn write_records(table: &str, distance: f64, folder: &Path) {
    let table = Experiments::locate(Some(&experiments())).unwrap().table(table).unwrap();
    for row in &table.rows {
        let Some(runs) = row.runs(Scale::Paper, &[]).unwrap() else { continue };
        let published = row.published.as_ref().and_then(|it| it.test).unwrap_or(80.0);
        let recipe = runs.recipe.text().expect("a table of language models");
        for &seed in &runs.seeds {
            let score =
                |perplexity: f64| Score { nll: perplexity.ln(), perplexity, tokens: 82_429 };
            let activation = ActivationStatistics {
                norm: 9.7,
                half_squared_norm: 47.0,
                frobenius_per_step: 43.0,
                rms: 0.25,
                saturated: 0.0,
            };
            let record = RunRecord {
                schema_version: SCHEMA_VERSION,
                table: table.id.clone(),
                row: row.id.clone(),
                scale: Scale::Paper,
                seed,
                recipe: recipe.clone(),
                recipe_hash: content_hash(&recipe),
                provenance: Provenance {
                    commit: None,
                    dirty: None,
                    anp_version: "0.1.0".to_owned(),
                    burn_version: "0.22.1".to_owned(),
                    device: "cuda:0".to_owned(),
                    kernels: anp_models::Kernels::Fused,
                    platform: "linux-x86_64".to_owned(),
                    threads: 16,
                    instructions: Vec::new(),
                    started_at: "2025-01-01T00:00:00Z".to_owned(),
                    finished_at: "2025-01-01T01:00:00Z".to_owned(),
                    wall_seconds: 3600.0,
                    tokens_per_second: 30_000.0,
                    resumed: 0,
                },
                num_params: 66_022_000,
                penalties: Vec::new(),
                curve: vec![EpochRecord {
                    epoch: 1,
                    learning_rate: 1.0,
                    train_nll: 4.0,
                    valid_nll: 4.3,
                    valid_perplexity: 4.3_f64.exp(),
                    penalties: vec![1.0; recipe.penalties.len()],
                    grad_norm: 5.0,
                    clipped: 0.5,
                    seconds: 3600.0,
                }],
                result: RunResult {
                    best_epoch: 1,
                    valid: score(published + 4.0),
                    valid_single_stream: score(published + 4.0),
                    test: score(published + distance),
                    activation_valid: activation,
                    activation_train: activation,
                },
            };
            Record::from(record).save(folder).unwrap();
        }
    }
}

#[test]
fn at_paper_scale_the_exit_code_tells_whether_rows_match() {
    for (distance, code, word) in [(0.5, 0, " ok"), (3.0, 1, " MISS")] {
        let records = tempfile::tempdir().unwrap();
        write_records("table2", distance, records.path());
        let report = anp(&["report", "table2", "--scale", "paper"], records.path());
        assert_eq!(report.status.code(), Some(code), "{}", stderr(&report));
        assert!(stdout(&report).contains(word), "{}", stdout(&report));

        // Everything has a record: `reproduce` runs nothing and prints the same.
        let words = ["reproduce", "table2", "--scale", "paper"];
        let reproduced = anp(&words, records.path());
        assert_eq!(reproduced.status.code(), Some(code));
        assert_eq!(stdout(&reproduced), stdout(&report));
        assert_eq!(stderr(&reproduced), "paper scale: nothing to run; 18 have a record\n");
        let quiet = anp(&[&words[..], &["--quiet"]].concat(), records.path());
        assert_eq!(stderr(&quiet), "");
    }
}

#[test]
fn a_dry_run_runs_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let words = ["reproduce", "table2", "table4", "--only", "lstm", "--only", "cifar_10"];
    let output = anp(&[&words[..], &["--dry-run", "--device", "flex"]].concat(), &records);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with("dry run, demo scale: 2 runs to make\n"), "{text}");
    assert!(text.contains(" ms ") && text.contains("Estimated from a few steps"), "{text}");
    assert!(!records.exists());
}

#[test]
fn json_is_printed_for_other_programs() {
    let records = tempfile::tempdir().unwrap();
    let output = anp(&["report", "--format", "json"], records.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let tables: Vec<_> = rows.iter().filter_map(|row| row["table"].as_str()).collect();
    for table in ["baselines", "table1", "table2"] {
        assert!(tables.contains(&table), "{tables:?}");
    }
}

#[test]
fn what_cannot_be_done_is_explained_with_exit_code_2() {
    let empty = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 8] = [
        (&["report", "table9"], &["there is no table `table9`", "table1, table2"]),
        (&["reproduce", "table2", "--only", "gru"], &["there is no row `gru`", "lstm_anp"]),
        (
            &["reproduce", "table2", "--set", "training.epochs=3"],
            &["lstm.toml", "--set training.epochs=3", "did you mean `max_epochs`?", "`epochs`"],
        ),
        (
            &["reproduce", "table2", "--set", "model.lstm.output_dropout=1.5"],
            &["lstm.toml", "model.lstm.output_dropout must be in [0, 1), but is 1.5"],
        ),
        (&["report", "table2", "--set", "max_epochs"], &["`max_epochs` is no override"]),
        (&["reproduce", "table2", "--scale", "large"], &["'large'", "demo"]),
        (&["reproduce", "table2", "--device", "rocm:0"], &["rocm:0", "--features rocm"]),
        (&["reproduce"], &["<TABLE>"]),
    ];
    for (words, phrases) in cases {
        let output = anp(words, empty.path());
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {message}");
        assert_eq!(stdout(&output), "", "{words:?}");
        for phrase in phrases {
            assert!(message.contains(phrase), "{words:?}: `{phrase}` is missing:\n{message}");
        }
    }
}

/// `anp train` takes the scale as `anp reproduce` does.
#[test]
fn train_takes_the_scale_of_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let train = |row: &str, words: &[&str]| {
        let file = experiments().join(row);
        let data = folder.path().join("data");
        Command::new(env!("CARGO_BIN_EXE_anp"))
            .current_dir(folder.path())
            .args([&["train", file.to_str().unwrap(), "--device", "flex"], words].concat())
            .arg("--data-dir")
            .arg(data)
            .output()
            .unwrap()
    };
    // The demo's data is compiled in, so a value is what is wrong; the others' is not there.
    let output = train("table1/lstm.toml", &["--set", "data.bptt=0"]);
    assert!(stderr(&output).contains("lstm.toml sets an impossible value at demo scale"));
    for scale in ["small", "paper"] {
        let output = train("table1/lstm.toml", &["--scale", scale]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("anp data fetch penn_treebank"), "{}", stderr(&output));
    }
    let output = train("table1/lstm_same_schedule.toml", &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = "lstm_same_schedule.toml has no recipe at demo scale; give --scale paper";
    assert!(stderr(&output).contains(message), "{}", stderr(&output));
    let output = train("table1/lstm.toml", &["--scale", "large"]);
    assert!(stderr(&output).contains("'large'"), "{}", stderr(&output));
}

#[test]
fn missing_data_is_noticed_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join("records");
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let words = ["reproduce", "table2", "--scale", "small", "--device", "flex", "--data-dir", data];
    let output = anp(&words, &records);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("anp data fetch penn_treebank"), "{}", stderr(&output));
}

#[test]
fn an_unwritable_records_folder_is_noticed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let output = anp(&["reproduce", "table2", "--device", "flex"], &file.join("records"));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("records"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

#[test]
fn bad_records_are_named_and_kept() {
    let records = tempfile::tempdir().unwrap();
    write_records("table2", 0.0, records.path());
    let old = records.path().join("old.json");
    fs::write(&old, r#"{"schema_version": 0, "anything": 1}"#).unwrap();
    let cut = records.path().join("cut.json");
    fs::write(&cut, r#"{"schema_version": 1, "table": "#).unwrap();

    for words in [&["report", "table2"][..], &["reproduce", "table2", "--dry-run"]] {
        let output = anp(words, records.path());
        assert_eq!(output.status.code(), Some(2));
        let message = stderr(&output);
        for phrase in ["2 of the records", "old.json has schema version 0", "cut.json", "line 1"] {
            assert!(message.contains(phrase), "`{phrase}` is missing:\n{message}");
        }
    }
    assert_eq!(fs::read_dir(records.path()).unwrap().count(), 20);
    assert!(fs::read_to_string(&cut).unwrap().ends_with(r#""table": "#));
}

#[test]
fn without_tables_the_message_says_how_to_find_them() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_anp"))
        .arg("report")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--experiments DIR"), "{}", stderr(&output));
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_anp")).args(["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("reproduce"), "{shell}");
    }
}

//! `anp reproduce`: what is run, what is printed, and where.

use serde_json::Value;

use crate::support::{Workplace, contents, stderr, stdout};

/// Two rows are run, one without and one with the penalty, from the same seed; then everything that
/// can be seen of them is looked at, because the runs are what takes the time.
#[test]
fn each_row_is_run_once_and_the_penalty_is_seen_in_the_table() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 120);
    workplace.begin("lstm_anp", 1, 120);

    // Nothing but the result with --quiet, and not even a word of progress.
    let quiet = workplace.reproduce(&["--only", "lstm", "--quiet"]).output().unwrap();
    assert_eq!(quiet.status.code(), Some(0), "{}", stderr(&quiet));
    assert_eq!(stderr(&quiet), "");
    assert!(stdout(&quiet).starts_with("Table 2: large models on Penn Treebank"));

    // The row with a record is not run again. The table goes to stdout, progress to stderr.
    let words = ["--only", "lstm", "--only", "lstm_anp"];
    let output = workplace.reproduce(&words).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let progress = stderr(&output);
    assert!(progress.starts_with("demo scale: one run to make; one has a record\n"), "{progress}");
    for phrase in [
        "device: flex",
        "run 1 of 1: table2-lstm_anp-demo-s1",
        "train 666/666",
        "valid 52/52",
        "penalty ",
    ] {
        assert!(progress.contains(phrase), "`{phrase}` is missing:\n{progress}");
    }
    let table = stdout(&output);
    assert!(table.starts_with("Table 2: large models on Penn Treebank"), "{table}");
    assert!(!table.contains("epoch 1/1") && !progress.contains("Table 2:"), "{table}\n{progress}");
    for phrase in ["demo", "NOT comparable", "LSTM + ANP", "77.5", "not built yet"] {
        assert!(table.contains(phrase), "`{phrase}` is missing:\n{table}");
    }

    // Everything has a record now.
    let records = contents(&workplace.path("experiments/records"));
    assert_eq!(records.len(), 2);
    let again = workplace.reproduce(&words).output().unwrap();
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(stderr(&again), "demo scale: nothing to run; 2 have a record\n");
    assert_eq!(stdout(&again), table);
    assert_eq!(contents(&workplace.path("experiments/records")), records);

    // For other programs.
    let format =
        |format| stdout(&workplace.reproduce(&["--format", format, "--quiet"]).output().unwrap());
    let rows: Vec<Value> = serde_json::from_str(&format("json")).unwrap();
    let [lstm, penalised, sru] = &rows[..] else { panic!("{rows:?}") };
    for row in [lstm, penalised] {
        assert_eq!(row["table"], "table2");
        assert_eq!((&row["scale"], &row["metric"]), (&"demo".into(), &"perplexity".into()));
        assert_eq!((&row["paper"]["valid"], &row["paper"]["test"]), (&81.6.into(), &77.5.into()));
        for split in ["valid", "test"] {
            let ours = &row["ours"][split];
            assert!(ours["mean"].as_f64().unwrap() > 1.0, "{row}");
            assert_eq!((&ours["sd"], &ours["n"]), (&Value::Null, &1.into()));
        }
        let record = row["records"][0].as_str().unwrap();
        assert!(workplace.path(record).is_file(), "{record}");
    }
    assert_eq!((&lstm["row"], &penalised["row"]), (&"lstm".into(), &"lstm_anp".into()));
    assert_eq!((&sru["row"], &sru["ours"]), (&"sru".into(), &Value::Null));
    assert_eq!(sru["records"], Value::Array(Vec::new()));

    // The penalty is alive, and does what it is for.
    let mean = |row: &Value, key: &str| row["ours"][key]["mean"].as_f64().unwrap();
    assert_eq!(mean(lstm, "penalty"), 0.0);
    assert!(mean(penalised, "penalty") > 0.0);
    let norms = [mean(lstm, "activation_norm"), mean(penalised, "activation_norm")];
    assert!(norms[1] < 0.5 * norms[0], "‖h‖ is {norms:?}");

    // The penalty is in no reported loss.
    let epoch = &workplace.records().into_iter().find(|it| it.row == "lstm_anp").unwrap().curve[0];
    assert!(epoch.penalties[0] > 0.0 && epoch.train_nll < (6439.0_f64).ln() + 0.1, "{epoch:?}");

    // The evaluation can be repeated from the checkpoint.
    let run = format!("runs/{}", workplace.name("lstm_anp", 1));
    let evaluate = ["evaluate", &run, "--device", "flex", "--format", "json", "--quiet"];
    let evaluate = |words: &[&str]| -> Value {
        let output = workplace.anp(&[&evaluate[..], words].concat()).output().unwrap();
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let evaluated = evaluate(&[]);
    let result = &workplace.records().into_iter().find(|it| it.row == "lstm_anp").unwrap().result;
    let result = serde_json::to_value(result).unwrap();
    for text in ["valid", "valid_single_stream", "test", "best_epoch"] {
        assert_eq!(evaluated[text], result[text], "{text}");
    }
    assert!(evaluated.get("mc_dropout").is_none());

    // Monte-Carlo dropout stands beside it, and its seed, that of the run, repeats it.
    let with = evaluate(&["--mc-dropout", "2"]);
    assert_eq!(with["test"], evaluated["test"]);
    let monte_carlo = &with["mc_dropout"];
    assert_eq!((&monte_carlo["passes"], &monte_carlo["seed"]), (&2.into(), &1.into()));
    for text in ["valid", "valid_single_stream", "test"] {
        let [ordinary, mean] = [&evaluated[text], &monte_carlo[text]];
        assert_eq!(ordinary["tokens"], mean["tokens"], "{text}");
        let [ordinary, mean] = [ordinary, mean].map(|score| score["nll"].as_f64().unwrap());
        // Dropped activations are a loss, but a small one at a rate of 0.2.
        assert!(ordinary != mean && (ordinary - mean).abs() < 0.3, "{text}: {ordinary}, {mean}");
    }
    assert_eq!(evaluate(&["--mc-dropout", "2", "--mc-seed", "1"]), with);
    assert_ne!(evaluate(&["--mc-dropout", "2", "--mc-seed", "2"])["mc_dropout"], *monte_carlo);
    let none = workplace.anp(&["evaluate", &run, "--mc-dropout", "0"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2));

    let markdown = format("markdown");
    let header = markdown.lines().find(|line| line.starts_with('|')).unwrap();
    assert!(header.contains("| paper test |") && header.contains("| ours test |"), "{markdown}");
    let csv = format("csv");
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(csv.starts_with("table,row,"), "{csv}");

    // --force runs again, and until that is done the record stays.
    let dry =
        workplace.reproduce(&[&words[..], &["--force", "--dry-run"]].concat()).output().unwrap();
    assert!(
        stdout(&dry).starts_with("dry run, demo scale: 2 runs to make; 2 have a record"),
        "{dry:?}"
    );
    assert_eq!(contents(&workplace.path("experiments/records")), records);
    let force = || workplace.reproduce(&["--only", "lstm", "--force", "--checkpoint-every", "0"]);
    let running = workplace.start_and_wait_for_a_checkpoint(force(), "lstm");
    running.kill();
    let window = workplace.checkpoint("lstm").run.position.done;
    assert!(window < 500, "it began again, but is at {window}");
    assert_eq!(contents(&workplace.path("experiments/records")), records);
    // One that was stopped goes on, also with --force.
    let running = workplace.start_and_wait_for_a_checkpoint(force(), "lstm");
    running.kill();
    let later = workplace.checkpoint("lstm").run.position.done;
    assert!(later > window, "{later} after {window}");
}

//! What cannot be done: each with a message that names what and what to do, exit code 2, and
//! nothing lost.
//!
//! Recipes, records and tables that cannot be used are in `tests/tables.rs`, downloads and corpora
//! in `tests/data`.

use std::fs;
use std::path::Path;
use std::process::Output;
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};
use std::time::Duration;

use anp_experiments::data::{Split, manifest};
use anp_experiments::engine::{Checkpoint, CheckpointError, Outcome};

#[cfg(target_os = "linux")]
use crate::support::say;
use crate::support::{Workplace, contents, edit_trainer, stderr, stdout};

/// Check that `output` is a refusal whose message has all `phrases`.
fn refused(output: &Output, phrases: &[&str]) {
    said(output, phrases);
    assert_eq!(stdout(output), "");
}

/// Check that `output` is of runs of which one failed, with a message that has all `phrases`, and a
/// table that shows it.
fn failed(output: &Output, phrases: &[&str]) {
    said(output, phrases);
    let table = stdout(output);
    assert!(table.starts_with("Table 2: ") && table.contains("\nfailed: LSTM"), "{table}");
}

fn said(output: &Output, phrases: &[&str]) {
    let message = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for phrase in phrases {
        assert!(message.contains(phrase), "`{phrase}` is missing:\n{message}");
    }
}

// Recipes and data --------------------------------------------------------------------------------

#[cfg(feature = "ndarray")]
#[test]
fn a_precision_that_the_device_has_not_is_refused() {
    let set = ["--set", "training.mixed_precision=bf16", "--device", "ndarray"];
    let workplace = Workplace::new();
    let output = workplace.anp(&[&["reproduce", "table2"], &set[..]].concat()).output().unwrap();
    let phrase = "training.mixed_precision is bf16, which ndarray does not have";
    failed(&output, &[phrase]);

    // Nor is a checkpoint from elsewhere evaluated there.
    let words = ["--set", "training.mixed_precision=bf16", "--set", "data.train_tokens=2000"];
    let made = workplace.reproduce(&[&words[..], &["--only", "lstm"]].concat()).output().unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let run = fs::read_dir(workplace.path("runs")).unwrap().next().unwrap().unwrap().path();
    let words = ["evaluate", run.to_str().unwrap(), "--device", "ndarray"];
    refused(&workplace.anp(&words).output().unwrap(), &[phrase]);
}

#[test]
fn a_value_out_of_range_is_reported_before_data_is_looked_for() {
    let workplace = Workplace::new();
    let rhn = "model={rhn={d_embed=8, d_hidden=8, depth=0, tie_weights=false, \
               input_dropout=0.0, output_dropout=0.0, \
               transform_bias=-2.0, init_range=0.1}}";
    for (set, phrase) in [
        (rhn, "model.rhn.depth must be at least 1, but is 0"),
        (
            "data.noising={kind=\"blank\", gamma=1.5}",
            "data.noising.gamma must be in [0, 1], but is 1.5",
        ),
        (
            "penalty=[{site=\"layer[2].hidden\", norm=\"l1\", reduction=\"half_sum\", eta=0.1}]",
            "penalty.0.site is `layer[2].hidden`, but the model has 2 layers, counted from 0",
        ),
        (
            "model.lstm={d_embed=7, d_hidden=8, num_layers=2, tie_weights=true, input_dropout=0.0, \
             inter_layer_dropout=0.0, output_dropout=0.0, forget_bias=1.0, num_biases=1, \
             bias_init=\"zeros\", init_range=0.1}",
            "d_embed is 7 and the layer has 8 units",
        ),
        (
            "data.variable_bptt={half_probability=0.05, deviation=5.0, shortest=1}",
            "data.variable_bptt.shortest must be at least 2 and at most data.bptt, but is 1",
        ),
        ("model.lstm.output_dropout=1.0", "model.lstm.output_dropout must be in [0, 1), but is 1"),
        ("training.learning_rate=0", "training.learning_rate must be in (0, ∞), but is 0"),
        ("data.bptt=0", "data.bptt must be at least 1, but is 0"),
    ] {
        let words = ["--set", "data.corpus=penn_treebank", "--set", set, "--data-dir", "nowhere"];
        let output = workplace.reproduce(&words).output().unwrap();
        refused(&output, &["lstm.toml", phrase]);
        assert!(!stderr(&output).contains("fetch"), "{}", stderr(&output));
    }
}

#[test]
fn bad_data_files_are_named_with_their_remedy() {
    let workplace = Workplace::new();
    let folder = workplace.path("data");
    let reproduce = || {
        let words = ["--set", "data.corpus=penn_treebank", "--data-dir", "data"];
        workplace.reproduce(&words).output().unwrap()
    };
    let remedy = "anp data fetch penn_treebank --data-dir data";
    refused(&reproduce(), &["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt", remedy]);

    let penn = manifest("penn_treebank").unwrap();
    for split in Split::ALL {
        let file = penn.file(split);
        let path = folder.join(&penn.folder).join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = file.bytes - u64::from(split == Split::Train);
        fs::File::create(path).unwrap().set_len(bytes).unwrap();
    }
    let train = penn.file(Split::Train);
    let cut_off = format!("{} bytes instead of {}", train.bytes - 1, train.bytes);
    refused(&reproduce(), &["ptb.train.txt", &cut_off, remedy]);

    let path = folder.join(&penn.folder).join(&train.name);
    fs::File::options().append(true).open(&path).unwrap().set_len(train.bytes).unwrap();
    refused(&reproduce(), &["ptb.train.txt", "SHA-256", train.sha256.as_str(), remedy]);
    assert_eq!(fs::metadata(path).unwrap().len(), train.bytes, "the user's file is left alone");
    assert!(!workplace.path("runs").exists());
}

#[test]
fn a_text_too_short_for_the_streams_is_refused_with_its_split() {
    let workplace = Workplace::new();
    let output = workplace.reproduce(&["--set", "data.batch_size=2000"]).output().unwrap();
    failed(&output, &["validation text", "21008 tokens", "data.batch_size", "data.bptt"]);
}

#[test]
fn a_device_that_is_not_there_is_named_with_what_there_is() {
    let workplace = Workplace::new();
    for (device, phrases) in [
        ("flex:7", ["devices that flex finds here: 1", "anp devices"]),
        ("rocm", ["rocm:0 is not compiled in", "--features rocm"]),
        ("gpu", ["`gpu` is not a device", "cuda:0"]),
    ] {
        let words = ["reproduce", "table2", "--device", device];
        refused(&workplace.anp(&words).output().unwrap(), &phrases);
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    let workplace = Workplace::new();
    for time in ["-1", "soon", "NaN", "inf"] {
        let output = workplace.reproduce(&["--checkpoint-every", time]).output().unwrap();
        refused(&output, &["--checkpoint-every", time]);
    }
}

#[cfg(unix)]
#[test]
fn a_refusal_has_its_exit_code_even_if_nobody_reads() {
    let workplace = Workplace::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = workplace.anp(&["report", "table9"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

// Folders -----------------------------------------------------------------------------------------

#[test]
fn a_run_folder_that_cannot_be_written_is_named() {
    let workplace = Workplace::new();
    let file = workplace.path("file");
    fs::write(&file, "in the way").unwrap();
    let output = workplace.reproduce(&["--runs", "file/runs"]).output().unwrap();
    failed(&output, &["file/runs/table2-lstm-demo-s1", "--runs"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

/// The records folder was there when the run began; whoever replaced it gets the record all the
/// same.
#[test]
fn a_record_that_cannot_be_written_does_not_cost_the_run() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let command = || workplace.reproduce(&["--only", "lstm", "--checkpoint-every", "0"]);
    let mut running = workplace.start_and_wait_for_a_checkpoint(command(), "lstm");
    let records = workplace.path("experiments/records");
    fs::remove_dir(&records).unwrap();
    fs::write(&records, "in the way").unwrap();
    let name = workplace.name("lstm", 1);
    let phrases = [&name, "has no record yet", "it will not train again", "experiments/records"];
    refused(&running.output(), &phrases);

    fs::remove_file(&records).unwrap();
    let output = command().output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("epoch"), "it trains again: {}", stderr(&output));
    assert_eq!(workplace.record().curve.len(), 1);
}

/// A shell in which `folder` is a file system of two megabytes; `None` if the system does not let
/// us.
#[cfg(target_os = "linux")]
fn with_small_disk(folder: &Path, script: &str) -> Option<Command> {
    let mount = format!("mount -t tmpfs -o size=2m tmpfs '{}'", folder.display());
    [&["--mount"][..], &["--mount", "--map-root-user"]].into_iter().find_map(|options| {
        let shell = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(options).args(["sh", "-c", script]);
            command
        };
        let tried = shell(&mount).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success()).then(|| shell(&format!("{mount} && {script}")))
    })
}

/// The model has 0.4 MB, a checkpoint as much, later twice as much: some fit, then one does not.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_and_what_was_saved_goes_on() {
    let workplace = Workplace::new();
    let small = workplace.path("small");
    fs::create_dir(&small).unwrap();
    // What the namespace's disk holds is lost with it, so it is copied; then room is made.
    let script = r#"
        head -c 1300000 /dev/zero > small/ballast
        "$ANP" reproduce table2 --device flex --only lstm --runs small/runs --checkpoint-every 0
        code=$?
        cp -a small/runs runs
        exit $code"#;
    let Some(mut command) = with_small_disk(&small, script) else {
        say("SKIPPED: a full disk was not tried: this system lets us mount none (unshare --mount)");
        return;
    };
    let output = command
        .current_dir(workplace.path(""))
        .env("ANP", env!("CARGO_BIN_EXE_anp"))
        .output()
        .unwrap();
    let message = stderr(&output);
    failed(&output, &["cannot write checkpoint small/runs/table2-lstm-demo-s1", "make room"]);
    assert!(message.contains("No space left") || message.contains("StorageFull"), "{message}");

    let window = workplace.checkpoint("lstm").run.position.done;
    assert!(window > 0);
    let outcome = workplace.train("lstm", 1, Duration::from_secs(3600), move |done| done > window);
    assert!(matches!(outcome, Outcome::Interrupted { checkpoint: Some(_) }));
    assert!(workplace.checkpoint("lstm").run.position.done > window);
}

// Checkpoints -------------------------------------------------------------------------------------

#[test]
fn a_checkpoint_with_any_byte_changed_is_refused() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let checkpoint = workplace.newest("lstm", 1).unwrap();
    let files = contents(&checkpoint);
    assert_eq!(files.len(), 3, "{files:?}");
    let folder = checkpoint.display().to_string();
    let check = |path: &Path, what: &str| {
        let err = Checkpoint::open(&checkpoint).unwrap_err();
        assert!(matches!(err, CheckpointError::Damaged { .. }), "{what}: {err}");
        let message = err.to_string();
        let name = path.file_name().unwrap().to_string_lossy();
        let named = message.contains(&*name) || message.contains("SHA256SUMS");
        assert!(named, "{what}: {message}");
        assert!(message.contains(&format!("remove the folder {folder}")), "{what}: {message}");
    };
    for (path, bytes) in &files {
        let places = [0, 1, bytes.len() / 3, bytes.len() / 2, bytes.len() - 2];
        for place in places {
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[place] ^= bit;
                fs::write(path, changed).unwrap();
                check(path, &format!("{} with byte {place} changed", path.display()));
            }
        }
        for length in [0, bytes.len() / 2, bytes.len() - 2] {
            fs::write(path, &bytes[..length]).unwrap();
            check(path, &format!("{} cut to {length} bytes", path.display()));
        }
        fs::remove_file(path).unwrap();
        check(path, &format!("{} removed", path.display()));
        fs::write(path, bytes).unwrap();
    }
    Checkpoint::open(&checkpoint).unwrap();
}

#[test]
fn a_damaged_checkpoint_is_kept_and_the_one_before_goes_on() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let older = workplace.newest("lstm", 1).unwrap();
    workplace.train("lstm", 1, Duration::ZERO, |done| done > 0);
    let newer = workplace.newest("lstm", 1).unwrap();
    assert_ne!(newer, older);
    let model = newer.join("model.bpk");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&model, bytes).unwrap();
    let before = contents(&workplace.run_dir("lstm", 1));

    let reproduce = || workplace.reproduce(&["--only", "lstm"]).output().unwrap();
    let name = newer.file_name().unwrap().to_string_lossy();
    let remedy = format!("remove the folder runs/{}/checkpoints/{name}", workplace.name("lstm", 1));
    failed(
        &reproduce(),
        &["model.bpk is damaged", "SHA-256", &remedy, "to go on from the checkpoint before it"],
    );
    assert_eq!(contents(&workplace.run_dir("lstm", 1)), before);

    fs::remove_dir_all(newer).unwrap();
    let output = reproduce();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(workplace.record().curve.len(), 1);
}

#[test]
fn a_checkpoint_of_another_recipe_or_seed_is_failed() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let begun = workplace.run_dir("lstm", 1);
    for (row, seed) in [("lstm_anp", 1), ("lstm", 2)] {
        let other = workplace.run_dir(row, seed);
        fs::rename(workplace.run_dir("lstm", 1), &other).unwrap();
        let before = contents(&other);
        let file = workplace.path(&format!("experiments/table2/{row}.toml"));
        let text = fs::read_to_string(&file).unwrap();
        fs::write(file, text.replace("seeds = [1]", &format!("seeds = [{seed}]"))).unwrap();
        let output = workplace.reproduce(&["--only", row]).output().unwrap();
        failed(
            &output,
            &["belongs to another recipe or seed", "--runs", &workplace.name(row, seed)],
        );
        assert_eq!(contents(&other), before);
        fs::rename(other, &begun).unwrap();
    }
}

#[test]
fn a_checkpoint_of_another_device_is_refused_with_the_device() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let checkpoint = workplace.newest("lstm", 1).unwrap();
    edit_trainer(&checkpoint, |manifest| manifest["run"]["course"]["device"] = "cuda:0".into());
    let output = workplace.reproduce(&["--only", "lstm"]).output().unwrap();
    failed(&output, &["was begun on cuda:0", "resume with --device cuda:0", "runs/table2-lstm"]);
}

#[test]
fn a_checkpoint_of_another_version_names_both_versions() {
    let workplace = Workplace::new();
    workplace.begin("lstm", 1, 40);
    let checkpoint = workplace.newest("lstm", 1).unwrap();
    let remedies = ["this build reads 5", "the build that began it", "remove the run folder"];
    for version in [99, 4] {
        edit_trainer(&checkpoint, |manifest| {
            manifest["format_version"] = version.into();
            // The fourth version had neither.
            let keys = manifest.as_object_mut().unwrap();
            keys.retain(|key, _| key != "kind" && key != "run");
        });
        let found = format!("has format {version},");
        let phrases = [&[found.as_str()], &remedies[..]].concat();
        failed(&workplace.reproduce(&["--only", "lstm"]).output().unwrap(), &phrases);
        let evaluated = workplace.anp(&["evaluate", checkpoint.to_str().unwrap()]).output();
        refused(&evaluated.unwrap(), &phrases);
    }

    // The first version kept its checksums elsewhere.
    edit_trainer(&checkpoint, |manifest| manifest["format_version"] = 1.into());
    fs::remove_file(checkpoint.join("SHA256SUMS")).unwrap();
    failed(&workplace.reproduce(&["--only", "lstm"]).output().unwrap(), &["has format 1,"]);
}

#[test]
fn a_folder_without_a_checkpoint_is_named() {
    let workplace = Workplace::new();
    let err = Checkpoint::open(&workplace.path("experiments")).unwrap_err();
    assert!(matches!(err, CheckpointError::Missing { .. }), "{err}");
    assert!(err.to_string().contains("experiments holds no checkpoint"), "{err}");
}

#[test]
fn two_processes_do_not_work_on_one_run() {
    let workplace = Workplace::new();
    let command = || workplace.reproduce(&["--only", "lstm", "--checkpoint-every", "0"]);
    let mut running = workplace.start_and_wait_for_a_checkpoint(command(), "lstm");
    failed(&command().output().unwrap(), &["another process is working on this run", "run.lock"]);
    assert!(running.is_running());
    running.kill();
}

// Numbers -----------------------------------------------------------------------------------------

#[test]
fn a_loss_that_is_not_finite_stops_the_run_before_it_is_saved() {
    let workplace = Workplace::new();
    workplace.make_lstm_diverge();
    let reproduce =
        || workplace.reproduce(&["--only", "lstm", "--checkpoint-every", "0"]).output().unwrap();
    let output = reproduce();
    let newest = workplace.newest("lstm", 1).expect("a checkpoint from before");
    let good = workplace.checkpoint("lstm");
    let step = good.run.position.step;
    let newest = newest.strip_prefix(workplace.path("")).unwrap().display().to_string();
    let place = format!("window {} (step {})", step + 1, step + 1);
    let phrases = [
        "in epoch 1, ",
        &place,
        "at learning rate 1;",
        "the last good checkpoint is ",
        &newest,
        "training.learning_rate",
    ];
    failed(&output, &phrases);
    let sums = &good.run.sums;
    assert!(sums.loss.is_finite() && sums.grad_norm.is_finite());
    assert!(workplace.records().is_empty());

    // The checkpoint can be used: the run goes on from there, and comes to the same end.
    failed(&reproduce(), &phrases);
}

/// Neither the run nor the interrupter that it shares with the next keeps that one from being made.
#[test]
fn a_run_that_fails_is_shown_in_the_table_beside_others() {
    let workplace = Workplace::new();
    workplace.make_lstm_diverge();
    workplace.begin("lstm_anp", 1, 40);
    let reproduce = |words: &[&str]| workplace.reproduce(words).output().unwrap();

    let output = reproduce(&[]);
    let name = workplace.name("lstm", 1);
    failed(&output, &[&format!("the run {name} failed"), "training.learning_rate", "1 of 2 runs"]);
    let records = workplace.records();
    assert_eq!(records.iter().map(|record| record.row.as_str()).collect::<Vec<_>>(), ["lstm_anp"]);
    let table = stdout(&output);
    let line = |start: &str| table.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("LSTM [1]").contains(" failed "), "{table}");
    let perplexity = format!("{:.2}", records[0].result.test.perplexity);
    assert!(line("LSTM + ANP").contains(&perplexity), "{table}");

    // What has a record is not run again, what failed is.
    failed(&reproduce(&["--quiet"]), &[&format!("the run {name} failed"), "1 of 1 runs"]);
    assert_eq!(workplace.records(), records);
}

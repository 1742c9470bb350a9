//! A folder with small experiments, and ways to run them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anp_experiments::data::{Sha256Hex, Store};
use anp_experiments::device::Devices;
use anp_experiments::engine::{
    self, CheckpointFolder, Control, Outcome, Place, RunId, RunRequest, StoredCheckpoint,
};
use anp_experiments::experiments::Experiments;
use anp_experiments::recipe::{Scale, TextRecipe, content_hash};
use anp_experiments::record::{TextRecord, load_folder};
use anp_experiments::text::{TextTask, Texts};
use anp_models::Kernels;
use anp_testing::{SilentRenderer, lock_generator};
use burn::train::Interrupter;
use serde_json::Value;
use tempfile::TempDir;

/// Longest time that anything is waited for: only a machine that hangs takes so long.
pub const PATIENCE: Duration = Duration::from_secs(300);

const TABLE: &str = r#"
title = "Table 2: large models on Penn Treebank"
metric = "perplexity"
rows = ["lstm", "lstm_anp", "sru"]
"#;

const NOT_BUILT: &str = r#"
name = "SRU"
[published]
test = 62.3
source = "Table 2"
tolerance = 1.0
"#;

/// A row file with a tiny model at demo scale.
fn row(name: &str, max_epochs: usize, learning_rate: f64, clip: f64, penalty: &str) -> String {
    format!(
        r#"
name = "{name}"

[published]
valid = 81.6
test = 77.5
source = "Table 2"
tolerance = 1.0

[scale.demo]
seeds = [1]

[scale.demo.data]
corpus = "demo"
batch_size = 20
bptt = 20

[scale.demo.model.lstm]
d_embed = 8
d_hidden = 8
num_layers = 2
tie_weights = false
input_dropout = 0.5
inter_layer_dropout = 0.5
output_dropout = 0.5
forget_bias = 1.0
num_biases = 1
bias_init = "zeros"
init_range = 0.1

[scale.demo.training]
max_epochs = {max_epochs}
learning_rate = {learning_rate:?}
grad_clip_norm = {clip:?}

[scale.demo.training.schedule.on_plateau]
factor = 0.7
max_decays = 15

{penalty}
"#
    )
}

fn penalty(site: &str, eta: f64) -> String {
    format!(
        "[[scale.demo.penalty]]\nsite = '{site}'\nnorm = 'l2sq'\nreduction = 'half_sum'\n\
         eta = {eta:?}\n"
    )
}

/// A temporary folder with experiments, records and runs; the table is `table2` with the rows
/// `lstm`, `lstm_anp` and `sru`, which is not built.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// Runs of one epoch.
    pub fn new() -> Self {
        Self::with_epochs(1)
    }

    /// Runs of at most so many epochs.
    pub fn with_epochs(max_epochs: usize) -> Self {
        let workplace = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(workplace.path("experiments/table2")).unwrap();
        let rows = [
            ("table", TABLE.to_owned()),
            ("lstm", row("LSTM", max_epochs, 1.0, 5.0, "")),
            ("lstm_anp", row("LSTM + ANP", max_epochs, 1.0, 5.0, &penalty("output_dropped", 0.03))),
            ("sru", NOT_BUILT.to_owned()),
        ];
        for (name, text) in rows {
            workplace.write_row(name, &text);
        }
        workplace
    }

    fn write_row(&self, name: &str, text: &str) {
        fs::write(self.path(&format!("experiments/table2/{name}.toml")), text).unwrap();
    }

    /// Make of `lstm` a run whose loss grows beyond all numbers after a few dozen steps: the
    /// penalty on the unbounded logits is far too strong for the learning rate, and nothing is
    /// clipped.
    pub fn make_lstm_diverge(&self) {
        let penalty = penalty("logits", 0.02);
        self.write_row("lstm", &row("LSTM", 1, 1.0, 1e30, &penalty));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `anp` with these words, in this folder; nothing of the environment decides what it does.
    pub fn anp(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_anp"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("ANP_DATA_DIR")
            .stdin(Stdio::null());
        command
    }

    /// `anp reproduce table2` with these words behind.
    pub fn reproduce(&self, words: &[&str]) -> Command {
        self.anp(&[&["reproduce", "table2", "--device", "flex"], words].concat())
    }

    pub fn recipe(&self, row: &str) -> TextRecipe {
        let table = Experiments::locate(Some(&self.path("experiments"))).unwrap().table("table2");
        let rows = table.unwrap().rows;
        let row = rows.into_iter().find(|it| it.id == row).unwrap();
        row.runs(Scale::Demo, &[]).unwrap().unwrap().recipe.text().unwrap()
    }

    pub fn name(&self, row: &str, seed: u64) -> String {
        format!("table2-{row}-demo-s{seed}-{}", &content_hash(&self.recipe(row))[..8])
    }

    pub fn run_dir(&self, row: &str, seed: u64) -> PathBuf {
        self.path("runs").join(self.name(row, seed))
    }

    /// The newest checkpoint of a run.
    pub fn newest(&self, row: &str, seed: u64) -> Option<PathBuf> {
        CheckpointFolder::new(&self.run_dir(row, seed)).newest().unwrap()
    }

    /// The newest checkpoint of the run with seed 1, opened.
    pub fn checkpoint(&self, row: &str) -> StoredCheckpoint<TextTask> {
        StoredCheckpoint::open(&self.newest(row, 1).expect("a checkpoint")).unwrap()
    }

    /// Train in this process until `stop` says so or the run is done. `stop` is told how many
    /// windows of the epoch are done; what it says takes effect a moment later.
    pub fn train(
        &self,
        row: &str,
        seed: u64,
        checkpoint_interval: Duration,
        stop: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Outcome<TextRecord> {
        let _alone = lock_generator();
        let interrupter = Interrupter::new();
        if stop(0) {
            interrupter.stop(None);
        }
        let name = "flex".parse().unwrap();
        let to_stop = interrupter.clone();
        let renderer = SilentRenderer::default().on_progress(move |done| {
            if stop(done) {
                to_stop.stop(None);
            }
        });
        engine::run::<TextTask>(RunRequest {
            recipe: self.recipe(row),
            id: RunId { table: "table2".to_owned(), row: row.to_owned(), scale: Scale::Demo, seed },
            place: Place {
                devices: Devices::open(&[name]).unwrap(),
                kernels: Kernels::Fused,
                store: Store::locate(None),
            },
            control: Control {
                checkpoint_interval,
                ..Control::new(self.run_dir(row, seed), Box::new(renderer), interrupter)
            },
        })
        .unwrap()
    }

    /// Begin a run, and move it forward to `windows_left` windows before the end of its first
    /// epoch, as if it had not learnt anything up to there.
    pub fn begin(&self, row: &str, seed: u64, windows_left: usize) {
        let outcome = self.train(row, seed, PATIENCE, |_| true);
        let Outcome::Interrupted { checkpoint: Some(checkpoint) } = outcome else {
            panic!("{outcome:?}")
        };
        let corpus = Store::locate(None).load("demo").unwrap();
        let num_windows = Texts::cut(&corpus, &self.recipe(row)).unwrap().train.num_windows();
        edit_trainer(&checkpoint, |manifest| {
            let done = num_windows - windows_left;
            manifest["run"]["position"]["done"] = done.into();
            manifest["run"]["position"]["step"] = done.into();
        });
    }

    /// The records there are.
    pub fn records(&self) -> Vec<TextRecord> {
        let stored = load_folder(&self.path("experiments/records")).unwrap();
        stored.into_iter().map(|stored| stored.record.text().unwrap()).collect()
    }

    /// The only record.
    pub fn record(&self) -> TextRecord {
        let mut records = self.records();
        assert_eq!(records.len(), 1, "one record");
        records.remove(0)
    }

    /// Start `command` and wait until it has written a checkpoint of the run.
    pub fn start_and_wait_for_a_checkpoint(&self, mut command: Command, row: &str) -> Running {
        let before = self.newest(row, 1);
        let mut running = Running::start(&mut command);
        let started = Instant::now();
        while self.newest(row, 1).is_none_or(|newest| Some(newest) == before) {
            assert!(running.is_running(), "ended early: {:?}", running.output());
            assert!(started.elapsed() < PATIENCE, "no checkpoint");
            sleep(Duration::from_millis(2));
        }
        running
    }
}

/// Change the `trainer.json` of a checkpoint, and its checksum with it.
pub fn edit_trainer(checkpoint: &Path, edit: impl FnOnce(&mut Value)) {
    let path = checkpoint.join("trainer.json");
    let before = fs::read(&path).unwrap();
    let mut manifest = serde_json::from_slice(&before).unwrap();
    edit(&mut manifest);
    let after = serde_json::to_vec(&manifest).unwrap();
    let sums = checkpoint.join("SHA256SUMS");
    let text = fs::read_to_string(&sums).unwrap();
    let [old, new] = [&before, &after].map(|bytes| Sha256Hex::of(bytes).to_string());
    assert!(text.contains(&old));
    fs::write(sums, text.replace(&old, &new)).unwrap();
    fs::write(path, after).unwrap();
}

/// What a record says, without times and without what tells one machine or session from another.
pub fn essence(record: &TextRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap();
    value.as_object_mut().unwrap().remove("provenance").unwrap();
    for epoch in value["curve"].as_array_mut().unwrap() {
        epoch.as_object_mut().unwrap().remove("seconds").unwrap();
    }
    value
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// All files below `folder` with their contents, sorted.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// Say on stderr what the test harness would keep to itself if the test passes.
pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A process that does not outlive its test.
pub struct Running {
    child: Option<Child>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child: Some(child) }
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// End it as `kill -9` does; whether it was still running.
    pub fn kill(mut self) -> bool {
        let running = self.is_running();
        let child = self.child.as_mut().unwrap();
        child.kill().unwrap();
        running && child.wait().unwrap().code().is_none()
    }

    /// Send it `TERM` or `INT`.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status();
        assert!(sent.unwrap().success());
    }

    /// Wait for its end.
    pub fn output(&mut self) -> Output {
        self.child.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

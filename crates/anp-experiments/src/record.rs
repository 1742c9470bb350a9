//! Records: one JSON file a finished run. `docs/records.md` describes the schema.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::recipe::{Recipe, Scale};

/// Version of the schema this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema_version: u32,
    /// Table that the row belongs to, for example `table2`.
    pub table: String,
    /// Row, the stem of its file's name, for example `lstm_anp`.
    pub row: String,
    /// Scale of the run.
    pub scale: Scale,
    /// Seed of the run.
    pub seed: u64,
    /// The recipe, after `--set`.
    pub recipe: Recipe,
    /// SHA-256 of the recipe's canonical JSON, in hexadecimal.
    pub recipe_hash: String,
    /// What was built and where it ran.
    pub provenance: Provenance,
    /// Trainable parameters of the model.
    pub num_params: usize,
    /// What each penalty amounts to in the conventions of the literature.
    pub penalties: Vec<PenaltyEquivalent>,
    /// One entry an epoch, in order.
    pub curve: Vec<EpochRecord>,
    /// The numbers that go into the table.
    pub result: RunResult,
}

/// What was built and where it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the sources that the run was begun with, if they were a Git checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from that commit; `None` if it is not known.
    pub dirty: Option<bool>,
    /// Version of anp.
    pub anp_version: String,
    /// Version of Burn.
    pub burn_version: String,
    /// Device, as given to `--device`.
    pub device: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Hardware threads of the machine.
    pub threads: usize,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// When the run ended, RFC 3339, UTC.
    pub finished_at: String,
    /// Seconds of work, over all sessions of the run.
    pub wall_seconds: f64,
    /// Training tokens a second, over the time spent training.
    pub tokens_per_second: f64,
    /// How often the run was continued from a checkpoint.
    pub resumed: usize,
}

/// A penalty in other conventions (reference 4.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyEquivalent {
    /// Site of the penalty.
    pub site: String,
    /// Strength η, as in the recipe.
    pub eta: f64,
    /// λ of `mean nll + λ · mean over tokens of ‖h‖²`; `None` for other norms than the squared L2.
    pub lambda: Option<f64>,
    /// The α of AWD-LSTM's activation regularisation; `None` for other norms than the squared L2.
    pub awd_alpha: Option<f64>,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Mean training loss in nats a token, dropout on, without penalties.
    pub train_nll: f64,
    /// Validation loss in nats a token, dropout off, without penalties.
    pub valid_nll: f64,
    /// Validation perplexity.
    pub valid_perplexity: f64,
    /// Mean over the epoch's steps of each penalty's term, as added to the summed loss.
    pub penalties: Vec<f64>,
    /// Mean over the epoch's steps of the norm of all gradients, before the clip.
    pub grad_norm: f64,
    /// Share of the epoch's steps whose gradients were clipped.
    pub clipped: f64,
    /// Seconds spent on the epoch.
    pub seconds: f64,
}

/// The numbers that go into the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// Epoch whose parameters were kept: the best on validation.
    pub best_epoch: usize,
    /// Validation, cut into the training batch size, state carried, tail dropped.
    pub valid: Score,
    /// Validation as one stream (batch size 1).
    pub valid_single_stream: Score,
    /// Test as one stream (batch size 1).
    pub test: Score,
    /// Statistics of the last hidden activation on validation, dropout off.
    pub activation_valid: ActivationStatistics,
    /// The same on the training stream with dropout on, after dropout.
    pub activation_train: ActivationStatistics,
}

/// A loss over a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Mean negative log-likelihood, nats a token.
    pub nll: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

/// The readings of Table 6a's "L2 norm of the final output" (reference 4.6).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationStatistics {
    /// Mean over tokens of ‖h‖₂.
    pub norm: f64,
    /// Mean over tokens of ½‖h‖₂².
    pub half_squared_norm: f64,
    /// Mean over windows of the Frobenius norm of the whole `[B, T, H]` block, divided by T.
    pub frobenius_per_step: f64,
    /// Root of the mean square of an element.
    pub rms: f64,
    /// Share of elements with |h| > 0.9.
    pub saturated: f64,
}

/// A record and the file that it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub record: Record,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A number is infinite or not a number, which JSON cannot hold.
    #[error("the record for {} holds a number that is not finite", .path.display())]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
    },
    /// The file is not JSON, or not a record.
    #[error("{} is no record; restore it, or move it out of the folder and run again", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file was written by an older anp.
    #[error(
        "{} has schema version {found}, which is older than {SCHEMA_VERSION}, the one of this anp; move it out of the folder and run again, or use the anp that wrote it",
        .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
    /// The file was written by a newer anp.
    #[error(
        "{} has schema version {found}, which is newer than {SCHEMA_VERSION}, the one of this anp; update anp, or move the file out of the folder",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
    /// The recipe in the file is not the one that was run.
    #[error(
        "{} was changed after it was written: its recipe hashes to {found}, but its recipe_hash is {recorded}",
        .path.display()
    )]
    HashMismatch {
        /// The file.
        path: PathBuf,
        /// Hash of the recipe in the file.
        found: String,
        /// The hash that the file gives.
        recorded: String,
    },
    /// Some files of a folder are wrong; none was touched.
    #[error(
        "{} of the records in {} cannot be used (nothing was changed):{}",
        .bad.len(), .folder.display(), list(.bad)
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// One error a file, in the order of their names.
        bad: Vec<RecordError>,
    },
}

/// One line an error, its causes behind it.
fn list(errors: &[RecordError]) -> String {
    let line = |err: &RecordError| match std::error::Error::source(err) {
        Some(source) => format!("\n  {err}: {source}"),
        None => format!("\n  {err}"),
    };
    errors.iter().map(line).collect()
}

impl Record {
    /// Name of the record's file: `<table>-<row>-<scale>-s<seed>-<first 8 of the recipe hash>.json`.
    pub fn file_name(&self) -> String {
        let Self { table, row, scale, seed, recipe_hash, .. } = self;
        format!("{}.json", run_name(table, row, *scale, *seed, recipe_hash))
    }

    /// Write the record into `folder`, under its [`file_name`](Self::file_name).
    ///
    /// A record of the same run and recipe is replaced; any other file stays.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`] and [`RecordError::NotFinite`]; the folder is then as it was before.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, RecordError> {
        let path = folder.join(self.file_name());
        let mut json = serde_json::to_vec_pretty(self).expect("a record has string keys only");
        json.push(b'\n');
        // Numbers that are not finite become `null`, which no reader takes.
        if serde_json::from_slice::<Self>(&json).ok().as_ref() != Some(self) {
            return Err(RecordError::NotFinite { path });
        }
        match atomic::write(&path, |file| file.write_all(&json)) {
            Ok(()) => Ok(path),
            Err(source) => Err(RecordError::Write { path, source }),
        }
    }

    /// Read one record. The file's name does not matter.
    ///
    /// # Errors
    ///
    /// [`RecordError`], naming the file.
    pub fn load(path: &Path) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }

        let bytes =
            fs::read(path).map_err(|source| RecordError::Read { path: path.to_owned(), source })?;
        let corrupt = |source| RecordError::Corrupt { path: path.to_owned(), source };
        // Before the rest, because the rest may look different in another version.
        let Version { schema_version: found } = serde_json::from_slice(&bytes).map_err(corrupt)?;
        if found < SCHEMA_VERSION {
            return Err(RecordError::Older { path: path.to_owned(), found });
        }
        if found > SCHEMA_VERSION {
            return Err(RecordError::Newer { path: path.to_owned(), found });
        }
        let record: Self = serde_json::from_slice(&bytes).map_err(corrupt)?;
        let found = record.recipe.content_hash();
        if found != record.recipe_hash {
            return Err(RecordError::HashMismatch {
                path: path.to_owned(),
                found,
                recorded: record.recipe_hash,
            });
        }
        Ok(record)
    }
}

/// What a run is called: its record, and the folder of its checkpoints.
pub(crate) fn run_name(table: &str, row: &str, scale: Scale, seed: u64, hash: &str) -> String {
    let hash = hash.get(..8).unwrap_or(hash);
    format!("{table}-{row}-{scale}-s{seed}-{hash}")
}

/// Read all records of a folder (its `.json` files), in the order of their names.
///
/// A folder that is not there has no records. Folders below it and hidden files are left alone.
///
/// # Errors
///
/// [`RecordError::Read`] if the folder cannot be read; [`RecordError::Folder`] if any of its records
/// cannot, with all of them: a number is not left out of a mean because its file is damaged.
pub fn load_folder(folder: &Path) -> Result<Vec<StoredRecord>, RecordError> {
    let read = |source| RecordError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();

    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for path in paths {
        match Record::load(&path) {
            Ok(record) => records.push(StoredRecord { path, record }),
            Err(err) => bad.push(err),
        }
    }
    if bad.is_empty() { Ok(records) } else { Err(RecordError::Folder { folder: folder.to_owned(), bad }) }
}

/// A record with made-up numbers, as if `recipe` had been run.
#[cfg(test)]
pub(crate) fn test_record(table: &str, row: &str, scale: Scale, seed: u64, recipe: &Recipe) -> Record {
    let score = |perplexity: f64| Score { nll: perplexity.ln(), perplexity, tokens: 1000 };
    let activation = |norm: f64| ActivationStatistics {
        norm,
        half_squared_norm: norm * norm / 2.0,
        frobenius_per_step: norm,
        rms: norm / 4.0,
        saturated: 0.01,
    };
    let epoch = |epoch: usize| EpochRecord {
        epoch,
        learning_rate: 1.0,
        train_nll: 5.0,
        valid_nll: 4.9,
        valid_perplexity: 4.9_f64.exp(),
        penalties: recipe.penalties.iter().map(|_| 0.5).collect(),
        grad_norm: 7.0,
        clipped: 0.5,
        seconds: 12.5,
    };
    Record {
        schema_version: SCHEMA_VERSION,
        table: table.to_owned(),
        row: row.to_owned(),
        scale,
        seed,
        recipe: recipe.clone(),
        recipe_hash: recipe.content_hash(),
        provenance: Provenance {
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            dirty: Some(false),
            anp_version: "0.1.0".to_owned(),
            burn_version: "0.22.1".to_owned(),
            device: "flex".to_owned(),
            platform: "linux x86_64".to_owned(),
            threads: 2,
            started_at: "2025-01-01T00:00:00Z".to_owned(),
            finished_at: "2025-01-01T00:00:25Z".to_owned(),
            wall_seconds: 25.0,
            tokens_per_second: 4000.0,
            resumed: 0,
        },
        num_params: 1234,
        penalties: Vec::new(),
        curve: vec![epoch(1), epoch(2)],
        result: RunResult {
            best_epoch: 2,
            valid: score(80.0 + seed as f64),
            valid_single_stream: score(79.5 + seed as f64),
            test: score(76.0 + seed as f64),
            activation_valid: activation(4.0),
            activation_train: activation(6.0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::test_recipe;

    fn record(seed: u64) -> Record {
        test_record("table2", "lstm_anp", Scale::Demo, seed, &test_recipe())
    }

    #[test]
    fn a_record_reads_back_what_it_writes() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = record(7);
        record.result.test.nll = 0.1 + 0.2; // no short decimal form
        let path = record.save(folder.path()).unwrap();
        let hash = record.recipe_hash[..8].to_owned();
        assert_eq!(path, folder.path().join(format!("table2-lstm_anp-demo-s7-{hash}.json")));
        assert_eq!(Record::load(&path).unwrap(), record);
    }

    #[test]
    fn what_json_cannot_hold_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = record(1);
        record.curve[0].grad_norm = f64::INFINITY;
        assert!(matches!(record.save(folder.path()), Err(RecordError::NotFinite { .. })));
        assert_eq!(load_folder(folder.path()).unwrap(), []);
    }

    #[test]
    fn a_folder_is_read_in_order_and_only_its_records() {
        let folder = tempfile::tempdir().unwrap();
        for seed in [2, 1] {
            record(seed).save(folder.path()).unwrap();
        }
        fs::write(folder.path().join("README.md"), "not a record").unwrap();
        fs::write(folder.path().join(".half.json"), "{").unwrap();
        let seeds: Vec<_> =
            load_folder(folder.path()).unwrap().iter().map(|stored| stored.record.seed).collect();
        assert_eq!(seeds, [1, 2]);
        assert_eq!(load_folder(&folder.path().join("nothing")).unwrap(), []);
    }

    #[test]
    fn every_bad_record_is_named_and_none_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let good = record(1).save(folder.path()).unwrap();
        let text = fs::read_to_string(&good).unwrap();
        let version = format!("\"schema_version\": {SCHEMA_VERSION}");
        let bad = [
            ("cut.json", text[..text.len() / 2].to_owned(), "EOF while parsing"),
            ("key.json", text.replace("\"seed\"", "\"sead\""), "unknown field `sead`"),
            ("newer.json", text.replace(&version, "\"schema_version\": 99"), "update anp"),
            ("older.json", text.replace(&version, "\"schema_version\": 0"), "which is older than"),
            ("edited.json", text.replace("\"eta\": 0.0001", "\"eta\": 0.1"), "was changed after"),
            ("empty.json", String::new(), "line 1 column 0"),
        ];
        for (name, text, _) in &bad {
            fs::write(folder.path().join(name), text).unwrap();
        }

        let message = load_folder(folder.path()).unwrap_err().to_string();
        assert!(message.starts_with("6 of the records in "), "{message}");
        for (name, text, reason) in &bad {
            let line = message.lines().find(|line| line.contains(name)).unwrap();
            assert!(line.contains(reason), "{line}");
            assert_eq!(&fs::read_to_string(folder.path().join(name)).unwrap(), text);
        }
        let cut = message.lines().find(|line| line.contains("cut.json")).unwrap();
        assert!(cut.contains("line ") && cut.contains("column "), "{cut}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let message = record(1).save(&file).unwrap_err().to_string();
        assert!(message.contains("file"), "{message}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
    }
}

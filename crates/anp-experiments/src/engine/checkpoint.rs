//! Checkpoints: one folder each, which is complete or absent.
//!
//! ```text
//! <run>/checkpoints/e00003-w000000412/  written under another name, synced, renamed
//!   model.bpk        parameters and the task's other tensors
//!   optimizer.bpk    state of a Burn optimizer, if it has any
//!   trainer.json     everything else
//!   SHA256SUMS       checksums of the others, as `sha256sum` writes and checks them
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::{ModuleRecord, RecordError};
use serde::{Deserialize, Serialize};

use super::error::CheckpointError;
use super::position::RunState;
use super::task::{Snapshot, Task};
use crate::atomic::{sync_file, sync_folder, temporary_folder};
use crate::data::Sha256Hex;

/// Version of the layout this build writes and reads.
const FORMAT_VERSION: u32 = 5;
/// Number of checkpoints kept per run: the newest, and one to fall back to by hand.
const KEEP: usize = 2;

const MODEL_FILE: &str = "model.bpk";
const OPTIMIZER_FILE: &str = "optimizer.bpk";
const TRAINER_FILE: &str = "trainer.json";
const SUMS_FILE: &str = "SHA256SUMS";

/// Prefix of folders that are being written or removed.
const SCRATCH: &str = ".anp-";

/// `trainer.json`.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct Manifest<T: Task> {
    format_version: u32,
    /// [`Task::KIND`].
    kind: String,
    /// Whether there is an `optimizer.bpk`.
    has_optimizer: bool,
    recipe: T::Recipe,
    run: RunState<T::Epoch>,
    task: T::State,
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    path: PathBuf,
    /// Whether all checkpoints at the end of an epoch are kept.
    keeps_epochs: bool,
}

impl CheckpointFolder {
    /// The checkpoints under `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join("checkpoints"), keeps_epochs: false }
    }

    /// Keep every checkpoint at the end of an epoch, besides the newest.
    #[must_use]
    pub fn keeping_epochs(self, keeps_epochs: bool) -> Self {
        Self { keeps_epochs, ..self }
    }

    /// The checkpoints at the end of an epoch that are there, oldest first.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`] if the folder is there but cannot be listed.
    pub fn epoch_ends(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        Ok(self.list()?.into_iter().filter(|path| is_epoch_end(path)).collect())
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`] if the folder is there but cannot be listed.
    pub fn newest(&self) -> Result<Option<PathBuf>, CheckpointError> {
        Ok(self.list()?.pop())
    }

    /// All checkpoints, oldest first; their names sort by age.
    fn list(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let read = |source| CheckpointError::Read { path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(read(err)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(read)?;
            if is_checkpoint_name(&entry.file_name().to_string_lossy()) {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Remove what a killed process left half written or half removed.
    ///
    /// The caller must hold the lock of the run.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Write`].
    pub fn clean(&self) -> Result<(), CheckpointError> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                fs::remove_dir_all(entry.path())
                    .map_err(|source| CheckpointError::Write { path: entry.path(), source })?;
            }
        }
        Ok(())
    }

    /// Remove all checkpoints, so that the run starts again.
    ///
    /// The caller must hold the lock of the run.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Read`] or [`CheckpointError::Write`].
    pub fn clear(&self) -> Result<(), CheckpointError> {
        for path in self.list()? {
            self.remove(&path).map_err(|source| CheckpointError::Write { path, source })?;
        }
        Ok(())
    }

    /// Write a checkpoint and remove those that are no longer needed.
    ///
    /// An existing checkpoint at the same position is kept: a run always reaches a position with
    /// the same content.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Write`]; earlier checkpoints are then untouched.
    pub(super) fn save<T: Task>(
        &self,
        recipe: &T::Recipe,
        run: &RunState<T::Epoch>,
        snapshot: Snapshot<T>,
    ) -> Result<PathBuf, CheckpointError> {
        let path = self.path.join(run.position.checkpoint_name());
        let write = |source| CheckpointError::Write { path: path.clone(), source };
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(&self.path).map_err(write)?;
        let scratch = temporary_folder(&self.path, &format!("{SCRATCH}saving-")).map_err(write)?;
        let write_tensors = |source: RecordError| write(io::Error::other(source));
        let mut names = vec![MODEL_FILE, TRAINER_FILE];
        let model_path = scratch.path().join(MODEL_FILE);
        snapshot.tensors.into_record().save(&model_path).map_err(write_tensors)?;
        if !snapshot.optimizer.is_empty() {
            names.push(OPTIMIZER_FILE);
            let optimizer_path = scratch.path().join(OPTIMIZER_FILE);
            snapshot.optimizer.save(&optimizer_path).map_err(write_tensors)?;
        }
        let manifest = Manifest::<T> {
            format_version: FORMAT_VERSION,
            kind: T::KIND.to_owned(),
            has_optimizer: names.contains(&OPTIMIZER_FILE),
            recipe: recipe.clone(),
            run: run.clone(),
            task: snapshot.state,
        };
        let text = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        fs::write(scratch.path().join(TRAINER_FILE), text).map_err(write)?;

        let mut sums = String::new();
        for name in names {
            let path = scratch.path().join(name);
            let sha256 = sync_file(&path).and_then(|()| hash(&path)).map_err(write)?;
            sums += &format!("{sha256}  {name}\n");
        }
        let sums_path = scratch.path().join(SUMS_FILE);
        fs::write(&sums_path, sums).map_err(write)?;
        sync_file(&sums_path).map_err(write)?;
        sync_folder(scratch.path()).map_err(write)?;

        fs::rename(scratch.path(), &path).map_err(write)?;
        // The folder has its final name now, so there is nothing left to remove.
        let _ = scratch.keep();
        sync_folder(&self.path).map_err(write)?;

        let mut all = self.list()?;
        all.truncate(all.len().saturating_sub(KEEP));
        for old in all.iter().filter(|path| !(self.keeps_epochs && is_epoch_end(path))) {
            self.remove(old).map_err(write)?;
        }
        Ok(path)
    }

    /// Remove a checkpoint so that a partial one is never seen under its name.
    fn remove(&self, checkpoint: &Path) -> io::Result<()> {
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let doomed = self.path.join(format!("{SCRATCH}removing-{name}"));
        fs::rename(checkpoint, &doomed)?;
        fs::remove_dir_all(&doomed)
    }
}

/// A verified checkpoint on disk, of any kind of run.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    /// `trainer.json`.
    manifest: Vec<u8>,
    kind: String,
    has_optimizer: bool,
}

impl Checkpoint {
    /// Open a checkpoint and verify its files. `path` is its folder, or the folder of a run, whose
    /// newest checkpoint is taken.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`], [`Read`](CheckpointError::Read),
    /// [`Damaged`](CheckpointError::Damaged) or [`Version`](CheckpointError::Version).
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let files = [MODEL_FILE, TRAINER_FILE, SUMS_FILE];
        let path = match CheckpointFolder::new(path).newest()? {
            Some(newest) => newest,
            None if files.iter().any(|name| path.join(name).exists()) => path.to_owned(),
            None => return Err(CheckpointError::Missing { path: path.to_owned() }),
        };
        let damaged = |name: &str, reason: String| damaged(&path, name, reason);
        let unreadable = |name: &str, source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => damaged(name, "it is missing".to_owned()),
            _ => CheckpointError::Read { path: path.join(name), source },
        };
        let read = |name| fs::read(path.join(name)).map_err(|err| unreadable(name, err));

        let manifest = read(TRAINER_FILE)?;
        let header = serde_json::from_slice::<Header>(&manifest);
        let other_version = || {
            let found = header.as_ref().ok()?.format_version;
            let (path, readable) = (path.clone(), FORMAT_VERSION);
            (found != readable).then_some(CheckpointError::Version { path, found, readable })
        };
        // The first version kept its checksums elsewhere.
        let sums = read(SUMS_FILE).map_err(|err| other_version().unwrap_or(err))?;
        let sums = String::from_utf8_lossy(&sums);
        let listed =
            |name: &str| sums.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
        let check = |name: &str, found: Sha256Hex| match listed(name) {
            Some(expected) if expected == found.as_str() => Ok(()),
            Some(expected) => {
                let reason = format!("its SHA-256 is {found}, but {SUMS_FILE} says {expected}");
                Err(damaged(name, reason))
            }
            None => Err(damaged(SUMS_FILE, format!("it does not list {name}"))),
        };
        check(TRAINER_FILE, Sha256Hex::of(&manifest))?;
        if let Some(err) = other_version() {
            return Err(err);
        }
        let Header { kind, has_optimizer, .. } =
            header.map_err(|err| damaged(TRAINER_FILE, err.to_string()))?;
        for name in [MODEL_FILE].into_iter().chain(has_optimizer.then_some(OPTIMIZER_FILE)) {
            check(name, hash(&path.join(name)).map_err(|err| unreadable(name, err))?)?;
        }
        Ok(Self { path, manifest, kind, has_optimizer })
    }

    /// [`Task::KIND`] of the run.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Read it as a checkpoint of kind `T`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::OtherKind`], or [`CheckpointError::Damaged`] if its content does not fit.
    pub fn of<T: Task>(self) -> Result<StoredCheckpoint<T>, CheckpointError> {
        let Self { path, manifest, kind, has_optimizer } = self;
        if kind != T::KIND {
            return Err(CheckpointError::OtherKind { path, found: kind, expected: T::KIND });
        }
        let Manifest::<T> { recipe, run, task: state, .. } = serde_json::from_slice(&manifest)
            .map_err(|err| damaged(&path, TRAINER_FILE, err.to_string()))?;
        Ok(StoredCheckpoint { path, recipe, run, state, has_optimizer })
    }
}

/// A verified checkpoint of a run of kind `T`.
pub struct StoredCheckpoint<T: Task> {
    /// Folder of the checkpoint.
    pub path: PathBuf,
    /// Recipe of the run.
    pub recipe: T::Recipe,
    /// Where the run is.
    pub run: RunState<T::Epoch>,
    /// The task's own state.
    pub state: T::State,
    has_optimizer: bool,
}

impl<T: Task> StoredCheckpoint<T> {
    /// [`Checkpoint::open`], for this kind of run.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::open`] and [`Checkpoint::of`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Checkpoint::open(path)?.of()
    }

    /// Load the tensors into `template`, on its devices.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Damaged`] if the stored tensors do not fit `template`.
    pub fn load(self, template: T::Tensors) -> Result<Snapshot<T>, CheckpointError> {
        let path = &self.path;
        let damaged = |name| move |err: RecordError| damaged(path, name, err.to_string());
        let tensors = ModuleRecord::load(path.join(MODEL_FILE))
            .and_then(|record| template.try_load_record(record))
            .map_err(damaged(MODEL_FILE))?;
        let optimizer = if self.has_optimizer {
            OptimizerRecord::load(path.join(OPTIMIZER_FILE)).map_err(damaged(OPTIMIZER_FILE))?
        } else {
            OptimizerRecord::default()
        };
        Ok(Snapshot { tensors, optimizer, state: self.state })
    }
}

impl<T: Task> fmt::Debug for StoredCheckpoint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCheckpoint").field("path", &self.path).finish_non_exhaustive()
    }
}

fn damaged(folder: &Path, name: &str, reason: String) -> CheckpointError {
    CheckpointError::Damaged { path: folder.join(name), folder: folder.to_owned(), reason }
}

/// The part of `trainer.json` that says how to read the rest.
#[derive(Deserialize)]
struct Header {
    format_version: u32,
    /// Missing in earlier versions.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    has_optimizer: bool,
}

/// Whether a name looks like `e00003-w000000412`.
fn is_checkpoint_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix('e')
        .and_then(|rest| rest.split_once("-w"))
        .is_some_and(|(epochs, window)| is_number(epochs) && is_number(window))
}

/// Whether no step of the next epoch is done. The start of a run is no end of an epoch.
fn is_epoch_end(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = name.strip_prefix('e').and_then(|rest| rest.split_once("-w"));
    numbers.is_some_and(|(epochs, done)| {
        done.bytes().all(|digit| digit == b'0') && epochs.bytes().any(|digit| digit != b'0')
    })
}

fn hash(path: &Path) -> io::Result<Sha256Hex> {
    Ok(Sha256Hex::of_reader(File::open(path)?)?.0)
}

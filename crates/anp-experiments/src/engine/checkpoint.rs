//! Checkpoints: a folder each, that is whole or not there.
//!
//! ```text
//! <run>/checkpoints/e00003-w000000412/ made under another name, synced, then renamed
//!   model.bpk                         parameters, best parameters, averages, carried state
//!   optimizer.bpk                     what the optimiser remembers, if it remembers anything
//!   trainer.json                      everything else
//!   SHA256SUMS                        checksums of the others, as `sha256sum` writes and checks them
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anp_models::{LayerState, LmState, PointerState, RecurrentLm};
use burn::module::{Module, Param, ParamId};
use burn::optim::OptimizerRecord;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Int, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::atomic::{sync_file, sync_folder, temporary_folder};
use crate::data::Sha256Hex;
use crate::engine::position::TrainerState;
use crate::recipe::TextRecipe;

/// Version of the layout this build writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 4;
/// Checkpoints of a run that are kept: the newest, and one to fall back to by hand.
const KEEP: usize = 2;

const MODEL_FILE: &str = "model.bpk";
const OPTIMIZER_FILE: &str = "optimizer.bpk";
const TRAINER_FILE: &str = "trainer.json";
const SUMS_FILE: &str = "SHA256SUMS";

/// Beginning of the names of folders that are not whole yet, or no longer.
const SCRATCH: &str = ".anp-";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error(
        "cannot write checkpoint {}; make room or make the folder writable, then run the same command again: \
         it goes on from the checkpoint before, if there is one", .path.display()
    )]
    Write {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Burn could not write the tensors.
    #[error(
        "cannot write checkpoint {}; make room or make the folder writable, then run the same command again: \
         it goes on from the checkpoint before, if there is one", .path.display()
    )]
    WriteTensors {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What Burn says.
        source: RecordError,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is no checkpoint in a folder.
    #[error("{} holds no checkpoint: it should be the folder of a run, or one in its `checkpoints` folder", .path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error(
        "checkpoint file {} is damaged: {reason}; remove the folder {} to go on from the checkpoint \
         before it, or the whole run folder to start again", .path.display(), .folder.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The checkpoint it belongs to.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another build wrote it.
    #[error("checkpoint {} has format {found}, this build reads {FORMAT_VERSION}; finish it with the build that began it, or remove the run folder", .path.display())]
    Version {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

/// All that a run needs to go on as if it had never stopped.
#[derive(Debug)]
pub struct Snapshot {
    /// Parameters after the last step.
    pub model: RecurrentLm,
    /// Parameters with the best validation loss.
    pub best: Option<RecurrentLm>,
    /// Averages of the parameters, once there are some.
    pub average: Option<RecurrentLm>,
    /// State to start the next window with.
    pub state: Option<LmState>,
    /// What the optimiser remembers.
    pub optimizer: OptimizerRecord,
    /// Schedule, position, sums and curve.
    pub trainer: TrainerState,
}

/// `trainer.json` of a language model.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    format_version: u32,
    recipe: TextRecipe,
    vocab_size: usize,
    has_best: bool,
    #[serde(default)]
    has_average: bool,
    has_optimizer: bool,
    state_layers: usize,
    trainer: TrainerState,
}

/// The tensors of a checkpoint as one module, so that Burn writes them as one file.
#[derive(Module, Debug)]
struct SavedTensors {
    model: RecurrentLm,
    best: Option<RecurrentLm>,
    average: Option<RecurrentLm>,
    hidden: Vec<Option<Param<Tensor<2>>>>,
    cell: Vec<Option<Param<Tensor<2>>>>,
    pointer_states: Option<Param<Tensor<3>>>,
    pointer_words: Option<Param<Tensor<2, Int>>>,
}

impl SavedTensors {
    fn new(
        model: RecurrentLm,
        best: Option<RecurrentLm>,
        average: Option<RecurrentLm>,
        state: Option<LmState>,
    ) -> Self {
        let LmState { layers, pointer } =
            state.unwrap_or(LmState { layers: Vec::new(), pointer: None });
        let saved = |state: Option<Tensor<2>>| state.map(Param::from_tensor);
        let (hidden, cell) =
            layers.into_iter().map(|layer| (saved(layer.hidden), saved(layer.cell))).unzip();
        let (pointer_states, pointer_words) = pointer
            .map(|PointerState { states, words }| {
                let words = Param::initialized(ParamId::new(), words);
                (Param::from_tensor(states), words)
            })
            .unzip();
        Self { model, best, average, hidden, cell, pointer_states, pointer_words }
    }
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    path: PathBuf,
}

impl CheckpointFolder {
    /// The checkpoints under `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join("checkpoints") }
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

    /// Remove what a process that was killed left half written or half removed.
    ///
    /// Only for who holds the lock of the run.
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

    /// Remove all checkpoints, so that the run begins again.
    ///
    /// Only for who holds the lock of the run.
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
    /// Where there is a checkpoint of the same place, it stays as it is: a run comes to the same place with the
    /// same content.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Write`], [`CheckpointError::WriteTensors`]; earlier checkpoints are untouched then.
    pub fn save(
        &self,
        snapshot: Snapshot,
        recipe: &TextRecipe,
        vocab_size: usize,
    ) -> Result<PathBuf, CheckpointError> {
        let Snapshot { model, best, average, state, optimizer, trainer } = snapshot;
        let state_layers = state.as_ref().map_or(0, |state| state.layers.len());
        let tensors = SavedTensors::new(model, best, average, state);
        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            recipe: recipe.clone(),
            vocab_size,
            has_best: tensors.best.is_some(),
            has_average: tensors.average.is_some(),
            has_optimizer: !optimizer.is_empty(),
            state_layers,
            trainer,
        };
        let optimizer = manifest.has_optimizer.then_some(optimizer);
        self.save_parts(&manifest.trainer.checkpoint_name(), tensors, optimizer, &manifest)
    }

    /// Write the parts of a checkpoint under `name`; see [`save`](Self::save).
    pub(crate) fn save_parts(
        &self,
        name: &str,
        tensors: impl Module,
        optimizer: Option<OptimizerRecord>,
        manifest: &impl Serialize,
    ) -> Result<PathBuf, CheckpointError> {
        let path = self.path.join(name);
        let write = |source| CheckpointError::Write { path: path.clone(), source };
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(&self.path).map_err(write)?;
        let scratch = temporary_folder(&self.path, &format!("{SCRATCH}saving-")).map_err(write)?;
        let tensors_error = |path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::WriteTensors { path, source }
        };
        let mut names = vec![MODEL_FILE, TRAINER_FILE];
        let model_path = scratch.path().join(MODEL_FILE);
        tensors.into_record().save(&model_path).map_err(tensors_error(&path))?;
        if let Some(optimizer) = optimizer {
            names.push(OPTIMIZER_FILE);
            let optimizer_path = scratch.path().join(OPTIMIZER_FILE);
            optimizer.save(&optimizer_path).map_err(tensors_error(&path))?;
        }
        let text = serde_json::to_vec(manifest).expect("a manifest is plain data");
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
        // Its folder has another name now; there is nothing left to remove.
        let _ = scratch.keep();
        sync_folder(&self.path).map_err(write)?;

        let mut all = self.list()?;
        all.truncate(all.len().saturating_sub(KEEP));
        for old in all {
            self.remove(&old).map_err(write)?;
        }
        Ok(path)
    }

    /// Remove a checkpoint so that no part of it is ever seen under its name.
    fn remove(&self, checkpoint: &Path) -> io::Result<()> {
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let doomed = self.path.join(format!("{SCRATCH}removing-{name}"));
        fs::rename(checkpoint, &doomed)?;
        fs::remove_dir_all(&doomed)
    }
}

/// A checkpoint on disk whose files are known to be whole.
#[derive(Debug)]
pub struct StoredCheckpoint<M = Manifest> {
    path: PathBuf,
    manifest: M,
}

impl<M: DeserializeOwned> StoredCheckpoint<M> {
    /// Open a checkpoint: the folder of one, or of a run, whose newest is taken.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`], [`Read`](CheckpointError::Read), [`Damaged`](CheckpointError::Damaged) or
    /// [`Version`](CheckpointError::Version).
    pub fn open_of(path: &Path) -> Result<Self, CheckpointError> {
        let files = [MODEL_FILE, TRAINER_FILE, SUMS_FILE];
        let path = match CheckpointFolder::new(path).newest()? {
            Some(newest) => newest,
            None if files.iter().any(|name| path.join(name).exists()) => path.to_owned(),
            None => return Err(CheckpointError::Missing { path: path.to_owned() }),
        };
        let damaged = |name: &str, reason: String| CheckpointError::Damaged {
            path: path.join(name),
            folder: path.clone(),
            reason,
        };
        let unreadable = |name: &str, source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => damaged(name, "it is missing".to_owned()),
            _ => CheckpointError::Read { path: path.join(name), source },
        };
        let read = |name| fs::read(path.join(name)).map_err(|err| unreadable(name, err));

        let text = read(TRAINER_FILE)?;
        let other_version = || {
            let found = format_version(&text).filter(|&found| found != FORMAT_VERSION)?;
            Some(CheckpointError::Version { path: path.clone(), found })
        };
        // The first version had its checksums elsewhere.
        let sums = read(SUMS_FILE).map_err(|err| other_version().unwrap_or(err))?;
        let sums = String::from_utf8_lossy(&sums);
        let check = |name: &str, found: Sha256Hex| {
            let expected =
                sums.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix("  "));
            match expected {
                Some(expected) if expected == found.as_str() => Ok(()),
                Some(expected) => {
                    let reason = format!("its SHA-256 is {found}, but {SUMS_FILE} says {expected}");
                    Err(damaged(name, reason))
                }
                None => Err(damaged(SUMS_FILE, format!("it does not list {name}"))),
            }
        };
        check(TRAINER_FILE, Sha256Hex::of(&text))?;
        if let Some(err) = other_version() {
            return Err(err);
        }
        let is_listed = |name: &str| sums.lines().any(|line| line.ends_with(&format!("  {name}")));
        for name in [MODEL_FILE, OPTIMIZER_FILE] {
            if name == OPTIMIZER_FILE && !is_listed(name) {
                continue;
            }
            check(name, hash(&path.join(name)).map_err(|err| unreadable(name, err))?)?;
        }
        // After the files are known to be whole: what does not fit is of another kind of run.
        let manifest =
            serde_json::from_slice(&text).map_err(|err| damaged(TRAINER_FILE, err.to_string()))?;
        Ok(Self { path, manifest })
    }

    /// Folder of the checkpoint.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `trainer.json`.
    pub(crate) fn manifest(&self) -> &M {
        &self.manifest
    }

    /// Load the tensors into a module like `template`.
    pub(crate) fn load_tensors<T: Module>(&self, template: T) -> Result<T, CheckpointError> {
        let path = self.path.join(MODEL_FILE);
        ModuleRecord::load(&path)
            .and_then(|record| template.try_load_record(record))
            .map_err(|err| self.damaged(&path, err))
    }

    fn damaged(&self, path: &Path, err: RecordError) -> CheckpointError {
        CheckpointError::Damaged {
            path: path.to_owned(),
            folder: self.path.clone(),
            reason: err.to_string(),
        }
    }
}

impl StoredCheckpoint {
    /// Open a checkpoint of a language model; see [`open_of`](StoredCheckpoint::open_of).
    ///
    /// # Errors
    ///
    /// As [`open_of`](StoredCheckpoint::open_of).
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_of(path)
    }

    /// Recipe of the run.
    pub fn recipe(&self) -> &TextRecipe {
        &self.manifest.recipe
    }

    /// Words of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.manifest.vocab_size
    }

    /// Schedule, position, sums and curve.
    pub fn trainer(&self) -> &TrainerState {
        &self.manifest.trainer
    }

    /// Load everything into models like `model`, on its device.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Damaged`] if the tensors are not those of such a model.
    pub fn load(self, model: &RecurrentLm) -> Result<Snapshot, CheckpointError> {
        let state = (self.manifest.state_layers > 0)
            .then(|| model.zero_state(self.manifest.recipe.data.batch_size));
        let best = self.manifest.has_best.then(|| model.clone());
        let average = self.manifest.has_average.then(|| model.clone());
        let template = SavedTensors::new(model.clone(), best, average, state);

        let tensors = self.load_tensors(template)?;
        let optimizer = if self.manifest.has_optimizer {
            let path = self.path.join(OPTIMIZER_FILE);
            OptimizerRecord::load(&path).map_err(|err| self.damaged(&path, err))?
        } else {
            OptimizerRecord::default()
        };
        let layers: Vec<_> = tensors
            .hidden
            .into_iter()
            .zip(tensors.cell)
            .map(|(hidden, cell)| LayerState {
                hidden: hidden.map(|hidden| hidden.val().detach()),
                cell: cell.map(|cell| cell.val().detach()),
            })
            .collect();
        let pointer = tensors.pointer_states.zip(tensors.pointer_words);
        let pointer = pointer.map(|(states, words)| PointerState {
            states: states.val().detach(),
            words: words.val(),
        });
        Ok(Snapshot {
            model: tensors.model,
            best: tensors.best,
            average: tensors.average,
            state: (!layers.is_empty()).then_some(LmState { layers, pointer }),
            optimizer,
            trainer: self.manifest.trainer,
        })
    }
}

/// Version of the layout that a `trainer.json` is of.
fn format_version(text: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    serde_json::from_slice(text).ok().map(|Version { format_version }| format_version)
}

/// Whether a name is like `e00003-w000000412`.
fn is_checkpoint_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix('e')
        .and_then(|rest| rest.split_once("-w"))
        .is_some_and(|(epochs, window)| is_number(epochs) && is_number(window))
}

fn hash(path: &Path) -> io::Result<Sha256Hex> {
    Ok(Sha256Hex::of_reader(File::open(path)?)?.0)
}

//! Checkpoints: a folder each, that is whole or not there.
//!
//! ```text
//! <run>/checkpoints/e0003-w00412/     made under another name, synced, then renamed
//!   model.bpk                         parameters, best parameters, carried state
//!   optimizer.bpk                     what the optimiser remembers, if it remembers anything
//!   trainer.json                      everything else, with the SHA-256 of the other two
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anp_models::{LmState, LstmState, RecurrentLm};
use burn::module::{Module, Param};
use burn::optim::OptimizerRecord;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::data::Sha256Hex;
use crate::recipe::Recipe;
use crate::train::TrainerState;

/// Version of the layout this build writes and reads.
const FORMAT_VERSION: u32 = 1;
/// Checkpoints of a run that are kept: the newest, and one to fall back to by hand.
const KEEP: usize = 2;

const MODEL_FILE: &str = "model.bpk";
const OPTIMIZER_FILE: &str = "optimizer.bpk";
const TRAINER_FILE: &str = "trainer.json";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refused.
    #[error("cannot write checkpoint {}", .path.display())]
    Write {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Burn could not write the tensors.
    #[error("cannot write checkpoint {}", .path.display())]
    WriteTensors {
        /// The file.
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
    /// State to start the next window with.
    pub state: Option<LmState>,
    /// What the optimiser remembers.
    pub optimizer: OptimizerRecord,
    /// Schedule, position, sums and curve.
    pub trainer: TrainerState,
}

/// `trainer.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format_version: u32,
    recipe: Recipe,
    vocab_size: usize,
    has_best: bool,
    state_layers: usize,
    model_sha256: Sha256Hex,
    optimizer_sha256: Option<Sha256Hex>,
    trainer: TrainerState,
}

/// The tensors of a checkpoint as one module, so that Burn writes them as one file.
#[derive(Module, Debug)]
struct SavedTensors {
    model: RecurrentLm,
    best: Option<RecurrentLm>,
    hidden: Vec<Param<Tensor<2>>>,
    cell: Vec<Param<Tensor<2>>>,
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
            if entry.file_name().to_string_lossy().starts_with('e') {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Write a checkpoint and remove those that are no longer needed.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Write`], [`CheckpointError::WriteTensors`]; earlier checkpoints are untouched then.
    pub fn save(
        &self,
        snapshot: Snapshot,
        recipe: &Recipe,
        vocab_size: usize,
    ) -> Result<PathBuf, CheckpointError> {
        let Snapshot { model, best, state, optimizer, trainer } = snapshot;
        let path = self.path.join(trainer.checkpoint_name());
        let write = |source| CheckpointError::Write { path: path.clone(), source };

        fs::create_dir_all(&self.path).map_err(write)?;
        let scratch = tempfile::Builder::new()
            .prefix(".saving-")
            .tempdir_in(&self.path)
            .map_err(write)?;

        let layers = state.map_or_else(Vec::new, |state| state.layers);
        let tensors = SavedTensors {
            model,
            best,
            hidden: layers.iter().map(|layer| Param::from_tensor(layer.hidden.clone())).collect(),
            cell: layers.iter().map(|layer| Param::from_tensor(layer.cell.clone())).collect(),
        };
        let has_best = tensors.best.is_some();
        let model_path = scratch.path().join(MODEL_FILE);
        tensors
            .into_record()
            .save(&model_path)
            .map_err(|source| CheckpointError::WriteTensors { path: model_path.clone(), source })?;
        let model_sha256 = sync_and_hash(&model_path).map_err(write)?;

        let optimizer_sha256 = if optimizer.is_empty() {
            None
        } else {
            let optimizer_path = scratch.path().join(OPTIMIZER_FILE);
            optimizer.save(&optimizer_path).map_err(|source| CheckpointError::WriteTensors {
                path: optimizer_path.clone(),
                source,
            })?;
            Some(sync_and_hash(&optimizer_path).map_err(write)?)
        };

        let manifest = Manifest {
            format_version: FORMAT_VERSION,
            recipe: recipe.clone(),
            vocab_size,
            has_best,
            state_layers: layers.len(),
            model_sha256,
            optimizer_sha256,
            trainer,
        };
        let text = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        let trainer_path = scratch.path().join(TRAINER_FILE);
        fs::write(&trainer_path, text).map_err(write)?;
        File::open(&trainer_path).and_then(|file| file.sync_all()).map_err(write)?;

        // A run that was continued may come past a place where it saved before.
        if path.exists() {
            fs::remove_dir_all(&path).map_err(write)?;
        }
        let scratch = scratch.keep();
        fs::rename(&scratch, &path).map_err(write)?;
        #[cfg(unix)]
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(write)?;

        let mut all = self.list()?;
        all.truncate(all.len().saturating_sub(KEEP));
        for old in all {
            fs::remove_dir_all(&old).map_err(write)?;
        }
        Ok(path)
    }
}

/// A checkpoint on disk whose files are known to be whole.
#[derive(Debug)]
pub struct StoredCheckpoint {
    path: PathBuf,
    manifest: Manifest,
}

impl StoredCheckpoint {
    /// Open a checkpoint: the folder of one, or of a run, whose newest is taken.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Missing`], [`Read`](CheckpointError::Read), [`Damaged`](CheckpointError::Damaged) or
    /// [`Version`](CheckpointError::Version).
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = if path.join(TRAINER_FILE).exists() {
            path.to_owned()
        } else {
            CheckpointFolder::new(path)
                .newest()?
                .ok_or_else(|| CheckpointError::Missing { path: path.to_owned() })?
        };
        let trainer_path = path.join(TRAINER_FILE);
        let text = fs::read(&trainer_path)
            .map_err(|source| CheckpointError::Read { path: trainer_path.clone(), source })?;
        let damaged = |file: PathBuf, reason: String| CheckpointError::Damaged {
            path: file,
            folder: path.clone(),
            reason,
        };

        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let Version { format_version } = serde_json::from_slice(&text)
            .map_err(|err| damaged(trainer_path.clone(), err.to_string()))?;
        if format_version != FORMAT_VERSION {
            return Err(CheckpointError::Version { path, found: format_version });
        }
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|err| damaged(trainer_path.clone(), err.to_string()))?;

        let files = [
            (MODEL_FILE, Some(&manifest.model_sha256)),
            (OPTIMIZER_FILE, manifest.optimizer_sha256.as_ref()),
        ];
        for (name, expected) in files {
            let Some(expected) = expected else { continue };
            let file = path.join(name);
            let found = hash(&file)
                .map_err(|source| CheckpointError::Read { path: file.clone(), source })?;
            if found != *expected {
                let reason = format!("its SHA-256 is {found}, but {expected} was written");
                return Err(damaged(file, reason));
            }
        }
        Ok(Self { path, manifest })
    }

    /// Folder of the checkpoint.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Recipe of the run.
    pub fn recipe(&self) -> &Recipe {
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
        let template = |batch_size: usize| {
            let layers = model.zero_state(batch_size).layers;
            SavedTensors {
                model: model.clone(),
                best: self.manifest.has_best.then(|| model.clone()),
                hidden: layers.iter().map(|layer| Param::from_tensor(layer.hidden.clone())).collect(),
                cell: layers.iter().map(|layer| Param::from_tensor(layer.cell.clone())).collect(),
            }
        };
        let mut template = template(self.manifest.recipe.data.batch_size);
        template.hidden.truncate(self.manifest.state_layers);
        template.cell.truncate(self.manifest.state_layers);

        let model_path = self.path.join(MODEL_FILE);
        let damaged = |path: &Path, err: RecordError| CheckpointError::Damaged {
            path: path.to_owned(),
            folder: self.path.clone(),
            reason: err.to_string(),
        };
        let tensors = ModuleRecord::load(&model_path)
            .and_then(|record| template.try_load_record(record))
            .map_err(|err| damaged(&model_path, err))?;
        let optimizer = match self.manifest.optimizer_sha256 {
            None => OptimizerRecord::default(),
            Some(_) => {
                let path = self.path.join(OPTIMIZER_FILE);
                OptimizerRecord::load(&path).map_err(|err| damaged(&path, err))?
            }
        };
        let layers: Vec<_> = tensors
            .hidden
            .into_iter()
            .zip(tensors.cell)
            .map(|(hidden, cell)| LstmState { hidden: hidden.val().detach(), cell: cell.val().detach() })
            .collect();
        Ok(Snapshot {
            model: tensors.model,
            best: tensors.best,
            state: (!layers.is_empty()).then_some(LmState { layers }),
            optimizer,
            trainer: self.manifest.trainer,
        })
    }
}

fn sync_and_hash(path: &Path) -> io::Result<Sha256Hex> {
    File::open(path)?.sync_all()?;
    hash(path)
}

fn hash(path: &Path) -> io::Result<Sha256Hex> {
    Ok(Sha256Hex::of_reader(File::open(path)?)?.0)
}

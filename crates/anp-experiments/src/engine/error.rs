use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::data::DataError;
use crate::recipe::ranges::InvalidRecipe;

/// Why a run could not start or finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe is invalid.
    #[error("the recipe cannot be run")]
    Recipe(#[from] InvalidRecipe),
    /// The data is missing or wrong.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A kind of run rejects its recipe, data or devices.
    #[error(transparent)]
    Task(Box<dyn Error + Send + Sync>),
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The folder of the run cannot be used.
    #[error("cannot write to the run folder {}; choose another with --runs", .path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process is working on the run.
    #[error(
        "another process is working on this run; wait for it, or stop it ({} is locked)",
        .path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The checkpoint belongs to another recipe or seed.
    #[error(
        "the run folder {} belongs to another recipe or seed; choose another with --runs, or \
         remove it to start again", .path.display()
    )]
    OtherRun {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint belongs to another device.
    #[error(
        "the run in {} was begun on {begun_on}, and a record names one device; resume with \
         --device {begun_on}, or remove the folder to start again", .path.display()
    )]
    OtherDevice {
        /// The folder.
        path: PathBuf,
        /// Devices and kernels of the checkpoint.
        begun_on: String,
    },
    /// The run cannot use several devices.
    #[error(
        "this run cannot be on several devices ({devices}): {reason}; give --device one of them"
    )]
    SeveralDevices {
        /// Their names.
        devices: String,
        /// Why not.
        reason: &'static str,
    },
    /// A number is infinite or NaN.
    #[error(
        "{quantity} became {value} in epoch {epoch}{} (step {step}), at learning rate \
         {learning_rate}; {}; try {remedy}", unit_in_epoch(.unit), last_good(.checkpoint.as_deref())
    )]
    NotFinite {
        /// What is not finite.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// What a step is called, and its number in the epoch, from 1; `None` after training.
        unit: Option<(&'static str, usize)>,
        /// Step since the beginning, from 1.
        step: u64,
        /// Learning rate of the epoch.
        learning_rate: f64,
        /// What to try.
        remedy: &'static str,
        /// Newest checkpoint, written before the number arose.
        checkpoint: Option<PathBuf>,
    },
    /// burn-train gave up.
    #[error("training failed: {0}")]
    Training(String),
}

fn unit_in_epoch(unit: &Option<(&'static str, usize)>) -> String {
    unit.map_or(String::new(), |(name, index)| format!(", {name} {index}"))
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint from before".to_owned(),
    }
}

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file could not be written.
    #[error(
        "cannot write checkpoint {}; make room or make the folder writable, then run the same \
         command again: it goes on from the checkpoint before, if there is one", .path.display()
    )]
    Write {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// What the system or Burn says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder holds no checkpoint.
    #[error(
        "{} holds no checkpoint: it should be the folder of a run, or one in its `checkpoints` \
         folder",
        .path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A file differs from what was written.
    #[error(
        "checkpoint file {} is damaged: {reason}; remove the folder {} to go on from the \
         checkpoint before it, or the whole run folder to start again",
        .path.display(), .folder.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The checkpoint it belongs to.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a build with another format.
    #[error(
        "checkpoint {} has format {found}, this build reads {readable}; finish it with the build \
         that began it, or remove the run folder", .path.display()
    )]
    Version {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version of this build.
        readable: u32,
    },
    /// It belongs to another kind of run.
    #[error("checkpoint {} belongs to a run on {found}, not on {expected}", .path.display())]
    OtherKind {
        /// Folder of the checkpoint.
        path: PathBuf,
        /// Its kind.
        found: String,
        /// The requested kind.
        expected: &'static str,
    },
}

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::checkpoint::CheckpointFolder;
use super::error::TrainError;
use crate::atomic::check_writable;

/// The folder of a run, locked against other processes for as long as this value lives.
pub(super) struct RunFolder {
    pub checkpoints: CheckpointFolder,
    _lock: File,
}

impl RunFolder {
    /// Create the folder if necessary, lock it, and remove what a killed process left half written.
    pub fn claim(path: &Path, keeps_epochs: bool) -> Result<Self, TrainError> {
        let unusable = |source| TrainError::RunFolder { path: path.to_owned(), source };
        check_writable(path).map_err(unusable)?;
        let lock_path = path.join("run.lock");
        let mut options = fs::OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TrainError::Locked { path: lock_path }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let checkpoints = CheckpointFolder::new(path).keeping_epochs(keeps_epochs);
        checkpoints.clean()?;
        Ok(Self { checkpoints, _lock: lock })
    }
}

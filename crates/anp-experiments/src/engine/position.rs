use serde::{Deserialize, Serialize};

use super::scalars::EpochSums;
use crate::provenance::Course;

/// A position in a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Epoch that the run is in, from 1.
    pub epoch: usize,
    /// Completed steps of this epoch.
    pub done: usize,
    /// Completed steps since the beginning.
    pub step: u64,
}

impl Position {
    /// Before the first step.
    pub const START: Self = Self { epoch: 1, done: 0, step: 0 };

    /// Name of a checkpoint taken here; names sort by age.
    pub fn checkpoint_name(self) -> String {
        format!("e{:05}-w{:09}", self.epoch - 1, self.done)
    }
}

/// The state that every kind of run has: what a checkpoint holds besides the task's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState<E> {
    /// SHA-256 of the recipe.
    pub recipe_hash: String,
    /// Seed of the run.
    pub seed: u64,
    /// Where it resumes.
    pub position: Position,
    /// Sums over the current epoch.
    pub sums: EpochSums,
    /// Finished epochs.
    pub curve: Vec<E>,
    /// Whether training is over and only the last evaluation is left.
    pub ended: bool,
    /// Where and for how long it has run.
    pub course: Course,
}

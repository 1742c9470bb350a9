use anp_models::Kernels;
use serde::{Deserialize, Serialize};

use crate::provenance::Sources;
use crate::record::EpochRecord;
use crate::text::averaging::Averaging;
use crate::text::schedule::Schedule;

/// Where a run is, but for its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// SHA-256 of the recipe.
    pub recipe_hash: String,
    /// Seed of the run.
    pub seed: u64,
    /// Learning rate, best validation loss, decays.
    pub schedule: Schedule,
    /// Windows done in the current epoch.
    pub window: usize,
    /// Steps done since the beginning.
    pub step: u64,
    /// The averaging of the parameters, once it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaging: Option<Averaging>,
    /// Sums over the current epoch.
    pub epoch: EpochSums,
    /// Finished epochs.
    pub curve: Vec<EpochRecord>,
    /// Whether training is over and only the last evaluation is left.
    pub ended: bool,
    /// Device that the run was begun on.
    pub device: String,
    /// How recurrences and losses are computed since then.
    pub kernels: Kernels,
    /// Sources that the run was begun with.
    pub sources: Option<Sources>,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// Seconds of work up to the checkpoint.
    pub wall_seconds: f64,
    /// Of these, seconds spent in training steps.
    pub train_seconds: f64,
    /// Tokens trained on.
    pub train_tokens: u64,
    /// How often the run was continued.
    pub resumed: usize,
}

/// Sums over the windows of an epoch, in double precision, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Windows in the sums.
    pub windows: usize,
    /// Tokens in the sums.
    pub tokens: usize,
    /// Summed loss, nats.
    pub nll: f64,
    /// Each penalty.
    pub penalties: Vec<f64>,
    /// Gradient norms before the clip.
    pub grad_norm: f64,
    /// Windows whose gradients were clipped.
    pub clipped: usize,
    /// Seconds.
    pub seconds: f64,
}

impl TrainerState {
    /// Epoch that the run is in, from 1.
    pub fn current_epoch(&self) -> usize {
        self.schedule.epochs() + 1
    }

    /// Name of a checkpoint taken now; names sort by age.
    pub fn checkpoint_name(&self) -> String {
        format!("e{:05}-w{:09}", self.schedule.epochs(), self.window)
    }
}

//! The record of a language model.

use serde::{Deserialize, Serialize};

use super::recipe::TextRecipe;
use crate::engine::RunRecord;

/// A finished run of a language model.
pub type TextRecord = RunRecord<TextRecipe, EpochRecord, RunResult>;

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Mean training loss in nats per token, dropout on, without penalties.
    pub train_nll: f64,
    /// Validation loss in nats per token, dropout off, without penalties.
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
    /// Epoch with the best validation loss, whose parameters were kept.
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
    /// Mean negative log-likelihood, nats per token.
    pub nll: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Number of predicted tokens.
    pub tokens: usize,
}

/// How large an activation is: readings of "L2 norm of the final output" in the paper's Table 6a,
/// which does not say which one it means (`docs/theory.md`, errata).
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

impl Score {
    /// The score of a summed loss.
    pub fn from_sum(nll_sum: f64, tokens: usize) -> Self {
        let nll = nll_sum / tokens as f64;
        Self { nll, perplexity: nll.exp(), tokens }
    }
}

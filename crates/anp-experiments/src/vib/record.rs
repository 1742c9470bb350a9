//! The record of a run with a bottleneck.

use serde::{Deserialize, Serialize};

use super::recipe::VibRecipe;
use crate::engine::RunRecord;

/// A finished run with a bottleneck.
pub type VibRecord = RunRecord<VibRecipe, VibEpochRecord, VibResult>;

/// One epoch of a run with a bottleneck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibEpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Mean training loss in nats per image, one code each, without the bottleneck's term.
    pub train_nll: f64,
    /// Share of these images that were classified correctly when trained on, in percent.
    pub train_accuracy: f64,
    /// Mean over the epoch's steps of β times the mean divergence, as added to the loss; empty
    /// without a bottleneck.
    pub penalties: Vec<f64>,
    /// The test images with the averaged parameters.
    pub test: VibScore,
    /// Mean over the epoch's steps of the norm of all gradients.
    pub grad_norm: f64,
    /// Seconds spent on the epoch.
    pub seconds: f64,
}

/// The numbers of a run with a bottleneck that go into the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibResult {
    /// The test images after the last epoch, with the averaged parameters.
    pub test: VibScore,
    /// The same of the training images, not augmented.
    pub train: VibScore,
    /// A note on images that are not the official ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_variant: Option<String>,
}

/// Predictions and information of a code over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibScore {
    /// Images.
    pub images: usize,
    /// From the mean of the code.
    pub mean_code: Prediction,
    /// From one drawn code: mean over the draws. Without a bottleneck it is `mean_code`.
    pub one_sample: Prediction,
    /// Probabilities averaged over the draws. Without a bottleneck it is `mean_code`.
    pub averaged: Prediction,
    /// Upper bound on I(X; Z), nats: the mean divergence from N(0, I). Without a bottleneck the
    /// information has no finite bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information_x: Option<f64>,
    /// Lower bound on I(Z; Y), nats: the entropy of the labels minus the loss of `one_sample`.
    pub information_y: f64,
    /// Mean σ of a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Mean over images of ‖μ‖₂.
    pub code_norm: f64,
}

/// A loss and an accuracy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Mean negative log-likelihood, nats per image.
    pub nll: f64,
    /// Share of correctly classified images, in percent.
    pub accuracy: f64,
}

impl Prediction {
    /// Share of wrongly classified images, in percent.
    pub fn error(&self) -> f64 {
        100.0 - self.accuracy
    }
}

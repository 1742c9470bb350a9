//! The record of an image classifier.

use serde::{Deserialize, Serialize};

use super::recipe::ImageRecipe;
use crate::engine::RunRecord;

/// A finished run of an image classifier.
pub type ImageRecord = RunRecord<ImageRecipe, ImageEpochRecord, ImageResult>;

/// One epoch of an image classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Mean training loss in nats per augmented image, without penalties.
    pub train_nll: f64,
    /// Share of these images that were classified correctly when trained on, in percent.
    pub train_accuracy: f64,
    /// Loss in nats per test image, without penalties.
    pub test_nll: f64,
    /// Share of the test images that are classified correctly, in percent.
    pub test_accuracy: f64,
    /// Mean over the epoch's steps of each penalty's term, as added to the loss.
    pub penalties: Vec<f64>,
    /// Mean over the epoch's training images of ‖pooled features‖₂.
    pub activation_norm: f64,
    /// Mean over the epoch's steps of the norm of all gradients.
    pub grad_norm: f64,
    /// Seconds spent on the epoch.
    pub seconds: f64,
}

/// The numbers of an image classifier that go into the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageResult {
    /// Score after the last epoch: the number that is compared with the paper.
    pub test: ImageScore,
    /// First epoch with the best test accuracy, as reported by the paper's code. It is selected on
    /// the test set.
    pub best_epoch: usize,
    /// Score after that epoch.
    pub best: ImageScore,
    /// Pooled features of the test images after the last epoch.
    pub pooled: FeatureStatistics,
    /// A note on images that are not the official ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_variant: Option<String>,
}

/// A loss and an accuracy over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageScore {
    /// Mean negative log-likelihood, nats per image.
    pub nll: f64,
    /// Share of correctly classified images, in percent.
    pub accuracy: f64,
    /// Images.
    pub images: usize,
}

/// Size of an image's features.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStatistics {
    /// Mean over images of ‖h‖₂.
    pub norm: f64,
    /// Mean over images of ½‖h‖₂².
    pub half_squared_norm: f64,
    /// Root of the mean square of an element.
    pub rms: f64,
}

//! What the record of an image classifier holds.

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
    /// Mean training loss in nats an image, of augmented images, without penalties.
    pub train_nll: f64,
    /// Share of these images that were classified rightly when they were trained on, in percent.
    pub train_accuracy: f64,
    /// Loss in nats an image on the test images, without penalties.
    pub test_nll: f64,
    /// Share of the test images that are classified rightly, in percent.
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
    /// Test images after the last epoch: the number of ours that is compared.
    pub test: ImageScore,
    /// The epoch with the best test accuracy, the first of them: what the paper's code reports. It
    /// chooses by the test set.
    pub best_epoch: usize,
    /// Test images after that epoch.
    pub best: ImageScore,
    /// Pooled features of the test images after the last epoch.
    pub pooled: FeatureStatistics,
    /// What is to be said of images that are not the official ones, if any is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_variant: Option<String>,
}

/// A loss and an accuracy over images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageScore {
    /// Mean negative log-likelihood, nats an image.
    pub nll: f64,
    /// Share of the images that are classified rightly, in percent.
    pub accuracy: f64,
    /// Images.
    pub images: usize,
}

/// How large the features of an image are.
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

//! Records: one JSON file a finished run. `docs/records.md` describes the schema.

mod store;

use anp_models::Kernels;
use serde::{Deserialize, Serialize};

pub(crate) use store::run_name;
pub use store::{RecordError, StoredRecord, load_folder};
#[cfg(test)]
pub(crate) use tests::{test_image_record, test_record};

use crate::recipe::{ImageRecipe, Recipe, Scale, TextRecipe};

/// Version of the schema this build writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// A finished run: of a language model, unless its parameters say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record<R = TextRecipe, E = EpochRecord, S = RunResult> {
    /// [`SCHEMA_VERSION`] at the time of writing.
    pub schema_version: u32,
    /// Table that the row belongs to, for example `table2`.
    pub table: String,
    /// Row, the stem of its file's name, for example `lstm_anp`.
    pub row: String,
    /// Scale of the run.
    pub scale: Scale,
    /// Seed of the run.
    pub seed: u64,
    /// The recipe, after `--set`.
    pub recipe: R,
    /// SHA-256 of the recipe's canonical JSON, in hexadecimal.
    pub recipe_hash: String,
    /// What was built and where it ran.
    pub provenance: Provenance,
    /// Trainable parameters of the model.
    pub num_params: usize,
    /// What each penalty amounts to in the conventions of the literature.
    pub penalties: Vec<PenaltyEquivalent>,
    /// One entry an epoch, in order.
    pub curve: Vec<E>,
    /// The numbers that go into the table.
    pub result: S,
}

/// A finished run of an image classifier.
pub type ImageRecord = Record<ImageRecipe, ImageEpochRecord, ImageResult>;

/// A finished run of either kind.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyRecord {
    /// Of a language model.
    Text(Box<Record>),
    /// Of an image classifier.
    Image(Box<ImageRecord>),
}

impl From<Record> for AnyRecord {
    fn from(record: Record) -> Self {
        Self::Text(Box::new(record))
    }
}

impl From<ImageRecord> for AnyRecord {
    fn from(record: ImageRecord) -> Self {
        Self::Image(Box::new(record))
    }
}

/// What records of both kinds have.
macro_rules! of_either {
    ($self:ident, $record:ident => $value:expr) => {
        match $self {
            Self::Text($record) => $value,
            Self::Image($record) => $value,
        }
    };
}

impl AnyRecord {
    /// [`Record::table`].
    pub fn table(&self) -> &str {
        of_either!(self, record => &record.table)
    }

    /// [`Record::row`].
    pub fn row(&self) -> &str {
        of_either!(self, record => &record.row)
    }

    /// [`Record::scale`].
    pub fn scale(&self) -> Scale {
        of_either!(self, record => record.scale)
    }

    /// [`Record::seed`].
    pub fn seed(&self) -> u64 {
        of_either!(self, record => record.seed)
    }

    /// [`Record::recipe`].
    pub fn recipe(&self) -> Recipe {
        of_either!(self, record => record.recipe.clone().into())
    }

    /// [`Record::recipe_hash`].
    pub fn recipe_hash(&self) -> &str {
        of_either!(self, record => &record.recipe_hash)
    }

    /// [`Record::provenance`].
    pub fn provenance(&self) -> &Provenance {
        of_either!(self, record => &record.provenance)
    }

    /// Epochs of [`Record::curve`].
    pub fn num_epochs(&self) -> usize {
        of_either!(self, record => record.curve.len())
    }

    /// The record of a language model, if it is one.
    pub fn text(self) -> Option<Record> {
        match self {
            Self::Text(record) => Some(*record),
            Self::Image(_) => None,
        }
    }

    /// The record of an image classifier, if it is one.
    pub fn image(self) -> Option<ImageRecord> {
        match self {
            Self::Text(_) => None,
            Self::Image(record) => Some(*record),
        }
    }
}

/// What was built and where it ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Commit of the sources that the run was begun with, if they were a Git checkout.
    pub commit: Option<String>,
    /// Whether tracked files differed from that commit; `None` if it is not known.
    pub dirty: Option<bool>,
    /// Version of anp.
    pub anp_version: String,
    /// Version of Burn.
    pub burn_version: String,
    /// Device, as given to `--device`.
    pub device: String,
    /// As given to `--kernels`; records from before there was a choice are of plain ones.
    #[serde(default = "plain")]
    pub kernels: Kernels,
    /// Operating system and architecture.
    pub platform: String,
    /// Hardware threads of the machine.
    pub threads: usize,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// When the run ended, RFC 3339, UTC.
    pub finished_at: String,
    /// Seconds of work, over all sessions of the run.
    pub wall_seconds: f64,
    /// Training tokens, or images, a second, over the time spent training.
    pub tokens_per_second: f64,
    /// How often the run was continued from a checkpoint.
    pub resumed: usize,
}

fn plain() -> Kernels {
    Kernels::Plain
}

/// A penalty in other conventions; `docs/theory.md` derives them ("What η means").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyEquivalent {
    /// Site of the penalty.
    pub site: String,
    /// Strength η, as in the recipe.
    pub eta: f64,
    /// λ of `mean nll + λ · mean over tokens of ‖h‖²`; `None` for other norms than the squared L2.
    pub lambda: Option<f64>,
    /// The α of AWD-LSTM's activation regularisation; `None` for other norms than the squared L2.
    pub awd_alpha: Option<f64>,
}

/// One epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Mean training loss in nats a token, dropout on, without penalties.
    pub train_nll: f64,
    /// Validation loss in nats a token, dropout off, without penalties.
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
    /// Epoch whose parameters were kept: the best on validation.
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
    /// The epoch with the best test accuracy, the first of them: what the paper's code reports. It chooses by the test set.
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

/// A loss over a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Mean negative log-likelihood, nats a token.
    pub nll: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Tokens predicted.
    pub tokens: usize,
}

/// How large an activation is: readings of "L2 norm of the final output" in the paper's Table 6a, which does not say
/// which one it means (`docs/theory.md`, errata).
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

#[cfg(test)]
mod tests;

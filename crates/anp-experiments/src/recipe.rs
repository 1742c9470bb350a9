//! Recipes: everything that decides the number of one run, as data.
//!
//! A *row file* (`experiments/<table>/<row>.toml`) is one row of a table of the paper: its label, the
//! paper's numbers with their source, and a [`Recipe`] for each [`Scale`] it can be run at.

mod error;
mod hash;
mod overrides;
mod validate;

use serde::{Deserialize, Serialize};

pub use error::RecipeError;
pub(crate) use error::did_you_mean;
pub(crate) use overrides::with_overrides;
pub use overrides::{OverrideError, apply_overrides};
pub use validate::InvalidRecipe;

/// How large a run is. Only `paper` is compared with the paper.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// The embedded corpus and small models: a whole table within ten minutes on two cores.
    Demo,
    /// The real corpus with models that a laptop CPU trains in under half an hour a run.
    Small,
    /// As published.
    Paper,
}

impl Scale {
    /// All scales, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Demo, Self::Small, Self::Paper];

    /// Name of the section of a row file; `[paper]` is where the paper's numbers stand.
    pub fn section(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Small => "small",
            Self::Paper => "paper_scale",
        }
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Demo => "demo",
            Self::Small => "small",
            Self::Paper => "paper",
        })
    }
}

/// Everything that decides the result of a run, but for its seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is read, and how it is cut.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Terms added to the loss, each with its site.
    #[serde(default, rename = "penalty", skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<PenaltyConfig>,
    /// How it is trained.
    pub training: TrainingConfig,
}

/// The corpus and how its token stream is cut into windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Name of a manifest in `datasets/`: `demo`, `penn_treebank`, `wikitext_2`.
    pub corpus: String,
    /// Number of contiguous streams that the training and validation text is cut into.
    pub batch_size: usize,
    /// Length of a back-propagation window, in tokens.
    pub bptt: usize,
}

/// The network: one key under `[model]` names the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelConfig {
    /// An LSTM language model with feed-forward dropout (Zaremba et al., 2014).
    Lstm(LstmConfig),
}

/// `[model.lstm]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of each recurrent layer.
    pub d_hidden: usize,
    /// Number of recurrent layers.
    pub num_layers: usize,
    /// Whether the decoder uses the embedding's weight (needs `d_embed = d_hidden`).
    pub tie_weights: bool,
    /// Probability of dropping an element of the embedding's output.
    pub input_dropout: f64,
    /// Probability of dropping an element between two recurrent layers.
    pub inter_layer_dropout: f64,
    /// Probability of dropping an element of the last layer's output.
    pub output_dropout: f64,
    /// Constant added to the forget gate's pre-activation.
    pub forget_bias: f64,
    /// Bias vectors a layer: 1, or 2 (one on the input product and one on the recurrent product).
    pub num_biases: usize,
    /// How the recurrent biases start.
    pub bias_init: BiasInit,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
}

/// How recurrent biases are initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasInit {
    /// All zero.
    Zeros,
    /// Like the weights.
    Uniform,
}

/// One `[[penalty]]`: a term of the training loss on one site of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyConfig {
    /// The activation that is penalised, for example `output_dropped`; see `anp_models::Site`.
    pub site: String,
    /// The norm.
    pub norm: anp_core::Norm,
    /// How the norm of a minibatch becomes one number.
    pub reduction: anp_core::Reduction,
    /// Strength η.
    pub eta: f64,
}

/// Optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Most epochs to train.
    pub max_epochs: usize,
    /// Learning rate of the first epoch; the loss is summed over the window and averaged over the batch.
    pub learning_rate: f64,
    /// Largest norm of all gradients together; larger ones are scaled down to it.
    pub grad_clip_norm: f64,
    /// What happens to the learning rate after each epoch.
    pub schedule: ScheduleConfig,
    /// End after so many epochs in a row without a better validation perplexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

/// `[training.schedule]`: one key names the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// When an epoch does not improve validation: restore the best parameters and decay (the paper).
    OnPlateau {
        /// The learning rate is multiplied by this, in (0, 1).
        factor: f64,
        /// Training ends when one more decay would be needed.
        max_decays: usize,
    },
    /// Constant, then divided each epoch (Zaremba et al., 2014).
    Fixed {
        /// Epochs at the first learning rate.
        hold_epochs: usize,
        /// Each later epoch divides the learning rate by this, at least 1.
        divide_by: f64,
    },
}

/// A small recipe with one penalty.
#[cfg(test)]
pub(crate) fn test_recipe() -> Recipe {
    Recipe {
        data: DataConfig { corpus: "demo".to_owned(), batch_size: 4, bptt: 5 },
        model: ModelConfig::Lstm(LstmConfig {
            d_embed: 8,
            d_hidden: 8,
            num_layers: 2,
            tie_weights: false,
            input_dropout: 0.5,
            inter_layer_dropout: 0.5,
            output_dropout: 0.5,
            forget_bias: 1.0,
            num_biases: 1,
            bias_init: BiasInit::Zeros,
            init_range: 0.1,
        }),
        penalties: vec![PenaltyConfig {
            site: "output_dropped".to_owned(),
            norm: anp_core::Norm::L2sq,
            reduction: anp_core::Reduction::HalfSum,
            eta: 1e-4,
        }],
        training: TrainingConfig {
            max_epochs: 2,
            learning_rate: 1.0,
            grad_clip_norm: 5.0,
            schedule: ScheduleConfig::OnPlateau { factor: 0.7, max_decays: 15 },
            patience: None,
        },
    }
}

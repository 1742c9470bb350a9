//! Recipes of language models.

use anp_kernels::sgd::WeightDecay;
use anp_kernels::sru::Activation;
use anp_models::{
    BiasInit, CellConfig, GateMasks, LstmCellConfig, MaskSpan, MixtureOver, NasCellConfig,
    RhnCellConfig, Site, SruCellConfig, WordTie,
};
use serde::{Deserialize, Serialize};

use super::bptt::VariableBptt;
use super::noising::NoisingConfig;
use crate::recipe::penalty::{PenaltyConfig, WeightPenaltyConfig};
use crate::recipe::precision::MixedPrecision;
use crate::recipe::regularizer::RegularizerConfig;

/// Everything but the seed that decides the result of a run on text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// What is read, and how it is cut.
    pub data: DataConfig,
    /// The network.
    pub model: ModelConfig,
    /// Masks beside the dropout between layers, and how long masks last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variational: Option<VariationalConfig>,
    /// Noise on the last hidden activation, and a penalty on what it says about the input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information_penalty: Option<InformationPenaltyConfig>,
    /// A distribution for each weight instead of a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bayes_by_backprop: Option<BayesByBackpropConfig>,
    /// A pointer to the last words, beside the softmax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer_sentinel: Option<PointerSentinelConfig>,
    /// Terms added to the loss, each with its site.
    #[serde(default, rename = "penalty", skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<PenaltyConfig<Site>>,
    /// Rivals of the penalties, added to the loss.
    #[serde(default, rename = "regularizer", skip_serializing_if = "Vec::is_empty")]
    pub regularizers: Vec<RegularizerConfig<Site>>,
    /// A term added to the loss on the weights of the recurrent layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_penalty: Option<WeightPenaltyConfig>,
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
    /// Train on this many tokens, from the first; the default is all. The vocabulary is always that
    /// of the whole training text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_tokens: Option<usize>,
    /// Training windows of random lengths around `bptt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable_bptt: Option<VariableBptt>,
    /// Words of the training text replaced at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noising: Option<NoisingConfig>,
}

impl DataConfig {
    /// The part of a training text that is trained on.
    pub fn training_text<'a>(&self, text: &'a [u32]) -> &'a [u32] {
        &text[..self.train_tokens.unwrap_or(text.len()).min(text.len())]
    }
}

/// The network: one key under `[model]` names the kind of its recurrent layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelConfig {
    /// Long Short-Term Memory (Zaremba et al., 2014).
    Lstm(LstmConfig),
    /// Simple Recurrent Units, first version (Lei & Zhang, 2017).
    Sru(SruConfig),
    /// A Recurrent Highway Network (Zilly et al., 2016).
    Rhn(RhnConfig),
    /// The cell found by neural architecture search, base 8 (Zoph & Le, 2016).
    Nas(NasConfig),
}

/// Sizes that every network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of each recurrent layer but the last.
    pub d_hidden: usize,
    /// Units of the last.
    pub d_output: usize,
    /// Number of recurrent layers.
    pub num_layers: usize,
    /// Whether the decoder uses the embedding's weight.
    pub tie_weights: bool,
}

impl ModelConfig {
    /// The key under `[model]`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Lstm(_) => "lstm",
            Self::Sru(_) => "sru",
            Self::Rhn(_) => "rhn",
            Self::Nas(_) => "nas",
        }
    }

    /// Its sizes.
    pub fn shape(&self) -> Shape {
        let (d_embed, d_hidden, d_output, num_layers, tie_weights) = match self {
            Self::Lstm(it) => {
                let d_output = it.d_output.unwrap_or(it.d_hidden);
                (it.d_embed, it.d_hidden, d_output, it.num_layers, it.tie_weights)
            }
            Self::Sru(it) => (it.d_embed, it.d_hidden, it.d_hidden, it.num_layers, it.tie_weights),
            Self::Rhn(it) => (it.d_embed, it.d_hidden, it.d_hidden, 1, it.tie_weights),
            Self::Nas(it) => (it.d_embed, it.d_hidden, it.d_hidden, it.num_layers, it.tie_weights),
        };
        Shape { d_embed, d_hidden, d_output, num_layers, tie_weights }
    }

    /// Its recurrent layers.
    pub fn cell(&self) -> CellConfig {
        match self {
            Self::Lstm(it) => CellConfig::Lstm(LstmCellConfig {
                forget_bias: it.forget_bias,
                num_biases: it.num_biases,
                bias_init: it.bias_init,
            }),
            Self::Sru(it) => CellConfig::Sru(SruCellConfig {
                activation: it.activation,
                highway_bias: it.highway_bias,
            }),
            Self::Rhn(it) => CellConfig::Rhn(RhnCellConfig {
                depth: it.depth,
                transform_bias: it.transform_bias,
            }),
            Self::Nas(_) => CellConfig::Nas(NasCellConfig {}),
        }
    }
}

/// `[model.lstm]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmConfig {
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of each recurrent layer.
    pub d_hidden: usize,
    /// Units of the last recurrent layer, if not `d_hidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_output: Option<usize>,
    /// Number of recurrent layers.
    pub num_layers: usize,
    /// Whether the decoder uses the embedding's weight (needs `d_embed` = width of the last layer).
    pub tie_weights: bool,
    /// Probability of dropping an element of the embedding's output.
    pub input_dropout: f64,
    /// Probability of dropping an element between two recurrent layers.
    pub inter_layer_dropout: f64,
    /// Probability of dropping an element of the last layer's output.
    pub output_dropout: f64,
    /// Constant added to the pre-activation of the forget gate.
    pub forget_bias: f64,
    /// Bias vectors per layer: 1, or 2 (one on the input product, one on the recurrent product).
    pub num_biases: usize,
    /// How the recurrent biases start.
    pub bias_init: BiasInit,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
    /// The same for the recurrent layers, if their range differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_init_range: Option<f64>,
    /// Whether each recurrent layer starts uniform in ±1/√units, as `torch.nn.LSTM` does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layer_init_by_units: bool,
    /// How the decoder's bias starts; the default is like the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder_bias_init: Option<BiasInit>,
}

/// `[model.sru]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SruConfig {
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
    /// Probability of dropping an element of the last layer's output.
    pub output_dropout: f64,
    /// Probability of dropping an element of a layer's input to the product, and of the activated
    /// cell state of every layer except the last; one mask per window and sequence.
    pub rnn_dropout: f64,
    /// Function of the cell state.
    pub activation: Activation,
    /// What the bias of the highway gate starts at.
    pub highway_bias: f64,
    /// Weights start uniform in `[-init_range, init_range]`; other biases at zero.
    pub init_range: f64,
}

/// `[model.rhn]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RhnConfig {
    /// Width of the word embedding.
    pub d_embed: usize,
    /// Units of the layer.
    pub d_hidden: usize,
    /// Micro-steps in each time step.
    pub depth: usize,
    /// Whether the decoder uses the embedding's weight (needs `d_embed = d_hidden`).
    pub tie_weights: bool,
    /// Probability of dropping an element of the embedding's output.
    pub input_dropout: f64,
    /// Probability of dropping an element of the layer's output.
    pub output_dropout: f64,
    /// What the biases of the transform gates start at.
    pub transform_bias: f64,
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
}

/// `[model.nas]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NasConfig {
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
    /// Weights start uniform in `[-init_range, init_range]`.
    pub init_range: f64,
}

/// `[variational]`: variational dropout (Gal & Ghahramani, 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariationalConfig {
    /// How long the masks of `input_dropout`, `inter_layer_dropout` and `output_dropout` last.
    pub span: MaskSpan,
    /// Probability of dropping a whole input word.
    pub word_dropout: f64,
    /// Which occurrences of a word are dropped together.
    pub word_tie: WordTie,
    /// Probability of dropping an element of the hidden state on its way to the next step; one mask
    /// per window.
    pub recurrent_dropout: f64,
    /// Probability of dropping an element of a recurrent matrix; one mask per window, the same for
    /// all sequences (AWD-LSTM).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight_dropout: f64,
    /// Whether the gates of a layer share their masks.
    pub gates: GateMasks,
}

/// For serde, which hands over a reference.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// `[information_penalty]`: the paper's Bayesian information penalty (its equations 8 and 9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InformationPenaltyConfig {
    /// Weight of the divergence.
    pub beta: f64,
    /// How the divergences of a window's units become one number.
    pub reduction: InformationReduction,
    /// Whether the noisy activation is what the next step sees.
    pub sample_recurrence: bool,
    /// Standard deviation of the noise at the beginning.
    pub initial_sigma: f64,
}

/// How the divergences of a window's units become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InformationReduction {
    /// Summed over steps and units, averaged over the batch: equation 8 as printed.
    Sum,
    /// Averaged over steps, batch and units.
    MeanElements,
}

/// `[bayes_by_backprop]`: a normal distribution for each weight except the decoder's bias, drawn
/// once per window (Fortunato et al., 2017). The divergence of all weights from their prior counts
/// once per epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BayesByBackpropConfig {
    /// Share of the prior's first component.
    pub prior_pi: f64,
    /// Logarithm of its standard deviation.
    pub prior_log_sigma1: f64,
    /// Logarithm of the second component's standard deviation.
    pub prior_log_sigma2: f64,
    /// What is drawn from one of the two components.
    pub mixture_over: MixtureOver,
}

/// `[pointer_sentinel]`: a pointer to the last words, mixed with the softmax by a sentinel (Merity
/// et al., 2016).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointerSentinelConfig {
    /// Number of last words that can be pointed at, including the current one.
    pub window: usize,
    /// Whether gradients flow through the states that are pointed at within this back-propagation
    /// window. They never flow through states of earlier windows.
    pub state_gradient: bool,
    /// Weight in the loss of the pointer's own supervision, `−ln(g + Σ a_i over the target's
    /// positions)`; 1 as published.
    pub supervision: f64,
}

/// Optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Largest number of epochs to train.
    pub max_epochs: usize,
    /// Learning rate of the first epoch, for the loss as `loss` says.
    pub learning_rate: f64,
    /// Largest global norm of the gradients; larger ones are scaled down to it.
    pub grad_clip_norm: f64,
    /// How the losses of a window become one number; the default is a sum over the steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<anp_core::LossReduction>,
    /// Decay of all parameters; one key under `[training.weight_decay]` names the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<WeightDecay>,
    /// What the operands of the matrix products of layers and decoder are rounded to, forward and
    /// backward, also in evaluation; the default is no rounding. Everything else stays in single
    /// precision: sums, states, a pointer, parameters, updates, losses and penalties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_precision: Option<MixedPrecision>,
    /// What happens to the learning rate after each epoch.
    pub schedule: ScheduleConfig,
    /// Stop after this many consecutive epochs without a better validation perplexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

/// `[training.schedule]`: one key names the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// After an epoch that does not improve validation, restore the best parameters and decay
    /// (the paper).
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
    /// Constant. Once an epoch is worse than the best one before the last few, the parameters of
    /// all further steps are averaged, and the averages are evaluated (NT-ASGD: Merity et al.,
    /// 2017).
    NonMonotoneAveraging {
        /// Number of last epochs that the current one is not compared with.
        interval: usize,
    },
}

/// A small recipe with one penalty.
#[cfg(test)]
pub(crate) fn test_recipe() -> TextRecipe {
    TextRecipe {
        data: DataConfig {
            corpus: "demo".to_owned(),
            batch_size: 4,
            bptt: 5,
            train_tokens: None,
            variable_bptt: None,
            noising: None,
        },
        model: ModelConfig::Lstm(LstmConfig {
            d_embed: 8,
            d_hidden: 8,
            d_output: None,
            num_layers: 2,
            tie_weights: false,
            input_dropout: 0.5,
            inter_layer_dropout: 0.5,
            output_dropout: 0.5,
            forget_bias: 1.0,
            num_biases: 1,
            bias_init: BiasInit::Zeros,
            init_range: 0.1,
            layer_init_range: None,
            layer_init_by_units: false,
            decoder_bias_init: None,
        }),
        variational: None,
        information_penalty: None,
        bayes_by_backprop: None,
        pointer_sentinel: None,
        penalties: vec![PenaltyConfig {
            site: Site::OutputDropped,
            norm: anp_core::Norm::L2sq,
            reduction: anp_core::Reduction::HalfSum,
            eta: 1e-4,
            temporal: false,
        }],
        regularizers: Vec::new(),
        weight_penalty: None,
        training: TrainingConfig {
            max_epochs: 2,
            learning_rate: 1.0,
            grad_clip_norm: 5.0,
            loss: None,
            weight_decay: None,
            mixed_precision: None,
            schedule: ScheduleConfig::OnPlateau { factor: 0.7, max_decays: 15 },
            patience: None,
        },
    }
}

//! From a recipe and a corpus to what is trained on what.

use std::sync::Arc;

use anp_core::{BatchShape, LossReduction, Norm, Reduction};
use anp_models::{
    BiasInit, Dropout, Kernels, LayerInitRange, PointerConfig, RecurrentLmConfig, ScaleMixture,
    Site, StochasticConfig,
};
use burn::tensor::Device;

use super::batches::{Tail, TextTooShort, TokenStreams};
use super::learner::{LmLearner, Objective, SitePenalty};
use super::recipe::{ModelConfig, Shape, TextRecipe};
use crate::data::Corpus;
use crate::engine::{PenaltyEquivalent, TrainError};
use crate::recipe::penalty::PenaltyConfig;
use crate::recipe::precision::MixedPrecision;

/// The texts of a corpus, cut as the protocol says.
pub struct Texts {
    /// Training, in the recipe's batch size, tail dropped.
    pub train: Arc<TokenStreams>,
    /// Validation, likewise.
    pub valid: Arc<TokenStreams>,
    /// Validation as one stream.
    pub valid_single: Arc<TokenStreams>,
    /// Test as one stream.
    pub test: Arc<TokenStreams>,
}

/// A text is too short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {split} text cannot be cut")]
pub struct CannotCut {
    /// Which text.
    pub(super) split: &'static str,
    /// What is wrong.
    pub(super) source: TextTooShort,
}

impl Texts {
    /// Cut `corpus` as `recipe` says.
    ///
    /// # Errors
    ///
    /// [`TrainError::Task`] if a text is too short.
    pub fn cut(corpus: &Corpus, recipe: &TextRecipe) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let cut = |split, text: &[u32], batch_size, tail| {
            TokenStreams::new(text, batch_size, data.bptt, tail)
                .map(Arc::new)
                .map_err(|source| TrainError::Task(Box::new(CannotCut { split, source })))
        };
        Ok(Self {
            train: cut("training", data.training_text(&corpus.train), data.batch_size, Tail::Drop)?,
            valid: cut("validation", &corpus.valid, data.batch_size, Tail::Drop)?,
            valid_single: cut("validation", &corpus.valid, 1, Tail::Keep)?,
            test: cut("test", &corpus.test, 1, Tail::Keep)?,
        })
    }
}

/// The network and the penalties of a recipe, drawn from the device's random number generator. The
/// caller sets the number of windows per epoch and the regularisers, which depend on the text.
///
/// # Panics
///
/// If the recipe is not valid.
pub fn build_learner(
    recipe: &TextRecipe,
    vocab_size: usize,
    kernels: Kernels,
    device: &Device,
) -> LmLearner {
    let lm = network(recipe, vocab_size, kernels).init(device);
    let objective = Objective {
        penalties: recipe.penalties.iter().map(site_penalty).collect(),
        weight_penalty: recipe.weight_penalty.clone(),
        information: recipe.information_penalty.clone(),
        regularizers: Vec::new(),
        supervision: recipe.pointer_sentinel.as_ref().map_or(0.0, |pointer| pointer.supervision),
        windows_per_epoch: 1,
        loss: recipe.training.loss.unwrap_or(LossReduction::SumOverTime),
        weight_decay: recipe.training.weight_decay,
    };
    LmLearner { lm, objective }
}

/// The network of a recipe.
pub fn network(recipe: &TextRecipe, vocab_size: usize, kernels: Kernels) -> RecurrentLmConfig {
    let Shape { d_embed, d_hidden, d_output, num_layers, tie_weights } = recipe.model.shape();
    let mut dropout = Dropout::default();
    let init_range;
    let (mut layer_init_range, mut decoder_bias_init) = (None, BiasInit::Uniform);
    match &recipe.model {
        ModelConfig::Lstm(lstm) => {
            dropout.input = lstm.input_dropout;
            dropout.inter_layer = lstm.inter_layer_dropout;
            dropout.output = lstm.output_dropout;
            init_range = lstm.init_range;
            layer_init_range = if lstm.layer_init_by_units {
                Some(LayerInitRange::InverseRootUnits)
            } else {
                lstm.layer_init_range.map(LayerInitRange::Fixed)
            };
            if let Some(init) = lstm.decoder_bias_init {
                decoder_bias_init = init;
            }
        }
        ModelConfig::Sru(sru) => {
            dropout.input = sru.input_dropout;
            dropout.output = sru.output_dropout;
            dropout.layer_input = sru.rnn_dropout;
            dropout.recurrent = sru.rnn_dropout;
            init_range = sru.init_range;
            decoder_bias_init = BiasInit::Zeros;
        }
        ModelConfig::Rhn(rhn) => {
            dropout.input = rhn.input_dropout;
            dropout.output = rhn.output_dropout;
            init_range = rhn.init_range;
        }
        ModelConfig::Nas(nas) => {
            dropout.input = nas.input_dropout;
            dropout.inter_layer = nas.inter_layer_dropout;
            dropout.output = nas.output_dropout;
            init_range = nas.init_range;
        }
    }
    if let Some(variational) = &recipe.variational {
        dropout.span = variational.span;
        dropout.word = variational.word_dropout;
        dropout.word_tie = variational.word_tie;
        if variational.recurrent_dropout > 0.0 {
            dropout.recurrent = variational.recurrent_dropout;
        }
        dropout.weight = variational.weight_dropout;
        dropout.gates = variational.gates;
    }
    RecurrentLmConfig {
        d_output: Some(d_output),
        num_layers,
        cell: recipe.model.cell(),
        tie_weights,
        dropout,
        init_range,
        layer_init_range,
        decoder_bias_init,
        stochastic: recipe.information_penalty.as_ref().map(|penalty| StochasticConfig {
            initial_sigma: penalty.initial_sigma,
            in_recurrence: penalty.sample_recurrence,
        }),
        pointer: recipe.pointer_sentinel.as_ref().map(|pointer| PointerConfig {
            window: pointer.window,
            state_gradient: pointer.state_gradient,
        }),
        posterior: recipe.bayes_by_backprop.as_ref().map(|bayes| ScaleMixture {
            pi: bayes.prior_pi,
            log_sigma1: bayes.prior_log_sigma1,
            log_sigma2: bayes.prior_log_sigma2,
            over: bayes.mixture_over,
        }),
        kernels,
        precision: MixedPrecision::of_products(recipe.training.mixed_precision),
        ..RecurrentLmConfig::new(vocab_size, d_embed, d_hidden)
    }
}

fn site_penalty(penalty: &PenaltyConfig<Site>) -> SitePenalty {
    SitePenalty { site: penalty.site, norm: penalty.activation_norm(), temporal: penalty.temporal }
}

/// The recipe's penalties in the conventions of the literature.
pub(crate) fn equivalents(recipe: &TextRecipe, vocab_size: usize) -> Vec<PenaltyEquivalent> {
    let sizes = recipe.model.shape();
    let loss = recipe.training.loss.unwrap_or(LossReduction::SumOverTime);
    let on_activation = |penalty: &PenaltyConfig<Site>| {
        let shape = BatchShape {
            batch_size: recipe.data.batch_size,
            seq_length: recipe.data.bptt,
            d_hidden: match penalty.site {
                Site::Embedding => sizes.d_embed,
                Site::Logits => vocab_size,
                Site::LayerCell(layer) | Site::LayerHidden(layer)
                    if layer + 1 < sizes.num_layers =>
                {
                    sizes.d_hidden
                }
                _ => sizes.d_output,
            },
        };
        // A difference between steps is not an activation: its penalty has no equivalent.
        let of = |convert: fn(Norm, Reduction, f64, BatchShape, LossReduction) -> Option<f64>| {
            let value = convert(penalty.norm, penalty.reduction, penalty.eta, shape, loss);
            value.filter(|_| !penalty.temporal)
        };
        PenaltyEquivalent {
            site: penalty.site.to_string(),
            eta: penalty.eta,
            lambda: of(anp_core::lambda),
            awd_alpha: of(anp_core::awd_alpha),
        }
    };
    let regularizers = recipe.regularizers.iter().map(|it| (it.kind(), Some(it.strength())));
    let others = [
        ("recurrent weights", recipe.weight_penalty.as_ref().map(|it| it.eta)),
        ("information", recipe.information_penalty.as_ref().map(|it| it.beta)),
    ];
    let last = [
        ("pointer supervision", recipe.pointer_sentinel.as_ref().map(|it| it.supervision)),
        // The recipe does not choose this strength: the divergence counts once per epoch.
        ("weight posterior", recipe.bayes_by_backprop.as_ref().map(|_| 1.0)),
    ];
    let others = others.into_iter().chain(regularizers).chain(last);
    let without_equivalent = others.filter_map(|(site, eta)| {
        Some(PenaltyEquivalent { site: site.to_owned(), eta: eta?, lambda: None, awd_alpha: None })
    });
    recipe.penalties.iter().map(on_activation).chain(without_equivalent).collect()
}

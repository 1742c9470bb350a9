//! From a recipe and a corpus to what is trained on what.

use std::sync::Arc;

use anp_core::{ActivationNormConfig, BatchShape, LossReduction, Norm, Reduction};
use anp_kernels::sgd::WeightDecay;
use anp_models::{
    BiasInit, Dropout, GateMasks, Kernels, LayerInitRange, MaskSpan, MixtureOver, PointerConfig,
    RecurrentLmConfig, ScaleMixture, Site, StochasticConfig, WordTie,
};
use burn::tensor::Device;

use super::batches::{Tail, TokenStreams};
use super::learner::{LmLearner, Objective, SitePenalty};
use super::recipe::{self, ModelConfig, Shape, TextRecipe, WeightDecayConfig};
use crate::data::Corpus;
use crate::engine::TrainError;
use crate::recipe::penalty::PenaltyConfig;
use crate::record::PenaltyEquivalent;

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

impl Texts {
    /// Cut `corpus` as `recipe` says.
    ///
    /// # Errors
    ///
    /// [`TrainError::TooShort`].
    pub fn cut(corpus: &Corpus, recipe: &TextRecipe) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let cut = |split, text: &[u32], batch_size, tail| {
            TokenStreams::new(text, batch_size, data.bptt, tail)
                .map(Arc::new)
                .map_err(|source| TrainError::TooShort { split, source })
        };
        Ok(Self {
            train: cut("training", data.training_text(&corpus.train), data.batch_size, Tail::Drop)?,
            valid: cut("validation", &corpus.valid, data.batch_size, Tail::Drop)?,
            valid_single: cut("validation", &corpus.valid, 1, Tail::Keep)?,
            test: cut("test", &corpus.test, 1, Tail::Keep)?,
        })
    }
}

/// The network and the penalties of a recipe, drawn from the device's random number generator. How many windows an epoch has
/// is for the caller to say: it depends on the text.
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
        penalties: recipe.penalties.iter().map(PenaltyConfig::build).collect(),
        weight_penalty: recipe.weight_penalty.clone(),
        information: recipe.information_penalty.clone(),
        supervision: recipe.pointer_sentinel.as_ref().map_or(0.0, |pointer| pointer.supervision),
        windows_per_epoch: 1,
        loss: recipe.training.loss.unwrap_or(LossReduction::SumOverTime),
        weight_decay: match recipe.training.weight_decay {
            None => WeightDecay::None,
            Some(WeightDecayConfig::Coupled(factor)) => WeightDecay::Coupled(factor),
            Some(WeightDecayConfig::Decoupled(share)) => WeightDecay::Decoupled(share),
        },
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
                decoder_bias_init = init.into();
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
        dropout.span = match variational.span {
            recipe::MaskSpan::Step => MaskSpan::Step,
            recipe::MaskSpan::Window => MaskSpan::Window,
        };
        dropout.word = variational.word_dropout;
        dropout.word_tie = match variational.word_tie {
            recipe::WordTie::Token => WordTie::Token,
            recipe::WordTie::Sequence => WordTie::Sequence,
            recipe::WordTie::Window => WordTie::Window,
        };
        if variational.recurrent_dropout > 0.0 {
            dropout.recurrent = variational.recurrent_dropout;
        }
        dropout.weight = variational.weight_dropout;
        dropout.gates = match variational.gates {
            recipe::GateMasks::Shared => GateMasks::Shared,
            recipe::GateMasks::Separate => GateMasks::Separate,
        };
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
            over: match bayes.mixture_over {
                recipe::MixtureOver::Weight => MixtureOver::Weight,
                recipe::MixtureOver::Row => MixtureOver::Row,
            },
        }),
        kernels,
        ..RecurrentLmConfig::new(vocab_size, d_embed, d_hidden)
    }
}

impl From<recipe::BiasInit> for BiasInit {
    fn from(init: recipe::BiasInit) -> Self {
        match init {
            recipe::BiasInit::Zeros => Self::Zeros,
            recipe::BiasInit::Uniform => Self::Uniform,
        }
    }
}

impl PenaltyConfig {
    /// The penalty.
    ///
    /// # Panics
    ///
    /// If it is not valid.
    fn build(&self) -> SitePenalty {
        SitePenalty {
            site: self.site.parse().expect("a validated recipe"),
            norm: ActivationNormConfig::new(self.eta)
                .with_norm(self.norm)
                .with_reduction(self.reduction)
                .init(),
            temporal: self.temporal,
        }
    }
}

/// What the recipe's penalties are in the conventions of the literature.
pub(crate) fn equivalents(recipe: &TextRecipe, vocab_size: usize) -> Vec<PenaltyEquivalent> {
    let sizes = recipe.model.shape();
    let loss = recipe.training.loss.unwrap_or(LossReduction::SumOverTime);
    let equivalent = |penalty: &PenaltyConfig| {
        let site: Site = penalty.site.parse().expect("a validated recipe");
        let shape = BatchShape {
            batch_size: recipe.data.batch_size,
            seq_length: recipe.data.bptt,
            d_hidden: match site {
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
        // A difference between steps is no activation: nothing is equivalent to its penalty.
        let of = |convert: fn(Norm, Reduction, f64, BatchShape, LossReduction) -> Option<f64>| {
            let value = convert(penalty.norm, penalty.reduction, penalty.eta, shape, loss);
            value.filter(|_| !penalty.temporal)
        };
        PenaltyEquivalent {
            site: penalty.site.clone(),
            eta: penalty.eta,
            lambda: of(anp_core::lambda),
            awd_alpha: of(anp_core::awd_alpha),
        }
    };
    let on_weights = recipe.weight_penalty.as_ref().map(|penalty| PenaltyEquivalent {
        site: "recurrent weights".to_owned(),
        eta: penalty.eta,
        lambda: None,
        awd_alpha: None,
    });
    let on_information = recipe.information_penalty.as_ref().map(|penalty| PenaltyEquivalent {
        site: "information".to_owned(),
        eta: penalty.beta,
        lambda: None,
        awd_alpha: None,
    });
    let on_pointer = recipe.pointer_sentinel.as_ref().map(|pointer| PenaltyEquivalent {
        site: "pointer supervision".to_owned(),
        eta: pointer.supervision,
        lambda: None,
        awd_alpha: None,
    });
    // Its strength is not the recipe's to choose: the divergence counts once an epoch.
    let on_posterior = recipe.bayes_by_backprop.as_ref().map(|_| PenaltyEquivalent {
        site: "weight posterior".to_owned(),
        eta: 1.0,
        lambda: None,
        awd_alpha: None,
    });
    let on_activations = recipe.penalties.iter().map(equivalent);
    on_activations
        .chain(on_weights)
        .chain(on_information)
        .chain(on_pointer)
        .chain(on_posterior)
        .collect()
}

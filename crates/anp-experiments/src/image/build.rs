//! From a recipe to the network and its penalties.

use anp_core::{BatchShape, LossReduction};
use anp_kernels::sgd::{ClippedSgd, Momentum, WeightDecay};
use anp_models::{ImageSite, Kernels};
use burn::tensor::Device;

use super::data::ImageData;
use super::learner::ImageLearner;
use super::recipe::{ImageRecipe, ImageTrainingConfig};
use super::regularizer::ImageRegularizer;
use super::snapshot::Velocities;
use crate::engine::PenaltyEquivalent;
use crate::recipe::penalty::PenaltyConfig;

/// The network and the penalties of a recipe, drawn from the device's random number generator.
pub(super) fn build(
    recipe: &ImageRecipe,
    data: &ImageData,
    kernels: Kernels,
    device: &Device,
) -> ImageLearner {
    let counts = data.class_counts();
    let regularizer = |config| ImageRegularizer::new(config, &counts);
    let penalties = recipe.penalties.iter().map(|it| (it.site, it.activation_norm()));
    ImageLearner {
        net: recipe.network(data.num_classes, kernels).init(device),
        penalties: penalties.collect(),
        regularizers: recipe.regularizers.iter().map(regularizer).collect(),
        weight_penalty: recipe.weight_penalty.clone(),
    }
}

/// The optimizer of a recipe, with these velocities.
pub(super) fn optimizer(
    training: &ImageTrainingConfig,
    kernels: Kernels,
    velocities: Velocities,
) -> ClippedSgd {
    ClippedSgd {
        kernels,
        max_norm: None,
        momentum: (training.momentum > 0.0).then_some(Momentum {
            factor: training.momentum,
            dampening: 0.0,
            nesterov: false,
        }),
        weight_decay: Some(WeightDecay::Coupled(training.weight_decay)),
        velocities,
        ..ClippedSgd::default()
    }
}

/// The recipe's penalties in the conventions of the literature; an image counts as a token.
pub(super) fn equivalents(recipe: &ImageRecipe) -> Vec<PenaltyEquivalent> {
    let features = recipe.network(1, Kernels::Fused).num_features();
    let equivalent = |penalty: &PenaltyConfig<ImageSite>| {
        let shape =
            BatchShape { batch_size: recipe.data.batch_size, seq_length: 1, d_hidden: features };
        let is_pooled = penalty.site == ImageSite::Pooled;
        let of = |convert: fn(_, _, _, _, _) -> Option<f64>| {
            let loss = LossReduction::MeanOverTokens;
            let value = convert(penalty.norm, penalty.reduction, penalty.eta, shape, loss);
            value.filter(|_| is_pooled)
        };
        PenaltyEquivalent {
            site: penalty.site.to_string(),
            eta: penalty.eta,
            lambda: of(anp_core::lambda),
            awd_alpha: of(anp_core::awd_alpha),
        }
    };
    let regularizers = recipe.regularizers.iter().map(|it| (it.kind(), it.strength()));
    let weights = recipe.weight_penalty.iter().map(|it| ("weights", it.eta));
    let without_equivalent = regularizers.chain(weights).map(|(site, eta)| PenaltyEquivalent {
        site: site.to_owned(),
        eta,
        lambda: None,
        awd_alpha: None,
    });
    recipe.penalties.iter().map(equivalent).chain(without_equivalent).collect()
}

use anp_core::{ActivationNorm, ActivationNormConfig, Norm, Reduction};
use serde::{Deserialize, Serialize};

use super::ranges::{InvalidRecipe, not_negative};

/// One `[[penalty]]`: a term of the training loss on one site of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyConfig<Site> {
    /// The penalised activation: an `anp_models::Site` or `anp_models::ImageSite`.
    pub site: Site,
    /// The norm.
    pub norm: Norm,
    /// How the norms of a minibatch become one number.
    pub reduction: Reduction,
    /// Strength η.
    pub eta: f64,
    /// Whether to penalise the difference between a step and the one before it (AWD-LSTM's temporal
    /// activation regularisation).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub temporal: bool,
}

impl<Site> PenaltyConfig<Site> {
    /// Check the strength; `index` is the penalty's position in the recipe.
    pub(crate) fn validate(&self, index: usize) -> Result<(), InvalidRecipe> {
        not_negative(format!("penalty.{index}.eta"), self.eta)
    }

    /// The norm to add to the loss.
    ///
    /// # Panics
    ///
    /// If the penalty is not valid.
    pub(crate) fn activation_norm(&self) -> ActivationNorm {
        let Self { norm, reduction, eta, .. } = *self;
        ActivationNormConfig::new(eta).with_norm(norm).with_reduction(reduction).init()
    }
}

//! The confidence penalty.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_strength};
use crate::norm::tokens_and_features;
use crate::widen::{no_penalty, widen};

/// Configuration of [`ConfidencePenalty`].
#[derive(Config, Debug, PartialEq)]
pub struct ConfidencePenaltyConfig {
    /// Strength β ≥ 0; 0 turns the penalty off. The paper takes 2 on the Penn Treebank.
    pub beta: f64,
}

impl ConfidencePenaltyConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `beta` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_strength("beta", self.beta)
    }

    /// Build the penalty.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> ConfidencePenalty {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        ConfidencePenalty { beta: self.beta }
    }
}

/// Confidence penalty: predictions should have a high entropy.
///
/// ```text
/// CP(z) = −β · mean over n of H(pₙ),   pₙ = softmax(zₙ),   H(p) = −Σᵥ pᵥ ln pᵥ
/// ```
///
/// [Pereyra, Tucker, Chorowski, Kaiser & Hinton, 2017](https://arxiv.org/abs/1701.06548).
/// It is negative: between −β ln V and 0 for V classes. Per token it stands beside the
/// negative log-likelihood; for a loss that is no mean over tokens, see
/// [`LossReduction::scale`](crate::LossReduction::scale).
///
/// ```
/// use anp_core::ConfidencePenaltyConfig;
/// use burn::prelude::*;
///
/// let undecided = Tensor::<2>::zeros([8, 4], &Device::default());
/// let penalty = ConfidencePenaltyConfig::new(0.5).init().forward(undecided);
/// assert!((penalty.into_scalar::<f32>() + 0.5 * 4_f32.ln()).abs() < 1e-6);
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ConfidencePenalty {
    beta: f64,
}

impl ConfidencePenalty {
    /// Penalty to add to the loss, in nats. Its value is the one to log.
    ///
    /// A class may be excluded by a logit of −∞.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[num_tokens, num_classes]`
    /// - returns: `[1]`, in single precision if `logits` is in half precision
    ///
    /// # Panics
    ///
    /// If `logits` has no element: there is no mean to take.
    pub fn forward(&self, logits: Tensor<2>) -> Tensor<1> {
        let [num_tokens, _] = tokens_and_features(logits.dims());
        if self.beta == 0.0 {
            return no_penalty(&logits);
        }
        /// Below this logarithm, a probability is 0, and so is its product with the logarithm.
        const LOWEST: f64 = -1e3;
        let log_p = log_softmax(widen(logits), 1);
        let negative_entropy = log_p.clone().exp() * log_p.clamp_min(LOWEST);
        negative_entropy.sum().mul_scalar(self.beta / num_tokens as f64)
    }

    /// Strength β.
    pub fn beta(&self) -> f64 {
        self.beta
    }
}

display_on_one_line!(ConfidencePenalty, it: "beta" = it.beta);

//! Temporal activation regularization (TAR).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::activation_norm::{ActivationNorm, ActivationNormConfig};
use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_strength};
use crate::norm::{Norm, Reduction};
use crate::time::differences;
use crate::widen::{no_penalty, widen};

/// Configuration of [`TemporalActivationNorm`].
///
/// The defaults are AWD-LSTM's; its β is 1.
#[derive(Config, Debug, PartialEq)]
pub struct TemporalActivationNormConfig {
    /// Strength β ≥ 0; 0 turns the penalty off.
    pub beta: f64,
    /// Norm of the difference between two successive steps of one sequence.
    #[config(default = "Norm::L2sq")]
    pub norm: Norm,
    /// How the norms of a minibatch become one number.
    #[config(default = "Reduction::MeanElements")]
    pub reduction: Reduction,
    /// Whether activations are `[batch_size, seq_length, d_hidden]` or
    /// `[seq_length, batch_size, d_hidden]`.
    #[config(default = true)]
    pub batch_first: bool,
}

impl TemporalActivationNormConfig {
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
    pub fn init(&self) -> TemporalActivationNorm {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let config = ActivationNormConfig::new(self.beta);
        TemporalActivationNorm {
            differences: config.with_norm(self.norm).with_reduction(self.reduction).init(),
            batch_first: self.batch_first,
        }
    }
}

/// Temporal activation regularization (TAR): hidden states should not jump between steps.
///
/// ```text
/// TAR(h) = β · mean over t, b, d of (h[t+1, b, d] − h[t, b, d])²
/// ```
///
/// [Merity, McCann & Socher, 2017](https://arxiv.org/abs/1708.01009). The paper writes
/// `β L₂(hₜ − hₜ₊₁)`, a norm; the authors' awd-lstm-lm takes the mean square, which its published
/// perplexities rest on, and so do we. It is [`ActivationNorm`] of the differences: other norms and
/// reductions are as there, with N the number of differences.
///
/// AWD-LSTM penalises the raw output of the last layer, before its dropout, beside a loss that is a
/// mean over tokens; for another loss, see [`LossReduction::scale`](crate::LossReduction::scale).
///
/// ```
/// use anp_core::TemporalActivationNormConfig;
/// use burn::prelude::*;
///
/// let hidden = Tensor::<3>::from_data([[[1.0, -2.0], [0.5, 1.0]]], &Device::default());
/// let penalty = TemporalActivationNormConfig::new(2.0).init().forward(hidden);
/// assert_eq!(penalty.into_scalar::<f32>(), 9.25); // 2 (0.25 + 9) / 2
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct TemporalActivationNorm {
    differences: ActivationNorm,
    batch_first: bool,
}

impl TemporalActivationNorm {
    /// Penalty to add to the loss. Its value is the one to log.
    ///
    /// A window of a single step has no difference and costs nothing. The step from the window
    /// before counts if its last activation is the first step of `activation`.
    ///
    /// # Shapes
    ///
    /// - `activation`: `[batch_size, seq_length, d_hidden]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_hidden]`
    /// - returns: `[1]`, in single precision if `activation` is in half precision
    ///
    /// # Panics
    ///
    /// If two steps of `activation` have no element: there is no mean to take.
    pub fn forward(&self, activation: Tensor<3>) -> Tensor<1> {
        let off = no_penalty(&activation);
        match differences(widen(activation), self.batch_first) {
            Some(differences) => self.differences.forward(differences),
            None => off,
        }
    }

    /// Strength β.
    pub fn beta(&self) -> f64 {
        self.differences.eta()
    }
}

display_on_one_line!(
    TemporalActivationNorm, it: "beta" = it.beta(), "norm" = it.differences.norm().to_string(),
    "reduction" = it.differences.reduction().to_string(), "batch_first" = it.batch_first
);

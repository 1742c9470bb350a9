//! The norm stabiliser.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_strength};
use crate::l2_norm::l2_norm;
use crate::norm::{Norm, Reduction};
use crate::time::differences;
use crate::widen::{no_penalty, widen};

/// Configuration of [`NormStabilizer`].
#[derive(Config, Debug, PartialEq)]
pub struct NormStabilizerConfig {
    /// Strength β ≥ 0; 0 turns the penalty off. The paper tries 1 to 500.
    pub beta: f64,
    /// How the squares of a minibatch become one number, as for a squared norm.
    #[config(default = "Reduction::PerToken")]
    pub reduction: Reduction,
    /// Whether activations are `[batch_size, seq_length, d_hidden]` or
    /// `[seq_length, batch_size, d_hidden]`.
    #[config(default = true)]
    pub batch_first: bool,
}

impl NormStabilizerConfig {
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
    pub fn init(&self) -> NormStabilizer {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        NormStabilizer { beta: self.beta, reduction: self.reduction, batch_first: self.batch_first }
    }
}

/// Norm stabiliser: the norm of the hidden state should not change from step to step.
///
/// ```text
/// NS(h) = β · w · Σ over t, b of (‖h[t+1, b]‖₂ − ‖h[t, b]‖₂)²
///
/// per_token:      w = 1/N                the paper's β/T Σₜ, averaged over the batch; the default
/// mean_elements:  w = 1/(N·K)            the same of root mean squares instead of norms
/// half_sum:       w = ½                  eq11_literal:  w = N/K
/// ```
///
/// with N pairs of steps and K features.
/// [Krueger & Memisevic, 2015](https://arxiv.org/abs/1511.08400), on the hidden states
/// of the recurrent layer. The paper's sum over T pairs begins with the initial state; ours is over
/// the T − 1 pairs in `activation`, of which the initial state may be the first step. Beside a loss
/// that is no mean over tokens, see [`LossReduction::scale`](crate::LossReduction::scale).
///
/// ```
/// use anp_core::NormStabilizerConfig;
/// use burn::prelude::*;
///
/// // Norms 5, 1 and 13.
/// let hidden = Tensor::<3>::from_data(
///     [[[3.0, 4.0], [1.0, 0.0], [-5.0, 12.0]]],
///     &Device::default(),
/// );
/// let penalty = NormStabilizerConfig::new(1.0).init().forward(hidden);
/// assert_eq!(penalty.into_scalar::<f32>(), 80.0); // (16 + 144) / 2
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct NormStabilizer {
    beta: f64,
    #[module(skip)]
    reduction: Reduction,
    batch_first: bool,
}

impl NormStabilizer {
    /// Penalty to add to the loss. Its value is the one to log.
    ///
    /// The gradient of ‖h‖₂ at h = 0 is taken to be 0. A window of a single step costs nothing.
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
        if self.beta == 0.0 {
            return off;
        }
        let [_, _, d_hidden] = activation.dims();
        let Some(changes) = differences(l2_norm(widen(activation)), self.batch_first) else {
            return off;
        };
        let [first, second, _] = changes.dims();
        let weight = self.reduction.weight_of_shape(Norm::L2sq, [first, second, d_hidden]);
        changes.square().sum().mul_scalar(self.beta * weight)
    }

    /// Strength β.
    pub fn beta(&self) -> f64 {
        self.beta
    }
}

display_on_one_line!(
    NormStabilizer, it: "beta" = it.beta, "reduction" = it.reduction.to_string(),
    "batch_first" = it.batch_first
);

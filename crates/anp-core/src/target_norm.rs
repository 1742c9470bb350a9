//! Norms drawn to a fixed target.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_range, validate_strength};
use crate::l2_norm::l2_norm;
use crate::norm::{Norm, Reduction};
use crate::widen::{no_penalty, widen};

/// Configuration of [`TargetNorm`].
#[derive(Config, Debug, PartialEq)]
pub struct TargetNormConfig {
    /// Strength β ≥ 0; 0 turns the penalty off.
    pub beta: f64,
    /// Norm k ≥ 0 that each token's activation should have.
    pub target: f64,
    /// How the squares of a minibatch become one number, as for a squared norm.
    #[config(default = "Reduction::PerToken")]
    pub reduction: Reduction,
}

impl TargetNormConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `beta` or `target` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_strength("beta", self.beta)?;
        let Self { target, .. } = *self;
        validate_range("target", target, "[0, ∞)", target.is_finite() && target >= 0.0)
    }

    /// Build the penalty.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> TargetNorm {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        TargetNorm { beta: self.beta, target: self.target, reduction: self.reduction }
    }
}

/// The fixed-target variant of the norm stabiliser: activations should have norm k.
///
/// ```text
/// TN(h) = β · w · Σₙ (‖hₙ‖₂ − k)²,   w = 1/N for per_token, the default
/// ```
///
/// for N tokens (rows; all dimensions but the last) with K features. The other reductions are as
/// for [`NormStabilizer`](crate::NormStabilizer), the form of
/// [Krueger & Memisevic, 2015](https://arxiv.org/abs/1511.08400), which draws each norm to that of
/// the step before. This one needs no time: it applies to images, too. With k = 0 it is
/// [`ActivationNorm`](crate::ActivationNorm) with the squared norm.
///
/// ```
/// use anp_core::TargetNormConfig;
/// use burn::prelude::*;
///
/// let hidden = Tensor::<2>::from_data([[3.0, 4.0], [0.0, 1.0]], &Device::default());
/// let penalty = TargetNormConfig::new(0.5, 2.0).init().forward(hidden);
/// assert_eq!(penalty.into_scalar::<f32>(), 2.5); // 0.5 (9 + 1) / 2
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct TargetNorm {
    beta: f64,
    target: f64,
    #[module(skip)]
    reduction: Reduction,
}

impl TargetNorm {
    /// Penalty to add to the loss. Its value is the one to log.
    ///
    /// The gradient of ‖h‖₂ at h = 0 is taken to be 0: a token at zero stays there.
    ///
    /// # Shapes
    ///
    /// - `activation`: `[.., d_hidden]`, in any layout of batch and time
    /// - returns: `[1]`, in single precision if `activation` is in half precision
    ///
    /// # Panics
    ///
    /// If `activation` has no element: there is no mean to take.
    pub fn forward<const D: usize>(&self, activation: Tensor<D>) -> Tensor<1> {
        let weight = self.reduction.weight_of_shape(Norm::L2sq, activation.dims());
        if self.beta == 0.0 {
            return no_penalty(&activation);
        }
        let excess = l2_norm(widen(activation)).sub_scalar(self.target);
        excess.square().sum().mul_scalar(self.beta * weight)
    }

    /// Strength β.
    pub fn beta(&self) -> f64 {
        self.beta
    }
}

display_on_one_line!(
    TargetNorm, it: "beta" = it.beta, "target" = it.target,
    "reduction" = it.reduction.to_string()
);

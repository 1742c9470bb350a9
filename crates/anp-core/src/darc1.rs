//! DARC1, the output penalty of Kawaguchi et al.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_strength};
use crate::norm::tokens_and_features;
use crate::widen::{no_penalty, widen};

/// Configuration of [`Darc1`].
#[derive(Config, Debug, PartialEq)]
pub struct Darc1Config {
    /// Strength λ ≥ 0; 0 turns the penalty off. The paper takes 1e-3 to 1e-2.
    pub lambda: f64,
}

impl Darc1Config {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `lambda` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_strength("lambda", self.lambda)
    }

    /// Build the penalty.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> Darc1 {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        Darc1 { lambda: self.lambda }
    }
}

/// DARC1, directly approximately regularizing complexity: no class should have large logits
/// throughout the minibatch.
///
/// ```text
/// DARC1(z) = (λ/m) · maxᵥ Σₙ |zₙᵥ|
/// ```
///
/// for the logits of m examples. [Kawaguchi, Kaelbling & Bengio,
/// 2017](https://arxiv.org/abs/1710.05468), where it approximates the Rademacher
/// complexity of the outputs. It stands beside a mean over examples; for another loss, see
/// [`LossReduction::scale`](crate::LossReduction::scale). The maximum makes it a penalty of the
/// whole minibatch: that of a part is no part of it.
///
/// ```
/// use anp_core::Darc1Config;
/// use burn::prelude::*;
///
/// let logits = Tensor::<2>::from_data([[1.0, -2.0, 0.5], [-4.0, 1.0, 0.5]], &Device::default());
/// let penalty = Darc1Config::new(0.1).init().forward(logits);
/// assert_eq!(penalty.into_scalar::<f32>(), 0.25); // 0.1 · (1 + 4) / 2
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Darc1 {
    lambda: f64,
}

impl Darc1 {
    /// Penalty to add to the loss. Its value is the one to log.
    ///
    /// The gradient is (λ/m) sign(zₙᵥ) for the class of the maximum, one of them if there are
    /// several, and 0 for all others.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[num_examples, num_classes]`
    /// - returns: `[1]`, in single precision if `logits` is in half precision
    ///
    /// # Panics
    ///
    /// If `logits` has no element: there is no mean to take.
    pub fn forward(&self, logits: Tensor<2>) -> Tensor<1> {
        let [num_examples, _] = tokens_and_features(logits.dims());
        if self.lambda == 0.0 {
            return no_penalty(&logits);
        }
        let largest = widen(logits).abs().sum_dim(0).max_dim(1);
        largest.reshape([1]).mul_scalar(self.lambda / num_examples as f64)
    }

    /// Strength λ.
    pub fn lambda(&self) -> f64 {
        self.lambda
    }
}

display_on_one_line!(Darc1, it: "lambda" = it.lambda);

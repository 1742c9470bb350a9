//! Weights drawn from normal distributions around their means, and how far these are from a prior: Bayes by Backprop.
//!
//! ```text
//! σ = ln(1 + e^ρ) + MIN_SIGMA
//! w = μ + σ ⊙ ε
//! d = ln q(w | μ, σ) − ln p(w)
//! ```
//!
//! [Blundell et al., 2015](https://arxiv.org/abs/1505.05424).

mod autodiff;
mod composition;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
mod ops;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use composition::weight_draw as weight_draw_composition;
pub use ops::WeightDrawBackend;

use crate::backend::{check_alike, check_shape, is_host};
use crate::cpu::weight_draw::LogDensity;

/// What σ is never below.
pub const MIN_SIGMA: f64 = crate::cpu::weight_draw::MIN_SIGMA;

const OPERATION: &str = "weight_draw";

/// A mixture of two normal distributions around zero: what is believed of a weight before training.
///
/// ```text
/// p(w) = π N(w; 0, σ₁²) + (1 − π) N(w; 0, σ₂²)
/// ```
///
/// [Blundell et al., 2015](https://arxiv.org/abs/1505.05424), equation 7.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScaleMixture {
    /// π, in (0, 1).
    pub pi: f64,
    /// ln σ₁.
    pub log_sigma1: f64,
    /// ln σ₂.
    pub log_sigma2: f64,
    /// What is drawn from one of the two.
    pub over: MixtureOver,
}

/// What is drawn from one component of a [`ScaleMixture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixtureOver {
    /// Each weight by itself, as Blundell et al. write.
    Weight,
    /// The weights of a row of a matrix, or of a whole bias, together: so it is in Sonnet's example of Fortunato et al.
    Row,
}

impl ScaleMixture {
    /// Standard deviation: `√(π σ₁² + (1 − π) σ₂²)`.
    pub fn sigma(&self) -> f64 {
        let variance = |log_sigma: f64| (2.0 * log_sigma).exp();
        (self.pi * variance(self.log_sigma1) + (1.0 - self.pi) * variance(self.log_sigma2)).sqrt()
    }

    /// `ln p` of the weights that are drawn together, in rows of `width`.
    fn log_density(&self, width: usize) -> LogDensity {
        let together = match self.over {
            MixtureOver::Weight => 1.0,
            MixtureOver::Row => width as f64,
        };
        let component = |share: f64, log_sigma: f64| {
            (share.ln() - together * log_sigma, 0.5 * (-2.0 * log_sigma).exp())
        };
        let first = component(self.pi, self.log_sigma1);
        let second = component(1.0 - self.pi, self.log_sigma2);
        let (wide, narrow) = if first.1 < second.1 { (first, second) } else { (second, first) };
        LogDensity {
            wide: wide.0,
            wide_slope: wide.1,
            largest: narrow.0 - wide.0,
            slope: narrow.1 - wide.1,
        }
    }
}

/// What weights are drawn from.
#[derive(Debug, Clone)]
pub struct WeightDrawInputs<const D: usize> {
    /// μ, in rows of its last dimension.
    pub mean: Tensor<D>,
    /// ρ, flat, of as many elements.
    pub rho: Tensor<1>,
    /// ε, flat, of as many elements. Not differentiated.
    pub noise: Tensor<1>,
    /// `p`.
    pub prior: ScaleMixture,
}

/// Draw weights with the given noise, as one operation with one backward step: `w`, of the shape of the means, and `d` of all of
/// them, `[1]`, where both densities lack the factor `1/√(2π)` of each weight.
///
/// On a device without a kernel this is [`weight_draw_composition`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, or there are no weights.
pub fn weight_draw<const D: usize>(inputs: WeightDrawInputs<D>) -> (Tensor<D>, Tensor<1>) {
    let WeightDrawInputs { mean, rho, noise, prior } = &inputs;
    let len = mean.shape().num_elements();
    assert!(len > 0, "{OPERATION}: no size may be zero: `mean` has the shape {:?}", mean.dims());
    check_shape(OPERATION, "rho", &rho.shape(), &[len]);
    check_shape(OPERATION, "noise", &noise.shape(), &[len]);
    check_alike!(OPERATION, mean, rho, noise);
    if !is_host(&mean.device()) {
        return weight_draw_composition(inputs);
    }
    let prior = *prior;
    let (divergence, weights) = Dispatch::weight_draw_forward(
        inputs.mean.into_dispatch(),
        inputs.rho.into_dispatch(),
        inputs.noise.into_dispatch(),
        prior,
    );
    (Tensor::from_dispatch(weights), Tensor::from_dispatch(divergence))
}

//! Bayes by Backprop: weights drawn from normal distributions around their means, and their
//! divergence from a prior.
//!
//! ```text
//! σ = ln(1 + e^ρ) + MIN_SIGMA
//! w = μ + σ ⊙ ε
//! d = ln q(w | μ, σ) − ln p(w)
//! ```
//!
//! [Blundell et al., 2015](https://arxiv.org/abs/1505.05424).

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
mod inputs;
mod ops;
mod prior;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use inputs::{MIN_SIGMA, SampledWeightInputs};
pub use ops::{
    SampledWeightBackend, SampledWeightBackward, SampledWeightForward, SampledWeightGradients,
    SampledWeightOutputs, SampledWeightSaved,
};
pub use prior::{MixtureOver, ScaleMixture};
pub use reference::sampled_weight as sampled_weight_reference;

use crate::backend::{check_alike, check_shape, is_cpu};

const OPERATION: &str = "sampled_weight";

/// Draw weights with the given noise, as one operation with one backward step.
///
/// Returns `w`, in the shape of the means, and `d` of all of them, `[1]`, where both densities lack
/// the factor `1/√(2π)` of each weight. On a device without a kernel, this is
/// [`sampled_weight_reference`].
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, or there are no weights.
pub fn sampled_weight<const D: usize>(inputs: SampledWeightInputs<D>) -> (Tensor<D>, Tensor<1>) {
    let SampledWeightInputs { mean, rho, noise, prior } = &inputs;
    let len = mean.shape().num_elements();
    assert!(len > 0, "{OPERATION}: no size may be zero: `mean` has the shape {:?}", mean.dims());
    check_shape(OPERATION, "rho", &rho.shape(), &[len]);
    check_shape(OPERATION, "noise", &noise.shape(), &[len]);
    check_alike!(OPERATION, mean, rho, noise);
    if !is_cpu(&mean.device()) {
        return sampled_weight_reference(inputs);
    }
    let prior = *prior;
    let SampledWeightOutputs { weights, divergence } =
        Dispatch::sampled_weight_forward(SampledWeightForward {
            mean: inputs.mean.into_dispatch(),
            rho: inputs.rho.into_dispatch(),
            noise: inputs.noise.into_dispatch(),
            prior,
        });
    (Tensor::from_dispatch(weights), Tensor::from_dispatch(divergence))
}

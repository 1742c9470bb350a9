//! What the operation reads and returns.

use burn::tensor::Tensor;

use super::prior::ScaleMixture;

/// Lower bound of σ.
pub const MIN_SIGMA: f64 = 1e-5;

/// What weights are drawn from.
#[derive(Debug, Clone)]
pub struct SampledWeightInputs<const D: usize> {
    /// μ, in rows of its last dimension.
    pub mean: Tensor<D>,
    /// ρ, flat, of as many elements.
    pub rho: Tensor<1>,
    /// ε, flat, of as many elements. Not differentiated.
    pub noise: Tensor<1>,
    /// `p`.
    pub prior: ScaleMixture,
}

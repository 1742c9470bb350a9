use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::ScaleMixture;
use crate::backend::Optional;

/// The two halves of a draw of weights, as a backend's kernels.
///
/// Shapes are those of [`SampledWeightInputs`](super::SampledWeightInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait SampledWeightBackend: Backend {
    /// `d`, `[1]`, and `w`, of the shape of `mean`.
    fn sampled_weight_forward(
        mean: FloatTensor<Self>,
        rho: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        prior: ScaleMixture,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the means and of ρ, from those of `d` and of `w`.
    fn sampled_weight_backward(
        weights: FloatTensor<Self>,
        rho: FloatTensor<Self>,
        noise: FloatTensor<Self>,
        prior: ScaleMixture,
        divergence_grad: FloatTensor<Self>,
        #[extension_type] weights_grad: Optional<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

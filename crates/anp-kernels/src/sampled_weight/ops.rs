use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use super::prior::ScaleMixture;

/// [`SampledWeightInputs`](super::SampledWeightInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
pub struct SampledWeightForward<B: Backend> {
    /// μ, in rows of its last dimension.
    pub mean: FloatTensor<B>,
    /// ρ, flat.
    pub rho: FloatTensor<B>,
    /// ε, flat.
    pub noise: FloatTensor<B>,
    /// `p`.
    pub prior: ScaleMixture,
}

/// What [`sampled_weight_forward`](SampledWeightBackend::sampled_weight_forward) computes.
#[derive(Debug, Clone, ExtensionType)]
pub struct SampledWeightOutputs<B: Backend> {
    /// `w`, in the shape of the means.
    pub weights: FloatTensor<B>,
    /// `d`: `[1]`.
    pub divergence: FloatTensor<B>,
}

/// What the backward step needs from the forward step.
#[derive(Debug, Clone)]
pub struct SampledWeightSaved<B: Backend> {
    /// The weights that were drawn.
    pub weights: FloatTensor<B>,
    /// ρ, flat.
    pub rho: FloatTensor<B>,
    /// ε, flat.
    pub noise: FloatTensor<B>,
    /// `p`.
    pub prior: ScaleMixture,
}

/// Gradients of the inputs that have one.
#[derive(Debug, Clone)]
pub struct SampledWeightGradients<B: Backend> {
    /// In the shape of the means.
    pub mean: FloatTensor<B>,
    /// Flat.
    pub rho: FloatTensor<B>,
}

/// A draw of weights as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait SampledWeightBackend: Backend {
    /// The weights and their divergence from the prior.
    fn sampled_weight_forward(
        #[extension_type] inputs: SampledWeightForward<Self>,
    ) -> SampledWeightOutputs<Self>;
}

/// The backward kernel, which makes the operation a step of the autodiff graph.
pub trait SampledWeightBackward: SampledWeightBackend {
    /// Gradients from those of the divergence and of the weights, which are zero if absent.
    fn sampled_weight_backward(
        saved: SampledWeightSaved<Self>,
        divergence_grad: FloatTensor<Self>,
        weights_grad: Option<FloatTensor<Self>>,
    ) -> SampledWeightGradients<Self>;
}

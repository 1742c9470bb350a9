use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use crate::backend::Optional;

/// The two halves of a batch normalisation, as a backend's kernels.
///
/// Shapes are those of [`BatchNormInputs`](super::BatchNormInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait BatchNormBackend: Backend {
    /// The output, and the mean and variance it was normalised by: those given, or the batch's.
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] mean: Optional<Self>,
        #[extension_type] variance: Optional<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of the input, γ and β; through the statistics, too, if they are the batch's.
    #[allow(clippy::too_many_arguments)]
    fn batch_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        of_batch: bool,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

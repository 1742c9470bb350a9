use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use crate::backend::Optional;

/// [`BatchNormInputs`](super::BatchNormInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
pub struct BatchNormForward<B: Backend> {
    /// `[batch_size, channels, height, width]`.
    pub input: FloatTensor<B>,
    /// γ: `[channels]`.
    pub gamma: FloatTensor<B>,
    /// β: `[channels]`.
    pub beta: FloatTensor<B>,
    /// Constant to normalise by, `[channels]`; absent, it is the mean of the batch.
    #[extension_type]
    pub mean: Optional<B>,
    /// Present with `mean`, and absent with it.
    #[extension_type]
    pub variance: Optional<B>,
    /// ε > 0.
    pub epsilon: f64,
    /// Whether the ReLU follows.
    pub relu: bool,
}

/// What [`batch_norm_forward`](BatchNormBackend::batch_norm_forward) computes.
#[derive(Debug, Clone, ExtensionType)]
pub struct BatchNormOutputs<B: Backend> {
    /// In the shape of the input.
    pub output: FloatTensor<B>,
    /// What the input was normalised by: the given mean, or that of the batch.
    pub mean: FloatTensor<B>,
    /// Likewise.
    pub variance: FloatTensor<B>,
}

/// What the backward step needs of the forward step.
#[derive(Debug, Clone)]
pub struct BatchNormSaved<B: Backend> {
    /// The inputs.
    pub inputs: BatchNormForward<B>,
    /// What the input was normalised by.
    pub mean: FloatTensor<B>,
    /// Likewise.
    pub variance: FloatTensor<B>,
}

/// Gradients of the inputs that have one.
#[derive(Debug, Clone)]
pub struct BatchNormGradients<B: Backend> {
    /// In the shape of the input.
    pub input: FloatTensor<B>,
    /// `[channels]`.
    pub gamma: FloatTensor<B>,
    /// `[channels]`.
    pub beta: FloatTensor<B>,
}

/// Batch normalisation as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait BatchNormBackend: Backend {
    /// The output, and the statistics that it was normalised by.
    fn batch_norm_forward(
        #[extension_type] inputs: BatchNormForward<Self>,
    ) -> BatchNormOutputs<Self>;
}

/// The backward kernel, with which the operation becomes a step of the graph.
pub trait BatchNormBackward: BatchNormBackend {
    /// Gradients from that of the output; through the statistics, too, if they are the batch's.
    fn batch_norm_backward(
        saved: BatchNormSaved<Self>,
        output_grad: FloatTensor<Self>,
    ) -> BatchNormGradients<Self>;
}

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};

use super::Conv2dOptions;
use crate::backend::Optional;

/// A convolution and its gradients, as a backend's kernels.
///
/// Shapes are those of [`Conv2dInputs`](super::Conv2dInputs); the caller has checked them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait Conv2dBackend: Backend {
    /// The output.
    fn conv2d_forward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// Gradient of the input, whose height and width are `input`, from that of the output.
    fn conv2d_input_gradient(
        weight: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        input: [usize; 2],
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// Gradient of the weight, whose height and width are `kernel`, from that of the output.
    fn conv2d_weight_gradient(
        input: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
        kernel: [usize; 2],
        options: Conv2dOptions,
    ) -> FloatTensor<Self>;

    /// Gradient of the bias from that of the output.
    fn conv2d_bias_gradient(upstream: FloatTensor<Self>) -> FloatTensor<Self>;
}

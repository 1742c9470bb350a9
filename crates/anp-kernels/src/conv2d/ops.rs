use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use super::inputs::Conv2dOptions;
use crate::backend::Optional;
use crate::precision::MatmulPrecision;

/// [`Conv2dInputs`](super::Conv2dInputs) as tensors of a backend.
#[derive(Debug, Clone, ExtensionType)]
pub struct Conv2dForward<B: Backend> {
    /// `[batch_size, channels_in, height, width]`.
    pub input: FloatTensor<B>,
    /// `[channels_out, channels_in, kernel height, kernel width]`.
    pub weight: FloatTensor<B>,
    /// `[channels_out]`.
    #[extension_type]
    pub bias: Optional<B>,
    /// Stride and padding.
    pub options: Conv2dOptions,
    /// How operands are rounded.
    pub precision: MatmulPrecision,
}

/// What the backward step needs from the forward step.
#[derive(Debug, Clone)]
pub struct Conv2dSaved<B: Backend> {
    /// `[batch_size, channels_in, height, width]`.
    pub input: FloatTensor<B>,
    /// `[channels_out, channels_in, kernel height, kernel width]`.
    pub weight: FloatTensor<B>,
    /// Stride and padding.
    pub options: Conv2dOptions,
    /// How operands are rounded.
    pub precision: MatmulPrecision,
}

/// A convolution as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait Conv2dBackend: Backend {
    /// The output.
    fn conv2d_forward(#[extension_type] inputs: Conv2dForward<Self>) -> FloatTensor<Self>;
}

/// The backward kernels, which make the operation a step of the autodiff graph. Each gradient has
/// its own kernel, as not all of them are always needed.
pub trait Conv2dBackward: Conv2dBackend {
    /// Gradient of the input from that of the output.
    fn conv2d_input_gradient(
        saved: Conv2dSaved<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient of the weight from that of the output.
    fn conv2d_weight_gradient(
        saved: Conv2dSaved<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient of the bias from that of the output.
    fn conv2d_bias_gradient(output_grad: FloatTensor<Self>) -> FloatTensor<Self>;
}

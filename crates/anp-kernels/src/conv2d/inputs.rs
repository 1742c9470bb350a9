//! What the operation reads and returns.

use burn::tensor::Tensor;

use crate::precision::MatmulPrecision;

/// How the kernel moves over the input: `[vertically, horizontally]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Step of the kernel between two positions of the output, not zero.
    pub stride: [usize; 2],
    /// Zeros on each side of the input.
    pub padding: [usize; 2],
}

impl Default for Conv2dOptions {
    /// Every position, without padding.
    fn default() -> Self {
        Self { stride: [1; 2], padding: [0; 2] }
    }
}

/// What a convolution reads.
#[derive(Debug, Clone)]
pub struct Conv2dInputs {
    /// `[batch_size, channels_in, height, width]`.
    pub input: Tensor<4>,
    /// `[channels_out, channels_in, kernel height, kernel width]`.
    pub weight: Tensor<4>,
    /// `[channels_out]`.
    pub bias: Option<Tensor<1>>,
    /// Stride and padding.
    pub options: Conv2dOptions,
    /// How input, weight and the gradient of the output are rounded.
    pub precision: MatmulPrecision,
}

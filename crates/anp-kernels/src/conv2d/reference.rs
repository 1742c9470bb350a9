use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

use super::inputs::Conv2dInputs;

/// [`conv2d`](super::conv2d) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not fit each other.
pub fn conv2d(inputs: Conv2dInputs) -> Tensor<4> {
    let Conv2dInputs { input, weight, bias, options } = inputs;
    module::conv2d(
        input,
        weight,
        bias,
        ConvOptions::new(options.stride, options.padding, [1, 1], 1),
    )
}

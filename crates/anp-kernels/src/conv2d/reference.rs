use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::ConvOptions;

use super::inputs::Conv2dInputs;
use crate::precision::MatmulPrecision;

/// [`conv2d`](super::conv2d) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not fit each other, or the device does not support the type that operands are
/// rounded to.
pub fn conv2d(inputs: Conv2dInputs) -> Tensor<4> {
    let Conv2dInputs { input, weight, bias, options, precision } = inputs;
    let options = ConvOptions::new(options.stride, options.padding, [1, 1], 1);
    match precision {
        MatmulPrecision::Full => module::conv2d(input, weight, bias, options),
        MatmulPrecision::Bf16 => {
            let [input, weight] = [input, weight].map(|operand| precision.prepare(operand));
            let output = module::conv2d(input, weight, None, options);
            let output = precision.round_gradient(output);
            match bias {
                Some(bias) => output + bias.reshape([1, -1, 1, 1]),
                None => output,
            }
        }
    }
}

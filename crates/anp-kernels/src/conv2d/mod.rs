//! Convolution of images, without dilation and groups.
//!
//! ```text
//! output[n, o, i, j] = bias[o]
//!     + Σ over c, y, x of weight[o, c, y, x] · input[n, c, i · s₀ + y − p₀, j · s₁ + x − p₁]
//! ```
//!
//! with zeros outside the input, stride `s` and padding `p`: what PyTorch's `conv2d` computes.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
mod inputs;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use inputs::{Conv2dInputs, Conv2dOptions};
pub use ops::{Conv2dBackend, Conv2dBackward, Conv2dForward, Conv2dSaved};
pub use reference::conv2d as conv2d_reference;

use crate::backend::{check_alike, check_shape, is_cpu};

const OPERATION: &str = "conv2d";

/// The convolution, as one operation.
///
/// Returns `[batch_size, channels_out, height, width]` with the height
/// `(height of the input + 2 · padding − kernel height) / stride + 1`, rounded down, and the width
/// likewise. On a device without a fused kernel, this is [`conv2d_reference`].
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, a size or a stride is zero, or the
/// kernel is larger than the padded input.
pub fn conv2d(inputs: Conv2dInputs) -> Tensor<4> {
    check(&inputs);
    if !is_cpu(&inputs.input.device()) {
        return conv2d_reference(inputs);
    }
    let Conv2dInputs { input, weight, bias, options, precision } = inputs;
    Tensor::from_dispatch(Dispatch::conv2d_forward(Conv2dForward {
        input: input.into_dispatch(),
        weight: weight.into_dispatch(),
        bias: bias.map(Tensor::into_dispatch).into(),
        options,
        precision,
    }))
}

#[track_caller]
fn check(inputs: &Conv2dInputs) {
    let Conv2dInputs { input, weight, bias, options, .. } = inputs;
    let [batch_size, channels_in, height, width] = input.dims();
    let [channels_out, _, kernel_height, kernel_width] = weight.dims();
    assert!(
        batch_size * channels_in * height * width > 0 && options.stride.iter().all(|&s| s > 0),
        "{OPERATION}: no size and no stride may be zero: `input` has the shape {:?}, the stride is \
         {:?}",
        input.dims(),
        options.stride
    );
    let expected = [channels_out, channels_in, kernel_height, kernel_width];
    check_shape(OPERATION, "weight", &weight.shape(), &expected);
    assert!(
        channels_out * kernel_height * kernel_width > 0,
        "{OPERATION}: `weight` is empty: {:?}",
        weight.dims()
    );
    let [vertical, horizontal] = options.padding;
    assert!(
        kernel_height <= height + 2 * vertical && kernel_width <= width + 2 * horizontal,
        "{OPERATION}: a kernel of {kernel_height} × {kernel_width} is larger than the input of \
         {height} × {width} with its padding of {vertical}, {horizontal}"
    );
    check_alike!(OPERATION, input, weight);
    if let Some(bias) = bias {
        check_shape(OPERATION, "bias", &bias.shape(), &[channels_out]);
        check_alike!(OPERATION, input, bias);
    }
}

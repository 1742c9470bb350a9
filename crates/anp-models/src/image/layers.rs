//! The layers that the network is made of: the one place that says how they start.

use anp_kernels::Kernels;
use anp_kernels::nn::{BatchNorm2d, BatchNorm2dConfig, Conv2d, Conv2dConfig};
use burn::module::Initializer;
use burn::tensor::{Device, FloatDType};

/// A convolution with a square kernel.
#[derive(Clone, Copy)]
pub(super) struct Convolution {
    /// Of the input and of the output.
    pub channels: [usize; 2],
    pub kernel: usize,
    pub stride: usize,
}

impl Convolution {
    pub fn num_weights(&self) -> usize {
        self.channels[0] * self.channels[1] * self.kernel * self.kernel
    }
}

/// How the layers compute.
#[derive(Clone, Copy)]
pub(super) struct Compute {
    /// Type that convolutions compute in, if it is not that of the parameters.
    pub convolutions: Option<FloatDType>,
    pub kernels: Kernels,
}

/// A convolution with a square kernel, padded so that only the stride changes the size.
///
/// Weights start Xavier-uniform with gain √2, `U(−a, a)` with `a = √2 · √(6 / (fan_in + fan_out))`, biases at
/// zero.
pub(super) fn convolution(
    shape: Convolution,
    bias: bool,
    compute: Compute,
    device: &Device,
) -> Conv2d {
    let Convolution { channels, kernel, stride } = shape;
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding([kernel / 2, kernel / 2])
        .with_bias(bias)
        .with_initializer(Initializer::XavierUniform { gain: 2.0_f64.sqrt() })
        .with_bias_initializer(Some(Initializer::Zeros))
        .with_compute_dtype(compute.convolutions)
        .with_kernels(compute.kernels)
        .init(device)
}

/// A normalisation with the rectifier behind it.
pub(super) fn norm_relu(
    channels: usize,
    momentum: f64,
    kernels: Kernels,
    device: &Device,
) -> BatchNorm2d {
    BatchNorm2dConfig::new(channels)
        .with_momentum(momentum)
        .with_relu(true)
        .with_kernels(kernels)
        .init(device)
}

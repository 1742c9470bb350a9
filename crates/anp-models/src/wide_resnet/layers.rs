//! The layers that the network is made of: the one place that says how they start.

use anp_kernels::Kernels;
use anp_kernels::nn::{BatchNorm2d, BatchNorm2dConfig, Conv2d, Conv2dConfig};
use burn::module::Initializer;
use burn::tensor::{Device, FloatDType};

/// How the layers compute.
#[derive(Clone, Copy)]
pub(super) struct Compute {
    /// Type that convolutions compute in, if it is not that of the parameters.
    pub convolutions: Option<FloatDType>,
    pub kernels: Kernels,
}

/// A convolution with square kernels that keeps the size but for its stride.
///
/// Weights start Xavier-uniform with gain √2, `U(−a, a)` with `a = √2 · √(6 / (fan_in + fan_out))`, biases at zero; the
/// initialisation of a layer as a whole would draw the biases, too.
pub(super) fn convolution(
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    bias: bool,
    compute: Compute,
    device: &Device,
) -> Conv2d {
    let mut convolution = Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding([kernel / 2, kernel / 2])
        .with_bias(false)
        .with_initializer(Initializer::XavierUniform { gain: 2.0_f64.sqrt() })
        .with_compute_dtype(compute.convolutions)
        .with_kernels(compute.kernels)
        .init(device);
    convolution.bias = bias.then(|| Initializer::Zeros.init([channels[1]], device));
    convolution
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

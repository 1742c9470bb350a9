//! The layers that the network is made of: the one place that says how they are computed.

use burn::module::{Initializer, Module, Param, RunningState};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, module};

/// A convolution with square kernels that keeps the size but for its stride.
///
/// Weights start Xavier-uniform with gain √2, `U(−a, a)` with `a = √2 · √(6 / (fan_in + fan_out))`, biases at zero; Burn's
/// own initialisation would draw the biases, too.
pub(super) fn convolution(
    [d_input, d_output]: [usize; 2],
    kernel: usize,
    stride: usize,
    bias: bool,
    device: &Device,
) -> Conv2d {
    let mut convolution = Conv2dConfig::new([d_input, d_output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(kernel / 2, kernel / 2, kernel / 2, kernel / 2))
        .with_bias(false)
        .with_initializer(Initializer::XavierUniform { gain: 2.0_f64.sqrt() })
        .init(device);
    convolution.bias = bias.then(|| Initializer::Zeros.init([d_output], device));
    convolution
}

/// Batch normalisation over `[batch_size, channels, height, width]`.
///
/// ```text
/// y = γ (x − mean) / √(var + ε) + β          mean and var of the batch in training, running ones else
/// running ← (1 − momentum) running + momentum · (mean, var · n / (n − 1))
/// ```
///
/// for `n` values a channel. The factor is PyTorch's: the running variance is unbiased, that of the output is not. Burn's
/// `BatchNorm` lets a running variance forget the factor.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `γ`: `[channels]`.
    pub gamma: Param<Tensor<1>>,
    /// `β`: `[channels]`.
    pub beta: Param<Tensor<1>>,
    /// Mean that evaluation uses: `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Variance that evaluation uses: `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    momentum: f64,
    epsilon: f64,
}

impl BatchNorm {
    /// `γ` one, `β` zero, running statistics of a standard normal; `momentum` is the weight of the newest batch.
    pub(super) fn new(channels: usize, momentum: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            momentum,
            epsilon: 1e-5,
        }
    }

    /// Normalise and rectify.
    pub(super) fn forward_relu(&self, input: Tensor<4>) -> Tensor<4> {
        relu(self.forward(input))
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [gamma, beta] = [self.gamma.val(), self.beta.val()];
        if !input.device().is_autodiff() {
            let (mean, var) = (self.running_mean.value(), self.running_var.value());
            return module::batch_norm(input, gamma, beta, mean, var, self.epsilon);
        }
        let [batch_size, _, height, width] = input.dims();
        let count = (batch_size * height * width) as f64;
        let result = module::batch_norm_train(input, gamma, beta, self.epsilon);
        let unbiased = result.variance * (count / (count - 1.0).max(1.0));
        for (running, new) in [(&self.running_mean, result.mean), (&self.running_var, unbiased)] {
            let old = running.value_sync();
            running.update((old * (1.0 - self.momentum) + new * self.momentum).detach());
            // At once: whoever looks at the state, or saves it, is to see this step.
            running.value_sync();
        }
        result.output
    }
}

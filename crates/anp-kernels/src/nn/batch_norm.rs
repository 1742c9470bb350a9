use anp_core::{HyperParamError, display_on_one_line, is_training, validate_range, validate_size};
use burn::config::Config;
use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::Kernels;
use crate::batch_norm::{BatchNormInputs, BatchStatistics};

/// Configuration of a [`BatchNorm2d`].
#[derive(Config, Debug)]
pub struct BatchNorm2dConfig {
    /// Channels.
    pub num_features: usize,
    /// ε > 0, added to the variance.
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// Weight of a batch's statistics in the running ones, in [0, 1].
    #[config(default = 0.1)]
    pub momentum: f64,
    /// Whether a ReLU follows.
    #[config(default = false)]
    pub relu: bool,
    /// How it is computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
}

impl BatchNorm2dConfig {
    /// Check the values.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if there are no channels, ε is not in (0, ∞), or the
    /// momentum is not in [0, 1].
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("num_features", self.num_features)?;
        let Self { epsilon, momentum, .. } = *self;
        validate_range("epsilon", epsilon, "(0, ∞)", epsilon.is_finite() && epsilon > 0.0)?;
        validate_range("momentum", momentum, "[0, 1]", (0.0..=1.0).contains(&momentum))
    }

    /// γ = 1, β = 0, and running statistics of mean 0 and variance 1, on `device`.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> BatchNorm2d {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let shape = [self.num_features];
        BatchNorm2d {
            gamma: Initializer::Ones.init(shape, device),
            beta: Initializer::Zeros.init(shape, device),
            training: Param::from_bool(true),
            running_mean: RunningState::new(Tensor::zeros(shape, device)),
            running_var: RunningState::new(Tensor::ones(shape, device)),
            momentum: self.momentum,
            epsilon: self.epsilon,
            relu: self.relu,
            kernels: self.kernels,
        }
    }
}

/// Batch normalisation of images, with the ReLU behind it if there is one:
/// [`batch_norm`](crate::batch_norm::batch_norm) with parameters and running statistics.
///
/// It takes the place of `burn::nn::BatchNorm`, whose parameters have the same names. The running
/// variance differs: a batch enters it by its unbiased variance, as in PyTorch. That is
/// `n / (n − 1)` times the variance that the batch is normalised by, which Burn takes.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct BatchNorm2d {
    /// γ: `[num_features]`.
    pub gamma: Param<Tensor<1>>,
    /// β: `[num_features]`.
    pub beta: Param<Tensor<1>>,
    /// Whether it takes part in training; `freeze` disables it.
    pub training: Param<Flag>,
    /// Mean of the batches so far, the last ones more: `[num_features]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Their unbiased variance: `[num_features]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Weight of a batch's statistics in the running ones.
    pub momentum: f64,
    /// ε, added to the variance.
    pub epsilon: f64,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// How it is computed.
    #[module(skip)]
    pub kernels: Kernels,
}

impl BatchNorm2d {
    /// Normalise a batch by its own statistics, and let them enter the running ones, in training:
    /// on an autodiff device, with `training` enabled. Else normalise it by the running ones.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, num_features, height, width]`
    /// - returns: the same
    ///
    /// # Panics
    ///
    /// If channels, data types or devices do not fit each other, or, in training, a channel has a
    /// single value, which has no unbiased variance.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let device = input.device();
        let is_training = is_training(&self.training, &device);
        let [batch_size, _, height, width] = input.dims();
        let count = batch_size * height * width;
        let statistics = (!is_training).then(|| BatchStatistics {
            mean: self.running_mean.value().to_device(&device),
            variance: self.running_var.value().to_device(&device),
        });
        let (output, BatchStatistics { mean, variance }) =
            self.kernels.batch_norm(BatchNormInputs {
                input,
                gamma: self.gamma.val(),
                beta: self.beta.val(),
                statistics,
                epsilon: self.epsilon,
                relu: self.relu,
            });
        if is_training {
            assert!(count > 1, "batch norm in training needs more than one value per channel");
            let unbiased = count as f64 / (count - 1) as f64;
            let enter = |running: &RunningState<Tensor<1>>, new: Tensor<1>, factor: f64| {
                let old = running.value_sync().to_device(&device).mul_scalar(1.0 - self.momentum);
                running.update((old + new.detach().mul_scalar(self.momentum * factor)).detach());
                // At once, so that saving the layer or looking at it shows this batch.
                running.value_sync();
            };
            enter(&self.running_mean, mean, 1.0);
            enter(&self.running_var, variance, unbiased);
        }
        output
    }
}

display_on_one_line!(
    BatchNorm2d, it: "num_features" = it.gamma.dims()[0], "momentum" = it.momentum,
    "epsilon" = it.epsilon, "relu" = it.relu; training
);

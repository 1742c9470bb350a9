//! The encoder head of the variational information bottleneck (VIB).

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Distribution, Tensor};

use crate::error::{HyperParamError, validate_size, validate_strength};
use crate::gaussian_kl::gaussian_kl;
use crate::mask::is_training;
use crate::norm::tokens_and_features;
use crate::widen::{no_penalty, widen};

/// Configuration of [`VariationalBottleneck`].
#[derive(Config, Debug, PartialEq)]
pub struct VariationalBottleneckConfig {
    /// Features of the encoder's activation.
    pub d_input: usize,
    /// Features of the latent variable; 256 in the paper.
    pub d_latent: usize,
    /// Strength β ≥ 0; 0 turns the penalty off, but not the noise. The paper's
    /// best on MNIST are 1e-3 to 1e-2.
    pub beta: f64,
}

impl VariationalBottleneckConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a size is 0, or `beta` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("d_input", self.d_input)?;
        validate_size("d_latent", self.d_latent)?;
        validate_strength("beta", self.beta)
    }

    /// Build the head.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VariationalBottleneck {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        VariationalBottleneck {
            linear: LinearConfig::new(self.d_input, 2 * self.d_latent).init(device),
            beta: self.beta,
            training: Param::from_bool(true),
        }
    }
}

/// Variational information bottleneck (VIB): the decoder sees a noisy latent variable, and the
/// information in it has a price.
///
/// ```text
/// [μ, ρ] = W · features + b,   σ = softplus(ρ − 5)
/// z = μ + σ ⊙ ε in training, ε ~ N(0, I);   z = μ in evaluation
/// loss = nll(decoder(z)) + β · mean over examples of KL(N(μ, diag σ²) ‖ N(0, I))
/// ```
///
/// [Alemi, Fischer, Dillon & Murphy, 2016](https://arxiv.org/abs/1612.00410). The shift by 5 makes
/// the noise small at first (σ ≈ 0.0067). The mean KL is an upper bound on I(X; Z) in nats, see
/// [`gaussian_kl`]. The paper's decoder is a single linear layer. For a loss that is no mean over
/// examples or tokens, see [`LossReduction::scale`](crate::LossReduction::scale).
///
/// Follows the rule of Burn's `Dropout`: it draws noise where the features' device is an autodiff
/// device and `training` is enabled. The draws are from the device's generator.
///
/// ```
/// use anp_core::{VariationalBottleneck, VariationalBottleneckConfig};
/// use burn::nn::loss::CrossEntropyLossConfig;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn::tensor::activation::{relu, softmax};
///
/// #[derive(Module, Debug)]
/// struct Classifier {
///     hidden: Linear,
///     bottleneck: VariationalBottleneck,
///     output: Linear,
/// }
///
/// let device = Device::default().autodiff();
/// let model = Classifier {
///     hidden: LinearConfig::new(64, 32).init(&device),
///     bottleneck: VariationalBottleneckConfig::new(32, 16, 1e-3).init(&device),
///     output: LinearConfig::new(16, 10).init(&device),
/// };
/// let images = Tensor::<2>::ones([8, 64], &device);
/// let labels = Tensor::<1, Int>::zeros([8], &device);
///
/// let encoding = model.bottleneck.encode(relu(model.hidden.forward(images)));
/// let logits = model.output.forward(model.bottleneck.latent(&encoding));
/// let cross_entropy = CrossEntropyLossConfig::new().init(&device).forward(logits, labels);
/// let penalty = model.bottleneck.penalty(&encoding); // log its value
/// let gradients = (cross_entropy + penalty).backward();
/// # assert!(model.hidden.weight.grad(&gradients).is_some());
///
/// // Evaluation with the mean of 12 predictions instead of that of the mean.
/// let model = model.valid();
/// let images = Tensor::<2>::ones([8, 64], &Device::default());
/// let encoding = model.bottleneck.encode(relu(model.hidden.forward(images)));
/// let predictions = (0..12).map(|_| softmax(model.output.forward(encoding.sample()), 1));
/// let mean = predictions.reduce(|sum, each| sum + each).unwrap() / 12.0;
/// # assert_eq!(mean.dims(), [8, 10]);
/// ```
#[derive(Module, Debug)]
pub struct VariationalBottleneck {
    /// Features to `[μ, ρ]`: `[d_input, 2 · d_latent]`.
    pub linear: Linear,
    beta: f64,
    /// Whether this layer takes part in training; `freeze` disables it.
    pub training: Param<Flag>,
}

impl VariationalBottleneck {
    /// The distribution of the latent variable.
    ///
    /// # Shapes
    ///
    /// - `features`: `[.., d_input]`, in any layout of batch and time
    /// - returns: of `[.., d_latent]`
    pub fn encode<const D: usize>(&self, features: Tensor<D>) -> GaussianEncoding<D> {
        /// The paper's shift of ρ.
        const SHIFT: f64 = 5.0;
        let parameters = self.linear.forward(features);
        let d_latent = parameters.dims()[D - 1] / 2;
        let mean = parameters.clone().narrow(D - 1, 0, d_latent);
        let rho = widen(parameters.narrow(D - 1, d_latent, d_latent)).sub_scalar(SHIFT);
        GaussianEncoding { mean, log_sigma: log_softplus(rho) }
    }

    /// The latent variable that the decoder sees: a sample in training, the mean in evaluation.
    ///
    /// # Shapes
    ///
    /// - returns: `[.., d_latent]`
    pub fn latent<const D: usize>(&self, encoding: &GaussianEncoding<D>) -> Tensor<D> {
        if is_training(&self.training, &encoding.mean.device()) {
            encoding.sample()
        } else {
            encoding.mean.clone()
        }
    }

    /// Penalty to add to the loss, in nats. Its value is the one to log; the information is it
    /// divided by β, or the mean of [`GaussianEncoding::kl`].
    ///
    /// # Shapes
    ///
    /// - returns: `[1]`, in single precision if the features are in half precision
    ///
    /// # Panics
    ///
    /// If `encoding` is of no example: there is no mean to take.
    pub fn penalty<const D: usize>(&self, encoding: &GaussianEncoding<D>) -> Tensor<1> {
        let [num_examples, _] = tokens_and_features(encoding.mean.dims());
        if self.beta == 0.0 {
            return no_penalty(&encoding.mean);
        }
        encoding.kl().sum().mul_scalar(self.beta / num_examples as f64)
    }

    /// Strength β.
    pub fn beta(&self) -> f64 {
        self.beta
    }
}

/// A Gaussian distribution of the latent variable for each token, with independent features.
#[derive(Debug, Clone)]
pub struct GaussianEncoding<const D: usize> {
    /// μ: `[.., d_latent]`.
    pub mean: Tensor<D>,
    /// ln σ: `[.., d_latent]`, in single precision if `mean` is in half precision.
    pub log_sigma: Tensor<D>,
}

impl<const D: usize> GaussianEncoding<D> {
    /// Standard deviation σ: `[.., d_latent]`.
    pub fn sigma(&self) -> Tensor<D> {
        self.log_sigma.clone().exp()
    }

    /// Draw z = μ + σ ⊙ ε: `[.., d_latent]`.
    ///
    /// The noise is drawn anew at each call, from the generator of the device.
    pub fn sample(&self) -> Tensor<D> {
        let options = (&self.log_sigma.device(), self.log_sigma.dtype());
        let normal = Distribution::Normal(0.0, 1.0);
        self.sample_with_noise(Tensor::random(self.log_sigma.shape(), normal, options))
    }

    /// z = μ + σ ⊙ ε for the given ε: `[.., d_latent]`, as the result, which has the type of
    /// `mean`.
    pub fn sample_with_noise(&self, noise: Tensor<D>) -> Tensor<D> {
        let noise = self.sigma() * noise.cast(self.log_sigma.dtype());
        self.mean.clone() + noise.cast(self.mean.dtype())
    }

    /// Divergence from N(0, I) for each token, in nats: `[.., 1]`, as of [`gaussian_kl`].
    pub fn kl(&self) -> Tensor<D> {
        gaussian_kl(self.mean.clone(), self.log_sigma.clone())
    }
}

/// ln softplus(x), finite where softplus(x) is too small to be represented.
fn log_softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    /// Below it, ln softplus(x) = x − eˣ/2 + … is x in double precision.
    const LOW: f64 = -35.0;
    let low = x.clone().lower_elem(LOW);
    softplus(x.clone().mask_fill(low.clone(), 0.0), 1.0).log().mask_where(low, x)
}

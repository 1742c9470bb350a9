use anp_core::{
    GaussianEncoding, HyperParamError, VariationalBottleneck, VariationalBottleneckConfig,
    validate_size, validate_strength,
};
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Initializer, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::init::{draw, within};

/// Hidden layers of the encoder, as published.
const NUM_HIDDEN: usize = 2;

/// Configuration of a [`VibClassifier`].
#[derive(Config, Debug, PartialEq)]
pub struct VibClassifierConfig {
    /// Elements of an image: 784 for MNIST.
    pub d_input: usize,
    /// Units of each of the two hidden layers; 1024 in the paper.
    pub d_hidden: usize,
    /// Features of the code; 256 in the paper.
    pub d_latent: usize,
    /// Classes.
    pub num_classes: usize,
    /// Strength β ≥ 0 of the bottleneck; 0 leaves the noise. `None` is the network without a
    /// bottleneck: the code is the mean, and nothing is added to the loss.
    pub beta: Option<f64>,
}

impl VibClassifierConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if a size is 0, or `beta` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("d_input", self.d_input)?;
        validate_size("d_hidden", self.d_hidden)?;
        validate_size("d_latent", self.d_latent)?;
        validate_size("num_classes", self.num_classes)?;
        validate_strength("beta", self.beta.unwrap_or(0.0))
    }

    /// Inputs and outputs of each layer: the hidden layers, the head, the decoder.
    fn layers(&self) -> [[usize; 2]; NUM_HIDDEN + 2] {
        let Self { d_input, d_hidden, d_latent, num_classes, .. } = *self;
        [
            [d_input, d_hidden],
            [d_hidden, d_hidden],
            [d_hidden, 2 * d_latent],
            [d_latent, num_classes],
        ]
    }

    /// Trainable parameters, counted without making them. Without a bottleneck they include the
    /// half of the head that gives σ, which nothing trains.
    pub fn num_params(&self) -> usize {
        self.layers().iter().map(|[d_input, d_output]| (d_input + 1) * d_output).sum()
    }

    /// Multiply-adds of one image, forward.
    pub fn multiply_adds(&self) -> usize {
        self.layers().iter().map(|[d_input, d_output]| d_input * d_output).sum()
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VibClassifier {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        let linear = |[d_input, d_output]: [usize; 2]| {
            let xavier = within((6.0 / (d_input + d_output) as f64).sqrt());
            Linear {
                weight: draw(xavier, [d_input, d_output], device),
                bias: Some(draw(Initializer::Zeros, [d_output], device)),
            }
        };
        let [first, second, head, decoder] = self.layers().map(linear);
        let beta = self.beta.unwrap_or(0.0);
        let mut bottleneck =
            VariationalBottleneckConfig::new(self.d_hidden, self.d_latent, beta).init(device);
        bottleneck.linear = head;
        VibClassifier {
            hidden: vec![first, second],
            bottleneck,
            decoder,
            is_stochastic: self.beta.is_some(),
        }
    }
}

/// Deep variational information bottleneck: a classifier that sees a noisy code of the image, and
/// pays for the information in it.
///
/// ```text
/// h = relu(W₂ relu(W₁ x + b₁) + b₂),   z ~ N(μ(h), diag σ(h)²),   logits = W z + b
/// ```
///
/// Published by [Alemi et al., 2016](https://arxiv.org/abs/1612.00410) for MNIST, with 1024 units
/// and 256 features; see [`VariationalBottleneck`] for the code and the term of the loss. Weights
/// start Xavier-uniform, biases at zero, as in the first author's code
/// ([alexalemi/vib_demo](https://github.com/alexalemi/vib_demo)).
#[derive(Module, Debug)]
pub struct VibClassifier {
    /// The encoder's layers, each before a rectifier.
    pub hidden: Vec<Linear>,
    /// The encoder's head, which gives the distribution of the code.
    pub bottleneck: VariationalBottleneck,
    /// From the code to the logits: `[d_latent, num_classes]`.
    pub decoder: Linear,
    is_stochastic: bool,
}

impl VibClassifier {
    /// The distribution of the code.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch_size, d_input]`
    /// - returns: of `[batch_size, d_latent]`
    pub fn encode(&self, images: Tensor<2>) -> GaussianEncoding<2> {
        let hidden = self.hidden.iter().fold(images, |it, layer| relu(layer.forward(it)));
        self.bottleneck.encode(hidden)
    }

    /// The code that the decoder sees: a sample in training, the mean in evaluation, and always the
    /// mean without a bottleneck.
    ///
    /// # Shapes
    ///
    /// - returns: `[batch_size, d_latent]`
    pub fn code(&self, encoding: &GaussianEncoding<2>) -> Tensor<2> {
        if self.is_stochastic { self.bottleneck.latent(encoding) } else { encoding.mean.clone() }
    }

    /// Classify codes.
    ///
    /// # Shapes
    ///
    /// - `codes`: `[batch_size, d_latent]`
    /// - returns: logits, `[batch_size, num_classes]`
    pub fn decode(&self, codes: Tensor<2>) -> Tensor<2> {
        self.decoder.forward(codes)
    }

    /// Whether there is a bottleneck: whether the code is a random variable.
    pub fn is_stochastic(&self) -> bool {
        self.is_stochastic
    }
}

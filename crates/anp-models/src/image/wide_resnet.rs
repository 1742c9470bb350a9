use anp_kernels::nn::{BatchNorm2d, Conv2d};
use burn::module::{Module, RunningState};
use burn::nn::{Dropout, Linear};
use burn::tensor::Tensor;

use super::site::ImageSite;

/// Two convolutions, each behind a normalisation and a rectifier, beside a shortcut.
///
/// ```text
/// meliketoy:   x₁ = dropout(conv1(relu(bn1(x)))),   y = conv2(relu(bn2(x₁))) + shortcut(x)
/// original:    a = relu(bn1(x)),   y = conv2(dropout(relu(bn2(conv1(a))))) + shortcut(a)
/// ```
///
/// In both, the shortcut is `x` where nothing is projected.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// Before the first convolution.
    pub norm1: BatchNorm2d,
    /// `[d_output, d_input, 3, 3]`.
    pub conv1: Conv2d,
    /// Before the second convolution.
    pub norm2: BatchNorm2d,
    /// `[d_output, d_output, 3, 3]`.
    pub conv2: Conv2d,
    /// `[d_output, d_input, 1, 1]`, where stride or channels change.
    pub shortcut: Option<Conv2d>,
    pub(super) dropout: Dropout,
    pub(super) meliketoy: bool,
}

impl ResidualBlock {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let active = self.norm1.forward(input.clone());
        let hidden = self.conv1.forward(active.clone());
        let (hidden, shortcut_input) = if self.meliketoy {
            (self.norm2.forward(self.dropout.forward(hidden)), input.clone())
        } else {
            (self.dropout.forward(self.norm2.forward(hidden)), active)
        };
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(shortcut_input),
            None => input,
        };
        self.conv2.forward(hidden) + shortcut
    }
}

/// A wide residual network, WRN-d-k ([Zagoruyko & Komodakis, 2016]).
///
/// ```text
/// conv 3×3, 16 → three groups of n blocks → bn → relu → mean → linear
/// ```
///
/// The groups have 16k, 32k and 64k channels; the last two halve the size. Convolutions start
/// Xavier-uniform with gain √2 and zero biases, normalisations at identity, the linear layer as
/// Burn and PyTorch have it, `U(±1/√64k)`. On an autodiff device batches are normalised by their
/// own statistics, the running ones are updated, and dropout is on; `valid()` uses the running
/// ones. A visit sees running statistics without the last step unless `valid()` was called since.
///
/// [Zagoruyko & Komodakis, 2016]: https://arxiv.org/abs/1605.07146
#[derive(Module, Debug)]
pub struct WideResNet {
    /// `[16, 3, 3, 3]`.
    pub conv1: Conv2d,
    /// Three groups of blocks.
    pub groups: Vec<Vec<ResidualBlock>>,
    /// Before the last rectifier.
    pub norm: BatchNorm2d,
    /// `[64k, num_classes]`.
    pub linear: Linear,
}

/// What a [`WideResNet`] makes of a batch, by site.
#[derive(Debug, Clone)]
pub struct ImageOutput {
    /// The first convolution: `[batch_size, 16, height, width]`.
    pub conv1: Tensor<4>,
    /// The three groups: `[batch_size, channels, height, width]`.
    pub groups: Vec<Tensor<4>>,
    /// The last rectifier: `[batch_size, 64k, height, width]`.
    pub relu: Tensor<4>,
    /// The pooled features: `[batch_size, 64k]`.
    pub pooled: Tensor<2>,
    /// Before the softmax: `[batch_size, num_classes]`.
    pub logits: Tensor<2>,
}

impl ImageOutput {
    /// The activation at a site, one row per image: `[batch_size, elements]`.
    ///
    /// # Panics
    ///
    /// If the site is a group other than 1 to 3.
    pub fn activation(&self, site: ImageSite) -> Tensor<2> {
        match site {
            ImageSite::Conv1 => self.conv1.clone().flatten(1, 3),
            ImageSite::Group(group) => self.groups[group - 1].clone().flatten(1, 3),
            ImageSite::Relu => self.relu.clone().flatten(1, 3),
            ImageSite::Pooled => self.pooled.clone(),
            ImageSite::Logits => self.logits.clone(),
        }
    }
}

impl WideResNet {
    /// The normalisations, in the order of a visit.
    pub fn norms(&self) -> impl Iterator<Item = &BatchNorm2d> {
        let blocks = self.groups.iter().flatten();
        blocks.flat_map(|block| [&block.norm1, &block.norm2]).chain([&self.norm])
    }

    /// A handle on the same parameters, whose running statistics are its own.
    ///
    /// Those of a plain clone are shared: a batch that goes through one handle changes what the
    /// other has, in the middle of what another thread computes.
    pub fn with_own_statistics(&self) -> Self {
        let mut own = self.clone();
        let blocks = own.groups.iter_mut().flatten();
        let norms = blocks.flat_map(|block| [&mut block.norm1, &mut block.norm2]);
        for norm in norms.chain([&mut own.norm]) {
            for running in [&mut norm.running_mean, &mut norm.running_var] {
                *running = RunningState::new(running.value());
            }
        }
        own
    }

    /// Classify a batch.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch_size, 3, height, width]`, height and width divisible by 4
    pub fn forward(&self, images: Tensor<4>) -> ImageOutput {
        let conv1 = self.conv1.forward(images);
        let mut groups: Vec<Tensor<4>> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let input = groups.last().unwrap_or(&conv1).clone();
            groups.push(group.iter().fold(input, |hidden, block| block.forward(hidden)));
        }
        let relu = self.norm.forward(groups.last().expect("there are three").clone());
        let [batch_size, channels, height, width] = relu.dims();
        let pooled = relu
            .clone()
            .reshape([batch_size, channels, height * width])
            .mean_dim(2)
            .reshape([batch_size, channels]);
        let logits = self.linear.forward(pooled.clone());
        ImageOutput { conv1, groups, relu, pooled, logits }
    }
}

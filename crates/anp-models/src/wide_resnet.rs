//! Wide residual networks for small images.

mod layers;
mod site;

use anp_kernels::Kernels;
use anp_kernels::nn::{BatchNorm2d, Conv2d};
use burn::module::{Module, RunningState};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, FloatDType, Tensor};

use layers::{Compute, convolution, norm_relu};
pub use site::{ImageSite, ParseImageSiteError};

/// Channels of the first convolution, and of the groups for each unit of width.
const BASE_CHANNELS: usize = 16;
/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.1;
/// The same of the last normalisation in [`ResidualLayout::Meliketoy`]: a slip of that code, which the numbers rest on.
const LAST_MOMENTUM: f64 = 0.9;

/// Which of the two published networks of this name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidualLayout {
    /// GitHub `meliketoy/wide-resnet.pytorch`, which the paper's authors ran: the stride is on the second convolution of a
    /// block, a projecting shortcut sees the raw input of the block, all convolutions have biases, dropout is before the
    /// second normalisation, and the last normalisation's running statistics have momentum 0.9.
    #[default]
    Meliketoy,
    /// That of the publication, GitHub `szagoruyko/wide-residual-networks`: the stride is on the first convolution, a
    /// projecting shortcut shares the first pre-activation (`relu(bn(x))`), no convolution has a bias, and dropout is after
    /// the second pre-activation.
    Original,
}

/// Configuration of a [`WideResNet`].
#[derive(Debug, Clone, PartialEq)]
pub struct WideResNetConfig {
    /// Layers with weights: `6n + 4` for `n ≥ 1` blocks a group.
    pub depth: usize,
    /// Widening factor `k ≥ 1`: the groups have `16k`, `32k` and `64k` channels.
    pub width: usize,
    /// Classes.
    pub num_classes: usize,
    /// Which of the published networks.
    pub layout: ResidualLayout,
    /// Probability of dropping an element between the two convolutions of a block.
    pub dropout: f64,
    /// Type that convolutions compute in; that of the parameters, if there is none. All else computes in that of the parameters:
    /// normalisations, sums of branches, pooling and the linear layer.
    pub convolution_dtype: Option<FloatDType>,
    /// How convolutions and normalisations are computed.
    pub kernels: Kernels,
}

impl WideResNetConfig {
    /// Blocks in each of the three groups, if there is a network of this depth.
    pub fn blocks_per_group(depth: usize) -> Option<usize> {
        let layers = depth.checked_sub(4)?;
        (layers > 0 && layers % 6 == 0).then_some(layers / 6)
    }

    /// Input and output channels and the stride of each block, group by group.
    fn blocks(&self) -> Vec<Vec<([usize; 2], usize)>> {
        let per_group = Self::blocks_per_group(self.depth).unwrap_or_else(|| {
            panic!("the depth of a wide residual network is 6n + 4, but is {}", self.depth)
        });
        let mut d_input = BASE_CHANNELS;
        let group = |group: usize| {
            let d_output = (BASE_CHANNELS * self.width) << group;
            let block = |block: usize| {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                (([std::mem::replace(&mut d_input, d_output), d_output]), stride)
            };
            (0..per_group).map(block).collect()
        };
        (0..3).map(group).collect()
    }

    /// Channels of the last group: features after the pooling.
    pub fn num_features(&self) -> usize {
        4 * BASE_CHANNELS * self.width
    }

    /// Trainable parameters, counted without making them.
    ///
    /// # Panics
    ///
    /// If the depth is not `6n + 4`.
    pub fn num_params(&self) -> usize {
        let bias = usize::from(self.layout == ResidualLayout::Meliketoy);
        let convolution = |d_input: usize, d_output: usize, kernel: usize| {
            d_output * (d_input * kernel * kernel + bias)
        };
        let block = |&([d_input, d_output], stride): &([usize; 2], usize)| {
            let normalisations = 2 * d_input + 2 * d_output;
            let convolutions =
                convolution(d_input, d_output, 3) + convolution(d_output, d_output, 3);
            let projects = stride != 1 || d_input != d_output;
            let shortcut = if projects { convolution(d_input, d_output, 1) } else { 0 };
            normalisations + convolutions + shortcut
        };
        let blocks: usize = self.blocks().iter().flatten().map(block).sum();
        let features = self.num_features();
        convolution(3, BASE_CHANNELS, 3) + blocks + 2 * features + self.num_classes * (features + 1)
    }

    /// Multiply-adds of one 32 × 32 image in the convolutions and the linear layer, forward.
    ///
    /// # Panics
    ///
    /// If the depth is not `6n + 4`.
    pub fn multiply_adds(&self) -> usize {
        let mut side = 32;
        let mut total = 9 * 3 * BASE_CHANNELS * side * side;
        for &([d_input, d_output], stride) in self.blocks().iter().flatten() {
            let before = side * side;
            side /= stride;
            let after = side * side;
            let first = if self.layout == ResidualLayout::Meliketoy { before } else { after };
            total += 9 * d_input * d_output * first + 9 * d_output * d_output * after;
            if stride != 1 || d_input != d_output {
                total += d_input * d_output * after;
            }
        }
        total + self.num_features() * self.num_classes
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If the depth is not `6n + 4`, or the width or the number of classes is zero.
    pub fn init(&self, device: &Device) -> WideResNet {
        assert!(self.width > 0 && self.num_classes > 0, "a network has channels and classes");
        let meliketoy = self.layout == ResidualLayout::Meliketoy;
        let kernels = self.kernels;
        let compute = Compute { convolutions: self.convolution_dtype, kernels };
        let block = |([d_input, d_output], stride): ([usize; 2], usize)| {
            let strides = if meliketoy { [1, stride] } else { [stride, 1] };
            let projects = stride != 1 || d_input != d_output;
            ResidualBlock {
                norm1: norm_relu(d_input, MOMENTUM, kernels, device),
                conv1: convolution([d_input, d_output], 3, strides[0], meliketoy, compute, device),
                norm2: norm_relu(d_output, MOMENTUM, kernels, device),
                conv2: convolution([d_output, d_output], 3, strides[1], meliketoy, compute, device),
                shortcut: projects.then(|| {
                    convolution([d_input, d_output], 1, stride, meliketoy, compute, device)
                }),
                dropout: DropoutConfig::new(self.dropout).init(),
                meliketoy,
            }
        };
        let last_momentum = if meliketoy { LAST_MOMENTUM } else { MOMENTUM };
        WideResNet {
            conv1: convolution([3, BASE_CHANNELS], 3, 1, meliketoy, compute, device),
            groups: self
                .blocks()
                .into_iter()
                .map(|blocks| blocks.into_iter().map(block).collect())
                .collect(),
            norm: norm_relu(self.num_features(), last_momentum, kernels, device),
            linear: LinearConfig::new(self.num_features(), self.num_classes).init(device),
        }
    }
}

/// Two convolutions, each behind a normalisation and a rectifier, beside a shortcut.
///
/// ```text
/// meliketoy:   x₁ = dropout(conv1(relu(bn1(x)))),   y = conv2(relu(bn2(x₁))) + shortcut(x)
/// original:    a = relu(bn1(x)),   y = conv2(dropout(relu(bn2(conv1(a))))) + shortcut(a), or + x where nothing is projected
/// ```
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
    dropout: Dropout,
    meliketoy: bool,
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
/// conv 3×3, 16 → three groups of n blocks, 16k, 32k, 64k channels, the last two halve the size → bn → relu → mean → linear
/// ```
///
/// Convolutions start Xavier-uniform with gain √2 and zero biases, normalisations at identity, the linear layer as Burn
/// and PyTorch have it, `U(±1/√64k)`. On an autodiff device batches are normalised by their own statistics, the running ones
/// are updated, and dropout is on; `valid()` uses the running ones. A visit sees running statistics without the last step
/// unless `valid()` was called since.
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
    /// The activation at a site, one row an image: `[batch_size, elements]`.
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
    /// Those of a plain clone are shared: a batch that goes through one handle changes what the other has, in the middle of what
    /// another thread computes.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(depth: usize, width: usize, num_classes: usize) -> WideResNetConfig {
        let (layout, kernels) = (ResidualLayout::Meliketoy, Kernels::Fused);
        WideResNetConfig {
            depth,
            width,
            num_classes,
            layout,
            dropout: 0.0,
            convolution_dtype: None,
            kernels,
        }
    }

    /// 36.49 M and 36.55 M, with the biases of the convolutions.
    #[test]
    fn the_paper_s_networks_have_the_published_number_of_parameters() {
        assert_eq!(config(28, 10, 10).num_params(), 36_489_290);
        assert_eq!(config(28, 10, 100).num_params(), 36_546_980);
    }

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        for layout in [ResidualLayout::Meliketoy, ResidualLayout::Original] {
            let config = WideResNetConfig { layout, ..config(16, 2, 7) };
            let model = config.init(&Device::default());
            let norms = model
                .groups
                .iter()
                .flatten()
                .map(|block| block.norm1.gamma.dims()[0] + block.norm2.gamma.dims()[0]);
            // Burn counts the running statistics, too: a mean and a variance a channel.
            let running = 2 * (norms.sum::<usize>() + model.norm.gamma.dims()[0]);
            assert_eq!(config.num_params(), model.num_params() - running, "{layout:?}");
        }
    }

    #[test]
    fn depths_are_six_a_block_and_four() {
        let blocks = |depth| WideResNetConfig::blocks_per_group(depth);
        assert_eq!([10, 16, 28, 40].map(blocks), [Some(1), Some(2), Some(4), Some(6)]);
        assert_eq!([0, 4, 9, 12, 27].map(blocks), [None; 5]);
    }

    /// WRN-28-10 is said to do 5.2 G multiply-adds an image; with the stride on the second convolution it is more.
    #[test]
    fn the_cost_of_the_paper_s_network_is_as_published() {
        let original = WideResNetConfig { layout: ResidualLayout::Original, ..config(28, 10, 10) };
        let giga = original.multiply_adds() as f64 * 1e-9;
        assert!((5.2..5.3).contains(&giga), "{giga}");
        assert!(config(28, 10, 10).multiply_adds() > original.multiply_adds());
    }

    #[test]
    fn weights_start_as_drawn_and_biases_at_zero() {
        let device = Device::default();
        device.seed(3);
        let model = config(10, 2, 10).init(&device);
        let conv = &model.groups[2][0].conv1;
        // fan_in = 64 · 9, fan_out = 128 · 9
        let bound = (2.0_f64 * 6.0 / (9.0 * (64.0 + 128.0))).sqrt();
        let weights: Vec<f64> = conv.weight.val().into_data().iter::<f64>().collect();
        let largest = weights.iter().fold(0.0_f64, |largest, weight| largest.max(weight.abs()));
        assert!(largest <= bound * 1.000_001 && largest > 0.99 * bound, "{largest}, {bound}");
        let variance = weights.iter().map(|it| it * it).sum::<f64>() / weights.len() as f64;
        assert!((variance / (bound * bound / 3.0) - 1.0).abs() < 0.02, "{variance}");
        let bias = conv.bias.as_ref().expect("it has one").val().into_data();
        assert!(bias.iter::<f64>().all(|it| it == 0.0));
    }
}

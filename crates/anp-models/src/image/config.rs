use anp_kernels::nn::{BatchNorm2d, BatchNorm2dConfig, Conv2d, Conv2dConfig};
use anp_kernels::{Kernels, MatmulPrecision};
use burn::config::Config;
use burn::nn::{DropoutConfig, Initializer, LinearConfig};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::wide_resnet::{ResidualBlock, WideResNet};

/// Channels of the first convolution, and of the groups for each unit of width.
const BASE_CHANNELS: usize = 16;
/// The first convolution.
const STEM: Convolution = Convolution { channels: [3, BASE_CHANNELS], kernel: 3, stride: 1 };
/// Momentum of the running statistics.
const MOMENTUM: f64 = 0.1;
/// The same of the last normalisation in [`ResidualLayout::Meliketoy`]: a slip of that code, which
/// the numbers rest on.
const LAST_MOMENTUM: f64 = 0.9;

/// Which of the two published networks of this name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidualLayout {
    /// GitHub `meliketoy/wide-resnet.pytorch`, which the paper's authors ran: the stride is on the
    /// second convolution of a block, a projecting shortcut sees the raw input of the block, all
    /// convolutions have biases, dropout is before the second normalisation, and the last
    /// normalisation's running statistics have momentum 0.9.
    #[default]
    Meliketoy,
    /// That of the publication, GitHub `szagoruyko/wide-residual-networks`: the stride is on the
    /// first convolution, a projecting shortcut shares the first pre-activation (`relu(bn(x))`), no
    /// convolution has a bias, and dropout is after the second pre-activation.
    Original,
}

/// Configuration of a [`WideResNet`].
#[derive(Config, Debug, PartialEq)]
pub struct WideResNetConfig {
    /// Layers with weights: `6n + 4` for `n ≥ 1` blocks per group.
    pub depth: usize,
    /// Widening factor `k ≥ 1`: the groups have `16k`, `32k` and `64k` channels.
    pub width: usize,
    /// Classes.
    pub num_classes: usize,
    /// Which of the published networks.
    #[config(default = "ResidualLayout::Meliketoy")]
    pub layout: ResidualLayout,
    /// Probability of dropping an element between the two convolutions of a block.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// How the operands of convolutions are rounded. Nothing else is: normalisations, sums of
    /// branches, pooling and the linear layer.
    #[config(default = "MatmulPrecision::Full")]
    pub precision: MatmulPrecision,
    /// How convolutions and normalisations are computed.
    #[config(default = "Kernels::Fused")]
    pub kernels: Kernels,
}

/// A convolution with a square kernel, padded so that only the stride changes the size.
#[derive(Clone, Copy)]
struct Convolution {
    /// Channels of the input and of the output.
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
}

impl Convolution {
    fn num_weights(self) -> usize {
        self.channels[0] * self.channels[1] * self.kernel * self.kernel
    }
}

/// The convolutions of a block.
struct Block {
    conv1: Convolution,
    conv2: Convolution,
    /// Where the block changes channels or size.
    shortcut: Option<Convolution>,
}

impl WideResNetConfig {
    /// Blocks in each of the three groups, if there is a network of this depth.
    pub fn blocks_per_group(depth: usize) -> Option<usize> {
        let layers = depth.checked_sub(4)?;
        (layers > 0 && layers % 6 == 0).then_some(layers / 6)
    }

    /// The blocks, group by group.
    fn groups(&self) -> [Vec<Block>; 3] {
        let per_group = Self::blocks_per_group(self.depth).unwrap_or_else(|| {
            panic!("the depth of a wide residual network is 6n + 4, but is {}", self.depth)
        });
        let mut d_input = BASE_CHANNELS;
        [0, 1, 2].map(|group| {
            let d_output = (BASE_CHANNELS * self.width) << group;
            let block = |block: usize| {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let strides = if self.is_meliketoy() { [1, stride] } else { [stride, 1] };
                let channels = [std::mem::replace(&mut d_input, d_output), d_output];
                let projects = stride != 1 || channels[0] != channels[1];
                Block {
                    conv1: Convolution { channels, kernel: 3, stride: strides[0] },
                    conv2: Convolution { channels: [d_output; 2], kernel: 3, stride: strides[1] },
                    shortcut: projects.then_some(Convolution { channels, kernel: 1, stride }),
                }
            };
            (0..per_group).map(block).collect()
        })
    }

    fn is_meliketoy(&self) -> bool {
        self.layout == ResidualLayout::Meliketoy
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
        let features = self.num_features();
        let convolution = |it: Convolution| {
            it.num_weights() + if self.is_meliketoy() { it.channels[1] } else { 0 }
        };
        let mut total = convolution(STEM) + 2 * features + self.num_classes * (features + 1);
        for Block { conv1, conv2, shortcut } in self.groups().into_iter().flatten() {
            total += [conv1, conv2].into_iter().chain(shortcut).map(convolution).sum::<usize>();
            total += 2 * (conv1.channels[0] + conv2.channels[0]);
        }
        total
    }

    /// Multiply-adds of one 32 × 32 image in the convolutions and the linear layer, forward.
    ///
    /// # Panics
    ///
    /// If the depth is not `6n + 4`.
    pub fn multiply_adds(&self) -> usize {
        let mut side = 32;
        let mut total = STEM.num_weights() * side * side + self.num_features() * self.num_classes;
        for Block { conv1, conv2, shortcut } in self.groups().into_iter().flatten() {
            for convolution in [conv1, conv2] {
                side /= convolution.stride;
                total += convolution.num_weights() * side * side;
            }
            total += shortcut.map_or(0, |it| it.num_weights() * side * side);
        }
        total
    }

    /// Draw the parameters on `device`, from its random number generator.
    ///
    /// # Panics
    ///
    /// If the depth is not `6n + 4`, or the width or the number of classes is zero.
    pub fn init(&self, device: &Device) -> WideResNet {
        assert!(self.width > 0 && self.num_classes > 0, "a network has channels and classes");
        let meliketoy = self.is_meliketoy();
        let convolution = |shape| self.convolution(shape, device);
        let norm = |channels, momentum| self.norm(channels, momentum, device);
        let block = |Block { conv1, conv2, shortcut }: Block| ResidualBlock {
            norm1: norm(conv1.channels[0], MOMENTUM),
            conv1: convolution(conv1),
            norm2: norm(conv2.channels[0], MOMENTUM),
            conv2: convolution(conv2),
            shortcut: shortcut.map(convolution),
            dropout: DropoutConfig::new(self.dropout).init(),
            meliketoy,
        };
        let group = |blocks: Vec<Block>| blocks.into_iter().map(block).collect();
        let last_momentum = if meliketoy { LAST_MOMENTUM } else { MOMENTUM };
        WideResNet {
            conv1: convolution(STEM),
            groups: self.groups().into_iter().map(group).collect(),
            norm: norm(self.num_features(), last_momentum),
            linear: LinearConfig::new(self.num_features(), self.num_classes).init(device),
        }
    }

    /// Weights start Xavier-uniform with gain √2, `U(−a, a)` with
    /// `a = √2 · √(6 / (fan_in + fan_out))`, biases at zero.
    fn convolution(&self, shape: Convolution, device: &Device) -> Conv2d {
        let Convolution { channels, kernel, stride } = shape;
        Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding([kernel / 2, kernel / 2])
            .with_bias(self.is_meliketoy())
            .with_initializer(Initializer::XavierUniform { gain: 2.0_f64.sqrt() })
            .with_bias_initializer(Some(Initializer::Zeros))
            .with_precision(self.precision)
            .with_kernels(self.kernels)
            .init(device)
    }

    /// A normalisation with the rectifier behind it.
    fn norm(&self, channels: usize, momentum: f64, device: &Device) -> BatchNorm2d {
        BatchNorm2dConfig::new(channels)
            .with_momentum(momentum)
            .with_relu(true)
            .with_kernels(self.kernels)
            .init(device)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;

    /// 36.49 M and 36.55 M, with the biases of the convolutions.
    #[test]
    fn the_paper_s_networks_have_their_published_sizes() {
        assert_eq!(WideResNetConfig::new(28, 10, 10).num_params(), 36_489_290);
        assert_eq!(WideResNetConfig::new(28, 10, 100).num_params(), 36_546_980);
    }

    #[test]
    fn parameters_are_counted_as_they_are_made() {
        for layout in [ResidualLayout::Meliketoy, ResidualLayout::Original] {
            let config = WideResNetConfig::new(16, 2, 7).with_layout(layout);
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
    fn depths_are_six_per_block_and_four() {
        let blocks = |depth| WideResNetConfig::blocks_per_group(depth);
        assert_eq!([10, 16, 28, 40].map(blocks), [Some(1), Some(2), Some(4), Some(6)]);
        assert_eq!([0, 4, 9, 12, 27].map(blocks), [None; 5]);
    }

    /// WRN-28-10 is said to do 5.2 G multiply-adds an image; with the stride on the second
    /// convolution it is more.
    #[test]
    fn the_cost_of_the_paper_s_network_is_as_published() {
        let config = WideResNetConfig::new(28, 10, 10);
        let original = config.clone().with_layout(ResidualLayout::Original);
        let giga = original.multiply_adds() as f64 * 1e-9;
        assert!((5.2..5.3).contains(&giga), "{giga}");
        assert!(config.multiply_adds() > original.multiply_adds());
    }

    #[test]
    fn weights_start_as_drawn_and_biases_at_zero() {
        let device = Device::default();
        device.seed(3);
        let model = WideResNetConfig::new(10, 2, 10).init(&device);
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

//! A wide residual network of this project's image layers, in the layout that the paper ran: the stride on a block's second
//! convolution, a shortcut with a weight of its own from the block's raw input, and biases.

use anp_kernels::nn::{BatchNorm2d, BatchNorm2dConfig, Conv2d, Conv2dConfig};
use anp_models::Kernels;
use burn::module::Module;
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use crate::case::Case;
use crate::serve::Steps;

#[derive(Module, Debug)]
struct Block {
    norm1: BatchNorm2d,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

impl Block {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv1.forward(self.norm1.forward(input.clone()));
        let hidden = self.conv2.forward(self.norm2.forward(hidden));
        hidden
            + match &self.shortcut {
                Some(shortcut) => shortcut.forward(input),
                None => input,
            }
    }
}

#[derive(Module, Debug)]
struct WideResNet {
    conv: Conv2d,
    blocks: Vec<Block>,
    norm: BatchNorm2d,
    linear: Linear,
}

impl WideResNet {
    fn new(case: &Case, kernels: Kernels, device: &Device) -> Self {
        let conv = |channels, kernel: usize, stride: usize| {
            Conv2dConfig::new(channels, [kernel; 2])
                .with_stride([stride; 2])
                .with_padding([kernel / 2; 2])
                .with_kernels(kernels)
                .init(device)
        };
        let norm = |channels| {
            let config = BatchNorm2dConfig::new(channels).with_relu(true);
            config.with_kernels(kernels).init(device)
        };
        let mut channels_in = 16;
        let blocks_per_group = (case.num_layers - 4) / 6;
        let blocks = (0..3 * blocks_per_group).map(|index| {
            let (group, block) = (index / blocks_per_group, index % blocks_per_group);
            let channels = (16 * case.d_hidden) << group;
            let stride = if group > 0 && block == 0 { 2 } else { 1 };
            let before = std::mem::replace(&mut channels_in, channels);
            Block {
                norm1: norm(before),
                conv1: conv([before, channels], 3, 1),
                norm2: norm(channels),
                conv2: conv([channels, channels], 3, stride),
                shortcut: (before != channels || stride > 1)
                    .then(|| conv([before, channels], 1, stride)),
            }
        });
        let blocks = blocks.collect();
        Self {
            conv: conv([3, 16], 3, 1),
            blocks,
            norm: norm(channels_in),
            linear: LinearConfig::new(channels_in, case.vocab_size).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let hidden = self
            .blocks
            .iter()
            .fold(self.conv.forward(images), |hidden, block| block.forward(hidden));
        let [batch_size, channels, height, width] = hidden.dims();
        let hidden = self.norm.forward(hidden).reshape([batch_size, channels, height * width]);
        self.linear.forward(hidden.mean_dim(2).reshape([batch_size, channels]))
    }
}

/// Training steps on one batch of noise.
pub struct ImageSteps {
    /// Taken during an update, which consumes it.
    model: Option<WideResNet>,
    optimizer: ModuleOptimizer,
    loss: CrossEntropyLoss,
    images: Tensor<4>,
    labels: Tensor<1, Int>,
    learning_rate: f64,
}

impl ImageSteps {
    /// The steps of a case; the device needs no autodiff.
    pub fn new(case: &Case, kernels: Kernels, device: &Device) -> Self {
        let device = device.clone().autodiff();
        let noise = Distribution::Normal(0.0, 1.0);
        let labels: Vec<i64> =
            (0..case.batch_size).map(|index| (index % case.vocab_size) as i64).collect();
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
        Self {
            model: Some(WideResNet::new(case, kernels, &device)),
            optimizer: SgdConfig::new()
                .with_momentum(Some(momentum))
                .with_weight_decay(Some(WeightDecayConfig::new(case.weight_decay as f32)))
                .init(),
            loss: CrossEntropyLossConfig::new().init(&device),
            images: Tensor::random([case.batch_size, 3, 32, 32], noise, &device),
            labels: Tensor::from_data(TensorData::new(labels, [case.batch_size]), &device),
            learning_rate: case.learning_rate,
        }
    }
}

impl Steps for ImageSteps {
    fn step(&mut self) -> Tensor<1> {
        let model = self.model.take().expect("the model is there between steps");
        let loss = self.loss.forward(model.forward(self.images.clone()), self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(self.learning_rate, model, gradients));
        loss.detach()
    }
}

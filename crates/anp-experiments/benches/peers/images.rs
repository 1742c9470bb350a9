//! The wide residual network of this project, in the layout that the paper ran.

use anp_models::{Kernels, MatmulPrecision, ResidualLayout, WideResNet, WideResNetConfig};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};

use crate::case::Case;
use crate::steps::Steps;

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
    /// The steps of a case.
    pub fn new(case: &Case, kernels: Kernels, precision: MatmulPrecision, device: &Device) -> Self {
        let noise = Distribution::Normal(0.0, 1.0);
        let labels: Vec<i64> =
            (0..case.batch_size).map(|index| (index % case.vocab_size) as i64).collect();
        let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
        let network = WideResNetConfig::new(case.num_layers, case.d_hidden, case.vocab_size)
            .with_layout(ResidualLayout::Meliketoy)
            .with_kernels(kernels)
            .with_precision(precision);
        Self {
            model: Some(network.init(device)),
            optimizer: SgdConfig::new()
                .with_momentum(Some(momentum))
                .with_weight_decay(Some(WeightDecayConfig::new(case.weight_decay as f32)))
                .init(),
            loss: CrossEntropyLossConfig::new().init(device),
            images: Tensor::random([case.batch_size, 3, 32, 32], noise, device),
            labels: Tensor::from_data(TensorData::new(labels, [case.batch_size]), device),
            learning_rate: case.learning_rate,
        }
    }
}

impl Steps for ImageSteps {
    fn step(&mut self) -> Tensor<1> {
        let model = self.model.take().expect("the model is there between steps");
        let loss =
            self.loss.forward(model.forward(self.images.clone()).logits, self.labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(self.learning_rate, model, gradients));
        loss.detach()
    }
}

//! A small classifier whose last hidden activation is penalised.

use anp_core::{ActivationNorm, ActivationNormConfig, Reduction};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, ExecutionError, Tensor};
use burn::train::metric::{AccuracyInput, Adaptor, ItemLazy, LossInput};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};

use crate::data::{DigitBatch, NUM_CLASSES, NUM_PIXELS};
use crate::metric::PenaltyInput;

const D_HIDDEN: usize = 128;

/// Two hidden layers.
#[derive(Module, Debug)]
pub struct Classifier {
    lower: Linear,
    upper: Linear,
    output: Linear,
    penalty: ActivationNorm,
}

impl Classifier {
    /// Draw the parameters. `strength` is what one unit of the mean over images of ‖h‖² costs.
    pub fn new(strength: f64, device: &Device) -> Self {
        Self {
            lower: LinearConfig::new(NUM_PIXELS, D_HIDDEN).init(device),
            upper: LinearConfig::new(D_HIDDEN, D_HIDDEN).init(device),
            output: LinearConfig::new(D_HIDDEN, NUM_CLASSES).init(device),
            // The cross-entropy below is a mean over the batch, and so is this.
            penalty: ActivationNormConfig::new(strength).with_reduction(Reduction::PerToken).init(),
        }
    }

    /// Logits `[batch_size, NUM_CLASSES]`, and the last hidden activation `[batch_size, D_HIDDEN]`.
    pub fn forward(&self, images: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let hidden = relu(self.lower.forward(images));
        let hidden = relu(self.upper.forward(hidden));
        (self.output.forward(hidden.clone()), hidden)
    }

    fn forward_losses(&self, batch: DigitBatch) -> StepOutput {
        let (logits, hidden) = self.forward(batch.images);
        let cross_entropy = CrossEntropyLossConfig::new().init(&logits.device());
        let loss = cross_entropy.forward(logits.clone(), batch.labels.clone());
        StepOutput {
            classification: ClassificationOutput::new(loss, logits, batch.labels),
            penalty: self.penalty.forward(hidden),
        }
    }
}

impl TrainStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<StepOutput> {
        let output = self.forward_losses(batch);
        // The only place where the penalty is added: the loss that is reported stays the
        // cross-entropy.
        let gradients = (output.classification.loss.clone() + output.penalty.clone()).backward();
        TrainOutput::new(self, gradients, output)
    }
}

impl InferenceStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> StepOutput {
        self.forward_losses(batch)
    }
}

/// What the metrics see.
pub struct StepOutput {
    classification: ClassificationOutput,
    /// `[1]`.
    penalty: Tensor<1>,
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(Self {
            classification: self.classification.sync()?,
            penalty: self.penalty.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for StepOutput {
    fn adapt(&self) -> LossInput {
        self.classification.adapt()
    }
}

impl Adaptor<AccuracyInput> for StepOutput {
    fn adapt(&self) -> AccuracyInput {
        self.classification.adapt()
    }
}

impl Adaptor<PenaltyInput> for StepOutput {
    fn adapt(&self) -> PenaltyInput {
        PenaltyInput(self.penalty.clone())
    }
}

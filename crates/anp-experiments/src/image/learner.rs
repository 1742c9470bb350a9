use anp_core::ActivationNorm;
use anp_models::{ImageOutput, ImageSite, WideResNet};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{ExecutionError, Tensor};
use burn::train::metric::Adaptor;
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use super::batches::{ImageBatch, Part};
use crate::engine::metrics::Summary;

/// An image network and what its training minimises.
#[derive(Module, Debug)]
pub struct ImageLearner {
    /// The network.
    pub net: WideResNet,
    /// The penalties on activations, in the order of the recipe.
    #[module(skip)]
    pub penalties: Vec<(ImageSite, ActivationNorm)>,
}

/// What the training loop and the metrics exchange.
#[derive(Debug, Clone)]
pub enum ImageReport {
    /// One batch, still on the device.
    Batch(Box<BatchOutput>),
    /// Several batches, whose values the loop has read.
    Summary(Summary),
}

/// What one batch gave, still on the device.
#[derive(Debug, Clone)]
pub struct BatchOutput {
    /// Images in the batch.
    pub images: usize,
    /// Negative log-likelihood summed over the images, nats: `[1]`.
    pub nll_sum: Tensor<1>,
    /// Images that are classified rightly: `[1]`.
    pub correct: Tensor<1>,
    /// ‖pooled features‖₂ summed over the images: `[1]`.
    pub norm_sum: Tensor<1>,
    /// ‖pooled features‖₂² summed over the images: `[1]`.
    pub square_sum: Tensor<1>,
    /// Each penalty, as it was added to the loss: `[1]`; empty in evaluation.
    pub penalties: Vec<Tensor<1>>,
    /// Which part of a batch it was.
    pub part: Part,
    /// Running mean and variance of each normalisation after a part of a batch, in the order of [`WideResNet::norms`]; empty
    /// after a whole batch, whose statistics the network has already.
    pub running: Vec<Tensor<1>>,
}

impl BatchOutput {
    fn new(output: &ImageOutput, nll_sum: Tensor<1>, batch: ImageBatch) -> Self {
        let [images, _] = output.logits.dims();
        let labels = batch.labels.inner();
        let predicted = output.logits.clone().inner().argmax(1).reshape([images]);
        let squares = output.pooled.clone().inner().square().sum_dim(1);
        Self {
            images,
            nll_sum: nll_sum.inner(),
            correct: predicted.equal(labels).int().sum().float(),
            norm_sum: squares.clone().sqrt().sum(),
            square_sum: squares.sum(),
            penalties: Vec::new(),
            part: batch.part,
            running: Vec::new(),
        }
    }
}

impl ImageReport {
    /// The batch that a step gave.
    ///
    /// # Panics
    ///
    /// If it is a summary: steps give batches, only the loop makes summaries.
    pub fn into_batch(self) -> BatchOutput {
        match self {
            Self::Batch(batch) => *batch,
            Self::Summary(_) => panic!("a step gives a batch"),
        }
    }
}

impl ItemLazy for ImageReport {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Summary> for ImageReport {
    /// A batch's values are waited for; the loop of this crate hands on summaries, but burn-train's own would hand on what
    /// a step gives.
    fn adapt(&self) -> Summary {
        match self {
            Self::Summary(summary) => *summary,
            Self::Batch(batch) => {
                let images = batch.images as f64;
                Summary {
                    nll: batch.nll_sum.clone().into_scalar::<f64>() / images,
                    accuracy: 100.0 * batch.correct.clone().into_scalar::<f64>() / images,
                    penalty: batch.penalties.iter().map(|p| p.clone().into_scalar::<f64>()).sum(),
                    tokens: batch.images,
                    ..Summary::default()
                }
            }
        }
    }
}

impl ImageLearner {
    /// Loss of one batch, summed over its images, and the network's output.
    pub fn forward(&self, batch: &ImageBatch) -> (Tensor<1>, ImageOutput) {
        let output = self.net.forward(batch.images.clone());
        let [batch_size, _] = output.logits.dims();
        let labels = batch.labels.clone().reshape([batch_size, 1]);
        let nll_sum = log_softmax(output.logits.clone(), 1).gather(1, labels).sum().neg();
        (nll_sum, output)
    }
}

impl TrainStep for ImageLearner {
    type Input = ImageBatch;
    type Output = ImageReport;

    /// ```text
    /// loss = Σ over images of nll / images + Σ penalties
    /// ```
    ///
    /// Of a part of a batch it is what the part adds to the loss of the batch, so that the losses and the gradients of the parts
    /// sum to those of the batch.
    fn step(&self, batch: ImageBatch) -> TrainOutput<ImageReport> {
        let is_whole = batch.is_whole();
        // A part's statistics must not meet those of the others before all are there.
        let own = (!is_whole).then(|| Self { net: self.net.with_own_statistics(), ..self.clone() });
        let learner = own.as_ref().unwrap_or(self);
        let (nll_sum, output) = learner.forward(&batch);
        let penalty = |(site, norm): &(ImageSite, ActivationNorm)| {
            let activation = output.activation(*site);
            let [images, features] = activation.dims();
            let penalty = norm.forward(activation);
            if is_whole {
                return penalty;
            }
            let weight = |images| norm.reduction().weight(norm.norm(), images, features);
            penalty * (weight(batch.part.batch_size) / weight(images))
        };
        let penalties: Vec<_> = self.penalties.iter().map(penalty).collect();
        // Not a division: the gradient of Burn's has the reciprocal in single precision, in any dtype.
        let mean = nll_sum.clone() * (1.0 / batch.part.batch_size as f64);
        let loss = penalties.iter().fold(mean, |loss, penalty| loss + penalty.clone());
        let gradients = loss.backward();
        let mut item = BatchOutput::new(&output, nll_sum, batch);
        item.penalties = penalties.into_iter().map(Tensor::inner).collect();
        if !is_whole {
            let norms = learner.net.norms();
            let running = norms.flat_map(|it| [&it.running_mean, &it.running_var]);
            item.running = running.map(|running| running.value()).collect();
        }
        TrainOutput::new(learner, gradients, ImageReport::Batch(Box::new(item)))
    }
}

impl InferenceStep for ImageLearner {
    type Input = ImageBatch;
    type Output = ImageReport;

    fn step(&self, batch: ImageBatch) -> ImageReport {
        let (nll_sum, output) = self.forward(&batch);
        ImageReport::Batch(Box::new(BatchOutput::new(&output, nll_sum, batch)))
    }
}

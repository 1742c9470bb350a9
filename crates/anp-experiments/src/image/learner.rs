use anp_core::ActivationNorm;
use anp_models::{ImageOutput, ImageSite, WideResNet};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::batches::{ImageBatch, Part};
use super::regularizer::ImageRegularizer;
use crate::engine::{Report, StepOutput, Summary};
use crate::recipe::WeightPenaltyConfig;

/// An image network and its training objective.
#[derive(Module, Debug)]
pub struct ImageLearner {
    /// The network.
    pub net: WideResNet,
    /// The penalties on activations, in the order of the recipe.
    #[module(skip)]
    pub penalties: Vec<(ImageSite, ActivationNorm)>,
    /// The penalties' rivals, in the order of the recipe.
    #[module(skip)]
    pub regularizers: Vec<ImageRegularizer>,
    /// Penalty on the weights.
    #[module(skip)]
    pub weight_penalty: Option<WeightPenaltyConfig>,
}

/// The sum of squares of all weight matrices and kernels.
#[derive(Default)]
struct WeightSquare(Option<Tensor<1>>);

impl ModuleVisitor for WeightSquare {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Biases, scales, shifts and running statistics have one dimension.
        if D > 1 {
            let square = param.val().square().sum();
            self.0 = Some(self.0.take().map_or_else(|| square.clone(), |sum| sum + square.clone()));
        }
    }
}

/// The output of one batch, still on the device.
#[derive(Debug, Clone)]
pub struct BatchOutput {
    /// Images in the batch.
    pub images: usize,
    /// Negative log-likelihood summed over the images, nats: `[1]`.
    pub nll_sum: Tensor<1>,
    /// Number of correctly classified images: `[1]`.
    pub correct: Tensor<1>,
    /// ‖pooled features‖₂ summed over the images: `[1]`.
    pub norm_sum: Tensor<1>,
    /// ‖pooled features‖₂² summed over the images: `[1]`.
    pub square_sum: Tensor<1>,
    /// Each penalty, as added to the loss: `[1]`; empty in evaluation.
    pub penalties: Vec<Tensor<1>>,
    /// The part of the batch.
    pub part: Part,
    /// Running mean and variance of each normalisation after a part of a batch, in the order of
    /// [`WideResNet::norms`]; empty after a whole batch, which updates the network's own
    /// statistics.
    pub running: Vec<Tensor<1>>,
}

impl BatchOutput {
    fn new(output: &ImageOutput, nll_sum: Tensor<1>, batch: ImageBatch) -> Self {
        let [images, _] = output.logits.dims();
        let squares = output.pooled.clone().inner().square().sum_dim(1);
        Self {
            images,
            nll_sum: nll_sum.inner(),
            correct: num_correct(output.logits.clone().inner(), batch.labels.inner()),
            norm_sum: squares.clone().sqrt().sum(),
            square_sum: squares.sum(),
            penalties: Vec::new(),
            part: batch.part,
            running: Vec::new(),
        }
    }
}

impl StepOutput for BatchOutput {
    fn summary(&self) -> Summary {
        Summary::of_batch(self.images, &self.nll_sum, &self.correct, &self.penalties)
    }
}

impl ImageLearner {
    /// Loss of one batch, summed over its images, and the network's output.
    pub fn forward(&self, batch: &ImageBatch) -> (Tensor<1>, ImageOutput) {
        let output = self.net.forward(batch.images.clone());
        let nll_sum = nll(log_softmax(output.logits.clone(), 1), batch.labels.clone()).sum();
        (nll_sum, output)
    }

    /// Gradient of one term of the loss of a training step: the data's, or that of a penalty by
    /// its index. The running statistics stay as they are.
    pub(super) fn gradient_of(
        &self,
        batch: &ImageBatch,
        penalty: Option<usize>,
    ) -> GradientsParams {
        let own = Self { net: self.net.with_own_statistics(), ..self.clone() };
        let Terms { likelihood, mut penalties, .. } = own.terms(batch);
        let term = penalty.map_or(likelihood, |index| penalties.swap_remove(index));
        GradientsParams::from_grads(term.backward(), &own)
    }

    /// The terms of the loss, as parts of the graph.
    fn terms(&self, batch: &ImageBatch) -> Terms {
        let (nll_sum, output) = self.forward(batch);
        let is_whole = batch.is_whole();
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
        let regularizer = |it: &ImageRegularizer| {
            it.forward(&output, batch.labels.clone(), batch.part.batch_size)
        };
        let weight_penalty = |it: &WeightPenaltyConfig| {
            let mut square = WeightSquare::default();
            self.net.visit(&mut square);
            let [images, _] = output.logits.dims();
            let share = images as f64 / batch.part.batch_size as f64;
            it.of_square(square.0.expect("the network has weights")) * share
        };
        let penalties: Vec<_> = self
            .penalties
            .iter()
            .map(penalty)
            .chain(self.regularizers.iter().map(regularizer))
            .chain(self.weight_penalty.as_ref().map(weight_penalty))
            .collect();
        // Not a division: Burn computes its gradient with the reciprocal in single precision,
        // whatever the dtype.
        let likelihood = nll_sum.clone() * (1.0 / batch.part.batch_size as f64);
        Terms { likelihood, penalties, nll_sum, output }
    }
}

/// The terms of the loss of a batch.
struct Terms {
    /// Of the data.
    likelihood: Tensor<1>,
    /// Each penalty, as added to the loss.
    penalties: Vec<Tensor<1>>,
    nll_sum: Tensor<1>,
    output: ImageOutput,
}

/// Negative log-likelihood of each image's label: `[images]`, of `log_probs`, `[images, classes]`.
pub(crate) fn nll(log_probs: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [images, _] = log_probs.dims();
    log_probs.gather(1, labels.reshape([images, 1])).reshape([images]).neg()
}

/// Number of images whose label has the largest logit: `[1]`.
pub(crate) fn num_correct(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [images, _] = logits.dims();
    logits.argmax(1).reshape([images]).equal(labels).int().sum().float()
}

impl TrainStep for ImageLearner {
    type Input = ImageBatch;
    type Output = Report<BatchOutput>;

    /// ```text
    /// loss = Σ over images of nll / images + Σ penalties
    /// ```
    ///
    /// For a part of a batch it is the part's contribution to the loss of the batch, so that losses
    /// and gradients of the parts sum to those of the batch.
    fn step(&self, batch: ImageBatch) -> TrainOutput<Report<BatchOutput>> {
        let is_whole = batch.is_whole();
        // The statistics of a part must not mix with those of others before all are complete.
        let own = (!is_whole).then(|| Self { net: self.net.with_own_statistics(), ..self.clone() });
        let learner = own.as_ref().unwrap_or(self);
        let Terms { likelihood, penalties, nll_sum, output } = learner.terms(&batch);
        let loss = penalties.iter().fold(likelihood, |loss, penalty| loss + penalty.clone());
        let gradients = loss.backward();
        let mut item = BatchOutput::new(&output, nll_sum, batch);
        item.penalties = penalties.into_iter().map(Tensor::inner).collect();
        if !is_whole {
            let norms = learner.net.norms();
            let running = norms.flat_map(|it| [&it.running_mean, &it.running_var]);
            item.running = running.map(|running| running.value()).collect();
        }
        TrainOutput::new(learner, gradients, Report::step(item))
    }
}

impl InferenceStep for ImageLearner {
    type Input = ImageBatch;
    type Output = Report<BatchOutput>;

    fn step(&self, batch: ImageBatch) -> Report<BatchOutput> {
        let (nll_sum, output) = self.forward(&batch);
        Report::step(BatchOutput::new(&output, nll_sum, batch))
    }
}

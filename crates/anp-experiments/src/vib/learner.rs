use anp_core::GaussianEncoding;
use anp_models::VibClassifier;
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use burn::train::{InferenceStep, TrainOutput, TrainStep};

use super::data::flatten;
use crate::engine::{Report, StepOutput, Summary};
use crate::image::batches::ImageBatch;
use crate::image::learner::{nll, num_correct};

/// A classifier with a bottleneck, and what it reads.
#[derive(Module, Debug)]
pub struct VibLearner {
    /// The network.
    pub net: VibClassifier,
    /// Channels, height and width of what it reads of an image.
    #[module(skip)]
    pub shape: [usize; 3],
}

/// The output of one batch, still on the device.
#[derive(Debug, Clone)]
pub struct VibOutput {
    /// Images in the batch.
    pub images: usize,
    /// Negative log-likelihood summed over the images, nats: `[1]`.
    pub nll_sum: Tensor<1>,
    /// Number of correctly classified images: `[1]`.
    pub correct: Tensor<1>,
    /// β times the mean divergence, as added to the loss: `[1]`; empty in evaluation and without a
    /// bottleneck.
    pub penalties: Vec<Tensor<1>>,
}

impl StepOutput for VibOutput {
    fn summary(&self) -> Summary {
        Summary::of_batch(self.images, &self.nll_sum, &self.correct, &self.penalties)
    }
}

impl VibLearner {
    /// The distribution of each image's code.
    pub(super) fn encode(&self, images: Tensor<4>) -> GaussianEncoding<2> {
        self.net.encode(flatten(images, self.shape))
    }

    /// Logarithms of the probabilities of the classes for each code: `[images, num_classes]`.
    pub(super) fn log_probs(&self, codes: Tensor<2>) -> Tensor<2> {
        log_softmax(self.net.decode(codes), 1)
    }

    /// The loss of a batch from one code per image.
    ///
    /// ```text
    /// loss = mean over images of −ln q(y | z) + β · mean over images of KL(p(z | x) ‖ N(0, I))
    /// ```
    ///
    /// Returns the loss, `[1]`, and what there is to tell of it.
    pub fn loss(
        &self,
        encoding: &GaussianEncoding<2>,
        codes: Tensor<2>,
        labels: Tensor<1, Int>,
    ) -> (Tensor<1>, VibOutput) {
        let log_probs = self.log_probs(codes);
        let [images, _] = log_probs.dims();
        let nll_sum = nll(log_probs.clone(), labels.clone()).sum();
        let penalties: Vec<_> = self
            .net
            .is_stochastic()
            .then(|| self.net.bottleneck.penalty(encoding))
            .into_iter()
            .collect();
        let mean = nll_sum.clone() * (1.0 / images as f64);
        let loss = penalties.iter().fold(mean, |loss, penalty| loss + penalty.clone());
        let output = VibOutput {
            images,
            nll_sum: nll_sum.inner(),
            correct: num_correct(log_probs.inner(), labels.inner()),
            penalties: penalties.into_iter().map(Tensor::inner).collect(),
        };
        (loss, output)
    }
}

impl TrainStep for VibLearner {
    type Input = ImageBatch;
    type Output = Report<VibOutput>;

    /// Draws the codes from the generator of the device. See [`VibLearner::loss`].
    fn step(&self, batch: ImageBatch) -> TrainOutput<Report<VibOutput>> {
        let encoding = self.encode(batch.images);
        let codes = self.net.code(&encoding);
        let (loss, output) = self.loss(&encoding, codes, batch.labels);
        TrainOutput::new(self, loss.backward(), Report::step(output))
    }
}

impl InferenceStep for VibLearner {
    type Input = ImageBatch;
    type Output = Report<VibOutput>;

    /// From the means of the codes.
    fn step(&self, batch: ImageBatch) -> Report<VibOutput> {
        let log_probs = self.log_probs(self.encode(batch.images).mean);
        let [images, _] = log_probs.dims();
        Report::step(VibOutput {
            images,
            nll_sum: nll(log_probs.clone(), batch.labels.clone()).sum(),
            correct: num_correct(log_probs, batch.labels),
            penalties: Vec::new(),
        })
    }
}

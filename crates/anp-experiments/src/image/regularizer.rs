//! The terms of `[[regularizer]]` on a batch of images.

use anp_core::{
    ConfidencePenaltyConfig, Darc1Config, InformationBoundConfig, LabelSmoothingConfig,
    TargetNormConfig,
};
use anp_models::{ImageOutput, ImageSite};
use burn::tensor::{Int, Tensor};

use crate::recipe::{LabelPrior, RegularizerConfig};

/// A regulariser with what it needs of the training images.
#[derive(Debug, Clone)]
pub struct ImageRegularizer {
    config: RegularizerConfig<ImageSite>,
    /// Training images of each class; a tensor would be on one device.
    counts: Vec<f64>,
}

impl ImageRegularizer {
    /// `counts` are of each class among the training images.
    pub(super) fn new(config: &RegularizerConfig<ImageSite>, counts: &[f64]) -> Self {
        Self { config: config.clone(), counts: counts.to_vec() }
    }

    /// The term to add to the loss of a batch of `batch_size` images. For a part of the batch it is
    /// the part's contribution.
    ///
    /// # Panics
    ///
    /// If it is a term on successive steps, or one of a whole batch and this is a part: a recipe
    /// with these is refused.
    pub(super) fn forward(
        &self,
        output: &ImageOutput,
        labels: Tensor<1, Int>,
        batch_size: usize,
    ) -> Tensor<1> {
        let logits = output.logits.clone();
        let [images, _] = logits.dims();
        let is_whole = images == batch_size;
        assert!(is_whole || !self.config.is_of_whole_batch(), "the term is of a whole batch");
        let mean = match self.config {
            RegularizerConfig::TargetNorm { site, beta, target } => {
                TargetNormConfig::new(beta, target).init().forward(output.activation(site))
            }
            RegularizerConfig::ConfidencePenalty { beta } => {
                ConfidencePenaltyConfig::new(beta).init().forward(logits)
            }
            RegularizerConfig::LabelSmoothing { alpha, prior } => {
                let smoothing = LabelSmoothingConfig::new(alpha);
                let smoothing = match prior {
                    LabelPrior::Uniform => smoothing.init(),
                    LabelPrior::Unigram => {
                        let device = logits.device();
                        smoothing.init_unigram(Tensor::from_data(&self.counts[..], &device))
                    }
                };
                smoothing.forward(logits, labels)
            }
            RegularizerConfig::Darc1 { lambda } => Darc1Config::new(lambda).init().forward(logits),
            RegularizerConfig::InformationBound {
                site,
                beta,
                epsilon,
                terms,
                trace_factor,
                group: _,
            } => InformationBoundConfig::new(beta / images as f64)
                .with_epsilon(epsilon)
                .with_terms(terms)
                .with_trace_factor(trace_factor)
                .init()
                .forward_examples(output.activation(site)),
            RegularizerConfig::NormStabilizer { .. } => unreachable!("images have no steps"),
        };
        mean * (images as f64 / batch_size as f64)
    }
}

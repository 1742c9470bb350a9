//! The terms of `[[regularizer]]` on a batch of images.

use anp_core::{ConfidencePenaltyConfig, Darc1Config, LabelSmoothingConfig, TargetNormConfig};
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
    /// If it is a term on successive steps, or DARC1 of a part: a recipe with these is refused.
    pub(super) fn forward(
        &self,
        output: &ImageOutput,
        labels: Tensor<1, Int>,
        batch_size: usize,
    ) -> Tensor<1> {
        let logits = output.logits.clone();
        let [images, _] = logits.dims();
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
            RegularizerConfig::Darc1 { lambda } => {
                assert_eq!(images, batch_size, "DARC1 is of a whole batch");
                Darc1Config::new(lambda).init().forward(logits)
            }
            RegularizerConfig::NormStabilizer { .. } => unreachable!("images have no steps"),
        };
        mean * (images as f64 / batch_size as f64)
    }
}

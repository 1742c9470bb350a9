use anp_core::{ExampleGroup, InformationTerms, TraceFactor};
use serde::{Deserialize, Serialize};

/// One `[[regularizer]]`: a rival of the activation norm penalty, added to the loss. One key names
/// its kind.
///
/// Strengths are those of the published forms beside a mean over tokens or images. Where the loss
/// is a sum over the steps of a window, the term is multiplied by their number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RegularizerConfig<Site> {
    /// [`anp_core::NormStabilizer`]: the norm should not change from step to step.
    NormStabilizer {
        /// The activation.
        site: Site,
        /// Strength β.
        beta: f64,
    },
    /// [`anp_core::TargetNorm`]: the norm should be `target`.
    TargetNorm {
        /// The activation.
        site: Site,
        /// Strength β.
        beta: f64,
        /// The norm k.
        target: f64,
    },
    /// [`anp_core::ConfidencePenalty`]: the softmax should keep its entropy.
    ConfidencePenalty {
        /// Strength β.
        beta: f64,
    },
    /// [`anp_core::LabelSmoothing`]: a share of each target goes to a prior over classes.
    LabelSmoothing {
        /// The share α.
        alpha: f64,
        /// The prior.
        prior: LabelPrior,
    },
    /// [`anp_core::Darc1`]: no class should have large logits throughout the minibatch.
    Darc1 {
        /// Strength λ.
        lambda: f64,
    },
    /// [`anp_core::InformationBound`]: the activation should have little information of the input.
    InformationBound {
        /// The activation.
        site: Site,
        /// Strength β, of the mean over tokens or images of each one's share in the bound. The
        /// trace at β = η·B·K is the activation norm penalty at η (half the sum of the squares of a
        /// batch of B sequences, K features, the loss summed over steps).
        beta: f64,
        /// Variance ε that is added to each example's own.
        epsilon: f64,
        /// Which terms of the divergence count.
        terms: InformationTerms,
        /// Factor of the trace.
        trace_factor: TraceFactor,
        /// The examples that have one Gaussian together; images of a batch always have.
        #[serde(default = "time_step", skip_serializing_if = "is_time_step")]
        group: ExampleGroup,
    },
}

fn time_step() -> ExampleGroup {
    ExampleGroup::TimeStep
}

fn is_time_step(group: &ExampleGroup) -> bool {
    *group == ExampleGroup::TimeStep
}

/// Where label smoothing moves a share of each target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelPrior {
    /// To all classes alike.
    Uniform,
    /// To each class by its frequency in the training data.
    Unigram,
}

impl<Site: Copy> RegularizerConfig<Site> {
    /// The key that names its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NormStabilizer { .. } => "norm_stabilizer",
            Self::TargetNorm { .. } => "target_norm",
            Self::ConfidencePenalty { .. } => "confidence_penalty",
            Self::LabelSmoothing { .. } => "label_smoothing",
            Self::Darc1 { .. } => "darc1",
            Self::InformationBound { .. } => "information_bound",
        }
    }

    /// Its strength.
    pub fn strength(&self) -> f64 {
        match *self {
            Self::NormStabilizer { beta, .. }
            | Self::TargetNorm { beta, .. }
            | Self::ConfidencePenalty { beta }
            | Self::InformationBound { beta, .. } => beta,
            Self::LabelSmoothing { alpha, .. } => alpha,
            Self::Darc1 { lambda } => lambda,
        }
    }

    /// The same with another strength.
    pub(crate) fn strength_mut(&mut self) -> &mut f64 {
        match self {
            Self::NormStabilizer { beta, .. }
            | Self::TargetNorm { beta, .. }
            | Self::ConfidencePenalty { beta }
            | Self::InformationBound { beta, .. } => beta,
            Self::LabelSmoothing { alpha, .. } => alpha,
            Self::Darc1 { lambda } => lambda,
        }
    }

    /// The activation that it is on, if it is on one.
    pub fn site(&self) -> Option<Site> {
        match *self {
            Self::NormStabilizer { site, .. }
            | Self::TargetNorm { site, .. }
            | Self::InformationBound { site, .. } => Some(site),
            _ => None,
        }
    }

    /// Whether its value on a batch is not a sum over the examples' own, so that no device can have
    /// a part of the batch.
    pub(crate) fn is_of_whole_batch(&self) -> bool {
        matches!(self, Self::Darc1 { .. } | Self::InformationBound { .. })
    }
}

//! The results of an analysis, as its JSON has them.

use std::path::PathBuf;

use anp_core::estimators::Estimate;
use serde::Serialize;

use super::number::{Number, On};

/// The analysis of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Analysis {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// `text` or `image`.
    pub kind: &'static str,
    /// Epoch of the parameters; `None` before the end of the first.
    pub epoch: Option<usize>,
    /// Which parameters were taken.
    pub parameters: &'static str,
    /// Seed of the choice of items and of the masks.
    pub seed: u64,
    /// What evaluation measured.
    pub on: On,
    /// Variance ε of K̂.
    pub epsilon: f64,
    /// The activations, in the order in which the network computes them.
    pub sites: Vec<SiteReport>,
    /// What the last activation tells about the target.
    pub decoder: Decoder,
    /// The gradients of the terms of the loss.
    pub gradient: Gradient,
}

/// An activation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteReport {
    /// Its name, as in recipes.
    pub site: String,
    /// Units K.
    pub units: usize,
    /// How large it is.
    pub size: Size,
    /// How much of it is at its limits; `None` where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturation: Option<SaturationReport>,
    /// The divergence of equation 10 per time step or batch.
    pub divergence: Divergence,
    /// Eigenvalues over a sample of items.
    pub spectrum: SpectrumReport,
    /// Information about input and target, for each noise.
    pub information: Vec<Information>,
}

/// Readings of the norms of Table 6a, over all measured items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Size {
    /// Mean over items of ‖h‖₂.
    pub norm: Number,
    /// Mean over items of ½‖h‖₂².
    pub half_squared_norm: Number,
    /// Mean over windows of the Frobenius norm of the whole block, divided by its steps. A batch of
    /// images has one step.
    pub frobenius_per_step: Number,
    /// Root of the mean square of an element.
    pub rms: Number,
}

/// How much of an activation is at its limits, over all measured items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaturationReport {
    /// What counts as saturated, for example `|h| > 0.9`.
    pub criterion: &'static str,
    /// Share of the elements that are.
    pub share: Number,
    /// Share of the units that are 0 on every measured item; rectified activations only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_units: Option<Number>,
}

/// KL(N(0, K̂) ‖ N(0, I)) with K̂ = ΦΦᵀ/K + εI, mean over groups of items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Divergence {
    /// Items per group, N: the batch at a time step, or a batch of images.
    pub group_size: usize,
    /// Number of groups.
    pub groups: usize,
    /// Variance ε.
    pub epsilon: f64,
    /// ½ (tr K̂ − N).
    pub trace: Number,
    /// −½ ln det K̂.
    pub log_determinant: Number,
    /// Their sum.
    pub kl: Number,
}

/// Eigenvalues over a sample of items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpectrumReport {
    /// Items of the sample, N.
    pub samples: usize,
    /// Eigenvalues of ΦΦᵀ/K, descending: the smaller of N and K. Those of K̂ are larger by ε, and
    /// its others are ε. No unit.
    pub kernel: Vec<f64>,
    /// Eigenvalues of the covariance of the units, descending: the smaller of N and K. In units of
    /// the activation, squared.
    pub covariance: Vec<f64>,
    /// Effective rank of ΦΦᵀ.
    pub kernel_effective_rank: Number,
    /// Effective rank of the covariance.
    pub effective_rank: Number,
    /// Participation ratio of the covariance.
    pub participation_ratio: Number,
    /// The divergence of equation 10 with the whole sample as one group.
    pub divergence: Divergence,
}

/// Information that an activation has with noise N(0, σ²I).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Information {
    /// Standard deviation of the noise.
    pub noise: Noise,
    /// Items of the sample, N.
    pub samples: usize,
    /// ln N: no estimate of I(X; T) is higher.
    pub ceiling: Number,
    /// I(X; T), what T tells about which item it comes from.
    pub input: Range,
    /// I(T; Y), what T tells about the label; images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Range>,
}

/// The standard deviation of a noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Noise {
    /// Which of the two was given.
    pub given: GivenSigma,
    /// In units of the activation.
    pub sigma: f64,
    /// As a multiple of the root mean square of the sample's activation.
    pub relative_sigma: f64,
}

/// Which reading of σ was given; the other follows from the activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GivenSigma {
    /// The multiple: the information does not depend on the activation's scale.
    Relative,
    /// The value: a smaller activation has less information.
    Absolute,
}

/// Bounds on an information.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// Lower bound.
    pub lower: Bounded,
    /// Upper bound.
    pub upper: Bounded,
}

/// One bound with its uncertainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bounded {
    /// The estimate, in nats.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// 95 % confidence interval, in nats.
    pub interval: Option<[f64; 2]>,
    /// `nats`.
    pub unit: &'static str,
}

/// A variational lower bound on I(T; Y) by the network's own decoder: I(T; Y) ≥ H(Y) − CE.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decoder {
    /// The activation T, in front of the decoder.
    pub site: String,
    /// Entropy of the targets from their counts in the whole split. It is too low, by about
    /// (classes − 1)/(2 items), and so is the bound.
    pub target_entropy: Number,
    /// Cross-entropy of the decoder.
    pub cross_entropy: Number,
    /// H(Y) − CE.
    pub information: Number,
}

impl Decoder {
    /// `nlls` are means of equally many items each, in nats; `target_entropy` is H(Y).
    pub(crate) fn new(site: String, target_entropy: f64, nlls: &[f64]) -> Self {
        let cross_entropy = Number::mean(nlls, "nats");
        let information = Number { value: target_entropy - cross_entropy.value, ..cross_entropy };
        Self {
            site,
            target_entropy: Number::new(target_entropy, "nats"),
            cross_entropy,
            information,
        }
    }
}

/// Entropy of what was counted, in nats: −Σ p ln p.
pub(crate) fn entropy(counts: &[f64]) -> f64 {
    let sum: f64 = counts.iter().sum();
    let shares = counts.iter().map(|count| count / sum).filter(|&share| share > 0.0);
    -shares.map(|share| share * share.ln()).sum::<f64>()
}

/// Gradients of the terms of the loss over all parameters, on batches of training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gradient {
    /// What they were measured on.
    pub on: On,
    /// Training steps.
    pub steps: usize,
    /// Norm of the gradient of the data's loss, mean over steps.
    pub data_norm: Number,
    /// The other terms; empty if the recipe has none.
    pub terms: Vec<Term>,
}

/// A term of the loss besides the data's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Term {
    /// Site or kind.
    pub name: String,
    /// Its strength in the recipe.
    pub strength: f64,
    /// ‖∇ term‖/‖∇ data‖, mean over steps.
    pub share: Number,
    /// Cosine of the angle between the two gradients, mean over steps; NaN (`null`) if one is 0.
    pub cosine: Number,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_tells_what_the_cross_entropy_leaves_of_the_entropy() {
        assert!((entropy(&[5.0, 5.0, 0.0, 10.0]) - 1.5 * 2.0_f64.ln()).abs() < 1e-15);
        let decoder = Decoder::new("pooled".to_owned(), entropy(&[1.0; 8]), &[0.5, 1.5]);
        assert!((decoder.information.value - (8.0_f64.ln() - 1.0)).abs() < 1e-15);
        assert!((decoder.information.standard_error.unwrap() - 0.5).abs() < 1e-15);
    }
}

//! Label smoothing.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Int, Tensor};

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_range};
use crate::norm::tokens_and_features;
use crate::widen::{no_penalty, widen};

/// Configuration of [`LabelSmoothing`].
#[derive(Config, Debug, PartialEq)]
pub struct LabelSmoothingConfig {
    /// Share α of the targets that goes to the prior, in [0, 1); 0 turns smoothing off. The paper
    /// takes 0.1 on the Penn Treebank.
    pub alpha: f64,
}

impl LabelSmoothingConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `alpha` is not in [0, 1).
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_range("alpha", self.alpha, "[0, 1)", (0.0..1.0).contains(&self.alpha))
    }

    /// Build smoothing with the uniform distribution over classes.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> LabelSmoothing {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        LabelSmoothing { alpha: self.alpha, prior: None }
    }

    /// Build smoothing with the distribution of the classes in the training data.
    ///
    /// # Shapes
    ///
    /// - `counts`: how often each class occurs, or any multiple of that: `[num_classes]`, on the
    ///   device of the logits
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails, a count is negative, or none is above 0.
    pub fn init_unigram(&self, counts: Tensor<1>) -> LabelSmoothing {
        let counts = widen(counts);
        let sum: f64 = counts.clone().sum().into_scalar();
        let smallest: f64 = counts.clone().min().into_scalar();
        assert!(
            smallest >= 0.0 && sum > 0.0 && sum.is_finite(),
            "a unigram distribution needs counts, got a sum of {sum} and a minimum of {smallest}"
        );
        LabelSmoothing { prior: Some(counts.mul_scalar(1.0 / sum)), ..self.init() }
    }
}

/// Label smoothing: a share of each target goes to a prior over classes.
///
/// ```text
/// (1−α) · nll + α · CE(u, p) = nll + α · mean over n of (zₙ,yₙ − Σᵥ uᵥ zₙᵥ)
/// ```
///
/// for logits z, targets y and prior u: 1/V for V classes (uniform,
/// [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567)), or the frequency of each class
/// (unigram). Both are in
/// [Pereyra, Tucker, Chorowski, Kaiser & Hinton, 2017](https://arxiv.org/abs/1701.06548). Theirs is
/// the form on the left, of targets (1−α) · one-hot + α · u, and so is that of PyTorch's
/// `label_smoothing`.
///
/// This is the second term on the right, one to add to the negative log-likelihood, which stays
/// what is reported. The normalisers of both sides cancel in it: it is linear in the logits, and
/// negative where the target's is below average. Beside a loss that is no mean over tokens, see
/// [`LossReduction::scale`](crate::LossReduction::scale).
///
/// ```
/// use anp_core::LabelSmoothingConfig;
/// use burn::prelude::*;
///
/// let device = Device::default();
/// let logits = Tensor::<2>::from_data([[3.0, 0.0, 0.0]], &device);
/// let targets = Tensor::<1, Int>::from_data([0], &device);
/// let config = LabelSmoothingConfig::new(0.5);
/// let uniform = config.init().forward(logits.clone(), targets.clone());
/// assert_eq!(uniform.into_scalar::<f32>(), 1.0); // 0.5 (3 − 1)
///
/// let counts = Tensor::<1>::from_data([2.0, 1.0, 1.0], &device);
/// let unigram = config.init_unigram(counts).forward(logits, targets);
/// assert_eq!(unigram.into_scalar::<f32>(), 0.75); // 0.5 (3 − 1.5)
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LabelSmoothing {
    alpha: f64,
    /// `[num_classes]`; `None` is uniform.
    prior: Option<Tensor<1>>,
}

impl LabelSmoothing {
    /// Term to add to the negative log-likelihood, in nats. Its value is the one to log.
    ///
    /// # Shapes
    ///
    /// - `logits`: `[num_tokens, num_classes]`
    /// - `targets`: `[num_tokens]`
    /// - returns: `[1]`, in single precision if `logits` is in half precision
    ///
    /// # Panics
    ///
    /// If `logits` has no element, or a unigram distribution is of another number of classes than
    /// `logits`. A target that is none of the classes panics on some backends and reads something
    /// on others.
    pub fn forward(&self, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let [num_tokens, num_classes] = tokens_and_features(logits.dims());
        if let Some(prior) = &self.prior {
            let [num_known] = prior.dims();
            assert_eq!(
                num_known, num_classes,
                "the unigram distribution is of {num_known} classes, the logits of {num_classes}"
            );
        }
        if self.alpha == 0.0 {
            return no_penalty(&logits);
        }
        let logits = widen(logits);
        let of_targets = logits.clone().gather(1, targets.reshape([num_tokens, 1]));
        let expected = match &self.prior {
            None => logits.sum_dim(1).mul_scalar(1.0 / num_classes as f64),
            Some(prior) => {
                let prior = prior.clone().cast(logits.dtype());
                (logits * prior.unsqueeze()).sum_dim(1)
            }
        };
        (of_targets - expected).sum().mul_scalar(self.alpha / num_tokens as f64)
    }

    /// Share α of the targets that goes to the prior.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }
}

display_on_one_line!(
    LabelSmoothing, it: "alpha" = it.alpha,
    "prior" = String::from(if it.prior.is_some() { "unigram" } else { "uniform" })
);

//! Information from the scores of a critic.

use burn::tensor::activation::log_sigmoid;
use burn::tensor::{Bool, DType, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::estimate::{Bound, Estimate, Method, mean_and_standard_error};
use crate::error::{HyperParamError, validate_range};

/// How the scores of a critic become an estimate of I(X; T).
///
/// A critic f gives a score to every pair of an xᵢ and a tⱼ of a batch of N samples: high where the
/// two belong together. P̂ averages over the N pairs i = j, Q̂ over the N(N − 1) pairs i ≠ j, which
/// stand for independent X and T.
///
/// ```text
/// info_nce:          mean over i of [fᵢᵢ − ln (1/N) Σⱼ exp fᵢⱼ]
/// nwj:               P̂ f − Q̂ exp(f − 1)
/// donsker_varadhan:  P̂ f − ln Q̂ exp f
/// smile:             P̂ f − ln Q̂ clamp(exp f, e^−τ, e^τ)
/// ```
///
/// | estimate | best critic | bounds | fails |
/// | --- | --- | --- | --- |
/// | InfoNCE | ln p(t∣x) + c(x) | below, in expectation | never above ln N |
/// | NWJ | 1 + ln p(t∣x)/p(t) | below, in expectation | variance grows as exp I |
/// | Donsker-Varadhan | ln p(t∣x)/p(t) + c | neither | ln of a batch's mean is too low |
/// | SMILE | ln p(t∣x)/p(t) | neither | biased by the clamp |
///
/// [van den Oord et al., 2018](https://arxiv.org/abs/1807.03748);
/// [Nguyen, Wainwright & Jordan, 2010](https://arxiv.org/abs/0809.0853);
/// [Belghazi et al., 2018](https://arxiv.org/abs/1801.04062) (MINE, a network trained on the
/// Donsker-Varadhan bound);
/// [Song & Ermon, 2020](https://arxiv.org/abs/1910.06222) (SMILE, and the variances);
/// [Poole et al., 2019](https://arxiv.org/abs/1905.06922) has all but the last.
///
/// MINE replaces the denominator of the gradient by a moving average, because it takes N pairs for
/// Q̂. All N(N − 1) pairs make that correction needless here.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticBound {
    /// InfoNCE.
    InfoNce,
    /// Nguyen, Wainwright and Jordan; also known as f-GAN KL and MINE-f.
    Nwj,
    /// Donsker and Varadhan.
    DonskerVaradhan,
    /// Smoothed mutual information "lower-bound" estimator.
    Smile {
        /// Clamp τ > 0 of the scores; the authors take 1, 5 and ∞.
        clip: f64,
    },
}

impl CriticBound {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] unless `clip` is in (0, ∞).
    pub fn validate(&self) -> Result<(), HyperParamError> {
        match *self {
            Self::Smile { clip } => {
                validate_range("clip", clip, "(0, ∞)", clip.is_finite() && clip > 0.0)
            }
            _ => Ok(()),
        }
    }

    /// Estimate of I(X; T) in nats from one batch; differentiable.
    ///
    /// Computed in single precision, or in double if the scores are.
    ///
    /// # Shapes
    ///
    /// - `scores`: `[batch_size, batch_size]`, row i and column j for f(xᵢ, tⱼ)
    /// - returns: `[1]`
    ///
    /// # Panics
    ///
    /// If `scores` is not square, or has fewer than two rows.
    pub fn value(&self, scores: Tensor<2>) -> Tensor<1> {
        let scores = Scores::new(scores);
        match *self {
            Self::InfoNce => scores.info_nce(),
            Self::Nwj => scores.matched().mean() - scores.log_mean_exp().sub_scalar(1.0).exp(),
            Self::DonskerVaradhan => scores.matched().mean() - scores.log_mean_exp(),
            Self::Smile { clip } => scores.matched().mean() - scores.clamp(clip).log_mean_exp(),
        }
    }

    /// Loss whose minimum makes the critic the best one for this estimate.
    ///
    /// The negative [`value`](Self::value), except for SMILE, whose value has no maximum: a
    /// constant added to all scores raises it without end. Its authors train on the Jensen-Shannon
    /// bound:
    ///
    /// ```text
    /// loss = P̂ ln(1 + exp(−f)) + Q̂ ln(1 + exp f)
    /// ```
    ///
    /// # Shapes
    ///
    /// As for [`value`](Self::value).
    ///
    /// # Panics
    ///
    /// As for [`value`](Self::value).
    pub fn loss(&self, scores: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Smile { .. } => Scores::new(scores).jensen_shannon_loss(),
            _ => self.value(scores).neg(),
        }
    }

    /// Estimate from the scores of several independent batches, best of samples that the critic was
    /// not trained on.
    ///
    /// The value is the mean over batches. The standard error is that of the mean: it is about the
    /// expectation of the estimator with this critic and this batch size, which is below I for a
    /// lower bound.
    ///
    /// # Shapes
    ///
    /// - each of `scores`: `[batch_size, batch_size]`
    ///
    /// # Panics
    ///
    /// If there is no batch, or as [`value`](Self::value).
    pub fn estimate(&self, scores: impl IntoIterator<Item = Tensor<2>>) -> Estimate {
        let value = |scores: Tensor<2>| self.value(scores.inner()).into_scalar::<f64>();
        let values: Vec<f64> = scores.into_iter().map(value).collect();
        assert!(!values.is_empty(), "an estimate needs a batch of scores");
        let (nats, standard_error) = mean_and_standard_error(&values);
        Estimate {
            nats,
            standard_error,
            num_units: values.len(),
            method: self.method(),
            bound: self.bound(),
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::InfoNce => Method::InfoNce,
            Self::Nwj => Method::Nwj,
            Self::DonskerVaradhan => Method::DonskerVaradhan,
            Self::Smile { .. } => Method::Smile,
        }
    }

    fn bound(&self) -> Bound {
        match self {
            Self::InfoNce | Self::Nwj => Bound::Lower,
            Self::DonskerVaradhan | Self::Smile { .. } => Bound::Neither,
        }
    }
}

/// Scores of a batch, in single precision at least.
struct Scores(Tensor<2>);

impl Scores {
    fn new(scores: Tensor<2>) -> Self {
        let [rows, columns] = scores.dims();
        assert!(
            rows == columns && rows >= 2,
            "scores are of N x N pairs with N >= 2, got [{rows}, {columns}]"
        );
        let dtype = if scores.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        Self(scores.cast(dtype))
    }

    fn len(&self) -> usize {
        self.0.dims()[0]
    }

    /// Scores of the pairs i = j: `[N, 1]`.
    fn matched(&self) -> Tensor<2> {
        let indices = Tensor::<1, Int>::arange(0..self.len() as i64, &self.0.device());
        self.0.clone().gather(1, indices.unsqueeze_dim(1))
    }

    /// True where i = j.
    fn is_matched(&self) -> Tensor<2, Bool> {
        // Burn's mask is false there.
        Tensor::diag_mask(self.0.dims(), 0, &self.0.device()).bool_not()
    }

    fn clamp(&self, clip: f64) -> Self {
        Self(self.0.clone().clamp(-clip, clip))
    }

    /// ln of the mean of exp f over the pairs i ≠ j.
    fn log_mean_exp(&self) -> Tensor<1> {
        let count = (self.len() * (self.len() - 1)) as f64;
        let others = self.0.clone().mask_fill(self.is_matched(), f64::NEG_INFINITY);
        let max = others.clone().detach().max();
        (others - max.clone().unsqueeze()).exp().sum().log() + max.sub_scalar(count.ln())
    }

    fn info_nce(&self) -> Tensor<1> {
        let max = self.0.clone().detach().max_dim(1);
        let partition = (self.0.clone() - max.clone()).exp().mean_dim(1).log();
        (self.matched() - max - partition).mean()
    }

    fn jensen_shannon_loss(&self) -> Tensor<1> {
        let count = (self.len() * (self.len() - 1)) as f64;
        let others = log_sigmoid(self.0.clone().neg()).mask_fill(self.is_matched(), 0.0);
        // Not `div_scalar`: its gradient has the accuracy of single precision only.
        (log_sigmoid(self.matched()).mean() + others.sum().mul_scalar(1.0 / count)).neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, TensorData};

    const ALL: [CriticBound; 4] = [
        CriticBound::InfoNce,
        CriticBound::Nwj,
        CriticBound::DonskerVaradhan,
        CriticBound::Smile { clip: 5.0 },
    ];

    fn random(size: usize, scale: f64, device: &Device) -> Tensor<2> {
        Tensor::random([size, size], Distribution::Normal(0.0, scale), device)
    }

    fn value(bound: CriticBound, scores: Tensor<2>) -> f64 {
        bound.value(scores).into_scalar()
    }

    /// Whatever the scores: up to ten thousand, where other exponentials overflow.
    #[test]
    fn info_nce_is_never_above_the_logarithm_of_the_batch_size() {
        let device = Device::default();
        for size in [2, 3, 16, 64] {
            // One rounding for each of the numbers of order ln N.
            let limit = (size as f64).ln() * (1.0 + 4.0 * f64::from(f32::EPSILON));
            for scale in [0.0, 1.0, 30.0, 1e4] {
                let scores = random(size, scale, &device) + Tensor::eye(size, &device) * scale;
                let value = value(CriticBound::InfoNce, scores);
                assert!(value <= limit, "{value} > ln {size}");
            }
            let perfect = Tensor::<2>::eye(size, &device) * 1e4;
            assert!((value(CriticBound::InfoNce, perfect) - (size as f64).ln()).abs() < 1e-5);
        }
    }

    /// A critic that scores all alike knows nothing: at 1 for NWJ, anywhere for the others.
    #[test]
    fn a_constant_critic_finds_nothing() {
        let device = Device::default();
        for bound in ALL {
            let scores = Tensor::<2>::ones([7, 7], &device);
            // Roundings of numbers up to ln 42.
            assert!(value(bound, scores).abs() < 1e-6, "{bound:?}");
        }
    }

    /// A constant is of no use to InfoNCE and Donsker-Varadhan, lowers NWJ, and raises SMILE
    /// without end: it bounds nothing, and cannot be trained on its own value.
    #[test]
    fn a_constant_added_to_all_scores_raises_smile_only() {
        let scores = random(8, 1.0, &Device::default());
        let gain = |bound, constant: f64| {
            value(bound, scores.clone().add_scalar(constant)) - value(bound, scores.clone())
        };
        for bound in [CriticBound::InfoNce, CriticBound::DonskerVaradhan] {
            assert!(gain(bound, 20.0).abs() < 2e-5, "{bound:?}");
        }
        assert!(gain(CriticBound::Nwj, 20.0) < -1e6);
        let smile = CriticBound::Smile { clip: 5.0 };
        assert!((gain(smile, 120.0) - gain(smile, 20.0) - 100.0).abs() < 1e-4);
        let loss = |constant: f64| -> f64 {
            smile.loss(scores.clone().add_scalar(constant)).into_scalar()
        };
        assert!(loss(0.0) < loss(20.0) && loss(0.0) < loss(-20.0));
    }

    /// Exponentials of scores about 12 are beyond f16; every sum is in f32.
    #[test]
    fn half_precision_gives_the_same_value_and_a_gradient() {
        let device = Device::default().autodiff();
        let scores = random(6, 0.5, &device) + Tensor::eye(6, &device) * 3.0 + 12.0;
        for dtype in [DType::F16, DType::BF16] {
            let half = scores.clone().cast(dtype);
            for bound in ALL {
                let leaf = half.clone().detach().require_grad();
                let result = bound.value(leaf.clone());
                assert_eq!(result.dtype(), DType::F32);
                let gradient = leaf.grad(&result.backward()).expect("the scores are a leaf");
                let gradient: Vec<f32> = gradient.into_data().iter::<f32>().collect();
                assert!(gradient.iter().all(|g| g.is_finite()), "{bound:?}: {gradient:?}");
                assert!(gradient.iter().any(|&g| g != 0.0), "{bound:?}: {gradient:?}");
                let single = value(bound, half.clone().cast(DType::F32));
                assert_eq!(result.into_scalar::<f64>(), single, "{bound:?}");
                assert!(single.is_finite());
            }
        }
    }

    #[test]
    fn an_estimate_is_the_mean_over_batches() {
        let device = Device::default();
        let batches = [random(5, 1.0, &device), random(5, 1.0, &device), random(5, 1.0, &device)];
        for bound in ALL {
            let values = batches.clone().map(|scores| value(bound, scores));
            let estimate = bound.estimate(batches.clone());
            let (mean, error) = mean_and_standard_error(&values);
            assert_eq!((estimate.nats, estimate.standard_error), (mean, error));
            assert_eq!(estimate.num_units, 3);
        }
        let bounds = ALL.map(|bound| bound.estimate(batches.clone()).bound);
        assert_eq!(bounds, [Bound::Lower, Bound::Lower, Bound::Neither, Bound::Neither]);
    }

    #[test]
    fn names_are_those_of_recipes() {
        let json = ALL.map(|bound| serde_json::to_string(&bound).unwrap());
        let smile = r#"{"smile":{"clip":5.0}}"#;
        assert_eq!(json, [r#""info_nce""#, r#""nwj""#, r#""donsker_varadhan""#, smile]);
        let message = CriticBound::Smile { clip: 0.0 }.validate().unwrap_err().to_string();
        assert_eq!(message, "`clip` must be in (0, ∞), but is 0");
    }

    #[test]
    #[should_panic(expected = "scores are of N x N pairs with N >= 2, got [2, 3]")]
    fn scores_that_are_not_square_are_refused() {
        let data = TensorData::zeros::<f32, _>([2, 3]);
        CriticBound::InfoNce.value(Tensor::from_data(data, &Device::default()));
    }
}

//! Bounds on information from pairwise distances of Gaussians.

use burn::tensor::{Int, Tensor};

use super::estimate::{Bound, Estimate, InformationBounds, Method, jackknife};
use super::rows::{Rows, count, read_labels};
use crate::error::{HyperParamError, validate_range};

/// Noisy activations T of N examples: a mixture of N equally likely Gaussians.
///
/// Component i is p(t|xᵢ) = N(μᵢ, diag(vᵢ)): the activation of a network plus noise, or the output
/// of a stochastic encoder. With X uniform over the examples,
///
/// ```text
/// −(1/N) Σᵢ ln (1/N) Σⱼ exp(−C(i, j))  ≤  I(X; T)  ≤  −(1/N) Σᵢ ln (1/N) Σⱼ exp(−KL(i‖j))
///
/// KL(i‖j) = ½ Σₖ [(μᵢₖ − μⱼₖ)²/vⱼₖ + vᵢₖ/vⱼₖ − 1 − ln(vᵢₖ/vⱼₖ)]
/// C(i, j) = ¼ Σₖ (μᵢₖ − μⱼₖ)²/(vᵢₖ + vⱼₖ) + ½ Σₖ ln((vᵢₖ + vⱼₖ)/(2 √(vᵢₖ vⱼₖ)))
/// ```
///
/// [Kolchinsky & Tracey, 2017](https://arxiv.org/abs/1706.02419), equations 10 to 16; C is the
/// Chernoff distance at α = ½, the Bhattacharyya distance. With one variance σ² they are
/// ‖μᵢ − μⱼ‖²/(2σ²) and ‖μᵢ − μⱼ‖²/(8σ²).
///
/// Both bounds are 0 for equal components and ln N for components that are far apart: N examples
/// cannot show more than ln N. If the examples are drawn from a larger population, the bounds hold
/// for it only while they stay well below ln N.
///
/// The standard errors are those of examples drawn from a population, by the delete-one jackknife.
/// Distances are computed once, on the host in double precision: time N²·K, and two matrices of N²
/// numbers.
#[derive(Debug, Clone)]
pub struct GaussianMixture {
    kl: Affinities,
    chernoff: Affinities,
}

impl GaussianMixture {
    /// Activations plus noise N(0, σ²I).
    ///
    /// # Shapes
    ///
    /// - `means`: `[num_examples, d_hidden]`, the activations without noise
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] unless `noise_std` (σ) is in (0, ∞).
    ///
    /// # Panics
    ///
    /// If `means` is empty or has a value that is not finite.
    pub fn isotropic(means: Tensor<2>, noise_std: f64) -> Result<Self, HyperParamError> {
        let variance = noise_std * noise_std;
        let is_in_range = noise_std > 0.0 && variance.is_normal();
        validate_range("noise_std", noise_std, "(0, ∞)", is_in_range)?;
        let means = Rows::read("means", means);
        Ok(Self::from_distances(means.len(), |i, j| isotropic_distances(&means, variance, i, j)))
    }

    /// An encoder with one variance per example and unit, such as that of the variational
    /// information bottleneck.
    ///
    /// # Shapes
    ///
    /// - `means`, `variances`: `[num_examples, d_hidden]`
    ///
    /// # Panics
    ///
    /// If the shapes differ, if one is empty or has a value that is not finite, or if a variance is
    /// not positive.
    pub fn diagonal(means: Tensor<2>, variances: Tensor<2>) -> Self {
        assert_eq!(means.dims(), variances.dims(), "`means` and `variances` differ in shape");
        let variances = Rows::read("variances", variances);
        assert!(variances.iter().flatten().all(|&v| v > 0.0), "`variances` must be positive");
        let means = Rows::read("means", means);
        Self::from_distances(means.len(), |i, j| diagonal_distances(&means, &variances, i, j))
    }

    /// `distances` gives KL(i‖j), KL(j‖i) and C(i, j).
    fn from_distances(size: usize, distances: impl Fn(usize, usize) -> [f64; 3]) -> Self {
        let [mut kl, mut chernoff] = [(); 2].map(|()| vec![1.0; size * size]);
        for i in 0..size {
            for j in 0..i {
                let [there, back, between] = distances(i, j);
                kl[i * size + j] = (-there).exp();
                kl[j * size + i] = (-back).exp();
                chernoff[i * size + j] = (-between).exp();
                chernoff[j * size + i] = chernoff[i * size + j];
            }
        }
        let [kl, chernoff] = [kl, chernoff].map(|data| Affinities { data, size });
        Self { kl, chernoff }
    }

    /// Bounds on I(X; T), what T tells about which example it comes from.
    pub fn input_information(&self) -> InformationBounds {
        let Self { kl, chernoff } = self;
        let one_group = vec![0; kl.size];
        InformationBounds {
            lower: estimate(chernoff.information(&one_group), Bound::Lower),
            upper: estimate(kl.information(&one_group), Bound::Upper),
        }
    }

    /// Bounds on I(Y; T), what T tells about the label of its example.
    ///
    /// I(Y; T) = I(X; T) − I(X; T|Y). Each bound takes one bound of the first term and the
    /// opposite bound of the second, so both hold. Where components overlap partly, the lower bound
    /// may be below 0 and the upper one above H(Y). Such a bound says nothing.
    ///
    /// # Shapes
    ///
    /// - `labels`: `[num_examples]`; any integers
    ///
    /// # Panics
    ///
    /// If there is not one label per example.
    pub fn label_information(&self, labels: Tensor<1, Int>) -> InformationBounds {
        let Self { kl, chernoff } = self;
        let groups = read_labels(labels, kl.size);
        let one_group = vec![0; kl.size];
        let lower = chernoff.information(&one_group).minus(&kl.information(&groups));
        let upper = kl.information(&one_group).minus(&chernoff.information(&groups));
        InformationBounds {
            lower: estimate(lower, Bound::Lower),
            upper: estimate(upper, Bound::Upper),
        }
    }
}

fn isotropic_distances(means: &Rows, variance: f64, i: usize, j: usize) -> [f64; 3] {
    let differences = means.row(i).iter().zip(means.row(j)).map(|(a, b)| a - b);
    let kl = differences.map(|difference| difference * difference).sum::<f64>() / (2.0 * variance);
    [kl, kl, kl / 4.0]
}

fn diagonal_distances(means: &Rows, variances: &Rows, i: usize, j: usize) -> [f64; 3] {
    let means = means.row(i).iter().zip(means.row(j));
    let variances = variances.row(i).iter().zip(variances.row(j));
    let [mut there, mut back, mut between] = [0.0; 3];
    for ((a, b), (v, w)) in means.zip(variances) {
        let square = (a - b) * (a - b);
        let log_ratio = (v / w).ln();
        there += 0.5 * ((square + v) / w - 1.0 - log_ratio);
        back += 0.5 * ((square + w) / v - 1.0 + log_ratio);
        let mean = 0.5 * (v + w);
        between += 0.125 * square / mean + 0.5 * (mean / (v.sqrt() * w.sqrt())).ln();
    }
    // Rounding may leave less than the 0 of equal components.
    [there, back, between].map(|distance| distance.max(0.0))
}

/// exp(−D) of all pairs of components.
#[derive(Debug, Clone)]
struct Affinities {
    data: Vec<f64>,
    size: usize,
}

/// A value, and the values without each one of the examples.
struct Jackknifed {
    value: f64,
    without: Vec<f64>,
}

impl Jackknifed {
    fn minus(mut self, other: &Self) -> Self {
        self.value -= other.value;
        self.without.iter_mut().zip(&other.without).for_each(|(a, b)| *a -= b);
        self
    }
}

impl Affinities {
    /// −(1/N) Σᵢ ln (1/N_g) Σⱼ exp(−D(i, j)) with j in the group g of i, N_g members.
    fn information(&self, groups: &[usize]) -> Jackknifed {
        let sizes = count(groups);
        let mut members = vec![Vec::new(); sizes.len()];
        for (example, &group) in groups.iter().enumerate() {
            members[group].push(example);
        }
        let row = |i: usize| &self.data[i * self.size..][..self.size];
        let mut without = vec![0.0; self.size];
        let mut total = 0.0;
        // Sum of the group without a member, minus that with it.
        for members in &members {
            let size = members.len() as f64;
            let mut group_total = 0.0;
            for &i in members {
                let row = row(i);
                let sum: f64 = members.iter().map(|&j| row[j]).sum();
                group_total += (sum / size).ln();
                for &k in members.iter().filter(|&&k| k != i) {
                    // At least 1, which is what i itself adds.
                    without[k] += ((sum - row[k]) / (size - 1.0)).ln();
                }
            }
            members.iter().for_each(|&k| without[k] -= group_total);
            total += group_total;
        }
        let count = self.size as f64;
        let without = without.iter().map(|change| -(total + change) / (count - 1.0)).collect();
        Jackknifed { value: -total / count, without }
    }
}

fn estimate(information: Jackknifed, bound: Bound) -> Estimate {
    let without: Vec<_> = information.without.iter().map(|&value| (value, 1)).collect();
    Estimate {
        nats: information.value,
        standard_error: jackknife(&without),
        num_units: without.len(),
        method: Method::PairwiseDistances,
        bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Distribution};
    use std::f64::consts::LN_2;

    fn tensor<const N: usize, const K: usize>(rows: [[f64; K]; N]) -> Tensor<2> {
        Tensor::from_data(rows, (&Device::default(), DType::F64))
    }

    fn labels<const N: usize>(labels: [i64; N]) -> Tensor<1, Int> {
        Tensor::from_data(labels, &Device::default())
    }

    /// Five examples, far apart beside a noise of 0.1.
    fn far() -> Tensor<2> {
        tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [-9.0, 0.0], [9.0, 9.0]])
    }

    #[track_caller]
    fn assert_near(estimate: &Estimate, nats: f64) {
        assert!((estimate.nats - nats).abs() < 1e-14, "{estimate:?} is not {nats}");
    }

    #[test]
    fn equal_components_have_no_information() {
        let equal = tensor([[1e4, -3.0]; 6]);
        let mixtures = [
            GaussianMixture::isotropic(equal.clone(), 1e-3).unwrap(),
            GaussianMixture::diagonal(equal, tensor([[0.3, 7.0]; 6])),
        ];
        for mixture in mixtures {
            let input = mixture.input_information();
            let label = mixture.label_information(labels([0, 1, 0, 1, 2, 2]));
            for estimate in [input.lower, input.upper, label.lower, label.upper] {
                assert_near(&estimate, 0.0);
                assert!(estimate.standard_error.unwrap() < 1e-14, "{estimate:?}");
            }
        }
    }

    #[test]
    fn far_components_tell_everything() {
        let mixtures = [
            GaussianMixture::isotropic(far(), 0.1).unwrap(),
            GaussianMixture::diagonal(far(), tensor([[0.01, 0.02]; 5])),
        ];
        for mixture in mixtures {
            let input = mixture.input_information();
            assert_near(&input.lower, 5_f64.ln());
            assert_near(&input.upper, 5_f64.ln());
            // H(Y) of two and three examples, and of labels that are all different.
            let label = mixture.label_information(labels([-7, 100, 100, -7, 100]));
            let entropy = -(0.4 * 0.4_f64.ln() + 0.6 * 0.6_f64.ln());
            assert_near(&label.lower, entropy);
            assert_near(&label.upper, entropy);
            let label = mixture.label_information(labels([4, 3, 2, 1, 0]));
            assert_near(&label.lower, 5_f64.ln());
            assert_near(&mixture.label_information(labels([8; 5])).upper, 0.0);
        }
    }

    /// N − 1 examples have ln(N − 1), whichever is left out: the jackknife does not see that more
    /// examples would have more.
    #[test]
    fn the_standard_error_is_blind_to_saturation() {
        let mixture = GaussianMixture::isotropic(far(), 0.1).unwrap();
        assert!(mixture.input_information().upper.standard_error.unwrap() < 1e-14);
    }

    /// ‖μ₀ − μ₁‖² = 25 and σ² = 16.
    #[test]
    fn two_components_are_as_one_does_by_hand() {
        let mixture = GaussianMixture::isotropic(tensor([[0.0, 1.0], [3.0, -3.0]]), 4.0).unwrap();
        let bounds = mixture.input_information();
        let expected = |distance: f64| LN_2 - (-distance).exp().ln_1p();
        assert_near(&bounds.upper, expected(25.0 / 32.0));
        assert_near(&bounds.lower, expected(25.0 / 128.0));
    }

    #[test]
    fn only_the_ratio_to_the_noise_counts() {
        let means = tensor([[0.1, 0.5], [0.2, -0.3], [-0.4, 0.0]]);
        let bounds = GaussianMixture::isotropic(means.clone(), 0.3).unwrap().input_information();
        let scaled = GaussianMixture::isotropic(means * 1e6, 0.3e6).unwrap().input_information();
        assert_near(&scaled.lower, bounds.lower.nats);
        assert_near(&scaled.upper, bounds.upper.nats);
    }

    #[test]
    fn half_precision_is_read_as_it_is() {
        let noise = Distribution::Normal(0.0, 1.0);
        let means = Tensor::<2>::random([20, 3], noise, &Device::default());
        for dtype in [DType::F16, DType::BF16] {
            let half = means.clone().cast(dtype);
            let single = half.clone().cast(DType::F32);
            let [half, single] = [half, single]
                .map(|means| GaussianMixture::isotropic(means, 0.2).unwrap().input_information());
            assert_eq!(half, single);
            assert!(half.lower.nats > 1.0 && half.upper.nats <= 20_f64.ln(), "{half:?}");
        }
    }

    #[test]
    fn an_impossible_noise_is_told() {
        for noise_std in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-200] {
            let error = GaussianMixture::isotropic(far(), noise_std).unwrap_err().to_string();
            assert_eq!(error, format!("`noise_std` must be in (0, ∞), but is {noise_std}"));
        }
    }

    #[test]
    #[should_panic(expected = "`variances` must be positive")]
    fn a_variance_of_zero_is_refused() {
        GaussianMixture::diagonal(tensor([[1.0, 2.0]]), tensor([[1.0, 0.0]]));
    }

    #[test]
    #[should_panic(expected = "`means` must be finite")]
    fn a_nan_is_refused() {
        let _ = GaussianMixture::isotropic(tensor([[1.0, f64::NAN]]), 1.0);
    }

    #[test]
    #[should_panic(expected = "one label per example")]
    fn a_missing_label_is_refused() {
        GaussianMixture::isotropic(far(), 1.0).unwrap().label_information(labels([0, 1]));
    }
}

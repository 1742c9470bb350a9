//! The estimator of Kraskov, Stögbauer and Grassberger.

use burn::config::Config;
use burn::tensor::Tensor;

use super::estimate::{Bound, Estimate, Method, mean_and_standard_error};
use super::rows::Rows;
use crate::error::{HyperParamError, validate_size};

/// Configuration of [`Ksg`].
#[derive(Config, Debug, PartialEq)]
pub struct KsgConfig {
    /// Neighbours k ≥ 1. More of them lower the variance and raise the bias.
    #[config(default = 3)]
    pub num_neighbors: usize,
    /// Whether to give each coordinate mean 0 and variance 1 first.
    #[config(default = true)]
    pub standardize: bool,
    /// The standard error comes from halves, thirds and so on up to this many parts; 1 leaves it
    /// out. With 10, it costs twice as much time as the estimate itself.
    #[config(default = 10)]
    pub max_parts: usize,
}

impl KsgConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `num_neighbors` or `max_parts` is 0.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("num_neighbors", self.num_neighbors)?;
        validate_size("max_parts", self.max_parts)
    }

    /// Build the estimator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> Ksg {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        Ksg { config: self.clone() }
    }
}

/// Mutual information of continuous samples by nearest neighbours (KSG, estimator 1).
///
/// ```text
/// I(X; T) ≈ ψ(k) + ψ(N) − mean over i of [ψ(nx(i) + 1) + ψ(nt(i) + 1)]
/// ```
///
/// ε(i) is the distance from sample i to its k-th neighbour: the larger of the distances in X and
/// in T, each in the maximum norm. nx(i) and nt(i) count the other samples nearer than ε(i) in X
/// and in T alone.
/// [Kraskov, Stögbauer & Grassberger, 2004](https://arxiv.org/abs/cond-mat/0305641), equation 8.
///
/// Good in few dimensions and at small information. It is never above ψ(N) − ψ(k), about ln(N/k),
/// and falls far short in many dimensions. Repeated points, as from ReLUs at 0 or from a bootstrap,
/// break it: it is for continuous distributions.
///
/// The standard error is that of
/// [Holmes & Nemenman, 2019](https://arxiv.org/abs/1903.09280): the variance of the estimates on n
/// disjoint parts, extrapolated from N/n to N samples as 1/N. Parts take every n-th row, so rows
/// must be in no particular order. `num_units` is the largest number of parts, which gives rather
/// too few degrees of freedom.
///
/// Neighbours are found exactly, in time N²·(dₓ + dₜ) on the host in double precision.
#[derive(Debug, Clone)]
pub struct Ksg {
    config: KsgConfig,
}

impl Ksg {
    /// Estimate I(X; T) from paired samples.
    ///
    /// # Shapes
    ///
    /// - `x`: `[num_examples, d_x]`
    /// - `t`: `[num_examples, d_t]`
    ///
    /// # Panics
    ///
    /// If there are not more samples than neighbours, if `x` and `t` have different numbers of
    /// them, or if one has a value that is not finite.
    pub fn estimate(&self, x: Tensor<2>, t: Tensor<2>) -> Estimate {
        let [mut x, mut t] = [Rows::read("x", x), Rows::read("t", t)];
        assert_eq!(x.len(), t.len(), "`x` and `t` must be pairs");
        if self.config.standardize {
            [x, t] = [x.standardized(), t.standardized()];
        }
        let num_neighbors = self.config.num_neighbors;
        let nats = information(&x, &t, num_neighbors);
        let max_parts = self.config.max_parts.min(x.len() / (num_neighbors + 1));
        Estimate {
            nats,
            standard_error: standard_error(&x, &t, num_neighbors, max_parts),
            num_units: max_parts,
            method: Method::Ksg,
            bound: Bound::Neither,
        }
    }
}

fn standard_error(x: &Rows, t: &Rows, num_neighbors: usize, max_parts: usize) -> Option<f64> {
    let [mut square, mut freedom] = [0.0; 2];
    for parts in 2..=max_parts {
        let part =
            |start| information(&x.every(parts, start), &t.every(parts, start), num_neighbors);
        let values: Vec<f64> = (0..parts).map(part).collect();
        // The squared error of the parts' mean is what N samples would have.
        let (_, error) = mean_and_standard_error(&values);
        let degrees = (parts - 1) as f64;
        square += degrees * error.expect("two parts or more").powi(2);
        freedom += degrees;
    }
    (freedom > 0.0).then(|| (square / freedom).sqrt())
}

fn information(x: &Rows, t: &Rows, num_neighbors: usize) -> f64 {
    let size = x.len();
    assert!(size > num_neighbors, "{num_neighbors} neighbours need more than {size} samples");
    let digamma = digammas(size);
    let [mut to_x, mut to_t, mut to_both] = [(); 3].map(|()| vec![0.0; size]);
    let mut sum = 0.0;
    for i in 0..size {
        for j in 0..size {
            to_x[j] = max_norm(x.row(i), x.row(j));
            to_t[j] = max_norm(t.row(i), t.row(j));
            to_both[j] = f64::max(to_x[j], to_t[j]);
        }
        // The sample itself, at distance 0, takes the place before the first neighbour.
        let (_, &mut radius, _) = to_both.select_nth_unstable_by(num_neighbors, f64::total_cmp);
        for distances in [&to_x, &to_t] {
            let nearer = distances.iter().filter(|&&distance| distance < radius).count();
            // The count has the sample itself in it, unless the radius is 0.
            sum += digamma[nearer.max(1)];
        }
    }
    digamma[num_neighbors] + digamma[size] - sum / size as f64
}

fn max_norm(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |max, (a, b)| {
        let distance = (a - b).abs();
        if distance > max { distance } else { max }
    })
}

/// ψ(n) for n from 0 to `max`: ψ(1) = −γ, ψ(n + 1) = ψ(n) + 1/n. The first has no value.
fn digammas(max: usize) -> Vec<f64> {
    let mut values = vec![f64::NAN, -EULER_GAMMA];
    for n in 1..max {
        values.push(values[n] + 1.0 / n as f64);
    }
    values
}

/// γ; the standard library has it as an unstable item only.
const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

#[cfg(test)]
mod tests {
    use super::*;
    use anp_testing::noise;
    use burn::tensor::{Device, TensorData};

    /// scipy.special.digamma([1, 2, 10, 1000])
    #[test]
    fn digammas_agree_with_scipy() {
        let values = digammas(1000);
        let expected = [
            (1, -0.5772156649015329),
            (2, 0.42278433509846713),
            (10, 2.2517525890667214),
            (1000, 6.907255195648812),
        ];
        for (n, value) in expected {
            assert!((values[n] - value).abs() < 1e-13, "ψ({n}) = {}", values[n]);
        }
        assert_eq!(values.len(), 1001);
    }

    fn tensor(data: Vec<f64>, width: usize) -> Tensor<2> {
        let shape = [data.len() / width, width];
        Tensor::from_data(TensorData::new(data, shape), &Device::default())
    }

    /// Four samples on a line, T in the order of X: each has its nearest neighbour at 1 or 2, and
    /// none nearer than that in X or T alone. So I = ψ(1) + ψ(4) − 2 ψ(1).
    #[test]
    fn four_samples_are_as_one_does_by_hand() {
        let samples = || tensor(vec![0.0, 1.0, 3.0, 7.0], 1);
        let ksg = KsgConfig::new().with_num_neighbors(1).with_standardize(false).init();
        let estimate = ksg.estimate(samples(), samples());
        assert!((estimate.nats - (1.0 + 1.0 / 2.0 + 1.0 / 3.0)).abs() < 1e-14, "{estimate:?}");
        // Two halves of two samples each, with ψ(1) + ψ(2) − 2 ψ(1) = 1 in both.
        assert_eq!(estimate.standard_error, Some(0.0));
    }

    #[test]
    fn scale_and_order_do_not_count() {
        let [x, t] = [tensor(noise(1)(120), 3), tensor(noise(2)(80), 2)];
        let ksg = KsgConfig::new().with_max_parts(1).init();
        let expected = ksg.estimate(x.clone(), t.clone()).nats;
        // A power of two, so that every rounding is the same.
        let scaled = ksg.estimate(x.clone() * 1024.0, t.clone() * 0.125).nats;
        assert_eq!(scaled, expected);
        let swapped = ksg.estimate(t.flip([0]), x.flip([0])).nats;
        assert!((swapped - expected).abs() < 1e-12, "{swapped}, {expected}");
    }

    #[test]
    fn repeated_samples_give_a_finite_number() {
        let zeros = || Tensor::<2>::zeros([12, 2], &Device::default());
        assert!(KsgConfig::new().init().estimate(zeros(), zeros()).nats.is_finite());
    }

    #[test]
    #[should_panic(expected = "3 neighbours need more than 3 samples")]
    fn too_few_samples_are_refused() {
        let samples = || tensor(vec![0.0, 1.0, 3.0], 1);
        KsgConfig::new().init().estimate(samples(), samples());
    }

    #[test]
    fn impossible_values_are_told() {
        let message = KsgConfig::new().with_num_neighbors(0).validate().unwrap_err().to_string();
        assert_eq!(message, "`num_neighbors` must be in [1, ∞), but is 0");
        assert!(KsgConfig::new().with_max_parts(0).validate().is_err());
    }
}

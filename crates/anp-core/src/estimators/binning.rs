//! Information from counts in bins.

use burn::config::Config;
use burn::tensor::{Int, Tensor};

use super::estimate::{Bound, Estimate, Method, jackknife};
use super::rows::{Rows, count, number, read_labels};
use crate::error::{HyperParamError, validate_range, validate_size};

/// Configuration of [`Binning`].
#[derive(Config, Debug, PartialEq)]
pub struct BinningConfig {
    /// Bins per unit, all of the same width. Shwartz-Ziv & Tishby take 30 for tanh.
    #[config(default = 30)]
    pub num_bins: usize,
    /// Ends of the first and the last bin, such as `[-1.0, 1.0]` for tanh; values outside count to
    /// the nearest bin. `None` takes each unit's smallest and largest value, so that the bins of
    /// two networks differ.
    pub range: Option<[f64; 2]>,
    /// Whether to correct the bias of the counts as Miller and Madow do.
    #[config(default = false)]
    pub miller_madow: bool,
}

impl BinningConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `num_bins` is 0, an end of `range` is not finite, or the
    /// second is not above the first.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("num_bins", self.num_bins)?;
        let Some([low, high]) = self.range else { return Ok(()) };
        validate_range("range", low, "(−∞, ∞)", low.is_finite())?;
        validate_range("range", high, "(range[0], ∞)", high.is_finite() && high > low)
    }

    /// Build the estimator.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> Binning {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        Binning { config: self.clone() }
    }
}

/// Mutual information of discretised variables by counting: the estimator of
/// [Shwartz-Ziv & Tishby, 2017](https://arxiv.org/abs/1703.00810).
///
/// ```text
/// I(A; B) ≈ Σ p̂(a, b) ln[p̂(a, b) / (p̂(a) p̂(b))]
/// ```
///
/// a and b run over the occupied cells, products of bins; p̂ is the share of the N examples in a
/// cell. The estimate is about the *binned* variables, whose information is less than that of the
/// continuous ones and depends on the bins. It is biased upwards by about (m_a·m_b − m_a − m_b + 1)
/// / (2N) for m_a and m_b possible cells, and goes to ln N as soon as the cells outnumber the
/// examples: with 30 bins, at three units for most data sets.
///
/// The correction of Miller (1955) and Madow adds (m_a + m_b − m_ab − 1)/(2N), with the numbers of
/// *occupied* cells. It removes the bias only while cells hold many examples each.
///
/// The standard error is the delete-one jackknife's.
#[derive(Debug, Clone)]
pub struct Binning {
    config: BinningConfig,
}

impl Binning {
    /// Information between two binned variables.
    ///
    /// # Shapes
    ///
    /// - `x`: `[num_examples, d_x]`
    /// - `t`: `[num_examples, d_t]`
    ///
    /// # Panics
    ///
    /// If `x` and `t` have different numbers of examples, none, or a value that is not finite.
    pub fn information(&self, x: Tensor<2>, t: Tensor<2>) -> Estimate {
        let [x, t] = [Rows::read("x", x), Rows::read("t", t)];
        assert_eq!(x.len(), t.len(), "`x` and `t` must be pairs");
        self.count(&self.cells(&x), &self.cells(&t))
    }

    /// Information of binned activations about the labels, I(Y; T).
    ///
    /// # Shapes
    ///
    /// - `t`: `[num_examples, d_hidden]`
    /// - `labels`: `[num_examples]`
    ///
    /// # Panics
    ///
    /// If there is not one label per example, or `t` is empty or has a value that is not finite.
    pub fn label_information(&self, t: Tensor<2>, labels: Tensor<1, Int>) -> Estimate {
        let t = Rows::read("t", t);
        self.count(&read_labels(labels, t.len()), &self.cells(&t))
    }

    /// Information of binned activations about which example they come from: I(X; T) of a
    /// deterministic network, the entropy of the binned activations.
    ///
    /// # Shapes
    ///
    /// - `t`: `[num_examples, d_hidden]`
    ///
    /// # Panics
    ///
    /// If `t` is empty or has a value that is not finite.
    pub fn input_information(&self, t: Tensor<2>) -> Estimate {
        let t = Rows::read("t", t);
        let examples: Vec<_> = (0..t.len()).collect();
        self.count(&examples, &self.cells(&t))
    }

    /// The cell of each row.
    fn cells(&self, rows: &Rows) -> Vec<usize> {
        let ranges: Vec<[f64; 2]> = (0..rows.width())
            .map(|column| {
                self.config.range.unwrap_or_else(|| {
                    let low = rows.column(column).fold(f64::INFINITY, f64::min);
                    let high = rows.column(column).fold(f64::NEG_INFINITY, f64::max);
                    [low, high]
                })
            })
            .collect();
        let last = self.config.num_bins - 1;
        number(rows.iter().map(|row| {
            let bins = row.iter().zip(&ranges).map(|(&value, &[low, high])| {
                // A negative number becomes 0, and so does the NaN of a constant column.
                let bin = (value - low) / (high - low) * self.config.num_bins as f64;
                (bin as usize).min(last)
            });
            bins.collect::<Vec<_>>()
        }))
    }

    /// Information between two variables whose symbols are numbered.
    fn count(&self, a: &[usize], b: &[usize]) -> Estimate {
        let pairs: Vec<_> = a.iter().copied().zip(b.iter().copied()).collect();
        let joint = number(pairs.iter().copied());
        let mut cells = vec![(0, 0); count(&joint).len()];
        joint.iter().zip(pairs).for_each(|(&cell, pair)| cells[cell] = pair);
        let [a, b, joint] = [count(a), count(b), count(&joint)];

        let sum = |counts: &[usize]| counts.iter().map(|&n| n_ln_n(n)).sum::<f64>();
        let log_sum = sum(&joint) - sum(&a) - sum(&b);
        let surplus = (a.len() + b.len()) as f64 - joint.len() as f64 - 1.0;
        let num_examples: usize = joint.iter().sum();

        // All examples of a cell change the counts in the same way as they leave.
        let loss = |n: usize| n_ln_n(n) - n_ln_n(n - 1);
        let is_last = |n: usize| if n == 1 { 1.0 } else { 0.0 };
        let without = cells.iter().zip(&joint).map(|(&(in_a, in_b), &n)| {
            let [a, b] = [a[in_a], b[in_b]];
            let log_sum = log_sum - loss(n) + loss(a) + loss(b);
            let surplus = surplus + is_last(n) - is_last(a) - is_last(b);
            (self.of_sums(log_sum, surplus, num_examples - 1), n)
        });
        let is_defined = num_examples > 1;
        Estimate {
            nats: self.of_sums(log_sum, surplus, num_examples),
            standard_error: is_defined.then(|| jackknife(&without.collect::<Vec<_>>())).flatten(),
            num_units: num_examples,
            method: if self.config.miller_madow { Method::MillerMadow } else { Method::Binning },
            bound: Bound::Neither,
        }
    }

    /// `log_sum`: Σ n ln n over joint cells, less those over the cells of each variable.
    fn of_sums(&self, log_sum: f64, surplus: f64, num_examples: usize) -> f64 {
        let count = num_examples as f64;
        let correction = if self.config.miller_madow { surplus / (2.0 * count) } else { 0.0 };
        count.ln() + log_sum / count + correction
    }
}

fn n_ln_n(n: usize) -> f64 {
    if n == 0 { 0.0 } else { n as f64 * (n as f64).ln() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anp_testing::noise;
    use burn::tensor::{Device, TensorData};

    fn tensor(data: Vec<f64>, width: usize) -> Tensor<2> {
        let shape = [data.len() / width, width];
        Tensor::from_data(TensorData::new(data, shape), &Device::default())
    }

    fn labels(labels: &[i64]) -> Tensor<1, Int> {
        Tensor::from_data(labels, &Device::default())
    }

    fn binning(num_bins: usize, miller_madow: bool) -> Binning {
        let config = BinningConfig::new().with_num_bins(num_bins).with_range(Some([-1.0, 1.0]));
        config.with_miller_madow(miller_madow).init()
    }

    #[track_caller]
    fn assert_near(estimate: &Estimate, nats: f64) {
        assert!((estimate.nats - nats).abs() < 1e-14, "{estimate:?} is not {nats}");
    }

    /// Two units of two bins each, every cell once, beside labels that follow the first unit.
    #[test]
    fn cells_are_counted() {
        let t = || tensor(vec![-0.5, -0.5, -0.5, 0.5, 0.5, -0.5, 0.5, 0.5], 2);
        let binning = binning(2, false);
        assert_near(&binning.input_information(t()), 4_f64.ln());
        assert_near(&binning.label_information(t(), labels(&[5, 5, -2, -2])), 2_f64.ln());
        assert_near(&binning.label_information(t(), labels(&[5, 5, 5, 5])), 0.0);
        assert_near(&binning.information(t(), t()), 4_f64.ln());
        let first = tensor(vec![-0.5, -0.5, 0.5, 0.5], 1);
        let second = tensor(vec![-0.5, 0.5, -0.5, 0.5], 1);
        assert_near(&binning.information(first, second), 0.0);
    }

    #[test]
    fn values_outside_of_the_range_count_to_the_nearest_bin() {
        let t = tensor(vec![-9.0, -0.99, 1.0, 7.0], 1);
        assert_near(&binning(30, false).input_information(t), 2_f64.ln());
    }

    #[test]
    fn a_constant_unit_tells_nothing() {
        let t = || tensor(vec![0.25; 6], 1);
        let binning = BinningConfig::new().init();
        assert_near(&binning.input_information(t()), 0.0);
        assert_near(&binning.label_information(t(), labels(&[0, 1, 2, 3, 4, 5])), 0.0);
    }

    /// The value without a row, for each of them, is what the jackknife must rest on.
    #[test]
    fn the_standard_error_is_that_of_leaving_rows_out() {
        let [x, t] = [noise(1)(15), noise(2)(15)];
        for miller_madow in [false, true] {
            let binning = binning(3, miller_madow);
            let estimate = |without: usize| {
                let keep = |data: &[f64]| {
                    let kept = data.iter().enumerate().filter(|&(row, _)| row != without);
                    tensor(kept.map(|(_, &value)| value).collect(), 1)
                };
                binning.information(keep(&x), keep(&t))
            };
            let values: Vec<f64> = (0..15).map(|row| estimate(row).nats).collect();
            let mean = values.iter().sum::<f64>() / 15.0;
            let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
            let expected = (14.0 / 15.0 * square).sqrt();
            let actual = estimate(15).standard_error.unwrap();
            assert!(expected > 0.01 && (actual - expected).abs() < 1e-13, "{actual}, {expected}");
        }
    }

    /// 4 by 4 cells of 200 independent pairs: biased by 3·3/(2·200) = 0.0225 nats; its standard
    /// deviation is 0.0106, and that of the mean of 300 is 0.0006.
    #[test]
    fn the_correction_removes_the_bias_of_filled_cells() {
        let [mut x, mut t] = [noise(3), noise(4)];
        let [mut plain, mut corrected] = [0.0; 2];
        for _ in 0..300 {
            let [x, t] = [tensor(x(200), 1), tensor(t(200), 1)];
            plain += binning(4, false).information(x.clone(), t.clone()).nats / 300.0;
            corrected += binning(4, true).information(x, t).nats / 300.0;
        }
        assert!((plain - 0.0225).abs() < 0.003, "{plain}");
        assert!(corrected.abs() < 0.003, "{corrected}");
    }

    #[test]
    fn impossible_values_are_told() {
        let message = |config: BinningConfig| config.validate().unwrap_err().to_string();
        let config = BinningConfig::new();
        let none = message(config.clone().with_num_bins(0));
        assert_eq!(none, "`num_bins` must be in [1, ∞), but is 0");
        let empty = message(config.clone().with_range(Some([1.0, 1.0])));
        assert_eq!(empty, "`range` must be in (range[0], ∞), but is 1");
        assert!(config.with_range(Some([f64::NAN, 1.0])).validate().is_err());
    }
}

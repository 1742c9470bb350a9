//! What an estimator returns.

use serde::{Deserialize, Serialize};

/// How an estimate was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Pairwise distances of Gaussians: [`GaussianMixture`](super::GaussianMixture).
    PairwiseDistances,
    /// [`CriticBound::InfoNce`](super::CriticBound::InfoNce).
    InfoNce,
    /// [`CriticBound::Nwj`](super::CriticBound::Nwj).
    Nwj,
    /// [`CriticBound::DonskerVaradhan`](super::CriticBound::DonskerVaradhan).
    DonskerVaradhan,
    /// [`CriticBound::Smile`](super::CriticBound::Smile).
    Smile,
    /// Nearest neighbours: [`Ksg`](super::Ksg).
    Ksg,
    /// Counts in bins: [`Binning`](super::Binning).
    Binning,
    /// Counts in bins with the correction of Miller and Madow.
    MillerMadow,
}

/// On which side of the information the expectation of an estimate lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Never above the information.
    Lower,
    /// Never below the information.
    Upper,
    /// It may be on either side.
    Neither,
}

/// An estimate of mutual information.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value. It is not clipped: by chance or as a vacuous bound it may be below 0.
    pub nats: f64,
    /// Standard error of the value; `None` if there is a single unit.
    pub standard_error: Option<f64>,
    /// Units that the standard error is computed from: examples, batches, or subsets.
    pub num_units: usize,
    /// How the estimate was made.
    pub method: Method,
    /// What it bounds.
    pub bound: Bound,
}

impl Estimate {
    /// Confidence interval, `nats ± quantile · standard_error`; `None` without a standard error.
    ///
    /// Take the quantile of Student's t with `num_units − 1` degrees of freedom at (1 + level)/2:
    /// for 95 %, it is 2.26 for 10 units and 1.96 for many. The caller chooses it, so that this
    /// crate needs no library of distributions; statrs has `StudentsT::inverse_cdf`.
    pub fn interval(&self, quantile: f64) -> Option<[f64; 2]> {
        let half = quantile * self.standard_error?;
        Some([self.nats - half, self.nats + half])
    }
}

/// A lower and an upper bound on the same information.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct InformationBounds {
    /// Lower bound.
    pub lower: Estimate,
    /// Upper bound.
    pub upper: Estimate,
}

/// Mean of independent values and its standard error.
pub(super) fn mean_and_standard_error(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
    let is_defined = values.len() > 1;
    (mean, is_defined.then(|| (square / (count * (count - 1.0))).sqrt()))
}

/// Standard error by the delete-one jackknife (Efron & Stein, 1981).
///
/// `without` has the statistic without one example, and how many examples have the same.
pub(super) fn jackknife(without: &[(f64, usize)]) -> Option<f64> {
    let count = without.iter().map(|&(_, times)| times).sum::<usize>() as f64;
    let mean = without.iter().map(|&(value, times)| times as f64 * value).sum::<f64>() / count;
    let square =
        without.iter().map(|&(value, times)| times as f64 * (value - mean).powi(2)).sum::<f64>();
    (count > 1.0).then(|| ((count - 1.0) / count * square).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a mean, the jackknife is the usual standard error.
    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let values = [1.0, 4.0, 4.0, 7.5, -2.0];
        let (mean, expected) = mean_and_standard_error(&values);
        assert!((mean - 2.9).abs() < 1e-15);
        let without = |value: f64| (14.5 - value) / 4.0;
        let grouped = [(without(1.0), 1), (without(4.0), 2), (without(7.5), 1), (without(-2.0), 1)];
        assert!((jackknife(&grouped).unwrap() - expected.unwrap()).abs() < 1e-15);
    }

    #[test]
    fn one_unit_has_no_standard_error() {
        assert_eq!(mean_and_standard_error(&[3.0]), (3.0, None));
        assert_eq!(jackknife(&[(3.0, 1)]), None);
        let estimate = Estimate {
            nats: 3.0,
            standard_error: None,
            num_units: 1,
            method: Method::InfoNce,
            bound: Bound::Lower,
        };
        assert_eq!(estimate.interval(2.0), None);
        let estimate = Estimate { standard_error: Some(0.5), ..estimate };
        assert_eq!(estimate.interval(2.0), Some([2.0, 4.0]));
    }

    #[test]
    fn an_estimate_is_read_back_from_json() {
        let estimate = Estimate {
            nats: 0.25,
            standard_error: None,
            num_units: 1,
            method: Method::DonskerVaradhan,
            bound: Bound::Neither,
        };
        let json = serde_json::to_string(&estimate).unwrap();
        let expected = r#"{"nats":0.25,"standard_error":null,"num_units":1,"#.to_owned()
            + r#""method":"donsker_varadhan","bound":"neither"}"#;
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Estimate>(&json).unwrap(), estimate);
    }
}

/// A mixture of two normal distributions around zero: what is believed of a weight before training.
///
/// ```text
/// p(w) = π N(w; 0, σ₁²) + (1 − π) N(w; 0, σ₂²)
/// ```
///
/// [Blundell et al., 2015](https://arxiv.org/abs/1505.05424), equation 7.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ScaleMixture {
    /// π, in (0, 1).
    pub pi: f64,
    /// ln σ₁.
    pub log_sigma1: f64,
    /// ln σ₂.
    pub log_sigma2: f64,
    /// What is drawn from one of the two.
    pub over: MixtureOver,
}

/// What is drawn from one component of a [`ScaleMixture`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixtureOver {
    /// Each weight by itself, as in Blundell et al.
    Weight,
    /// The weights in a row of a matrix, or in a whole bias, together, as in Sonnet's example of
    /// Fortunato et al.
    Row,
}

impl ScaleMixture {
    /// Standard deviation: `√(π σ₁² + (1 − π) σ₂²)`.
    pub fn sigma(&self) -> f64 {
        let variance = |log_sigma: f64| (2.0 * log_sigma).exp();
        (self.pi * variance(self.log_sigma1) + (1.0 - self.pi) * variance(self.log_sigma2)).sqrt()
    }

    /// `ln p` of the weights that are drawn together, in rows of `width`.
    pub(super) fn log_density(&self, width: usize) -> LogDensity {
        let together = match self.over {
            MixtureOver::Weight => 1.0,
            MixtureOver::Row => width as f64,
        };
        let component = |share: f64, log_sigma: f64| {
            (share.ln() - together * log_sigma, 0.5 * (-2.0 * log_sigma).exp())
        };
        let first = component(self.pi, self.log_sigma1);
        let second = component(1.0 - self.pi, self.log_sigma2);
        let (wide, narrow) = if first.1 < second.1 { (first, second) } else { (second, first) };
        LogDensity {
            over: self.over,
            width,
            wide: wide.0,
            wide_slope: wide.1,
            largest: narrow.0 - wide.0,
            slope: narrow.1 - wide.1,
        }
    }
}

/// `ln p` of weights that are drawn together as a function of the sum of their squares, without the
/// factor `1/√(2π)` of each.
///
/// ```text
/// ln(e^(a − b x) + e^(c − d x)) = a − b x + ln(1 + e^(c − a − (d − b) x)),   b ≤ d
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogDensity {
    /// Which weights are drawn together.
    pub(super) over: MixtureOver,
    /// Weights in a row.
    pub(super) width: usize,
    /// `a`.
    pub(super) wide: f64,
    /// `b`.
    pub(super) wide_slope: f64,
    /// `c − a`, where the exponent is largest.
    pub(super) largest: f64,
    /// `d − b`.
    pub(super) slope: f64,
}

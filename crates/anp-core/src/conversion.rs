//! What a penalty's strength amounts to in the conventions of the literature.
//!
//! One yardstick for all of them: the λ of a loss per token,
//!
//! ```text
//! J = mean nll + λ · mean over tokens of ‖h‖₂²
//! ```
//!
//! λ depends on what the penalty is added *to*. The language models of the paper minimise the
//! negative log-likelihood summed over the T steps of a window and averaged over the B streams, T
//! times the mean over tokens: divided by T, with its penalty, it is J. AWD-LSTM minimises the mean
//! itself.
//!
//! | reading of the paper | λ | here |
//! | --- | --- | --- |
//! | authors' code | η·B/2 | [`lambda`], `half_sum`, `sum_over_time` |
//! | equation 11, N = B·T | η·B²·T/H | [`lambda`], `eq11_literal`, `sum_over_time` |
//! | equation 11 at each step, N = B | η·B²/H | [`lambda_eq11_per_step`] |
//! | corrected trace, 1/K only | η·B/H | [`lambda_corrected_trace`] |
//! | mean over tokens of ‖h‖² | η | [`lambda`], `per_token`, `mean_over_tokens` |
//! | AWD-LSTM's AR with weight α | α/H | [`lambda`], `mean_elements`, `mean_over_tokens` |
//! | un-squared norm of the whole block | η·B/(2‖block‖), locally | [`lambda_frobenius`] |

use serde::{Deserialize, Serialize};

use crate::norm::{Norm, Reduction};

/// Sizes of the activation that a penalty sees in one minibatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Streams B, or examples where there is no time.
    pub batch_size: usize,
    /// Steps T of a back-propagation window; 1 where there is no time.
    pub seq_length: usize,
    /// Features H of a token's activation, the K of the paper's equation 11.
    pub d_hidden: usize,
}

/// What the loss beside a penalty does with the losses of single tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReduction {
    /// Sum over the T steps of the mean over the batch: Zaremba et al. (2014) and the paper.
    SumOverTime,
    /// Mean over all tokens: AWD-LSTM, and a mean over examples.
    MeanOverTokens,
}

impl LossReduction {
    /// How many times larger this loss is than the mean over tokens: T, or 1.
    ///
    /// The rivals of the activation norm penalty stand beside a mean over tokens or examples in
    /// their papers, and are means themselves. Multiply such a term by this scale, and it does
    /// beside this loss what it does beside that of its paper. This holds for the defaults of
    /// [`TemporalActivationNorm`](crate::TemporalActivationNorm),
    /// [`NormStabilizer`](crate::NormStabilizer) and [`TargetNorm`](crate::TargetNorm), and for
    /// [`ConfidencePenalty`](crate::ConfidencePenalty),
    /// [`LabelSmoothing`](crate::LabelSmoothing), [`Darc1`](crate::Darc1) and
    /// [`VariationalBottleneck`](crate::VariationalBottleneck).
    ///
    /// ```
    /// use anp_core::{ConfidencePenaltyConfig, LossReduction};
    /// use burn::prelude::*;
    ///
    /// // β = 2 (Pereyra et al. on the Penn Treebank), windows of 35 steps and 20 streams.
    /// let logits = Tensor::<2>::zeros([35 * 20, 50], &Device::default());
    /// let penalty = ConfidencePenaltyConfig::new(2.0).init().forward(logits);
    /// let term = penalty * LossReduction::SumOverTime.scale(35); // to add to the summed loss
    /// # let expected = -2.0 * 35.0 * 50_f32.ln();
    /// # assert!((term.into_scalar::<f32>() / expected - 1.0).abs() < 1e-5);
    /// ```
    pub fn scale(self, seq_length: usize) -> f64 {
        match self {
            Self::SumOverTime => seq_length as f64,
            Self::MeanOverTokens => 1.0,
        }
    }
}

/// λ of the penalty `eta · reduction(norm)`, added to a loss reduced as `loss` says.
///
/// ```text
/// λ = η · w · N / (T if the loss is summed over time, else 1),   N = B·T
/// ```
///
/// with the factor w of [`Reduction::weight`]. `None` if `norm` is not the squared L2: no λ does
/// the same at every h.
pub fn lambda(
    norm: Norm,
    reduction: Reduction,
    eta: f64,
    shape: BatchShape,
    loss: LossReduction,
) -> Option<f64> {
    if norm != Norm::L2sq {
        return None;
    }
    let num_tokens = shape.batch_size * shape.seq_length;
    let weight = reduction.weight(norm, num_tokens, shape.d_hidden);
    Some(eta * weight * num_tokens as f64 / loss.scale(shape.seq_length))
}

/// The α of AWD-LSTM's activation regularisation, `α · mean over elements of h²` added to a mean
/// loss, that does the same: [`lambda`] times H. `None` where [`lambda`] is.
pub fn awd_alpha(
    norm: Norm,
    reduction: Reduction,
    eta: f64,
    shape: BatchShape,
    loss: LossReduction,
) -> Option<f64> {
    Some(lambda(norm, reduction, eta, shape, loss)? * shape.d_hidden as f64)
}

/// λ if equation 11 is read literally at every time step, N = B, beside a loss summed over time.
pub fn lambda_eq11_per_step(eta: f64, shape: BatchShape) -> f64 {
    eta * (shape.batch_size * shape.batch_size) as f64 / shape.d_hidden as f64
}

/// λ of the trace that equation 10 should have, tr K̂ = (1/K) Σₙ‖hₙ‖² (its N is an error), beside a
/// loss summed over time.
pub fn lambda_corrected_trace(eta: f64, shape: BatchShape) -> f64 {
    eta * shape.batch_size as f64 / shape.d_hidden as f64
}

/// λ with the same gradient as η·‖block‖, the un-squared norm of all the minibatch's elements
/// together, beside a loss summed over time; it holds at activations of norm `block_norm` only.
pub fn lambda_frobenius(eta: f64, shape: BatchShape, block_norm: f64) -> f64 {
    eta * shape.batch_size as f64 / (2.0 * block_norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use LossReduction::{MeanOverTokens, SumOverTime};

    const MEDIUM: BatchShape = BatchShape { batch_size: 20, seq_length: 35, d_hidden: 512 };
    const LARGE: BatchShape = BatchShape { batch_size: 20, seq_length: 35, d_hidden: 1500 };

    fn l2sq(reduction: Reduction, eta: f64, shape: BatchShape, loss: LossReduction) -> f64 {
        lambda(Norm::L2sq, reduction, eta, shape, loss).unwrap()
    }

    /// The table of `docs/theory.md` ("What η means"), to its two figures.
    #[test]
    fn lambdas_of_every_reading_at_the_paper_s_strengths() {
        let cases: [(&str, f64, &str, f64, &str); 6] = [
            (
                "authors' code",
                l2sq(Reduction::HalfSum, 1e-4, MEDIUM, SumOverTime),
                "1.0e-3",
                l2sq(Reduction::HalfSum, 2e-4, LARGE, SumOverTime),
                "2.0e-3",
            ),
            (
                "equation 11, all tokens",
                l2sq(Reduction::Eq11Literal, 1e-4, MEDIUM, SumOverTime),
                "2.7e-3",
                l2sq(Reduction::Eq11Literal, 2e-4, LARGE, SumOverTime),
                "1.9e-3",
            ),
            (
                "equation 11, each step",
                lambda_eq11_per_step(1e-4, MEDIUM),
                "7.8e-5",
                lambda_eq11_per_step(2e-4, LARGE),
                "5.3e-5",
            ),
            (
                "corrected trace",
                lambda_corrected_trace(1e-4, MEDIUM),
                "3.9e-6",
                lambda_corrected_trace(2e-4, LARGE),
                "2.7e-6",
            ),
            (
                "mean over tokens",
                l2sq(Reduction::PerToken, 1e-4, MEDIUM, MeanOverTokens),
                "1.0e-4",
                l2sq(Reduction::PerToken, 2e-4, LARGE, MeanOverTokens),
                "2.0e-4",
            ),
            (
                "AWD-LSTM, alpha = 2",
                l2sq(Reduction::MeanElements, 2.0, MEDIUM, MeanOverTokens),
                "3.9e-3",
                l2sq(Reduction::MeanElements, 2.0, LARGE, MeanOverTokens),
                "1.3e-3",
            ),
        ];
        for (reading, medium, expected_medium, large, expected_large) in cases {
            assert_eq!(format!("{medium:.1e}"), expected_medium, "{reading}");
            assert_eq!(format!("{large:.1e}"), expected_large, "{reading}");
        }
    }

    #[test]
    fn an_unsquared_block_norm_is_weaker_by_the_block_s_length() {
        for block_norm in [100.0, 700.0] {
            let ratio = l2sq(Reduction::HalfSum, 1e-4, MEDIUM, SumOverTime)
                / lambda_frobenius(1e-4, MEDIUM, block_norm);
            assert!((ratio - block_norm).abs() < 1e-9, "{ratio}");
        }
    }

    #[test]
    fn the_paper_s_strengths_are_these_alphas() {
        let alpha = |eta, shape| {
            awd_alpha(Norm::L2sq, Reduction::HalfSum, eta, shape, SumOverTime).unwrap()
        };
        assert!((alpha(1e-4, MEDIUM) - 0.512).abs() < 1e-12);
        assert!((alpha(2e-4, LARGE) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn alpha_of_awd_lstm_s_own_form_is_its_strength() {
        for shape in [MEDIUM, LARGE] {
            let alpha =
                awd_alpha(Norm::L2sq, Reduction::MeanElements, 2.0, shape, MeanOverTokens).unwrap();
            assert!((alpha - 2.0).abs() < 1e-12, "{alpha}");
        }
    }

    #[test]
    fn a_loss_summed_over_time_weakens_a_penalty_by_its_length() {
        for reduction in Reduction::ALL {
            let ratio = l2sq(reduction, 0.3, MEDIUM, MeanOverTokens)
                / l2sq(reduction, 0.3, MEDIUM, SumOverTime);
            assert!((ratio - 35.0).abs() < 1e-9, "{reduction}: {ratio}");
        }
    }

    #[test]
    fn images_have_one_step_and_both_losses_agree() {
        // WRN-28-10 on CIFAR-10: 640 pooled features, eta = 1e-6.
        let shape = BatchShape { batch_size: 128, seq_length: 1, d_hidden: 640 };
        let summed = l2sq(Reduction::HalfSum, 1e-6, shape, SumOverTime);
        assert_eq!(summed, l2sq(Reduction::HalfSum, 1e-6, shape, MeanOverTokens));
        assert_eq!(format!("{summed:.1e}"), "6.4e-5");
    }

    #[test]
    fn other_norms_have_no_lambda() {
        for norm in [Norm::L2, Norm::L1, Norm::Linf] {
            for loss in [SumOverTime, MeanOverTokens] {
                assert_eq!(lambda(norm, Reduction::HalfSum, 1e-4, MEDIUM, loss), None);
                assert_eq!(awd_alpha(norm, Reduction::HalfSum, 1e-4, MEDIUM, loss), None);
            }
        }
    }
}

//! The activation norm penalty (ANP).

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_strength};
use crate::l2_norm::l2_norm;
use crate::norm::{Norm, Reduction};
use crate::widen::{no_penalty, widen};

/// Configuration of [`ActivationNorm`].
///
/// The paper's language models use the defaults with η = 1e-4 (512 units) and 2e-4 (1500 units).
#[derive(Config, Debug, PartialEq)]
pub struct ActivationNormConfig {
    /// Strength η ≥ 0; 0 turns the penalty off.
    pub eta: f64,
    /// Norm of one token's activation.
    #[config(default = "Norm::L2sq")]
    pub norm: Norm,
    /// How the norms of a minibatch become one number.
    #[config(default = "Reduction::HalfSum")]
    pub reduction: Reduction,
}

impl ActivationNormConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `eta` is negative, infinite or NaN.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_strength("eta", self.eta)
    }

    /// Build the penalty.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> ActivationNorm {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        ActivationNorm { eta: self.eta, norm: self.norm, reduction: self.reduction }
    }
}

/// Activation norm penalty (ANP): activations should carry no more than they need.
///
/// For activations h of N tokens (rows; all dimensions but the last) with K features (the last
/// dimension), with the [`Norm`] r and the factor w of the [`Reduction`]:
///
/// ```text
/// ANP(h) = η · w(r, N, K) · Σₙ r(hₙ)
///
/// half_sum, l2sq:       (η/2) · Σₙ Σₖ hₙₖ²           the authors' code; the default
/// mean_elements, l2sq:  η · mean over n, k of hₙₖ²   AWD-LSTM's AR, η its α
/// per_token, l2sq:      η · mean over n of ‖hₙ‖²
/// eq11_literal, l2sq:   η · (N/K) · Σₙ Σₖ hₙₖ²       the paper's equation 11 as printed
/// ```
///
/// "From Information Bottleneck to Activation Norm Penalty", ICLR 2018 submission SySpa-Z0Z,
/// equation 11. The paper does not say which reduction its η belongs to; public code of its first
/// author takes half the sum of squares over the whole minibatch and adds it to a loss that is
/// *summed* over time and averaged over the batch; this project's tables rest on that. What a
/// strength amounts to in another convention: [`lambda`](crate::lambda) and
/// [`awd_alpha`](crate::awd_alpha). The same term is known as activation regularization (AR):
/// [Merity, McCann & Socher, 2017](https://arxiv.org/abs/1708.01009).
///
/// Holds no parameters and draws no noise: it is the same on a device with and without autodiff.
/// Leave it out of any loss that is reported.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct ActivationNorm {
    eta: f64,
    #[module(skip)]
    norm: Norm,
    #[module(skip)]
    reduction: Reduction,
}

impl ActivationNorm {
    /// Penalty to add to the loss. Its value is the one to log.
    ///
    /// The gradient is η·w·∂r/∂h; where r has a kink it is a subgradient: 0 for L2 at hₙ = 0 and
    /// for L1 at hₙₖ = 0, and for L∞ that of one of the largest elements. With η = 0 the result is
    /// a constant 0, whatever the activation holds.
    ///
    /// # Shapes
    ///
    /// - `activation`: `[.., d_hidden]`, for example `[batch_size, seq_length, d_hidden]`, or
    ///   `[seq_length, batch_size, d_hidden]`, or `[batch_size, d_hidden]`
    /// - returns: `[1]`, in single precision if `activation` is in half precision
    ///
    /// # Panics
    ///
    /// If `activation` has no element: there is no mean to take.
    pub fn forward<const D: usize>(&self, activation: Tensor<D>) -> Tensor<1> {
        let weight = self.reduction.weight_of_shape(self.norm, activation.dims());
        if self.eta == 0.0 {
            return no_penalty(&activation);
        }
        let activation = widen(activation);
        let sum = match self.norm {
            Norm::L2sq => activation.square().sum(),
            Norm::L2 => l2_norm(activation).sum(),
            Norm::L1 => activation.abs().sum(),
            Norm::Linf => activation.abs().max_dim(D - 1).sum(),
        };
        sum.mul_scalar(self.eta * weight)
    }

    /// Strength η.
    pub fn eta(&self) -> f64 {
        self.eta
    }

    /// Norm of one token's activation.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// How the norms of a minibatch become one number.
    pub fn reduction(&self) -> Reduction {
        self.reduction
    }
}

display_on_one_line!(
    ActivationNorm, it: "eta" = it.eta, "norm" = it.norm.to_string(),
    "reduction" = it.reduction.to_string()
);

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData, Tolerance};
    use proptest::prelude::*;

    /// Two tokens of three features, of L2 norm 7 and 2.
    const ACTIVATION: [[f32; 3]; 2] = [[2.0, -6.0, 3.0], [0.0, -2.0, 0.0]];

    fn penalty(norm: Norm, reduction: Reduction, eta: f64) -> ActivationNorm {
        ActivationNormConfig::new(eta).with_norm(norm).with_reduction(reduction).init()
    }

    fn value<const D: usize>(penalty: &ActivationNorm, activation: TensorData) -> f32 {
        penalty.forward(Tensor::<D>::from_data(activation, &Device::default())).into_scalar()
    }

    fn value_and_gradient(penalty: &ActivationNorm, rows: TensorData) -> (f32, Vec<f32>) {
        let device = Device::default().autodiff();
        let activation = Tensor::<2>::from_data(rows, &device).require_grad();
        let value = penalty.forward(activation.clone());
        let gradient = activation.grad(&value.backward()).expect("the activation is a leaf");
        (value.into_scalar(), gradient.into_data().try_to_vec().expect("f32"))
    }

    #[track_caller]
    fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "{actual:?} is not {expected:?}");
        }
    }

    #[test]
    fn every_norm_and_reduction_is_the_sum_one_does_by_hand() {
        let [n, k] = [2.0, 3.0];
        for (norm, sum, half_sum) in [
            (Norm::L2sq, 53.0, 26.5),
            (Norm::L2, 9.0, 9.0),
            (Norm::L1, 13.0, 13.0),
            (Norm::Linf, 8.0, 8.0),
        ] {
            for (reduction, expected) in [
                (Reduction::HalfSum, half_sum),
                (Reduction::MeanElements, sum / (n * k)),
                (Reduction::PerToken, sum / n),
                (Reduction::Eq11Literal, sum * n / k),
            ] {
                let actual = value::<2>(&penalty(norm, reduction, 0.1), ACTIVATION.into());
                let expected = (0.1 * expected) as f32;
                assert!(
                    (actual - expected).abs() < 1e-5,
                    "{norm} {reduction}: {actual}, {expected}"
                );
            }
        }
    }

    #[test]
    fn all_dimensions_but_the_last_are_tokens() {
        let data: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
        for norm in Norm::ALL {
            for reduction in Reduction::ALL {
                let penalty = penalty(norm, reduction, 0.3);
                let flat = value::<2>(&penalty, TensorData::new(data.clone(), [6, 4]));
                let cube = value::<3>(&penalty, TensorData::new(data.clone(), [3, 2, 4]));
                let deep = value::<4>(&penalty, TensorData::new(data.clone(), [1, 3, 2, 4]));
                assert_close(&[cube, deep], &[flat, flat], 1e-6);
            }
        }
        let row = value::<1>(&penalty(Norm::L2, Reduction::PerToken, 2.0), [3.0_f32, -4.0].into());
        assert_eq!(row, 10.0);
    }

    #[test]
    fn gradient_of_the_half_sum_is_eta_times_the_activation() {
        let (_, gradient) = value_and_gradient(
            &penalty(Norm::L2sq, Reduction::HalfSum, 0.25),
            TensorData::from(ACTIVATION),
        );
        let expected: Vec<f32> = ACTIVATION.concat().iter().map(|h| 0.25 * h).collect();
        assert_eq!(gradient, expected);
    }

    #[test]
    fn gradient_of_the_mean_of_squares_is_two_eta_h_over_n_k() {
        let (_, gradient) = value_and_gradient(
            &penalty(Norm::L2sq, Reduction::MeanElements, 2.0),
            TensorData::from(ACTIVATION),
        );
        let expected: Vec<f32> = ACTIVATION.concat().iter().map(|h| 2.0 * 2.0 * h / 6.0).collect();
        assert_close(&gradient, &expected, 1e-6);
    }

    #[test]
    fn gradients_of_the_unsquared_norms_are_their_duals() {
        for (norm, expected) in [
            (Norm::L2, [2.0 / 7.0, -6.0 / 7.0, 3.0 / 7.0, 0.0, -1.0, 0.0]),
            (Norm::L1, [1.0, -1.0, 1.0, 0.0, -1.0, 0.0]),
            (Norm::Linf, [0.0, -1.0, 0.0, 0.0, -1.0, 0.0]),
        ] {
            let penalty = penalty(norm, Reduction::HalfSum, 1.0);
            let (_, gradient) = value_and_gradient(&penalty, TensorData::from(ACTIVATION));
            assert_close(&gradient, &expected, 1e-6);
        }
    }

    #[test]
    fn a_token_at_zero_costs_nothing_and_gets_no_gradient() {
        let rows = TensorData::from([[0.0_f32, 0.0], [3.0, 4.0]]);
        for norm in Norm::ALL {
            for reduction in Reduction::ALL {
                let (value, gradient) =
                    value_and_gradient(&penalty(norm, reduction, 1.0), rows.clone());
                assert!(value.is_finite() && value > 0.0, "{norm} {reduction}: {value}");
                assert_eq!(gradient[..2], [0.0, 0.0], "{norm} {reduction}");
                assert!(gradient[3].is_finite() && gradient[3] > 0.0, "{norm} {reduction}");
            }
        }
    }

    #[test]
    fn strength_zero_is_exactly_zero_and_keeps_the_loss_gradient() {
        let device = Device::default().autodiff();
        for norm in Norm::ALL {
            for reduction in Reduction::ALL {
                let penalty = penalty(norm, reduction, 0.0);
                let bad = TensorData::from([[f32::NAN, f32::INFINITY], [0.0, 1.0]]);
                assert_eq!(value::<2>(&penalty, bad), 0.0);

                let h = Tensor::<2>::from_data([[1.0_f32, 2.0]], &device).require_grad();
                let loss = h.clone().sum() + penalty.forward(h.clone());
                let gradient = h.grad(&loss.backward()).expect("the activation is a leaf");
                gradient.into_data().assert_eq(&TensorData::from([[1.0_f32, 1.0]]), true);
            }
        }
    }

    #[test]
    fn a_value_that_is_not_finite_shows_in_the_penalty() {
        let bad = TensorData::from([[f32::NAN, 1.0]]);
        for norm in Norm::ALL {
            let value = value::<2>(&penalty(norm, Reduction::HalfSum, 1.0), bad.clone());
            assert!(value.is_nan(), "{norm}: {value}");
        }
    }

    #[test]
    #[should_panic(expected = "needs an activation, got the shape [0, 4]")]
    fn an_empty_activation_is_refused() {
        let empty = Tensor::<2>::zeros([0, 4], &Device::default());
        penalty(Norm::L2sq, Reduction::HalfSum, 1.0).forward(empty);
    }

    #[test]
    fn only_finite_strengths_from_zero_are_valid() {
        for eta in [0.0, 1e-8, 2.0] {
            assert_eq!(ActivationNormConfig::new(eta).validate(), Ok(()));
        }
        for eta in [-1e-4, f64::INFINITY, f64::NAN] {
            let message = ActivationNormConfig::new(eta).validate().unwrap_err().to_string();
            assert_eq!(message, format!("`eta` must be in [0, ∞), but is {eta}"));
        }
    }

    #[test]
    fn a_configuration_reads_back_as_written() {
        let config = ActivationNormConfig::new(1e-4).with_norm(Norm::Linf);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(json, r#"{"eta":0.0001,"norm":"linf","reduction":"half_sum"}"#);
        assert_eq!(serde_json::from_str::<ActivationNormConfig>(&json).unwrap(), config);
    }

    #[test]
    fn display_shows_the_whole_configuration() {
        let penalty = penalty(Norm::L1, Reduction::PerToken, 0.5);
        let shown = "ActivationNorm {eta: 0.5, norm: l1, reduction: per_token}";
        assert_eq!(penalty.to_string(), shown);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A norm is homogeneous, of degree 2 if it is squared, and so is the penalty.
        #[test]
        fn scaling_the_activation_scales_the_penalty(
            rows in prop::collection::vec(-2.0_f32..2.0, 12), scale in 0.1_f32..8.0,
        ) {
            let scaled: Vec<f32> = rows.iter().map(|h| h * scale).collect();
            for norm in Norm::ALL {
                let factor = if norm == Norm::L2sq { scale * scale } else { scale };
                for reduction in Reduction::ALL {
                    let penalty = penalty(norm, reduction, 0.7);
                    let once = value::<2>(&penalty, TensorData::new(rows.clone(), [3, 4]));
                    let more = value::<2>(&penalty, TensorData::new(scaled.clone(), [3, 4]));
                    assert_close(&[more], &[factor * once], 1e-5);
                }
            }
        }

        /// Means do not change when the minibatch is repeated; sums double, and equation 11, whose
        /// factor N grows too, quadruples.
        #[test]
        fn repeating_the_minibatch_does_what_the_reduction_says(
            rows in prop::collection::vec(-2.0_f32..2.0, 12),
        ) {
            let twice = [rows.clone(), rows.clone()].concat();
            for norm in Norm::ALL {
                for (reduction, factor) in [
                    (Reduction::HalfSum, 2.0),
                    (Reduction::MeanElements, 1.0),
                    (Reduction::PerToken, 1.0),
                    (Reduction::Eq11Literal, 4.0),
                ] {
                    let penalty = penalty(norm, reduction, 0.7);
                    let once = value::<2>(&penalty, TensorData::new(rows.clone(), [3, 4]));
                    let more = value::<2>(&penalty, TensorData::new(twice.clone(), [6, 4]));
                    assert_close(&[more], &[factor * once], 1e-5);
                }
            }
        }

        /// ‖h‖∞ ≤ ‖h‖₂ ≤ ‖h‖₁, row by row and so in the sum; the penalty is linear in η and not
        /// negative.
        #[test]
        fn norms_are_ordered_and_linear_in_eta(
            rows in prop::collection::vec(-2.0_f32..2.0, 12), eta in 1e-4_f64..10.0,
        ) {
            let sum = |norm, eta| {
                let penalty = penalty(norm, Reduction::HalfSum, eta);
                value::<2>(&penalty, TensorData::new(rows.clone(), [3, 4]))
            };
            let [linf, l2, l1] = [Norm::Linf, Norm::L2, Norm::L1].map(|norm| sum(norm, 1.0));
            prop_assert!(0.0 <= linf && linf <= l2 * 1.00001 && l2 <= l1 * 1.00001);
            for norm in Norm::ALL {
                assert_close(&[sum(norm, eta)], &[eta as f32 * sum(norm, 1.0)], 1e-5);
            }
        }

        /// Central differences, away from the kinks of L1 and L∞: rows of well separated elements.
        #[test]
        fn gradient_agrees_with_finite_differences(
            signs in prop::collection::vec(prop::bool::ANY, 8), shift in 0.0_f32..0.2,
        ) {
            const STEP: f32 = 1e-2;
            let magnitudes = [0.4, 1.3, 0.9, 1.9, 2.2, 0.7, 1.1, 1.6];
            let rows: Vec<f32> = magnitudes
                .iter()
                .zip(signs)
                .map(|(h, negative)| (h + shift) * if negative { -1.0 } else { 1.0 })
                .collect();
            for norm in Norm::ALL {
                for reduction in Reduction::ALL {
                    let penalty = penalty(norm, reduction, 1.0);
                    let (_, gradient) =
                        value_and_gradient(&penalty, TensorData::new(rows.clone(), [2, 4]));
                    let differences: Vec<f32> = (0..rows.len())
                        .map(|at| {
                            let [above, below] = [STEP, -STEP].map(|step| {
                                let mut moved = rows.clone();
                                moved[at] += step;
                                value::<2>(&penalty, TensorData::new(moved, [2, 4]))
                            });
                            (above - below) / (2.0 * STEP)
                        })
                        .collect();
                    // The sums are below 20, so f32 leaves 20 · 2⁻²³ / STEP < 3e-4 in a difference.
                    assert_close(&gradient, &differences, 5e-4);
                }
            }
        }
    }

    /// What the training loop rests on: the loss of the paper's code, summed over time, with the
    /// half sum is T times the mean loss with AWD-LSTM's AR at α = ηBH/2, in value and gradient.
    #[test]
    fn summed_loss_with_half_sum_is_mean_loss_with_awd_ar() {
        use crate::{BatchShape, LossReduction, awd_alpha};

        let [seq_length, batch_size, d_hidden] = [5, 3, 4];
        let shape = BatchShape { batch_size, seq_length, d_hidden };
        let eta = 0.02;
        let alpha =
            awd_alpha(Norm::L2sq, Reduction::HalfSum, eta, shape, LossReduction::SumOverTime)
                .expect("the norm is the squared L2");
        assert!((alpha - eta * (batch_size * d_hidden) as f64 / 2.0).abs() < 1e-15);

        let device = Device::default().autodiff();
        let data: Vec<f32> =
            (0..seq_length * batch_size * d_hidden).map(|i| (i as f32 * 1.3).sin()).collect();
        let hidden = || {
            let data = TensorData::new(data.clone(), [seq_length, batch_size, d_hidden]);
            Tensor::<3>::from_data(data, &device).require_grad()
        };
        // A loss per token that is not linear in h; the classes are the features.
        let nll = |h: Tensor<3>| burn::tensor::activation::log_softmax(h, 2).narrow(2, 1, 1).neg();

        let h = hidden();
        let half_sum = penalty(Norm::L2sq, Reduction::HalfSum, eta);
        let summed = nll(h.clone()).sum() / batch_size as f32 + half_sum.forward(h.clone());
        let summed_gradient = h.grad(&summed.backward()).expect("the activation is a leaf");

        let h = hidden();
        let ar = penalty(Norm::L2sq, Reduction::MeanElements, alpha);
        let mean = nll(h.clone()).mean() + ar.forward(h.clone());
        let mean_gradient = h.grad(&mean.backward()).expect("the activation is a leaf");

        let tolerance = Tolerance::rel_abs(1e-5, 1e-6); // sums of 60 numbers near 1 in f32
        let summed = (summed / seq_length as f32).into_data();
        summed.assert_approx_eq::<f32>(&mean.into_data(), tolerance);
        let summed_gradient = (summed_gradient / seq_length as f32).into_data();
        summed_gradient.assert_approx_eq::<f32>(&mean_gradient.into_data(), tolerance);
    }
}

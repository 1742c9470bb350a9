//! Values and gradients of the information bound against PyTorch in float64, which
//! `reference/information_bound.py` wrote to `fixtures/information_bound.json`, and against closed
//! forms.

use anp_core::{
    ActivationNormConfig, BatchShape, ExampleGroup, InformationBound, InformationBoundConfig,
    InformationTerms, LossReduction, Norm, Reduction, TraceFactor, lambda, lambda_corrected_trace,
    lambda_eq11_per_step,
};
use anp_testing::{Array, TestDevice, assert_close, assert_gradient, fixture, noise, values};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    bounds: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    eta: f64,
    epsilon: f64,
    activation: Array,
    results: Vec<CaseResult>,
}

#[derive(Deserialize)]
struct CaseResult {
    group: ExampleGroup,
    terms: InformationTerms,
    trace_factor: TraceFactor,
    value: f64,
    condition: f64,
    gradient: Vec<f64>,
}

/// The default device in both precisions.
fn devices() -> [TestDevice; 2] {
    let device = Device::default().autodiff();
    [DType::F32, DType::F64].map(|dtype| TestDevice { device: device.clone(), dtype })
}

fn in_f64() -> TestDevice {
    devices()[1].clone()
}

/// Value and gradient, row by row.
fn both<const D: usize>(
    activation: Tensor<D>,
    forward: impl Fn(Tensor<D>) -> Tensor<1>,
) -> (f64, Vec<f64>) {
    let activation = activation.require_grad();
    let value = forward(activation.clone());
    let gradient = activation.grad(&value.backward()).expect("the activation is a leaf");
    (values(value)[0], values(gradient))
}

fn examples(bound: &InformationBound) -> impl Fn(Tensor<2>) -> Tensor<1> {
    |activation| bound.forward_examples(activation)
}

/// Everything but the trace alone is computed in double precision and rounded at the end, twice in
/// the gradient (with the factor of the backward pass); the trace alone sums up to 378 squares in
/// the tensor's own precision. Errors of the factorisation grow with the condition of K̂.
fn tolerance(device: &TestDevice, result: &CaseResult) -> f64 {
    let factorisation = 64.0 * f64::EPSILON * result.condition;
    device.roundings(8.0).max(factorisation)
}

#[test]
fn bounds_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("information_bound.json").bounds;
    assert!(cases.len() >= 16, "a case is missing");
    for case in &cases {
        assert_eq!(case.results.len(), 8, "two groups, terms and factors each");
        for result in &case.results {
            for device in &devices() {
                let config = InformationBoundConfig::new(case.eta)
                    .with_epsilon(case.epsilon)
                    .with_terms(result.terms)
                    .with_trace_factor(result.trace_factor)
                    .with_group(result.group);
                let what = format!("{}: {config:?}, {device:?}", case.name);
                let tolerance = tolerance(device, result);
                let check = |(value, gradient): (f64, Vec<f64>)| {
                    assert_close(&what, &[value], &[result.value], tolerance);
                    assert_close(&what, &gradient, &result.gradient, tolerance);
                };
                match *case.activation.shape {
                    [_, _] if result.group == ExampleGroup::TimeStep => {
                        let bound = config.init();
                        check(both(case.activation.tensor::<2>(device), examples(&bound)));
                    }
                    [_, _] => {} // the same group
                    [_, _, _] => {
                        let activation = case.activation.tensor::<3>(device);
                        let bound = config.init();
                        check(both(activation.clone(), |h| bound.forward(h)));
                        let bound = config.with_batch_first(false).init();
                        check(both(activation, |h| bound.forward(h.swap_dims(0, 1))));
                    }
                    _ => panic!("{}: no test for this rank", case.name),
                }
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let device = in_f64();
    for terms in [InformationTerms::Trace, InformationTerms::TraceAndLogDeterminant] {
        for trace_factor in [TraceFactor::Corrected, TraceFactor::Printed] {
            for (group, batch_first) in [
                (ExampleGroup::TimeStep, true),
                (ExampleGroup::TimeStep, false),
                (ExampleGroup::Minibatch, true), // 12 examples with 5 features
            ] {
                let config = InformationBoundConfig::new(0.3)
                    .with_epsilon(0.1)
                    .with_terms(terms)
                    .with_trace_factor(trace_factor)
                    .with_group(group)
                    .with_batch_first(batch_first);
                let bound = config.init();
                let point = noise(3)(60);
                let tensor = |point| device.tensor(point, [3, 4, 5]);
                let (_, gradient) = both(tensor(point.clone()), |h| bound.forward(h));
                let loss = |point| values(bound.forward(tensor(point)))[0];
                assert_gradient(&format!("{config:?}"), &point, &gradient, loss);
            }
        }
    }
}

/// KL(N(0, Σ) ‖ N(0, I)) = E[ln p(t) − ln r(t)], t ~ N(0, Σ), sampled for Σ = K̂ of two examples.
#[test]
fn the_value_is_what_sampling_estimates() {
    const EPSILON: f64 = 0.05;
    let rows = [[1.2, -0.4, 0.9], [0.7, 0.3, 1.4]];
    let dot = |a: [f64; 3], b: [f64; 3]| (0..3).map(|k| a[k] * b[k]).sum::<f64>() / 3.0;
    let [a, b, c] =
        [dot(rows[0], rows[0]) + EPSILON, dot(rows[0], rows[1]), dot(rows[1], rows[1]) + EPSILON];
    let determinant = a * c - b * b;
    let bound = InformationBoundConfig::new(1.0).with_epsilon(EPSILON).init();
    let (value, _) = both(in_f64().tensor(rows.concat(), [2, 3]), examples(&bound));

    let closed = 0.5 * (a + c - determinant.ln() - 2.0);
    assert_close("closed form", &[value], &[closed], 1e-14);

    const COUNT: usize = 400_000;
    let uniform = noise(11)(2 * COUNT);
    let terms: Vec<f64> = uniform
        .chunks_exact(2)
        .map(|pair| {
            // Box and Muller's normal numbers z, and t = Lz with LLᵀ = K̂.
            let [u, v] = [0.5 * (pair[0] + 1.0), 0.5 * (pair[1] + 1.0)];
            let radius = (-2.0 * (1.0 - u).ln()).sqrt();
            let angle = std::f64::consts::TAU * v;
            let [z0, z1] = [radius * angle.cos(), radius * angle.sin()];
            let t0 = a.sqrt() * z0;
            let t1 = b / a.sqrt() * z0 + (determinant / a).sqrt() * z1;
            let ln_p = (c * t0 * t0 - 2.0 * b * t0 * t1 + a * t1 * t1) / determinant;
            0.5 * (t0 * t0 + t1 * t1 - ln_p - determinant.ln())
        })
        .collect();
    let mean = terms.iter().sum::<f64>() / COUNT as f64;
    let variance = terms.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / COUNT as f64;
    let error = (variance / COUNT as f64).sqrt();
    assert!(error < 0.005 * value, "{error} is too much to tell {value} from another");
    assert!((mean - value).abs() < 5.0 * error, "{mean} ± {error}, the bound is {value}");
}

/// Φ = U diag(s) Vᵀ with U and V of mutually orthogonal signs, so that K̂ has the eigenvalues
/// `eigenvalues` and the eigenvectors U.
fn activation_with(eigenvalues: [f64; 4], epsilon: f64) -> Vec<f64> {
    let mut phi = vec![0.0; 16];
    for (i, eigenvalue) in eigenvalues.into_iter().enumerate() {
        let singular = (4.0 * (eigenvalue - epsilon)).sqrt();
        for (x, uv) in phi.iter_mut().zip(direction(i)) {
            *x += singular * uv;
        }
    }
    phi
}

/// uᵢvᵢᵀ: row i of a Hadamard matrix times its row i + 1.
fn direction(i: usize) -> Vec<f64> {
    let sign = |row: usize, column: usize| {
        if (row & column).count_ones().is_multiple_of(2) { 0.5 } else { -0.5 }
    };
    (0..16).map(|at| sign(i, at / 4) * sign((i + 1) % 4, at % 4)).collect()
}

/// What gradient descent does to each singular value at first, per unit of learning rate.
fn force(config: &InformationBoundConfig, eigenvalues: [f64; 4], device: &TestDevice) -> [f64; 4] {
    let phi = device.tensor(activation_with(eigenvalues, config.epsilon), [4, 4]);
    let bound = config.init();
    let (_, gradient) = both(phi, examples(&bound));
    [0, 1, 2, 3].map(|i| -gradient.iter().zip(direction(i)).map(|(g, uv)| g * uv).sum::<f64>())
}

#[test]
fn the_whole_bound_pulls_eigenvalues_to_one_and_the_trace_alone_to_zero() {
    let eigenvalues = [0.02, 0.6, 1.5, 40.0];
    for device in &devices() {
        let config = InformationBoundConfig::new(0.1).with_epsilon(0.01);
        let whole = force(&config, eigenvalues, device);
        assert!(whole[0] > 0.0 && whole[1] > 0.0, "below 1 grows: {whole:?}");
        assert!(whole[2] < 0.0 && whole[3] < 0.0, "above 1 shrinks: {whole:?}");
        let expected = eigenvalues.map(|e| {
            let singular = (4.0 * (e - 0.01)).sqrt();
            -0.1 * (1.0 - 1.0 / e) * singular / 4.0
        });
        // Errors of the factor grow with the condition of K̂.
        let tolerance = device.roundings(16.0).max(f64::EPSILON * 40.0 / 0.02);
        assert_close("force", &whole, &expected, tolerance);

        let trace = force(&config.with_terms(InformationTerms::Trace), eigenvalues, device);
        assert!(trace.iter().all(|&force| force < 0.0), "all shrink: {trace:?}");
    }
}

#[test]
fn the_force_is_zero_at_the_smallest_value() {
    let device = in_f64();
    let config = InformationBoundConfig::new(1.0).with_epsilon(0.01);
    let force_at_one = force(&config, [1.0; 4], &device);
    assert!(force_at_one.iter().all(|force| force.abs() < 1e-14), "{force_at_one:?}");
    let phi = device.tensor(activation_with([1.0; 4], 0.01), [4, 4]);
    let (value, _) = both(phi, examples(&config.init()));
    assert!(value.abs() < 1e-14, "{value}");

    // With the printed factor of four examples, at eigenvalues of 1/4 without ε.
    let printed = config.with_trace_factor(TraceFactor::Printed);
    let force_at_quarter = force(&printed, [0.25; 4], &device);
    assert!(force_at_quarter.iter().all(|force| force.abs() < 1e-14), "{force_at_quarter:?}");
    let force_at_one = force(&printed, [1.0; 4], &device);
    assert!(force_at_one.iter().all(|&force| force < -0.1), "{force_at_one:?}");
}

#[test]
fn the_force_is_at_most_what_epsilon_allows() {
    for epsilon in [1e-3_f64, 1e-6] {
        let config = InformationBoundConfig::new(0.5).with_epsilon(epsilon);
        let limit = 0.5 / (2.0 * (4.0 * epsilon).sqrt());
        // The largest is where half of the eigenvalue is ε.
        let at = |factor: f64| force(&config, [factor * epsilon, 1.0, 1.0, 1.0], &in_f64())[0];
        let largest = at(2.0);
        assert!(largest <= limit && largest > 0.99 * limit, "{largest}, limit {limit}");
        assert!(at(1.2) < largest && at(4.0) < largest);
        // No activation in that direction, but for the errors of the factor.
        assert!(at(1.0).abs() < limit * f64::EPSILON / epsilon, "{}", at(1.0));
    }
}

/// The trace alone is [`anp_core::ActivationNorm`] under each name that `conversion.rs` has for it.
#[test]
fn the_trace_alone_is_the_penalty_of_the_conversions() {
    const ETA: f64 = 0.3;
    let shape = BatchShape { batch_size: 3, seq_length: 4, d_hidden: 5 };
    let device = in_f64();
    let activation: Tensor<3> = device.random(5, [3, 4, 5], 1.0);
    let trace = |group, factor| {
        let config = InformationBoundConfig::new(ETA)
            .with_terms(InformationTerms::Trace)
            .with_group(group)
            .with_trace_factor(factor);
        let bound = config.init();
        both(activation.clone(), |h| bound.forward(h))
    };
    let half_sum = |eta| {
        let penalty = ActivationNormConfig::new(eta).init();
        both(activation.clone(), |h| penalty.forward(h))
    };
    let literal = {
        let reduction = Reduction::Eq11Literal;
        let penalty = ActivationNormConfig::new(ETA / 2.0).with_reduction(reduction).init();
        both(activation.clone(), |h| penalty.forward(h))
    };
    let sum_over_time = LossReduction::SumOverTime;
    let lambda_of = |reduction, eta| lambda(Norm::L2sq, reduction, eta, shape, sum_over_time);

    use ExampleGroup::{Minibatch, TimeStep};
    use TraceFactor::{Corrected, Printed};
    for (group, factor, eta, expected_lambda) in [
        (TimeStep, Corrected, ETA / 5.0, lambda_corrected_trace(ETA / 2.0, shape)),
        (Minibatch, Corrected, ETA / 5.0, lambda_corrected_trace(ETA / 2.0, shape)),
        (TimeStep, Printed, ETA * 3.0 / 5.0, lambda_eq11_per_step(ETA / 2.0, shape)),
        (
            Minibatch,
            Printed,
            ETA * 12.0 / 5.0,
            lambda_of(Reduction::Eq11Literal, ETA / 2.0).unwrap(),
        ),
    ] {
        let what = format!("{group}, {factor}");
        let (value, gradient) = trace(group, factor);
        let (half_sum_value, half_sum_gradient) = half_sum(eta);
        assert_close(&what, &[value], &[half_sum_value], 1e-14);
        assert_close(&what, &gradient, &half_sum_gradient, 1e-14);
        if (group, factor) == (Minibatch, Printed) {
            assert_close(&what, &[value], &[literal.0], 1e-14);
            assert_close(&what, &gradient, &literal.1, 1e-14);
        }
        let lambda = lambda_of(Reduction::HalfSum, eta).unwrap();
        assert_close(&what, &[lambda], &[expected_lambda], 1e-14);
    }
}

#[test]
fn the_printed_factor_adds_a_trace_for_every_other_example() {
    let device = in_f64();
    let activation: Tensor<2> = device.random(6, [4, 6], 1.0);
    let config = InformationBoundConfig::new(1.0).with_epsilon(0.2);
    let value = |config: &InformationBoundConfig| {
        values(config.init().forward_examples(activation.clone()))[0]
    };
    let whole = value(&config);
    let trace = value(&config.clone().with_terms(InformationTerms::Trace));
    let printed = value(&config.with_trace_factor(TraceFactor::Printed));
    assert_close("printed", &[printed], &[whole + 3.0 * trace], 1e-13);
}

#[test]
fn examples_without_activation_cost_what_epsilon_says() {
    const EPSILON: f64 = 1e-3;
    let per_direction = 0.5 * (EPSILON - EPSILON.ln() - 1.0);
    let bound = InformationBoundConfig::new(1.0).with_epsilon(EPSILON).init();
    for device in &devices() {
        for [num_examples, num_features] in [[3, 5], [5, 3]] {
            let zeros =
                Tensor::<2>::zeros([num_examples, num_features], (&device.device, device.dtype));
            let (value, gradient) = both(zeros, examples(&bound));
            let expected = num_examples as f64 * per_direction;
            assert_close("zeros", &[value], &[expected], device.roundings(4.0));
            assert_eq!(gradient, vec![0.0; num_examples * num_features]);
        }
    }
}

/// A row a repeated N times: one eigenvalue N‖a‖²/K + ε, all others ε.
#[test]
fn repeated_examples_have_the_closed_form_for_every_epsilon() {
    let row = [0.5, -1.0, 0.25, 2.0];
    let square = row.iter().map(|x| x * x).sum::<f64>() / 4.0;
    for device in &devices() {
        // Rounding takes pivots below the last three: they are raised to ε, and no digit is left.
        for epsilon in [1e-1, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 1e-18, 1e-30] {
            for num_examples in [2, 3, 9] {
                let bound = InformationBoundConfig::new(1.0).with_epsilon(epsilon).init();
                let rows = device.tensor(row.repeat(num_examples), [num_examples, 4]);
                let (value, gradient) = both(rows, examples(&bound));
                let what = format!("{num_examples} rows, {epsilon:e}, {device:?}: {value}");
                assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()), "{what}");
                if epsilon < 1e-12 {
                    continue;
                }
                let n = num_examples as f64;
                let largest = n * square + epsilon;
                let log_determinant = largest.ln() + (n - 1.0) * epsilon.ln();
                let expected = 0.5 * (n * (square + epsilon) - log_determinant - n);
                // Rounding errors of the factor, relative to ε.
                let tolerance = device.roundings(4.0).max(4.0 * f64::EPSILON * largest / epsilon);
                assert_close(&what, &[value], &[expected], tolerance);
                let factor = (1.0 - 1.0 / largest) / 4.0;
                let expected =
                    row.repeat(num_examples).iter().map(|x| factor * x).collect::<Vec<_>>();
                let tolerance = device.roundings(4.0).max(16.0 * f64::EPSILON * largest / epsilon);
                assert_close(&what, &gradient, &expected, tolerance);
            }
        }
    }
}

/// Two rows that differ by 2⁻¹², 2.4e-4 of their length: their Gram matrix in single precision is
/// singular, and its logarithm wrong whatever ε ≤ 1e-8 is.
#[test]
fn nearly_equal_examples_in_single_precision_keep_their_determinant() {
    let delta = 2.0_f64.powi(-12);
    let device = &devices()[0];
    let rows = [1.0, 1.0, 1.0, 1.0 + delta];
    let in_f32 = rows.map(|x| x as f32);
    let [a, b, c] = [
        in_f32[0] * in_f32[0] + in_f32[1] * in_f32[1],
        in_f32[0] * in_f32[2] + in_f32[1] * in_f32[3],
        in_f32[2] * in_f32[2] + in_f32[3] * in_f32[3],
    ];
    assert!(a * c - b * b <= 0.0, "not the case that this test is about");

    let bound = InformationBoundConfig::new(1.0).with_epsilon(1e-9).init();
    let (value, gradient) = both(device.tensor(rows.to_vec(), [2, 2]), examples(&bound));
    // K̂ = [[1, 1 + δ/2], [·, 1 + δ + δ²/2]] + εI, so that det K̂ = δ²/4 + ε(2 + δ + δ²/2) + ε².
    let half_square = delta * delta / 2.0;
    let determinant = half_square / 2.0 + 1e-9 * (2.0 + delta + half_square) + 1e-18;
    let trace = 2.0 + delta + half_square + 2e-9;
    let expected = 0.5 * (trace - determinant.ln() - 2.0);
    assert_close("value", &[value], &[expected], device.roundings(2.0));
    assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
    // Descent moves the second row's second feature away from the first row's.
    assert!(gradient[3] < -100.0 && gradient[1] > 100.0, "{gradient:?}");
}

#[test]
fn half_precision_is_summed_in_single() {
    for (dtype, float, digits) in [
        (DType::F16, FloatDType::F16, 2.0_f64.powi(-11)),
        (DType::BF16, FloatDType::BF16, 2.0_f64.powi(-8)),
    ] {
        let device = &devices()[0];
        let narrow = device.random::<3>(9, [20, 3, 64], 1.0).cast(float);
        let wide = narrow.clone().cast(FloatDType::F32);
        for terms in [InformationTerms::Trace, InformationTerms::TraceAndLogDeterminant] {
            for eta in [1.0, 1e-2] {
                let bound = InformationBoundConfig::new(eta).with_terms(terms).init();
                assert_eq!(bound.forward(narrow.clone()).dtype(), DType::F32);
                // The loss scale of training in f16, whose smallest number is 6e-8.
                let scaled = |h: Tensor<3>| bound.forward(h) * 1024.0;
                let (expected, expected_gradient) = both(wide.clone(), scaled);
                let (value, gradient) = both(narrow.clone(), scaled);
                assert_eq!(value, expected, "{dtype:?}");
                assert_close(&format!("{dtype:?}"), &gradient, &expected_gradient, digits);
                assert!(gradient.iter().all(|&g| g != 0.0), "{dtype:?}: a gradient is lost");
            }
        }
        // The sum, 16·300², is more than f16 holds.
        let large = Tensor::<2>::full([2, 8], 300.0, (&device.device, dtype));
        let trace = InformationBoundConfig::new(1.0).with_terms(InformationTerms::Trace).init();
        assert_eq!(values(trace.forward_examples(large)), [90_000.0]);
    }
}

#[test]
fn large_numbers_do_not_overflow() {
    let device = &devices()[0];
    let bound = InformationBoundConfig::new(1e-30).init();
    // The squares are beyond f32.
    let activation = device.tensor(vec![1e30, 2e30, -1e30, 3e30], [2, 2]);
    let (value, gradient) = both(activation, examples(&bound));
    let expected = 1e-30 * 0.25 * 15e60;
    assert_close("value", &[value], &[expected], device.roundings(4.0));
    let expected = [0.5, 1.0, -0.5, 1.5];
    assert_close("gradient", &gradient, &expected, device.roundings(4.0));
}

#[test]
fn strength_zero_is_exactly_zero_and_keeps_the_loss_gradient() {
    let device = &devices()[0];
    let bound = InformationBoundConfig::new(0.0).init();
    let bad = device.tensor(vec![f64::NAN, f64::INFINITY, 0.0, 1.0], [1, 2, 2]);
    assert_eq!(values(bound.forward(bad)), [0.0]);
    let (_, gradient) = both(device.tensor(vec![1.0, 2.0], [1, 2]), |h: Tensor<2>| {
        h.clone().sum() + bound.forward_examples(h)
    });
    assert_eq!(gradient, [1.0, 1.0]);
}

#[test]
fn a_value_that_is_not_finite_shows_in_the_bound() {
    let device = Device::default();
    for bad in [f32::NAN, f32::INFINITY] {
        for device in [device.clone(), device.clone().autodiff()] {
            for terms in [InformationTerms::Trace, InformationTerms::TraceAndLogDeterminant] {
                let bound = InformationBoundConfig::new(1.0).with_terms(terms).init();
                let activation = Tensor::<2>::from_data([[1.0, bad], [0.0, 1.0]], &device);
                let value = values(bound.forward_examples(activation))[0];
                assert!(!value.is_finite(), "{terms}, {bad}: {value}");
            }
        }
    }
}

/// The value is that of a device without autodiff, to the bit. What is before and behind the bound
/// has its part in the gradient.
#[test]
fn autodiff_sees_the_exact_value_and_gradient() {
    let bound = InformationBoundConfig::new(0.4).init();
    let device = &devices()[0];
    let activation = || device.random::<3>(2, [4, 3, 6], 2.0);
    let plain = bound.forward(activation().inner()).into_data();
    bound.forward(activation()).into_data().assert_eq(&plain, true);

    let (value, gradient) = both(activation(), |h| bound.forward(h));
    let (scaled_value, scaled) = both(activation() * 0.5, |h| bound.forward(h * 2.0) * -4.0);
    assert_eq!(scaled_value, -4.0 * value);
    assert_eq!(scaled, gradient.iter().map(|g| -8.0 * g).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "the bound needs an activation, got [0, 3, 4]")]
fn an_empty_activation_is_refused() {
    let empty = Tensor::<3>::zeros([0, 3, 4], &Device::default());
    InformationBoundConfig::new(1.0).with_batch_first(false).init().forward(empty);
}

#[test]
fn impossible_values_are_told() {
    assert_eq!(InformationBoundConfig::new(0.0).validate(), Ok(()));
    for eta in [-1e-4, f64::INFINITY, f64::NAN] {
        let message = InformationBoundConfig::new(eta).validate().unwrap_err().to_string();
        assert_eq!(message, format!("`eta` must be in [0, ∞), but is {eta}"));
    }
    for epsilon in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let config = InformationBoundConfig::new(1.0).with_epsilon(epsilon);
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(message, format!("`epsilon` must be in (0, ∞), but is {epsilon}"));
    }
}

#[test]
fn a_configuration_reads_back_as_written() {
    let config = InformationBoundConfig::new(1e-4).with_group(ExampleGroup::Minibatch);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(
        json,
        "{\"eta\":0.0001,\"epsilon\":0.001,\"terms\":\"trace_and_log_determinant\",\
         \"trace_factor\":\"corrected\",\"group\":\"minibatch\",\"batch_first\":true}"
    );
    assert_eq!(serde_json::from_str::<InformationBoundConfig>(&json).unwrap(), config);
}

#[test]
fn display_shows_the_whole_configuration() {
    assert_eq!(
        InformationBoundConfig::new(0.5).init().to_string(),
        "InformationBound {eta: 0.5, epsilon: 0.001, terms: trace_and_log_determinant, \
         trace_factor: corrected, group: time_step, batch_first: true}"
    );
}

//! The rivals of the activation norm penalty. Values and gradients against PyTorch in float64:
//! `reference/rivals.py` wrote `fixtures/rivals.json`. Then what holds for all of them.

use anp_core::{
    ActivationNormConfig, ConfidencePenaltyConfig, Darc1Config, LabelSmoothingConfig, Norm,
    NormStabilizerConfig, Reduction, TargetNormConfig, TemporalActivationNormConfig,
};
use anp_testing::{Array, TestDevice, assert_close, fixture, gradient, values};
use burn::tensor::{DType, Device, Int, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    activations: Vec<ActivationCase>,
    logits: Vec<LogitsCase>,
}

#[derive(Deserialize)]
struct ActivationCase {
    name: String,
    beta: f64,
    target: f64,
    activation: Array,
    temporal: Vec<Expected>,
    stabilizer: Vec<Expected>,
    target_norm: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(default = "l2sq")]
    norm: Norm,
    #[serde(default = "half_sum")]
    reduction: Reduction,
    value: f64,
    gradient: Vec<f64>,
}

fn l2sq() -> Norm {
    Norm::L2sq
}

fn half_sum() -> Reduction {
    Reduction::HalfSum
}

#[derive(Deserialize)]
struct LogitsCase {
    name: String,
    strength: f64,
    alpha: f64,
    logits: Array,
    targets: Array<i64>,
    counts: Array,
    terms: Terms,
}

#[derive(Deserialize)]
struct Terms {
    confidence: Expected,
    uniform: Expected,
    unigram: Expected,
    darc1: Expected,
    logit_norm: Expected,
}

/// The default device in both precisions.
fn devices() -> [TestDevice; 2] {
    let device = Device::default().autodiff();
    [DType::F32, DType::F64].map(|dtype| TestDevice { device: device.clone(), dtype })
}

/// Value and gradient of `term` at `input`.
#[track_caller]
fn check<const D: usize>(
    what: &str,
    input: Tensor<D>,
    term: impl Fn(Tensor<D>) -> Tensor<1>,
    expected: &Expected,
    tolerance: f64,
) {
    let input = input.require_grad();
    let value = term(input.clone());
    let gradient = gradient(&input, &value.backward());
    assert_eq!(value.dtype(), input.dtype(), "{what}");
    assert_close(what, &values(value), &[expected.value], tolerance);
    assert_close(what, &gradient, &expected.gradient, tolerance);
}

/// Sums of up to 60 numbers, with a few roundings each, and what is left where two norms or two
/// logits near 30 cancel to differences near 1.
const ROUNDINGS: f64 = 64.0;

#[test]
fn penalties_over_time_agree_with_pytorch_in_either_layout() {
    let cases = fixture::<Fixture>("rivals.json").activations;
    assert!(cases.len() >= 5, "a case is missing");
    for case in &cases {
        assert_eq!([case.temporal.len(), case.stabilizer.len()], [16, 4]);
        for device in &devices() {
            let tolerance = device.roundings(ROUNDINGS);
            // The sites of anp-models are time first; the other layout must give the same.
            for batch_first in [false, true] {
                let lay = |h: Tensor<3>| if batch_first { h.swap_dims(0, 1) } else { h };
                let what = format!("{}, batch_first: {batch_first}, {device:?}", case.name);
                for expected in &case.temporal {
                    let Expected { norm, reduction, .. } = *expected;
                    let penalty = TemporalActivationNormConfig::new(case.beta)
                        .with_norm(norm)
                        .with_reduction(reduction)
                        .with_batch_first(batch_first)
                        .init();
                    let what = format!("{what}, temporal {norm} {reduction}");
                    let h = case.activation.tensor(device);
                    check(&what, h, |h| penalty.forward(lay(h)), expected, tolerance);
                }
                for expected in &case.stabilizer {
                    let penalty = NormStabilizerConfig::new(case.beta)
                        .with_reduction(expected.reduction)
                        .with_batch_first(batch_first)
                        .init();
                    let what = format!("{what}, stabiliser {}", expected.reduction);
                    let h = case.activation.tensor(device);
                    check(&what, h, |h| penalty.forward(lay(h)), expected, tolerance);
                }
            }
        }
    }
}

#[test]
fn target_norms_agree_with_pytorch() {
    for case in &fixture::<Fixture>("rivals.json").activations {
        assert_eq!(case.target_norm.len(), 4);
        for device in &devices() {
            for expected in &case.target_norm {
                let penalty = TargetNormConfig::new(case.beta, case.target)
                    .with_reduction(expected.reduction)
                    .init();
                let what = format!("{}, {}, {device:?}", case.name, expected.reduction);
                let h = case.activation.tensor::<3>(device);
                check(&what, h, |h| penalty.forward(h), expected, device.roundings(ROUNDINGS));
            }
        }
    }
}

#[test]
fn terms_on_logits_agree_with_pytorch() {
    let cases = fixture::<Fixture>("rivals.json").logits;
    assert!(cases.len() >= 4, "a case is missing");
    for case in &cases {
        for device in &devices() {
            let tolerance = device.roundings(ROUNDINGS);
            let what = |term| format!("{}, {term}, {device:?}", case.name);
            let logits = || case.logits.tensor::<2>(device);
            let terms = &case.terms;

            let penalty = ConfidencePenaltyConfig::new(case.strength).init();
            let forward = |z| penalty.forward(z);
            check(&what("confidence"), logits(), forward, &terms.confidence, tolerance);

            let penalty = Darc1Config::new(case.strength).init();
            check(&what("DARC1"), logits(), |z| penalty.forward(z), &terms.darc1, tolerance);

            let penalty = ActivationNormConfig::new(case.strength).init();
            let forward = |z| penalty.forward(z);
            check(&what("logit norm"), logits(), forward, &terms.logit_norm, tolerance);

            let smoothing = LabelSmoothingConfig::new(case.alpha);
            let targets = case.targets.tensor::<1>(device);
            let uniform = smoothing.init();
            let forward = |z| uniform.forward(z, targets.clone());
            check(&what("uniform"), logits(), forward, &terms.uniform, tolerance);

            let unigram = smoothing.init_unigram(case.counts.tensor(device));
            let forward = |z| unigram.forward(z, targets.clone());
            check(&what("unigram"), logits(), forward, &terms.unigram, tolerance);
        }
    }
}

type Term = (&'static str, Box<dyn Fn(Tensor<3>) -> Tensor<1>>);

/// All penalties with the given strength, as functions of `[seq_length, batch_size, d_hidden]`.
fn terms(strength: f64) -> Vec<Term> {
    let rows = |z: Tensor<3>| z.flatten::<2>(0, 1);
    let targets = |z: &Tensor<3>| {
        let [seq_length, batch_size, num_classes] = z.dims();
        let tokens = Tensor::<1, Int>::arange(0..(seq_length * batch_size) as i64, &z.device());
        tokens.remainder_scalar(num_classes as i64)
    };
    let temporal = TemporalActivationNormConfig::new(strength).with_batch_first(false).init();
    let stabilizer = NormStabilizerConfig::new(strength).with_batch_first(false).init();
    let target = TargetNormConfig::new(strength, 1.0).init();
    let confidence = ConfidencePenaltyConfig::new(strength).init();
    let darc1 = Darc1Config::new(strength).init();
    let norm = ActivationNormConfig::new(strength).init();
    let smoothing = LabelSmoothingConfig::new(strength);
    let uniform = smoothing.init();
    vec![
        ("temporal", Box::new(move |h| temporal.forward(h))),
        ("stabiliser", Box::new(move |h| stabilizer.forward(h))),
        ("target norm", Box::new(move |h| target.forward(h))),
        ("confidence", Box::new(move |h| confidence.forward(rows(h)))),
        ("DARC1", Box::new(move |h| darc1.forward(rows(h)))),
        ("norm", Box::new(move |h| norm.forward(h))),
        ("uniform smoothing", Box::new(move |h| uniform.forward(rows(h.clone()), targets(&h)))),
        (
            "unigram smoothing",
            Box::new(move |h| {
                let [_, _, num_classes] = h.dims();
                let counts = Tensor::<1, Int>::arange(0..num_classes as i64, &h.device()).float();
                smoothing.init_unigram(counts).forward(rows(h.clone()), targets(&h))
            }),
        ),
    ]
}

/// Half precision cannot hold the sums (up to 2e8), and a sum in it stops growing at 2048 times its
/// terms. What is computed is that of single precision, exactly; only gradients are rounded.
#[test]
fn half_precision_is_only_that_of_inputs_and_gradients() {
    let device = Device::default().autodiff();
    let shape = [16, 8, 512];
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|i: usize| 60.0 * (i as f32 * 0.37).sin() * (0.1 + (i % 7) as f32 / 7.0))
        .collect();
    for dtype in [DType::F16, DType::BF16] {
        let half = || {
            let data = burn::tensor::TensorData::new(data.clone(), shape);
            Tensor::<3>::from_data(data, (&device, dtype))
        };
        for (name, term) in terms(0.9) {
            let what = format!("{name}, {dtype:?}");
            let narrow = half().require_grad();
            let wide = half().cast(DType::F32).detach().require_grad();
            let [value, expected] = [&narrow, &wide].map(|h| term(h.clone()));
            assert_eq!(value.dtype(), DType::F32, "{what}");
            let gradient = narrow.grad(&value.backward()).expect("a leaf");
            let expected_gradient = wide.grad(&expected.backward()).expect("a leaf").cast(dtype);
            let value = value.into_scalar::<f64>();
            assert!(value.is_finite() && value != 0.0, "{what}: {value}");
            assert_eq!(value, expected.into_scalar::<f64>(), "{what}");
            assert_eq!(gradient.dtype(), dtype, "{what}");
            let gradient = values(gradient);
            assert!(gradient.iter().all(|g| g.is_finite()), "{what}");
            assert!(gradient.iter().any(|g| *g != 0.0), "{what}");
            assert_eq!(gradient, values(expected_gradient), "{what}");
        }
    }
}

#[test]
fn strength_zero_is_exactly_zero_and_keeps_the_loss_gradient() {
    let device = Device::default().autodiff();
    for (name, term) in terms(0.0) {
        for dtype in [DType::F16, DType::F32, DType::F64] {
            let bad = Tensor::<3>::full([2, 1, 3], f64::NAN, (&device, dtype));
            assert_eq!(values(term(bad)), [0.0], "{name}");
        }
        let h = Tensor::<3>::ones([2, 1, 3], &device).require_grad();
        let loss = h.clone().sum() + term(h.clone());
        assert_eq!(gradient(&h, &loss.backward()), [1.0; 6], "{name}");
    }
}

#[test]
fn a_value_that_is_not_finite_shows_in_every_term() {
    let device = Device::default();
    for (name, term) in terms(0.5) {
        let bad = Tensor::<3>::full([2, 1, 3], f64::NAN, &device);
        assert!(values(term(bad))[0].is_nan(), "{name}");
    }
}

/// A sign or a factor of 2 in a gradient shows here, whatever the reference says.
#[test]
fn gradients_agree_with_finite_differences() {
    let device = TestDevice { device: Device::default().autodiff(), dtype: DType::F64 };
    let shape = [3, 2, 4];
    for (name, term) in terms(0.5) {
        let h = device.random(5, shape, 1.0).require_grad();
        let gradient = gradient(&h, &term(h.clone()).backward());
        let loss = |point| term(device.tensor(point, shape)).into_scalar::<f64>();
        anp_testing::compare::assert_gradient(name, &values(h), &gradient, loss);
    }
}

/// A mean does not change when the minibatch is repeated: β means the same at each batch size. The
/// activation norm's default is a sum.
#[test]
fn repeating_the_minibatch_changes_no_mean() {
    let device = TestDevice { device: Device::default(), dtype: DType::F64 };
    let h = device.random::<3>(6, [3, 4, 4], 2.0);
    let twice = Tensor::cat(vec![h.clone(), h.clone()], 1);
    for (name, term) in terms(0.5).into_iter().filter(|(name, _)| *name != "norm") {
        // Targets go round, and 4 streams of 4 classes put each stream's in the same place.
        let [once, more] = [&h, &twice].map(|h| values(term(h.clone())));
        assert_close(name, &more, &once, 1e-14);
    }
}

/// Windows of one step are the rest of a corpus: nothing changes in them.
#[test]
fn a_single_step_has_no_penalty_over_time() {
    let device = Device::default().autodiff();
    let h = Tensor::<3>::ones([4, 1, 3], &device).require_grad();
    let temporal = TemporalActivationNormConfig::new(1.0).init();
    let stabilizer = NormStabilizerConfig::new(1.0).init();
    for value in [temporal.forward(h.clone()), stabilizer.forward(h.clone())] {
        let loss = value.clone() + h.clone().sum();
        assert_eq!(values(value), [0.0]);
        assert_eq!(gradient(&h, &loss.backward()), [1.0; 12]);
    }
}

#[test]
fn silent_states_cost_what_they_should_and_get_finite_gradients() {
    let device = Device::default().autodiff();
    let h = Tensor::<3>::from_data([[[0.0_f32, 0.0], [3.0, 4.0], [0.0, 0.0]]], &device);
    let h = h.require_grad();
    let value = NormStabilizerConfig::new(1.0).init().forward(h.clone());
    assert_eq!(values(value.clone()), [25.0]); // (25 + 25) / 2
    // ∂/∂h₁ = 2 · 5 · (h₁/5) from either side, halved; that of a zero state is taken to be 0.
    assert_eq!(gradient(&h, &value.backward()), [0.0, 0.0, 6.0, 8.0, 0.0, 0.0]);

    let value = TargetNormConfig::new(1.0, 2.0).init().forward(h.clone());
    assert_close("value", &values(value.clone()), &[17.0 / 3.0], 1e-6); // (4 + 9 + 4) / 3
    let expected = [0.0, 0.0, 6.0 / 5.0, 8.0 / 5.0, 0.0, 0.0]; // 2/3 · 3 · h/5
    assert_close("gradient", &gradient(&h, &value.backward()), &expected, 1e-6);
}

#[test]
fn a_target_of_zero_is_the_squared_norm() {
    let device = TestDevice { device: Device::default(), dtype: DType::F64 };
    let h = device.random::<3>(7, [3, 2, 4], 1.0);
    for reduction in Reduction::ALL {
        let target = TargetNormConfig::new(0.3, 0.0).with_reduction(reduction).init();
        let norm = ActivationNormConfig::new(0.3).with_reduction(reduction).init();
        let [value, expected] = [target.forward(h.clone()), norm.forward(h.clone())].map(values);
        assert_close(reduction.name(), &value, &expected, 1e-14);
    }
}

/// Norms of root mean squares: the mean over elements at any width is that of one feature.
#[test]
fn mean_elements_is_the_stabiliser_of_root_mean_squares() {
    let device = TestDevice { device: Device::default(), dtype: DType::F64 };
    let h = device.random::<3>(8, [2, 5, 7], 1.0);
    let config = NormStabilizerConfig::new(0.3).with_reduction(Reduction::MeanElements);
    let rms = h.clone().square().mean_dim(2).sqrt();
    let [value, expected] = [h, rms].map(|h| values(config.init().forward(h)));
    assert_close("value", &value, &expected, 1e-13);
}

#[test]
fn classes_may_be_excluded_from_the_entropy() {
    let device = Device::default().autodiff();
    let excluded = f32::NEG_INFINITY;
    let logits = Tensor::<2>::from_data([[0.0, excluded, 0.0], [9.0, excluded, excluded]], &device);
    let logits = logits.require_grad();
    let value = ConfidencePenaltyConfig::new(1.0).init().forward(logits.clone());
    assert_close("value", &values(value.clone()), &[-(2.0_f64.ln()) / 2.0], 1e-6);
    assert_eq!(gradient(&logits, &value.backward()), [0.0; 6]);
}

/// Confidence grows to certainty, whose entropy is 0 and has no infinite gradient.
#[test]
fn certainty_has_no_entropy_and_a_finite_gradient() {
    let device = Device::default().autodiff();
    let logits = Tensor::<2>::from_data([[3e4_f32, -3e4, 0.0]], &device).require_grad();
    let value = ConfidencePenaltyConfig::new(2.0).init().forward(logits.clone());
    assert_eq!(values(value.clone()), [0.0]);
    assert_eq!(gradient(&logits, &value.backward()), [0.0; 3]);
}

/// What label smoothing is for: with it, the loss has its minimum where the prediction is the
/// smoothed target, at a finite distance of the target's logit from the others, ln((1−α)V/α + 1).
#[test]
fn smoothing_moves_the_optimum_to_the_smoothed_target() {
    let device = TestDevice { device: Device::default().autodiff(), dtype: DType::F64 };
    let (alpha, classes) = (0.2, 5.0);
    let best = ((1.0 - alpha) * classes / alpha + 1.0_f64).ln();
    let targets = Tensor::<1, Int>::from_data([0], &device.device);
    let smoothing = LabelSmoothingConfig::new(alpha).init();
    let logits = device.tensor(vec![best, 0.0, 0.0, 0.0, 0.0], [1, 5]).require_grad();
    let nll = burn::tensor::activation::log_softmax(logits.clone(), 1).narrow(1, 0, 1).sum().neg();
    let loss = nll + smoothing.forward(logits.clone(), targets);
    assert!(gradient(&logits, &loss.backward()).iter().all(|g| g.abs() < 1e-15));
}

#[test]
fn unigram_smoothing_with_equal_counts_is_uniform() {
    let device = TestDevice { device: Device::default(), dtype: DType::F64 };
    let logits = device.random::<2>(9, [6, 4], 3.0);
    let targets = Tensor::<1, Int>::from_data([0, 1, 2, 3, 0, 1], &device.device);
    let config = LabelSmoothingConfig::new(0.1);
    let uniform = config.init().forward(logits.clone(), targets.clone());
    let unigram = config.init_unigram(device.tensor(vec![7.0; 4], [4])).forward(logits, targets);
    assert_close("unigram", &values(unigram), &values(uniform), 1e-14);
}

#[test]
#[should_panic(expected = "the unigram distribution is of 2 classes, the logits of 3")]
fn a_unigram_distribution_of_other_classes_is_refused() {
    let device = Device::default();
    let smoothing = LabelSmoothingConfig::new(0.1).init_unigram(Tensor::ones([2], &device));
    smoothing.forward(Tensor::zeros([1, 3], &device), Tensor::zeros([1], &device));
}

#[test]
#[should_panic(expected = "needs counts, got a sum of 0")]
fn a_unigram_distribution_of_nothing_is_refused() {
    LabelSmoothingConfig::new(0.1).init_unigram(Tensor::zeros([2], &Device::default()));
}

#[test]
#[should_panic(expected = "needs an activation, got the shape [0, 4]")]
fn no_logits_are_refused() {
    let logits = Tensor::<2>::zeros([0, 4], &Device::default());
    ConfidencePenaltyConfig::new(1.0).init().forward(logits);
}

#[test]
#[should_panic(expected = "needs an activation, got the shape [0, 1, 4]")]
fn no_stream_is_refused() {
    let activation = Tensor::<3>::zeros([0, 2, 4], &Device::default());
    NormStabilizerConfig::new(1.0).init().forward(activation);
}

#[test]
fn impossible_values_are_told() {
    for bad in [-1.0, f64::INFINITY, f64::NAN] {
        let strength = |name| Err(format!("`{name}` must be in [0, ∞), but is {bad}"));
        let told =
            |result: Result<(), anp_core::HyperParamError>| result.map_err(|e| e.to_string());
        assert_eq!(told(TemporalActivationNormConfig::new(bad).validate()), strength("beta"));
        assert_eq!(told(NormStabilizerConfig::new(bad).validate()), strength("beta"));
        assert_eq!(told(TargetNormConfig::new(bad, 1.0).validate()), strength("beta"));
        assert_eq!(told(TargetNormConfig::new(1.0, bad).validate()), strength("target"));
        assert_eq!(told(ConfidencePenaltyConfig::new(bad).validate()), strength("beta"));
        assert_eq!(told(Darc1Config::new(bad).validate()), strength("lambda"));
    }
    for bad in [-0.1, 1.0, f64::NAN] {
        let message = LabelSmoothingConfig::new(bad).validate().unwrap_err().to_string();
        assert_eq!(message, format!("`alpha` must be in [0, 1), but is {bad}"));
    }
    assert_eq!(LabelSmoothingConfig::new(0.0).validate(), Ok(()));
    assert_eq!(TargetNormConfig::new(0.0, 0.0).validate(), Ok(()));
}

#[test]
fn configurations_read_back_as_written() {
    let config = TemporalActivationNormConfig::new(1.0);
    let json = serde_json::to_string(&config).unwrap();
    let expected = r#"{"beta":1.0,"norm":"l2sq","reduction":"mean_elements","batch_first":true}"#;
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_str::<TemporalActivationNormConfig>(&json).unwrap(), config);

    let config = NormStabilizerConfig::new(50.0).with_batch_first(false);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"beta":50.0,"reduction":"per_token","batch_first":false}"#);
    assert_eq!(serde_json::from_str::<NormStabilizerConfig>(&json).unwrap(), config);

    let config = TargetNormConfig::new(1.0, 5.0);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(json, r#"{"beta":1.0,"target":5.0,"reduction":"per_token"}"#);
    assert_eq!(serde_json::from_str::<TargetNormConfig>(&json).unwrap(), config);
}

#[test]
fn displays_show_the_whole_configuration() {
    let device = Device::default();
    let smoothing = LabelSmoothingConfig::new(0.1);
    for (shown, expected) in [
        (
            TemporalActivationNormConfig::new(0.5).init().to_string(),
            "TemporalActivationNorm {beta: 0.5, norm: l2sq, reduction: mean_elements, \
             batch_first: true}",
        ),
        (
            NormStabilizerConfig::new(0.5).init().to_string(),
            "NormStabilizer {beta: 0.5, reduction: per_token, batch_first: true}",
        ),
        (
            TargetNormConfig::new(0.5, 5.0).init().to_string(),
            "TargetNorm {beta: 0.5, target: 5, reduction: per_token}",
        ),
        (ConfidencePenaltyConfig::new(2.0).init().to_string(), "ConfidencePenalty {beta: 2}"),
        (Darc1Config::new(0.01).init().to_string(), "Darc1 {lambda: 0.01}"),
        (smoothing.init().to_string(), "LabelSmoothing {alpha: 0.1, prior: uniform}"),
        (
            smoothing.init_unigram(Tensor::ones([3], &device)).to_string(),
            "LabelSmoothing {alpha: 0.1, prior: unigram}",
        ),
    ] {
        assert_eq!(shown, expected);
    }
}

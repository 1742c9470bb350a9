//! Estimators against independent ones: `reference/estimators.py` wrote `fixtures/estimators.json`
//! with PyTorch in float64, `reference/estimators_bmi.py` wrote `fixtures/estimators_bmi.json` with
//! the BMI benchmark and scikit-learn.

use anp_core::estimators::{
    BinningConfig, Bound, CriticBound, Estimate, GaussianMixture, KsgConfig, Method,
};
use anp_testing::{Array, TestDevice, assert_close, fixture, gradient, values};
use burn::tensor::{DType, Device, Int, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    mixtures: Vec<MixtureCase>,
    scores: Vec<ScoreCase>,
}

#[derive(Deserialize)]
struct MixtureCase {
    name: String,
    means: Array,
    variances: Array,
    labels: Array<i64>,
    noise_std: Option<f64>,
    input_lower: Expected,
    input_upper: Expected,
    label_lower: Expected,
    label_upper: Expected,
    true_input: f64,
    true_input_error: f64,
    true_label: f64,
    true_label_error: f64,
}

#[derive(Deserialize)]
struct Expected {
    nats: f64,
    standard_error: f64,
}

#[derive(Deserialize)]
struct ScoreCase {
    name: String,
    scores: Array,
    estimates: Vec<EstimateCase>,
    jensen_shannon_loss: ValueAndGradient,
}

#[derive(Deserialize)]
struct EstimateCase {
    bound: String,
    #[serde(flatten)]
    expected: ValueAndGradient,
}

#[derive(Deserialize)]
struct ValueAndGradient {
    value: f64,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
struct BmiFixture {
    cases: Vec<BmiCase>,
}

#[derive(Deserialize)]
struct BmiCase {
    name: String,
    information: f64,
    x: Array,
    t: Array,
    neighbors: Vec<usize>,
    ksg: Vec<f64>,
    ksg_unscaled: Vec<f64>,
    #[serde(flatten)]
    bins: Option<BinCase>,
}

#[derive(Deserialize)]
struct BinCase {
    histogram_bins: usize,
    histogram: f64,
    labels: Vec<i64>,
    label_information: f64,
}

fn in_double_precision() -> TestDevice {
    TestDevice { device: Device::default(), dtype: DType::F64 }
}

#[track_caller]
fn check_estimate(what: &str, actual: &Estimate, expected: &Expected, bound: Bound) {
    // Sums of tens of numbers of order one, both sides in double precision; the distances from the
    // origin, 100 with a noise of 0.3, amplify nothing, because they are never squared.
    assert_close(what, &[actual.nats], &[expected.nats], 1e-11);
    let standard_error = actual.standard_error.expect("there are seven examples");
    assert_close(what, &[standard_error], &[expected.standard_error], 1e-11);
    assert_eq!((actual.bound, actual.method), (bound, Method::PairwiseDistances), "{what}");
    assert_eq!(actual.num_units, 7, "{what}");
}

#[test]
fn bounds_by_distances_agree_with_pytorch_and_enclose_the_information() {
    let cases = fixture::<Fixture>("estimators.json").mixtures;
    assert!(cases.len() >= 5, "a case is missing");
    let device = in_double_precision();
    for case in &cases {
        let what = &case.name;
        let [means, variances] = [&case.means, &case.variances].map(|it| it.tensor(&device));
        let labels = case.labels.tensor::<1>(&device);
        let mut mixtures = vec![GaussianMixture::diagonal(means.clone(), variances)];
        if let Some(noise_std) = case.noise_std {
            mixtures.push(GaussianMixture::isotropic(means, noise_std).unwrap());
        }
        for mixture in mixtures {
            let input = mixture.input_information();
            check_estimate(what, &input.lower, &case.input_lower, Bound::Lower);
            check_estimate(what, &input.upper, &case.input_upper, Bound::Upper);
            let label = mixture.label_information(labels.clone());
            check_estimate(what, &label.lower, &case.label_lower, Bound::Lower);
            check_estimate(what, &label.upper, &case.label_upper, Bound::Upper);

            // The reference is a mean of samples: five of its standard errors.
            let [slack, label_slack] =
                [case.true_input_error, case.true_label_error].map(|e| 5.0 * e);
            assert!(input.lower.nats <= case.true_input + slack, "{what}");
            assert!(input.upper.nats >= case.true_input - slack, "{what}");
            assert!(label.lower.nats <= case.true_label + label_slack, "{what}");
            assert!(label.upper.nats >= case.true_label - label_slack, "{what}");
        }
    }
}

fn critic_bound(name: &str) -> CriticBound {
    match name {
        "info_nce" => CriticBound::InfoNce,
        "nwj" => CriticBound::Nwj,
        "donsker_varadhan" => CriticBound::DonskerVaradhan,
        "smile_1" => CriticBound::Smile { clip: 1.0 },
        "smile_5" => CriticBound::Smile { clip: 5.0 },
        _ => panic!("{name}: no such bound"),
    }
}

fn check_scores(
    what: &str,
    function: impl Fn(Tensor<2>) -> Tensor<1>,
    scores: &Array,
    expected: &ValueAndGradient,
    device: &TestDevice,
) {
    let scores = scores.tensor::<2>(device).require_grad();
    let value = function(scores.clone());
    let gradient = gradient(&scores, &value.backward());
    assert_eq!(value.dims(), [1], "{what}");
    assert_eq!(value.dtype(), device.dtype, "{what}");
    // The exponential of a score is off by as many roundings as the score is large, here up to 20.
    let tolerance = device.roundings(64.0);
    // A difference of numbers of order one or more, which cancel where the critic knows nothing.
    let value = [values(value), vec![1.0]].concat();
    assert_close(what, &value, &[expected.value, 1.0], tolerance);
    // Differences of weights 1/N, which cancel where the critic is near its best.
    let weight = 1.0 / scores.dims()[0] as f64;
    let [gradient, expected] =
        [&gradient, &expected.gradient].map(|it| [&[weight], &it[..]].concat());
    assert_close(what, &gradient, &expected, tolerance);
}

#[test]
fn critic_bounds_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("estimators.json").scores;
    assert!(cases.len() >= 5, "a case is missing");
    let device = Device::default().autodiff();
    for dtype in [DType::F32, DType::F64] {
        let device = TestDevice { device: device.clone(), dtype };
        for case in &cases {
            assert_eq!(case.estimates.len(), 5, "{}", case.name);
            for EstimateCase { bound: name, expected } in &case.estimates {
                let what = format!("{}, {name}, {dtype:?}", case.name);
                let bound = critic_bound(name);
                check_scores(&what, |scores| bound.value(scores), &case.scores, expected, &device);
                if matches!(bound, CriticBound::Smile { .. }) {
                    let expected = &case.jensen_shannon_loss;
                    let loss = |scores| bound.loss(scores);
                    check_scores(&what, loss, &case.scores, expected, &device);
                } else {
                    let loss = |scores| bound.loss(scores).neg();
                    check_scores(&what, loss, &case.scores, expected, &device);
                }
            }
        }
    }
}

#[test]
fn ksg_and_binning_agree_with_the_bmi_benchmark() {
    let cases = fixture::<BmiFixture>("estimators_bmi.json").cases;
    assert!(cases.len() >= 7, "a case is missing");
    let device = in_double_precision();
    let mut num_binned = 0;
    for case in &cases {
        let [x, t] = [&case.x, &case.t].map(|samples| samples.tensor::<2>(&device));
        for (standardize, expected) in [(true, &case.ksg), (false, &case.ksg_unscaled)] {
            for (&num_neighbors, &expected) in case.neighbors.iter().zip(expected) {
                let config = KsgConfig::new().with_num_neighbors(num_neighbors);
                let ksg = config.with_standardize(standardize).with_max_parts(1).init();
                let estimate = ksg.estimate(x.clone(), t.clone());
                let what = format!("{}, k = {num_neighbors}", case.name);
                // Counts are whole numbers: one neighbour more or less would be 1e-5 at least.
                assert!((estimate.nats.max(0.0) - expected).abs() < 1e-12, "{what}: {estimate:?}");
                assert_eq!(estimate.standard_error, None, "{what}");
            }
        }
        let Some(bins) = &case.bins else { continue };
        num_binned += 1;
        let binning = BinningConfig::new().with_num_bins(bins.histogram_bins).init();
        let estimate = binning.information(x, t.clone()).nats;
        assert!((estimate - bins.histogram).abs() < 1e-12, "{}: {estimate}", case.name);
        let labels = Tensor::<1, Int>::from_data(bins.labels.as_slice(), &device.device);
        let estimate = binning.label_information(t, labels).nats;
        assert!((estimate - bins.label_information).abs() < 1e-12, "{}: {estimate}", case.name);
    }
    assert!(num_binned >= 4, "a case is missing");
    // Not every task is one that the estimator solves.
    let error = |case: &BmiCase| (case.ksg[1] - case.information).abs();
    assert!(error(&cases[1]) < 0.1 && error(&cases[5]) > 0.5);
}

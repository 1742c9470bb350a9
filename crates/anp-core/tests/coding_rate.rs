//! Values and gradients of coding rates against PyTorch in float64, which
//! `reference/information_bound.py` wrote to `fixtures/coding_rate.json`, and against closed forms.

use anp_core::{class_coding_rate, coding_rate, coding_rate_reduction};
use anp_testing::{Array, TestDevice, assert_close, assert_gradient, fixture, noise, values};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    rates: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    epsilon_squared: f64,
    num_classes: usize,
    features: Array,
    labels: Array<i64>,
    rate: f64,
    rate_gradient: Array,
    class_rate: f64,
    class_rate_gradient: Array,
}

/// The default device in both precisions.
fn devices() -> [TestDevice; 2] {
    let device = Device::default().autodiff();
    [DType::F32, DType::F64].map(|dtype| TestDevice { device: device.clone(), dtype })
}

/// Value and gradient, row by row.
fn both(features: Tensor<2>, forward: impl Fn(Tensor<2>) -> Tensor<1>) -> (f64, Vec<f64>) {
    let features = features.require_grad();
    let value = forward(features.clone());
    let gradient = features.grad(&value.backward()).expect("the features are a leaf");
    (values(value)[0], values(gradient))
}

/// Everything is computed in double precision, and rounded at the end and in the backward pass.
fn tolerance(device: &TestDevice) -> f64 {
    // The largest condition of a fixture is 1e5.
    device.roundings(4.0).max(64.0 * f64::EPSILON * 1e5)
}

#[test]
fn rates_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("coding_rate.json").rates;
    assert!(cases.len() >= 6, "a case is missing");
    for case in &cases {
        let Case { name, epsilon_squared, num_classes, features, labels, .. } = case;
        for device in &devices() {
            let what = format!("{name}, {device:?}");
            let features = || features.tensor::<2>(device);
            let labels = || labels.tensor::<1>(device);

            let (rate, gradient) = both(features(), |z| coding_rate(z, *epsilon_squared));
            assert_close(&what, &[rate], &[case.rate], tolerance(device));
            assert_close(&what, &gradient, &case.rate_gradient.data, tolerance(device));

            let (rate, gradient) = both(features(), |z| {
                class_coding_rate(z, labels(), *num_classes, *epsilon_squared)
            });
            assert_close(&what, &[rate], &[case.class_rate], tolerance(device));
            assert_close(&what, &gradient, &case.class_rate_gradient.data, tolerance(device));

            // A difference has the rounding errors of its terms.
            let (reduction, gradient) = both(features(), |z| {
                coding_rate_reduction(z, labels(), *num_classes, *epsilon_squared)
            });
            let largest = case.rate.max(1e-30);
            let errors = [(reduction - (case.rate - case.class_rate)) / largest];
            assert_close(&what, &[1.0 + errors[0]], &[1.0], tolerance(device));
            let terms = case.rate_gradient.data.iter().zip(&case.class_rate_gradient.data);
            let largest =
                terms.clone().fold(1e-30, |max: f64, (a, b)| max.max(a.abs()).max(b.abs()));
            for (actual, (all, class)) in gradient.iter().zip(terms) {
                let error = (actual - (all - class)).abs() / largest;
                assert!(error <= tolerance(device), "{what}: {error:e}");
            }
        }
    }
}

/// Unit features of 8 classes in orthogonal subspaces of 16 dimensions, evenly spread in each:
/// R = 64 ln 3, R_c = 8 ln 17, and ΔR = 47.645 nats.
#[test]
fn classes_in_orthogonal_subspaces_have_the_closed_form() {
    for device in &devices() {
        for copies in [1, 3] {
            let features = Tensor::<2>::eye(128, &device.device).cast(device.dtype);
            let features = features.repeat_dim(0, copies);
            let basis = values(features.clone());
            let labels = Tensor::<1, Int>::arange(0..128, &device.device).div_scalar(16);
            let labels = labels.repeat_dim(0, copies);
            let rate = values(coding_rate(features.clone(), 0.5));
            let classes = values(class_coding_rate(features.clone(), labels.clone(), 8, 0.5));
            let (reduction, gradient) =
                both(features, |z| coding_rate_reduction(z, labels.clone(), 8, 0.5));

            let [expected_rate, expected_classes] = [64.0 * 3_f64.ln(), 8.0 * 17_f64.ln()];
            // 128 logarithms in double precision, and a rounding to the type of the device.
            let tolerance = device.roundings(2.0).max(128.0 * f64::EPSILON);
            assert_close("R", &rate, &[expected_rate], tolerance);
            assert_close("R_c", &classes, &[expected_classes], tolerance);
            let expected = expected_rate - expected_classes;
            assert_close("ΔR", &[reduction], &[expected], 2.0 * tolerance);
            assert!((reduction - 47.645).abs() < 5e-4, "{reduction}");

            // Along each feature, so that no turn of one improves the reduction: the optimum.
            let along = (2.0 / 3.0 - 2.0 / 17.0) / copies as f64;
            let expected: Vec<f64> = basis.iter().map(|x| along * x).collect();
            assert_close("gradient", &gradient, &expected, 2.0 * tolerance);
        }
    }
}

#[test]
fn classes_never_cost_more_than_the_whole_and_one_class_as_much() {
    let device = &devices()[1];
    let features = device.random::<2>(4, [40, 6], 1.0);
    let reduction = |num_classes: i64| {
        let labels = Tensor::<1, Int>::arange(0..40, &device.device);
        let labels = labels.remainder_scalar(num_classes);
        values(coding_rate_reduction(features.clone(), labels, 9, 0.3))[0]
    };
    assert!(reduction(1).abs() < 1e-13, "{}", reduction(1));
    for num_classes in [2, 3, 9] {
        assert!(reduction(num_classes) > 0.01, "{num_classes} classes: {}", reduction(num_classes));
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let device = &devices()[1];
    for shape @ [num_examples, num_features] in [[4, 6], [10, 3]] {
        let labels =
            || Tensor::<1, Int>::arange(0..num_examples as i64, &device.device).remainder_scalar(2);
        let point = noise(8)(num_examples * num_features);
        let tensor = |point| device.tensor(point, shape);

        let rate = |z| coding_rate(z, 0.5);
        let (_, gradient) = both(tensor(point.clone()), rate);
        assert_gradient("R", &point, &gradient, |x| values(rate(tensor(x)))[0]);

        let reduction = |z| coding_rate_reduction(z, labels(), 2, 0.5);
        let (_, gradient) = both(tensor(point.clone()), reduction);
        assert_gradient("ΔR", &point, &gradient, |x| values(reduction(tensor(x)))[0]);
    }
}

#[test]
fn half_precision_is_summed_in_single() {
    let device = &devices()[0];
    for (float, digits) in
        [(FloatDType::F16, 2.0_f64.powi(-11)), (FloatDType::BF16, 2.0_f64.powi(-8))]
    {
        let narrow = device.random::<2>(5, [12, 8], 1.0).cast(float);
        let rate = |z: Tensor<2>| {
            let labels = Tensor::<1, Int>::arange(0..12, &device.device).remainder_scalar(3);
            coding_rate_reduction(z, labels, 3, 0.5)
        };
        assert_eq!(rate(narrow.clone()).dtype(), DType::F32);
        let (expected, expected_gradient) = both(narrow.clone().cast(FloatDType::F32), rate);
        let (value, gradient) = both(narrow, rate);
        assert_eq!(value, expected);
        assert_close(&format!("{float:?}"), &gradient, &expected_gradient, digits);
        assert!(gradient.iter().all(|&g| g != 0.0));
    }
}

#[test]
fn a_value_that_is_not_finite_shows_in_the_rate() {
    for device in [Device::default(), Device::default().autodiff()] {
        for bad in [f32::NAN, f32::INFINITY] {
            let features = Tensor::<2>::from_data([[1.0, 2.0], [bad, 1.0], [0.0, 1.0]], &device);
            let rate = values(coding_rate(features, 0.5))[0];
            assert!(rate.is_nan(), "{bad}: {rate}");
        }
    }
}

fn features() -> Tensor<2> {
    Tensor::ones([3, 2], &Device::default())
}

fn labels(labels: &[i64]) -> Tensor<1, Int> {
    Tensor::from_data(labels, &Device::default())
}

#[test]
#[should_panic(expected = "`epsilon_squared` must be in (0, ∞), but is 0")]
fn an_error_of_zero_is_refused() {
    coding_rate(features(), 0.0);
}

#[test]
#[should_panic(expected = "a coding rate needs features, got the shape [0, 4]")]
fn empty_features_are_refused() {
    coding_rate(Tensor::zeros([0, 4], &Device::default()), 0.5);
}

#[test]
#[should_panic(expected = "2 labels for 3 examples")]
fn a_missing_label_is_told() {
    class_coding_rate(features(), labels(&[0, 1]), 2, 0.5);
}

#[test]
#[should_panic(expected = "the label 2 is not in 0..2")]
fn a_label_without_a_class_is_told() {
    coding_rate_reduction(features(), labels(&[0, 2, 1]), 2, 0.5);
}

#[test]
#[should_panic(expected = "the label -1 is not in 0..2")]
fn a_negative_label_is_told() {
    coding_rate_reduction(features(), labels(&[0, -1, 1]), 2, 0.5);
}

//! Values and gradients against PyTorch in float64: `reference/penalty.py` wrote
//! `fixtures/penalty.json`.

use anp_core::{ActivationNormConfig, Norm, Reduction, look_up_word_mask};
use anp_testing::{Array, TestDevice, assert_close, fixture, gradient, values};
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    penalties: Vec<PenaltyCase>,
    masks: Vec<MaskCase>,
    word_masks: Vec<WordMaskCase>,
}

#[derive(Deserialize)]
struct PenaltyCase {
    name: String,
    eta: f64,
    activation: Array,
    results: Vec<PenaltyResult>,
}

#[derive(Deserialize)]
struct PenaltyResult {
    norm: Norm,
    reduction: Reduction,
    value: f64,
    gradient: Vec<f64>,
}

#[derive(Deserialize)]
struct MaskCase {
    name: String,
    activation: Array,
    mask: Array,
    upstream: Array,
    output: Array,
    gradient: Array,
}

#[derive(Deserialize)]
struct WordMaskCase {
    words: Array,
    tokens: Array<i64>,
    #[serde(flatten)]
    case: MaskCase,
}

/// The default device in both precisions.
fn devices() -> [TestDevice; 2] {
    let device = Device::default().autodiff();
    [DType::F32, DType::F64].map(|dtype| TestDevice { device: device.clone(), dtype })
}

/// Sums of up to 60 numbers, with a few roundings each; in double precision the fixture's own
/// roundings, in another order.
fn tolerance(device: &TestDevice) -> f64 {
    device.roundings(32.0)
}

/// Value and gradient of every result of `case`, whose activation has D dimensions.
fn check_penalty<const D: usize>(case: &PenaltyCase, device: &TestDevice) {
    for result in &case.results {
        let what = format!("{}, {}, {}, {device:?}", case.name, result.norm, result.reduction);
        let penalty = ActivationNormConfig::new(case.eta)
            .with_norm(result.norm)
            .with_reduction(result.reduction)
            .init();
        let activation = case.activation.tensor::<D>(device).require_grad();
        let value = penalty.forward(activation.clone());
        let gradient = gradient(&activation, &value.backward());
        assert_eq!(value.dtype(), device.dtype, "{what}");
        assert_close(&what, &values(value), &[result.value], tolerance(device));
        assert_close(&what, &gradient, &result.gradient, tolerance(device));
    }
}

#[test]
fn penalties_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture::<Fixture>("penalty.json").penalties;
    assert!(cases.len() >= 6, "a case is missing");
    for case in &cases {
        assert_eq!(case.results.len(), 16, "four norms times four reductions");
        for device in &devices() {
            match case.activation.shape.len() {
                2 => check_penalty::<2>(case, device),
                3 => check_penalty::<3>(case, device),
                rank => panic!("{}: no test for rank {rank}", case.name),
            }
        }
    }
}

/// Output and gradient of the product with `mask`.
fn check_mask(case: &MaskCase, mask: Tensor<3>, device: &TestDevice) {
    let activation = case.activation.tensor::<3>(device).require_grad();
    let output = activation.clone() * mask;
    case.output.assert_close(&case.name, output.clone(), tolerance(device));
    let loss = (output * case.upstream.tensor(device)).sum();
    let gradient = activation.grad(&loss.backward()).expect("the activation is a leaf");
    case.gradient.assert_close(&case.name, gradient, tolerance(device));
}

#[test]
fn given_masks_act_as_in_pytorch() {
    let cases = fixture::<Fixture>("penalty.json").masks;
    assert!(cases.len() >= 3, "a case is missing");
    for case in &cases {
        for device in &devices() {
            check_mask(case, case.mask.tensor(device), device);
        }
    }
}

#[test]
fn word_masks_are_looked_up_as_in_pytorch() {
    let cases = fixture::<Fixture>("penalty.json").word_masks;
    assert!(cases.len() >= 2, "a case is missing");
    for WordMaskCase { words, tokens, case } in &cases {
        for device in &devices() {
            let tokens = tokens.tensor::<2>(device);
            let words = words.tensor::<2>(device);
            let mask = look_up_word_mask(words.clone(), tokens.clone(), true);
            case.mask.assert_close(&case.name, mask.clone(), tolerance(device));
            check_mask(case, mask, device);

            let time_first = look_up_word_mask(words, tokens.swap_dims(0, 1), false);
            case.mask.assert_close(&case.name, time_first.swap_dims(0, 1), tolerance(device));
        }
    }
}

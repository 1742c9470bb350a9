//! Values and gradients against PyTorch in float64: `reference/penalty.py` wrote
//! `fixtures/penalty.json`.

use anp_core::{ActivationNormConfig, Norm, Reduction, look_up_word_mask};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
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
    activation: Array<f64>,
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
    activation: Array<f64>,
    mask: Array<f64>,
    upstream: Array<f64>,
    output: Array<f64>,
    gradient: Array<f64>,
}

#[derive(Deserialize)]
struct WordMaskCase {
    words: Array<f64>,
    tokens: Array<i64>,
    #[serde(flatten)]
    case: MaskCase,
}

#[derive(Deserialize, Clone)]
struct Array<T> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl Array<f64> {
    fn tensor<const D: usize>(&self, device: &Device, dtype: DType) -> Tensor<D> {
        let data = TensorData::new(self.data.clone(), self.shape.clone());
        Tensor::from_data(data, (device, dtype))
    }
}

/// Sums of up to 60 numbers, with a few roundings each: 64 units in the last place of the largest
/// one. In f64 the difference is that of the order of the sum alone.
const PRECISIONS: [(DType, f64); 2] = [(DType::F32, 64.0 * 6e-8), (DType::F64, 64.0 * 1.2e-16)];

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/penalty.json")).expect("the fixture is valid")
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_to_vec().expect("converted to f64")
}

/// Panics unless all differences are below `tolerance`, relative to the largest expected magnitude.
#[track_caller]
fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    for (a, e) in actual.iter().zip(expected) {
        assert!((a - e).abs() <= tolerance * scale, "{what}: {a} is not {e}");
    }
}

/// Value and gradient of every result of `case`, whose activation has D dimensions.
fn check_penalty<const D: usize>(case: &PenaltyCase, dtype: DType, tolerance: f64) {
    let device = Device::default().autodiff();
    for result in &case.results {
        let what = format!("{}, {}, {}, {dtype:?}", case.name, result.norm, result.reduction);
        let penalty = ActivationNormConfig::new(case.eta)
            .with_norm(result.norm)
            .with_reduction(result.reduction)
            .init();
        let activation = case.activation.tensor::<D>(&device, dtype).require_grad();
        let value = penalty.forward(activation.clone());
        let gradient = activation.grad(&value.backward()).expect("the activation is a leaf");
        assert_eq!(value.dtype(), dtype, "{what}");
        assert_close(&values(value), &[result.value], tolerance, &what);
        assert_close(&values(gradient), &result.gradient, tolerance, &what);
    }
}

#[test]
fn penalties_agree_with_pytorch_in_value_and_gradient() {
    let cases = fixture().penalties;
    assert!(cases.len() >= 6, "a case is missing");
    for case in &cases {
        assert_eq!(case.results.len(), 16, "four norms times four reductions");
        for (dtype, tolerance) in PRECISIONS {
            match case.activation.shape.len() {
                2 => check_penalty::<2>(case, dtype, tolerance),
                3 => check_penalty::<3>(case, dtype, tolerance),
                rank => panic!("{}: no test for rank {rank}", case.name),
            }
        }
    }
}

/// Output and gradient of the product with `mask`.
fn check_mask(case: &MaskCase, mask: Tensor<3>, dtype: DType, tolerance: f64) {
    let device = Device::default().autodiff();
    let activation = case.activation.tensor::<3>(&device, dtype).require_grad();
    let output = activation.clone() * mask;
    assert_close(&values(output.clone()), &case.output.data, tolerance, &case.name);
    let loss = (output * case.upstream.tensor(&device, dtype)).sum();
    let gradient = activation.grad(&loss.backward()).expect("the activation is a leaf");
    assert_close(&values(gradient), &case.gradient.data, tolerance, &case.name);
}

#[test]
fn given_masks_act_as_in_pytorch() {
    let device = Device::default().autodiff();
    let cases = fixture().masks;
    assert!(cases.len() >= 3, "a case is missing");
    for case in &cases {
        for (dtype, tolerance) in PRECISIONS {
            check_mask(case, case.mask.tensor(&device, dtype), dtype, tolerance);
        }
    }
}

#[test]
fn word_masks_are_looked_up_as_in_pytorch() {
    let device = Device::default().autodiff();
    let cases = fixture().word_masks;
    assert!(cases.len() >= 2, "a case is missing");
    for WordMaskCase { words, tokens, case } in &cases {
        let tokens = TensorData::new(tokens.data.clone(), tokens.shape.clone());
        let tokens = Tensor::<2, Int>::from_data(tokens, &device);
        for (dtype, tolerance) in PRECISIONS {
            let words = words.tensor::<2>(&device, dtype);
            let mask = look_up_word_mask(words.clone(), tokens.clone(), true);
            assert_close(&values(mask.clone()), &case.mask.data, tolerance, &case.name);
            check_mask(case, mask, dtype, tolerance);

            let time_first = look_up_word_mask(words, tokens.clone().swap_dims(0, 1), false);
            let mask = time_first.swap_dims(0, 1);
            assert_close(&values(mask), &case.mask.data, tolerance, &case.name);
        }
    }
}

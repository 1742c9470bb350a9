//! WRN-10-2 over one batch against PyTorch in float64, in both layouts: activations by site, loss
//! and penalty, gradients of all parameters, running statistics after the step, and the evaluation
//! that uses them.
//!
//! `reference/wide_resnet.py` wrote `fixtures/wide_resnet_*.json` and says how the parameters come
//! about.

use std::collections::BTreeMap;

use anp_core::ActivationNormConfig;
use anp_models::{
    ImageSite, Kernels, MatmulPrecision, ResidualLayout, WideResNet, WideResNetConfig,
};
use anp_testing::{Array, Arrays, TestDevice, fixture, gradients, parameters, with_parameters};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    names: Vec<String>,
    labels: Vec<i64>,
    eta: f64,
    nll: f64,
    penalty: f64,
    sites: BTreeMap<String, Summary>,
    gradients: BTreeMap<String, Summary>,
    running: BTreeMap<String, Summary>,
    logits_in_evaluation: Summary,
}

/// An array by its sum, its sum of squares and every `step`-th element.
#[derive(Deserialize)]
struct Summary {
    shape: Vec<usize>,
    sum: f64,
    square: f64,
    step: usize,
    elements: Vec<f64>,
}

impl Summary {
    /// Panic unless `actual` is the array. `tolerance` is relative to the root mean square of its
    /// elements, and for sums to its norm: errors in them are as likely to cancel as elements.
    #[track_caller]
    fn assert_is(&self, what: &str, actual: &Array, tolerance: f64) {
        // Activations come with all dimensions but the batch as one.
        let actual = &actual.data;
        assert_eq!(actual.len(), self.shape.iter().product::<usize>(), "{what}: size");
        // What is zero in exact arithmetic, such as the gradient of a bias before a normalisation,
        // is compared with a hundredth.
        let root = (actual.len() as f64).sqrt();
        let rms = (self.square.sqrt() / root).max(1e-2);
        let norm = rms * root;
        let check = |part: &str, actual: f64, expected: f64, scale: f64| {
            let error = (actual - expected).abs() / scale;
            assert!(
                error <= tolerance,
                "{what}, {part}: {actual}, expected {expected} ({error:e})"
            );
        };
        for (actual, &expected) in actual.iter().step_by(self.step).zip(&self.elements) {
            check("an element", *actual, expected, rms);
        }
        assert_eq!(self.elements.len(), actual.len().div_ceil(self.step), "{what}: elements");
        check("the sum", actual.iter().sum(), self.sum, norm * 10.0);
        let square: f64 = actual.iter().map(|it| it * it).sum();
        check("the sum of squares", square, self.square, norm * norm * 10.0);
    }
}

const SIDE: usize = 16;
const BATCH: usize = 3;

/// The parameters that the fixture was made with; everything else stays as it is.
fn fill(arrays: &mut Arrays, names: &[String]) {
    for (number, name) in names.iter().enumerate() {
        let Array { shape, data } = arrays.get_mut(name).expect("the model has the parameter");
        let (scale, shift) = match (shape.len(), name.ends_with("gamma")) {
            (1, true) => (0.2, 1.0),
            (1, false) => (0.2, 0.05),
            // Burn stores the weight of a linear layer transposed.
            (2, _) => (1.5 / (shape[0] as f64).sqrt(), 0.01),
            _ => (1.5 / (shape[1..].iter().product::<usize>() as f64).sqrt(), 0.01),
        };
        let wave = |i: usize| scale * (0.7 * i as f64 + 1.3 * number as f64 + 0.4).sin() + shift;
        let columns = if shape.len() == 2 { shape[1] } else { 1 };
        let rows = data.len() / columns;
        for (i, value) in data.iter_mut().enumerate() {
            *value = wave(i % columns * rows + i / columns);
        }
    }
}

fn agrees(name: &str, layout: ResidualLayout) {
    for kernels in Kernels::ALL {
        for (dtype, tolerance) in [(DType::F64, DOUBLE), (DType::F32, SINGLE)] {
            let device = TestDevice { device: Device::flex(), dtype };
            agrees_on(&device, &fixture(name), layout, kernels, tolerance);
        }
    }
}

fn agrees_on(
    device: &TestDevice,
    case: &Case,
    layout: ResidualLayout,
    kernels: Kernels,
    tolerance: f64,
) {
    let what = format!("{layout:?}, {kernels}, {:?}", device.dtype);
    let training = &device.autodiff();
    let config = WideResNetConfig {
        depth: 10,
        width: 2,
        num_classes: 7,
        layout,
        dropout: 0.0,
        precision: MatmulPrecision::Full,
        kernels,
    };
    let model: WideResNet = config.init(&training.device);
    let mut arrays = parameters(&model);
    fill(&mut arrays, &case.names);
    let model = with_parameters(model, &arrays, training);
    let is_running = |name: &String| name.contains(".running_");
    assert_eq!(arrays.keys().filter(|name| !is_running(name)).count(), case.names.len(), "{what}");

    let pixels: Vec<f64> = (0..BATCH * 3 * SIDE * SIDE)
        .map(|i| (0.37 * i as f64).sin() + 0.3 * (0.011 * i as f64).cos())
        .collect();
    let pixels =
        |device| Array { shape: vec![BATCH, 3, SIDE, SIDE], data: pixels.clone() }.tensor(device);
    let labels = TensorData::new(case.labels.clone(), [BATCH, 1]);
    let labels = Tensor::<2, Int>::from_data(labels, &training.device);

    let output = model.forward(pixels(training));
    assert_eq!(case.sites.len(), 7);
    for (name, expected) in &case.sites {
        let site: ImageSite = name.parse().expect("a site");
        let actual = Array::of(output.activation(site));
        expected.assert_is(&format!("{what}, {name}"), &actual, tolerance);
    }
    let nll = log_softmax(output.logits.clone(), 1).gather(1, labels).sum() * (-1.0 / BATCH as f64);
    let penalty = ActivationNormConfig::new(case.eta).init().forward(output.pooled.clone());
    for (name, actual, expected) in
        [("nll", nll.clone(), case.nll), ("penalty", penalty.clone(), case.penalty)]
    {
        let actual = actual.into_scalar::<f64>();
        assert!((actual - expected).abs() <= tolerance, "{what}, {name}: {actual}, {expected}");
    }

    let mut actual = gradients(&model, &(nll + penalty).backward());
    // Brings the running statistics up to date.
    let evaluation = model.valid();
    actual.extend(parameters(&model).into_iter().filter(|(name, _)| is_running(name)));
    assert_eq!(actual.len(), case.gradients.len() + case.running.len(), "{what}");
    for (name, expected) in case.gradients.iter().chain(&case.running) {
        expected.assert_is(&format!("{what}, {name}"), &actual[name], tolerance);
    }

    let logits = Array::of(evaluation.forward(pixels(device)).logits);
    case.logits_in_evaluation.assert_is(&format!("{what}, evaluation"), &logits, tolerance);
}

/// Seven layers of sums over up to 1,152 products, and as many normalisations: thousands of units
/// in the last place.
const DOUBLE: f64 = 1e-11;
const SINGLE: f64 = 1e-3;

#[test]
fn the_layout_that_the_paper_ran_agrees_with_pytorch() {
    agrees("wide_resnet_meliketoy.json", ResidualLayout::Meliketoy);
}

#[test]
fn the_original_layout_agrees_with_pytorch() {
    agrees("wide_resnet_original.json", ResidualLayout::Original);
}

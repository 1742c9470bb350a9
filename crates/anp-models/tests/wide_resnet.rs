//! WRN-10-2 over one batch against PyTorch in float64, in both layouts: activations by site, loss
//! and penalty, gradients of all parameters, running statistics after the step, and the evaluation
//! that uses them.
//!
//! `reference/wide_resnet.py` wrote `fixtures/wide_resnet_*.json` and says how the parameters come
//! about.

use std::collections::BTreeMap;

use anp_core::ActivationNormConfig;
use anp_models::{ImageSite, Kernels, ResidualLayout, WideResNet, WideResNetConfig};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData};
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
    /// Panic unless `actual` is the array: `tolerance` is a share of its root mean square an
    /// element, and of its norm for sums, in which errors are as likely to cancel as the elements.
    #[track_caller]
    fn assert_is<const D: usize>(&self, what: &str, actual: Tensor<D>, tolerance: f64) {
        let size = |shape: &[usize]| shape.iter().product::<usize>();
        assert_eq!(size(&actual.dims()), size(&self.shape), "{what}: size");
        let actual: Vec<f64> = actual.into_data().iter::<f64>().collect();
        // What is zero in exact arithmetic (the gradient of a bias before a normalisation) is
        // compared with a hundredth.
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

/// Gives each parameter its value, by its path in the model; running statistics get the precision
/// alone.
struct Fill<'a> {
    names: &'a [String],
    dtype: DType,
    path: Vec<String>,
    num_filled: usize,
}

impl ModuleMapper for Fill<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(number) = self.names.iter().position(|name| *name == path) else {
            assert!(path.contains(".running_"), "{path} is not in the fixture");
            return param.map(|tensor| tensor.cast(self.dtype));
        };
        self.num_filled += 1;
        let dims = param.dims();
        let (scale, shift) = match (D, path.ends_with("gamma")) {
            (1, true) => (0.2, 1.0),
            (1, false) => (0.2, 0.05),
            // Burn has the weight of a linear layer the other way round.
            (2, _) => (1.5 / (dims[0] as f64).sqrt(), 0.01),
            _ => (1.5 / (dims[1..].iter().product::<usize>() as f64).sqrt(), 0.01),
        };
        let values: Vec<f64> = (0..dims.iter().product::<usize>())
            .map(|i| scale * (0.7 * i as f64 + 1.3 * number as f64 + 0.4).sin() + shift)
            .collect();
        let device = param.device();
        let place = (&device, self.dtype);
        param.map(|_| {
            let tensor = if D == 2 {
                let data = TensorData::new(values, [dims[1], dims[0]]);
                Tensor::<2>::from_data(data, place).transpose().reshape(dims)
            } else {
                Tensor::from_data(TensorData::new(values, dims.to_vec()), place)
            };
            tensor.detach().require_grad()
        })
    }
}

/// Compares the gradient of each parameter, or each running statistic, by its path in the model.
struct Compare<'a> {
    what: &'a str,
    /// Of the loss; running statistics are compared if there are none.
    gradients: Option<&'a Gradients>,
    expected: &'a BTreeMap<String, Summary>,
    tolerance: f64,
    path: Vec<String>,
    num_compared: usize,
}

impl ModuleVisitor for Compare<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let is_running = path.contains(".running_");
        let value = match self.gradients {
            Some(_) if is_running => return,
            None if !is_running => return,
            Some(gradients) => param.val().grad(gradients).expect("a gradient"),
            None => param.val(),
        };
        self.expected[&path].assert_is(&format!("{}, {path}", self.what), value, self.tolerance);
        self.num_compared += 1;
    }
}

fn agrees(fixture: &str, layout: ResidualLayout) {
    for kernels in Kernels::ALL {
        agrees_in(fixture, layout, kernels, DType::F64, DOUBLE);
        agrees_in(fixture, layout, kernels, DType::F32, SINGLE);
    }
}

fn agrees_in(
    fixture: &str,
    layout: ResidualLayout,
    kernels: Kernels,
    dtype: DType,
    tolerance: f64,
) {
    let case: Case = serde_json::from_str(fixture).expect("the fixture is valid");
    let what = format!("{layout:?}, {kernels}, {dtype:?}");
    let device = Device::flex().autodiff();
    let config = WideResNetConfig::new(10, 2, 7).with_layout(layout).with_kernels(kernels);
    let mut fill = Fill { names: &case.names, dtype, path: Vec::new(), num_filled: 0 };
    let model: WideResNet = config.init(&device).map(&mut fill);
    assert_eq!(fill.num_filled, case.names.len(), "{what}: the model lacks a parameter");

    let pixels: Vec<f64> = (0..BATCH * 3 * SIDE * SIDE)
        .map(|i| (0.37 * i as f64).sin() + 0.3 * (0.011 * i as f64).cos())
        .collect();
    let pixels = TensorData::new(pixels, [BATCH, 3, SIDE, SIDE]);
    let labels = TensorData::new(case.labels.clone(), [BATCH, 1]);
    let labels = Tensor::<2, Int>::from_data(labels, &device);

    let output = model.forward(Tensor::from_data(pixels.clone(), (&device, dtype)));
    assert_eq!(case.sites.len(), 7);
    for (name, expected) in &case.sites {
        let site: ImageSite = name.parse().expect("a site");
        expected.assert_is(&format!("{what}, {name}"), output.activation(site), tolerance);
    }
    let nll = log_softmax(output.logits.clone(), 1).gather(1, labels).sum() * (-1.0 / BATCH as f64);
    let penalty = ActivationNormConfig::new(case.eta).init().forward(output.pooled.clone());
    for (name, actual, expected) in
        [("nll", nll.clone(), case.nll), ("penalty", penalty.clone(), case.penalty)]
    {
        let actual = actual.into_scalar::<f64>();
        assert!((actual - expected).abs() <= tolerance, "{what}, {name}: {actual}, {expected}");
    }

    let gradients = (nll + penalty).backward();
    for (gradients, expected) in [(Some(&gradients), &case.gradients), (None, &case.running)] {
        let (path, num_compared) = (Vec::new(), 0);
        let what = &what;
        let mut compare = Compare { what, gradients, expected, tolerance, path, num_compared };
        // Brings the running statistics up to date.
        model.valid();
        model.visit(&mut compare);
        assert_eq!(compare.num_compared, expected.len(), "{what}: something was not compared");
    }

    let images = Tensor::from_data(pixels, (&Device::flex(), dtype));
    let logits = model.valid().forward(images).logits;
    case.logits_in_evaluation.assert_is(&format!("{what}, evaluation"), logits, tolerance);
}

/// Seven layers of sums over up to 1,152 products, and as many normalisations: thousands of units
/// in the last place.
const DOUBLE: f64 = 1e-11;
const SINGLE: f64 = 1e-3;

#[test]
fn the_layout_that_the_paper_ran_agrees_with_pytorch() {
    let fixture = include_str!("fixtures/wide_resnet_meliketoy.json");
    agrees(fixture, ResidualLayout::Meliketoy);
}

#[test]
fn the_original_layout_agrees_with_pytorch() {
    let fixture = include_str!("fixtures/wide_resnet_original.json");
    agrees(fixture, ResidualLayout::Original);
}

//! AWD-LSTM's training over seven windows against PyTorch in float64: loss, regularisers, gradients
//! of the first window, norms, parameters after each step of SGD and ASGD, averages.
//!
//! `reference/awd_lstm.py` wrote `fixtures/awd_lstm.json`.

use std::collections::BTreeMap;

use anp_core::{ActivationNormConfig, LossReduction, Norm, Reduction};
use anp_experiments::text::batches::{LmBatch, Tail, TokenStreams};
use anp_experiments::text::{Averaging, LmLearner, Objective, SitePenalty};
use anp_kernels::sgd::WeightDecay;
use anp_models::{
    CellConfig, Kernels, LayerMasks, LayerState, LmMasks, LmState, LstmCellConfig, RecurrentLm,
    RecurrentLmConfig, Site,
};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::SgdConfig;
use burn::tensor::{DType, Device, IndexingUpdateOp, Tensor, TensorData};
use serde::Deserialize;

/// Seven steps after each other, each of some hundreds of roundings.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Fixture {
    config: Config,
    text: Vec<u32>,
    parameters: BTreeMap<String, Array>,
    windows: Vec<ExpectedWindow>,
}

#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    widths: Vec<usize>,
    batch_size: usize,
    bptt: usize,
    drawn: Vec<usize>,
    learning_rate: f64,
    grad_clip_norm: f64,
    weight_decay: f64,
    alpha: f64,
    beta: f64,
}

#[derive(Deserialize)]
struct ExpectedWindow {
    steps: usize,
    masks: Masks,
    nll: f64,
    penalties: Vec<f64>,
    grad_norm: f64,
    gradients: Option<BTreeMap<String, Array>>,
    parameters: BTreeMap<String, Array>,
    average: Option<BTreeMap<String, Array>>,
}

#[derive(Deserialize)]
struct Masks {
    words: Array,
    input: Array,
    inter_layer: Vec<Array>,
    output: Array,
    weight: Vec<Array>,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Array {
    fn tensor<const D: usize>(&self, device: &Device) -> Tensor<D> {
        let data = TensorData::new(self.data.clone(), self.shape.clone());
        Tensor::from_data(data, (device, DType::F64))
    }
}

impl Masks {
    fn tensors(&self, device: &Device) -> LmMasks {
        let weight = |mask: &Array| LayerMasks {
            weight: Some(mask.tensor(device)),
            ..LayerMasks::default()
        };
        LmMasks {
            words: Some(self.words.tensor(device)),
            input: Some(self.input.tensor(device)),
            inter_layer: self.inter_layer.iter().map(|mask| Some(mask.tensor(device))).collect(),
            layers: self.weight.iter().map(weight).collect(),
            output: Some(self.output.tensor(device)),
            ..LmMasks::default()
        }
    }
}

/// Gives each parameter its value of the fixture, by its path in the model.
struct Load<'a> {
    parameters: &'a BTreeMap<String, Array>,
    device: &'a Device,
    path: Vec<String>,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let array = &self.parameters[&self.path.join(".")];
        assert_eq!(param.dims().to_vec(), array.shape);
        param.map(|_| array.tensor(self.device).require_grad())
    }
}

/// Compares something of each parameter, by its path in the model.
struct Compare<'a, F> {
    what: String,
    expected: &'a BTreeMap<String, Array>,
    path: Vec<String>,
    num_compared: usize,
    value: F,
}

/// The flat values to compare of a parameter.
trait Value {
    fn of<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f64>;
}

struct Itself;

impl Value for Itself {
    fn of<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f64> {
        param.val().into_data().iter::<f64>().collect()
    }
}

struct GradientOf<'a> {
    gradients: &'a burn::optim::GradientsParams,
    rows: Option<&'a anp_kernels::sgd::RowGradient>,
}

impl Value for GradientOf<'_> {
    fn of<const D: usize>(&self, param: &Param<Tensor<D>>) -> Vec<f64> {
        let dense = self.gradients.get::<D>(param.id);
        let mut dense = dense.unwrap_or_else(|| param.val().inner().zeros_like());
        if let Some(rows) = self.rows.filter(|rows| rows.id == param.id) {
            let values = rows.values.clone();
            let [num_rows, width] = [param.dims()[0], values.dims()[1]];
            dense = dense
                .reshape([num_rows, width])
                .select_assign(0, rows.rows.clone(), values, IndexingUpdateOp::Add)
                .reshape(param.dims());
        }
        dense.into_data().iter::<f64>().collect()
    }
}

impl<F: Value> ModuleVisitor for Compare<'_, F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let what = format!("{} of {path}", self.what);
        assert_close(&what, &self.value.of(param), &self.expected[&path].data);
        self.num_compared += 1;
    }
}

fn compare(what: String, lm: &RecurrentLm, expected: &BTreeMap<String, Array>, value: impl Value) {
    let mut compare = Compare { what, expected, path: Vec::new(), num_compared: 0, value };
    lm.visit(&mut compare);
    assert_eq!(compare.num_compared, expected.len());
}

/// Panic if two arrays differ by more than [`TOLERANCE`] times the largest magnitude of the
/// expected one.
fn assert_close(what: &str, actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs() / scale;
        assert!(error <= TOLERANCE, "{what}[{index}] is {a}, expected {e} ({error:e})");
    }
}

fn learner(fixture: &Fixture, kernels: Kernels, device: &Device) -> LmLearner {
    let Config { vocab_size, ref widths, weight_decay, alpha, beta, .. } = fixture.config;
    let [d_embed, d_hidden, _, d_output] = widths[..] else { panic!("three layers") };
    let lm = RecurrentLmConfig::new(vocab_size, d_embed, d_hidden)
        .with_d_output(Some(d_output))
        .with_num_layers(3)
        .with_cell(CellConfig::Lstm(LstmCellConfig::new().with_num_biases(2)))
        .with_tie_weights(true)
        .with_kernels(kernels);
    let mut load = Load { parameters: &fixture.parameters, device, path: Vec::new() };
    let penalty = |site, eta, temporal| SitePenalty {
        site,
        norm: ActivationNormConfig::new(eta)
            .with_norm(Norm::L2sq)
            .with_reduction(Reduction::MeanElements)
            .init(),
        temporal,
    };
    LmLearner {
        lm: lm.init(device).map(&mut load),
        objective: Objective {
            penalties: vec![
                penalty(Site::OutputDropped, alpha, false),
                penalty(Site::OutputRaw, beta, true),
            ],
            loss: LossReduction::MeanOverTokens,
            weight_decay: WeightDecay::Coupled(weight_decay),
            ..Objective::default()
        },
    }
}

fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.into_scalar::<f64>()
}

#[test]
fn training_agrees_with_pytorch() {
    let fixture: Fixture =
        serde_json::from_str(include_str!("fixtures/awd_lstm.json")).expect("the fixture is valid");
    let config = &fixture.config;
    let device = Device::flex().autodiff();
    let streams =
        TokenStreams::new(&fixture.text, config.batch_size, config.bptt, Tail::Drop).unwrap();
    let spans = streams.spans_of_lengths(|index| config.drawn[index]);
    assert_eq!(spans.len(), fixture.windows.len());

    for kernels in Kernels::ALL {
        let mut model = learner(&fixture, kernels, &device);
        let mut optimizer = SgdConfig::new().init();
        let zeros = |width| Some(Tensor::zeros([config.batch_size, width], (&device, DType::F64)));
        let layer = |&width: &usize| LayerState { hidden: zeros(width), cell: zeros(width) };
        let layers = config.widths[1..].iter().map(layer).collect();
        let mut state = LmState { layers, pointer: None };
        let mut averaging = Averaging::default();
        let mut average = None;
        for (index, (span, expected)) in spans.iter().zip(&fixture.windows).enumerate() {
            let what = |what: &str| format!("{kernels}, window {index}: {what}");
            assert_eq!((span.steps, span.drawn), (expected.steps, config.drawn[index]));
            let window = streams.window_with(*span, &device, |_, _| {});
            let masks = expected.masks.tensors(&device);
            let output =
                model.step_with_masks(LmBatch { window, state: Some(state) }, &masks, None);
            let gradients = output.grads;
            let output = output.item.into_step();
            let nll = scalar(output.nll_sum) / output.tokens as f64;
            assert_close(&what("loss"), &[nll], &[expected.nll]);
            let penalties: Vec<_> = output.penalties.into_iter().map(scalar).collect();
            assert_close(&what("penalties"), &penalties, &expected.penalties);
            if let Some(expected) = &expected.gradients {
                let value = GradientOf { gradients: &gradients, rows: output.rows.as_ref() };
                compare(what("gradient"), &model.lm, expected, value);
            }

            let mut rate = config.learning_rate * span.drawn as f64 / config.bptt as f64;
            if expected.average.is_some() {
                rate = averaging.learning_rate(rate);
            }
            let norm;
            let clip = config.grad_clip_norm;
            (model, norm) = model.update(&mut optimizer, rate, clip, gradients, output.rows);
            assert_close(&what("norm"), &[scalar(norm)], &[expected.grad_norm]);
            compare(what("parameters"), &model.lm, &expected.parameters, Itself);
            if let Some(expected) = &expected.average {
                let after = averaging.add(average.take(), &model.lm);
                compare(what("average"), &after, expected, Itself);
                average = Some(after);
            }
            state = output.state;
        }
        assert!(average.is_some(), "the fixture averages");
    }
}

//! AWD-LSTM's training over seven windows against PyTorch in float64: loss, regularisers, gradients
//! of the first window, norms, parameters after each step of SGD and ASGD, averages.
//!
//! `reference/awd_lstm.py` wrote `fixtures/awd_lstm.json`.

use anp_core::{ActivationNormConfig, LossReduction, Norm, Reduction};
use anp_experiments::text::batches::{LmBatch, Tail, TokenStreams};
use anp_experiments::text::{Averaging, LmLearner, Objective, SitePenalty};
use anp_kernels::sgd::WeightDecay;
use anp_models::{
    CellConfig, Kernels, LayerMasks, LayerState, LmMasks, LmState, LstmCellConfig,
    RecurrentLmConfig, Site,
};
use anp_testing::{
    Array, Arrays, RowsOf, TestDevice, assert_arrays_close, assert_close, fixture,
    optimizer_gradients, parameters, with_parameters,
};
use burn::optim::SgdConfig;
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

/// Seven steps after each other, each of some hundreds of roundings.
const TOLERANCE: f64 = 1e-12;

#[derive(Deserialize)]
struct Fixture {
    config: Config,
    text: Vec<u32>,
    parameters: Arrays,
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
    gradients: Option<Arrays>,
    parameters: Arrays,
    average: Option<Arrays>,
}

#[derive(Deserialize)]
struct Masks {
    words: Array,
    input: Array,
    inter_layer: Vec<Array>,
    output: Array,
    weight: Vec<Array>,
}

impl Masks {
    fn tensors(&self, device: &TestDevice) -> LmMasks {
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

fn learner(fixture: &Fixture, kernels: Kernels, device: &TestDevice) -> LmLearner {
    let Config { vocab_size, ref widths, weight_decay, alpha, beta, .. } = fixture.config;
    let [d_embed, d_hidden, _, d_output] = widths[..] else { panic!("three layers") };
    let lm = RecurrentLmConfig::new(vocab_size, d_embed, d_hidden)
        .with_d_output(Some(d_output))
        .with_num_layers(3)
        .with_cell(CellConfig::Lstm(LstmCellConfig::new().with_num_biases(2)))
        .with_tie_weights(true)
        .with_kernels(kernels);
    let penalty = |site, eta, temporal| SitePenalty {
        site,
        norm: ActivationNormConfig::new(eta)
            .with_norm(Norm::L2sq)
            .with_reduction(Reduction::MeanElements)
            .init(),
        temporal,
    };
    LmLearner {
        lm: with_parameters(lm.init(&device.device), &fixture.parameters, device),
        objective: Objective {
            penalties: vec![
                penalty(Site::OutputDropped, alpha, false),
                penalty(Site::OutputRaw, beta, true),
            ],
            loss: LossReduction::MeanOverTokens,
            weight_decay: Some(WeightDecay::Coupled(weight_decay)),
            ..Objective::default()
        },
    }
}

fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.into_scalar::<f64>()
}

#[test]
fn training_agrees_with_pytorch() {
    let fixture: Fixture = fixture("awd_lstm.json");
    let config = &fixture.config;
    let device = &TestDevice { device: Device::flex().autodiff(), dtype: DType::F64 };
    let streams =
        TokenStreams::new(&fixture.text, config.batch_size, config.bptt, Tail::Drop).unwrap();
    let spans = streams.spans_of_lengths(|index| config.drawn[index]);
    assert_eq!(spans.len(), fixture.windows.len());

    for kernels in Kernels::ALL {
        let mut model = learner(&fixture, kernels, device);
        let mut optimizer = SgdConfig::new().init();
        let options = (&device.device, device.dtype);
        let zeros = |width| Some(Tensor::zeros([config.batch_size, width], options));
        let layer = |&width: &usize| LayerState { hidden: zeros(width), cell: zeros(width) };
        let layers = config.widths[1..].iter().map(layer).collect();
        let mut state = LmState { layers, pointer: None };
        let mut averaging = Averaging::default();
        let mut average = None;
        for (index, (span, expected)) in spans.iter().zip(&fixture.windows).enumerate() {
            let what = |what: &str| format!("{kernels}, window {index}: {what}");
            assert_eq!((span.steps, span.drawn), (expected.steps, config.drawn[index]));
            let window = streams.window_with(*span, &device.device, |_, _| {});
            let masks = expected.masks.tensors(device);
            let output =
                model.step_with_masks(LmBatch { window, state: Some(state) }, &masks, None);
            let gradients = output.grads;
            let output = output.item.into_step();
            let nll = scalar(output.nll_sum) / output.tokens as f64;
            assert_close(&what("loss"), &[nll], &[expected.nll], TOLERANCE);
            let penalties: Vec<_> = output.penalties.into_iter().map(scalar).collect();
            assert_close(&what("penalties"), &penalties, &expected.penalties, TOLERANCE);
            if let Some(expected) = &expected.gradients {
                let rows = output.rows.clone();
                let rows = rows.map(|it| RowsOf { id: it.id, rows: it.rows, values: it.values });
                let actual = optimizer_gradients(&model.lm, &gradients, rows);
                assert_arrays_close(&what("gradient"), &actual, expected, TOLERANCE);
            }

            let mut rate = config.learning_rate * span.drawn as f64 / config.bptt as f64;
            if expected.average.is_some() {
                rate = averaging.learning_rate(rate);
            }
            let norm;
            let clip = config.grad_clip_norm;
            (model, norm) = model.update(&mut optimizer, rate, clip, gradients, output.rows);
            assert_close(&what("norm"), &[scalar(norm)], &[expected.grad_norm], TOLERANCE);
            let actual = parameters(&model.lm);
            assert_arrays_close(&what("parameters"), &actual, &expected.parameters, TOLERANCE);
            if let Some(expected) = &expected.average {
                let after = averaging.add(average.take(), &model.lm);
                assert_arrays_close(&what("average"), &parameters(&after), expected, TOLERANCE);
                average = Some(after);
            }
            state = output.state;
        }
        assert!(average.is_some(), "the fixture averages");
    }
}

//! One whole training step against PyTorch in float64, on every backend of this build.
//!
//! `reference/lstm_step.py` wrote `fixtures/lstm_step.json`: loss, penalties, states, every
//! gradient, the common norm, and the parameters after the update.

#[path = "../../anp-kernels/tests/support/gpu.rs"]
mod gpu;

use std::collections::BTreeMap;
use std::io::Write;

use anp_core::ActivationNormConfig;
use anp_experiments::device::Backend;
use anp_experiments::text::batches::{LmBatch, Window};
use anp_experiments::text::{LmLearner, Objective, SitePenalty};
use anp_kernels::sgd::RowGradient;
use anp_models::{
    CellConfig, Kernels, LayerState, LmMasks, LmState, LstmCellConfig, RecurrentLayer, RecurrentLm,
    RecurrentLmConfig,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: Config,
    inputs: Array<i64>,
    targets: Array<i64>,
    parameters: BTreeMap<String, Array<f64>>,
    masks: Masks,
    initial_state: State,
    expected: Expected,
}

#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    batch_size: usize,
    seq_length: usize,
    d_embed: usize,
    d_hidden: usize,
    num_layers: usize,
    num_biases: usize,
    forget_bias: f64,
    tied: bool,
    learning_rate: f64,
    grad_clip_norm: f64,
    penalties: Vec<Penalty>,
}

#[derive(Deserialize)]
struct Penalty {
    site: String,
    eta: f64,
}

#[derive(Deserialize)]
struct Masks {
    embedding: Option<Array<f64>>,
    between: Vec<Option<Array<f64>>>,
    output: Option<Array<f64>>,
}

#[derive(Deserialize)]
struct State {
    h: Array<f64>,
    c: Array<f64>,
}

#[derive(Deserialize)]
struct Expected {
    hidden: Vec<Array<f64>>,
    cell: Vec<Array<f64>>,
    output_dropped: Array<f64>,
    logits: Array<f64>,
    token_nll: Array<f64>,
    nll_sum: f64,
    penalties: Vec<f64>,
    gradients: BTreeMap<String, Array<f64>>,
    grad_norm: f64,
    updated: BTreeMap<String, Array<f64>>,
    final_state: State,
}

#[derive(Deserialize, Clone)]
struct Array<T> {
    shape: Vec<usize>,
    data: Vec<T>,
}

impl Array<f64> {
    fn tensor<const D: usize>(&self, place: &Place) -> Tensor<D> {
        let data = TensorData::new(self.data.clone(), self.shape.clone());
        Tensor::from_data(data, (&place.device, place.dtype))
    }

    fn param<const D: usize>(&self, place: &Place) -> Param<Tensor<D>> {
        Param::from_tensor(self.tensor(place))
    }
}

impl Array<i64> {
    fn tensor(&self, place: &Place) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.data.clone(), self.shape.clone()), &place.device)
    }
}

/// Where and how precisely to compute.
struct Place {
    name: String,
    device: Device,
    dtype: DType,
    /// Largest difference allowed, relative to the largest magnitude expected in an array.
    tolerance: f64,
    kernels: Kernels,
}

impl Place {
    /// Every device of this build that is present; flex in double precision, too. [`gpu::wgpu`]
    /// says when software stands in for a GPU.
    ///
    /// A value goes through about a hundred roundings, so 256 units in the last place are allowed.
    /// Shaders may approximate exponentials more coarsely than the CPU's library does.
    fn all() -> Vec<Self> {
        let mut places = Vec::new();
        for backend in Backend::all() {
            let device = match backend {
                Backend::Wgpu => gpu::wgpu(),
                _ => backend.devices().into_iter().next(),
            };
            let Some(device) = device.map(Device::autodiff) else {
                if backend.is_compiled_in() && backend != Backend::Wgpu {
                    // Past the test harness, which would hide it.
                    let line =
                        format!("SKIPPED {backend}: compiled in, but no such device is present\n");
                    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
                }
                continue;
            };
            let is_cpu = backend.is_cpu();
            let ulps = if is_cpu { 256.0 } else { 2048.0 };
            let mut precisions = vec![(DType::F32, ulps * 6e-8)];
            if backend == Backend::Flex {
                precisions.push((DType::F64, 256.0 * 1.2e-16));
            }
            for (dtype, tolerance) in precisions {
                for kernels in Kernels::ALL {
                    let (name, device) = (format!("{backend} {dtype:?} {kernels}"), device.clone());
                    places.push(Self { name, device, dtype, tolerance, kernels });
                }
            }
        }
        places
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/lstm_step.json")).expect("the fixture is valid")
}

fn learner(case: &Case, place: &Place) -> LmLearner {
    let config = &case.config;
    let cell = LstmCellConfig::new()
        .with_forget_bias(config.forget_bias)
        .with_num_biases(config.num_biases);
    let mut lm = RecurrentLmConfig::new(config.vocab_size, config.d_embed, config.d_hidden)
        .with_num_layers(config.num_layers)
        .with_cell(CellConfig::Lstm(cell))
        .with_tie_weights(config.tied)
        .with_kernels(place.kernels)
        .init(&place.device);
    let parameter = |name: &str| &case.parameters[name];
    lm.embedding = parameter("embedding").param(place);
    for (index, layer) in lm.layers.iter_mut().enumerate() {
        let RecurrentLayer::Lstm(layer) = layer else { unreachable!("all layers are LSTMs") };
        let parameter = |name: &str| parameter(&format!("layers.{index}.{name}"));
        layer.weight_input = parameter("w_input").param(place);
        layer.weight_hidden = parameter("w_recurrent").param(place);
        layer.bias_input = Some(parameter("b_input").param(place));
        layer.bias_hidden = (config.num_biases == 2).then(|| parameter("b_recurrent").param(place));
    }
    lm.decoder_weight = (!config.tied).then(|| parameter("decoder.weight").param(place));
    lm.decoder_bias = parameter("decoder.bias").param(place);

    let penalties = config
        .penalties
        .iter()
        .map(|penalty| SitePenalty {
            site: penalty.site.parse().expect("a site"),
            norm: ActivationNormConfig::new(penalty.eta).init(),
            temporal: false,
        })
        .collect();
    LmLearner { lm, objective: Objective { penalties, ..Objective::default() } }
}

fn state(case: &Case, place: &Place) -> LmState {
    let hidden: Tensor<3> = case.initial_state.h.tensor(place);
    let cell: Tensor<3> = case.initial_state.c.tensor(place);
    let layers = hidden
        .iter_dim(0)
        .zip(cell.iter_dim(0))
        .map(|(hidden, cell)| LayerState {
            hidden: Some(hidden.squeeze_dim(0)),
            cell: Some(cell.squeeze_dim(0)),
        })
        .collect();
    LmState { layers, pointer: None }
}

fn masks(case: &Case, place: &Place) -> LmMasks {
    let tensor = |mask: &Option<Array<f64>>| mask.as_ref().map(|mask| mask.tensor(place));
    LmMasks {
        input: tensor(&case.masks.embedding),
        inter_layer: case.masks.between.iter().map(tensor).collect(),
        output: tensor(&case.masks.output),
        ..LmMasks::default()
    }
}

/// The fixture's names of the model's parameters.
fn names(lm: &RecurrentLm) -> BTreeMap<burn::module::ParamId, String> {
    let mut names = BTreeMap::from([
        (lm.embedding.id, "embedding".to_owned()),
        (lm.decoder_bias.id, "decoder.bias".to_owned()),
    ]);
    if let Some(weight) = &lm.decoder_weight {
        names.insert(weight.id, "decoder.weight".to_owned());
    }
    for (index, layer) in lm.layers.iter().enumerate() {
        let RecurrentLayer::Lstm(layer) = layer else { unreachable!("all layers are LSTMs") };
        names.insert(layer.weight_input.id, format!("layers.{index}.w_input"));
        names.insert(layer.weight_hidden.id, format!("layers.{index}.w_recurrent"));
        for (bias, name) in [(&layer.bias_input, "b_input"), (&layer.bias_hidden, "b_recurrent")] {
            if let Some(bias) = bias {
                names.insert(bias.id, format!("layers.{index}.{name}"));
            }
        }
    }
    names
}

/// Collects all gradients, each dense.
struct Dense<'a> {
    gradients: &'a GradientsParams,
    rows: Option<&'a RowGradient>,
    all: &'a mut GradientsParams,
}

impl ModuleVisitor for Dense<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let dense = self.gradients.get::<D>(param.id);
        let rows = self.rows.filter(|rows| rows.id == param.id);
        let gradient = match (dense, rows) {
            (dense, None) => dense.expect("every parameter has a gradient"),
            (dense, Some(RowGradient { rows, values, .. })) => dense
                .unwrap_or_else(|| param.val().inner().zeros_like())
                .reshape([param.dims()[0], values.dims()[1]])
                .select_assign(0, rows.clone(), values.clone(), IndexingUpdateOp::Add)
                .reshape(param.dims()),
        };
        self.all.register(param.id, gradient);
    }
}

/// Compares every parameter, or its gradient, with the fixture.
struct Compare<'a> {
    names: BTreeMap<burn::module::ParamId, String>,
    gradients: Option<&'a GradientsParams>,
    expected: &'a BTreeMap<String, Array<f64>>,
    place: &'a Place,
    what: String,
    compared: usize,
}

impl ModuleVisitor for Compare<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = &self.names[&param.id];
        let what = format!("{}{name}", self.what);
        let actual = match self.gradients {
            Some(gradients) => {
                gradients.get::<D>(param.id).expect("every parameter has a gradient")
            }
            None => param.val(),
        };
        assert_close(actual, &self.expected[name], self.place, &what);
        self.compared += 1;
    }
}

#[track_caller]
fn assert_close<const D: usize>(
    actual: Tensor<D>,
    expected: &Array<f64>,
    place: &Place,
    what: &str,
) {
    assert_eq!(actual.dims().to_vec(), expected.shape, "{}: shape of {what}", place.name);
    let actual: Vec<f64> = actual.into_data().iter::<f64>().collect();
    assert_values_close(&actual, &expected.data, place, what);
}

#[track_caller]
fn assert_values_close(actual: &[f64], expected: &[f64], place: &Place, what: &str) {
    let magnitude = expected.iter().fold(0.0_f64, |max, value| max.max(value.abs()));
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let difference = (actual - expected).abs();
        assert!(
            difference <= place.tolerance * magnitude,
            "{}: {what}[{index}] is {actual}, PyTorch says {expected} (largest magnitude \
             {magnitude})",
            place.name
        );
    }
}

#[test]
fn forward_agrees_with_pytorch() {
    for place in Place::all() {
        for case in fixture().cases {
            let model = learner(&case, &place).lm;
            let masks = masks(&case, &place);
            let output =
                model.forward_with_masks(case.inputs.tensor(&place), state(&case, &place), &masks);
            let expected = &case.expected;
            let check = |actual: Tensor<3>, expected: &Array<f64>, what: &str| {
                assert_close(actual, expected, &place, &format!("{}: {what}", case.name));
            };
            for layer in 0..case.config.num_layers {
                check(output.hidden[layer].clone(), &expected.hidden[layer], "hidden");
                let cell = output.cell[layer].clone().expect("an LSTM has cells");
                check(cell, &expected.cell[layer], "cell");
            }
            check(output.dropped.clone(), &expected.output_dropped, "dropped output");
            check(model.logits(output.dropped.clone()), &expected.logits, "logits");
            let nll = model
                .nll(output.dropped, case.targets.tensor(&place))
                .reshape([case.config.seq_length, case.config.batch_size]);
            assert_close(nll, &expected.token_nll, &place, &format!("{}: token nll", case.name));
            let last = |pick: fn(&LayerState) -> Option<Tensor<2>>| {
                Tensor::stack::<3>(output.state.layers.iter().filter_map(pick).collect(), 0)
            };
            check(
                last(|state| state.hidden.clone()),
                &expected.final_state.h,
                "final hidden state",
            );
            check(last(|state| state.cell.clone()), &expected.final_state.c, "final cell state");
        }
    }
}

#[test]
fn a_whole_training_step_agrees_with_pytorch() {
    for place in Place::all() {
        for case in fixture().cases {
            let model = learner(&case, &place);
            let window =
                Window { inputs: case.inputs.tensor(&place), targets: case.targets.tensor(&place) };
            let batch = LmBatch { window, state: Some(state(&case, &place)) };
            let output = model.step_with_masks(batch, &masks(&case, &place), None);
            let gradients = output.grads;
            let window = output.item.into_step();
            let mut all = GradientsParams::new();
            model.visit(&mut Dense {
                gradients: &gradients,
                rows: window.rows.as_ref(),
                all: &mut all,
            });

            let mut compare = Compare {
                names: names(&model.lm),
                gradients: Some(&all),
                expected: &case.expected.gradients,
                place: &place,
                what: format!("{}: gradient of ", case.name),
                compared: 0,
            };
            model.visit(&mut compare);
            assert_eq!(compare.compared, case.expected.gradients.len(), "{}", case.name);
            let names = compare.names;

            let mut optimizer = SgdConfig::new().init();
            let Config { learning_rate, grad_clip_norm, .. } = case.config;
            let (model, norm) =
                model.update(&mut optimizer, learning_rate, grad_clip_norm, gradients, window.rows);
            let scalar = |tensor: Tensor<1>| tensor.into_scalar::<f64>();
            let mut values = vec![scalar(window.nll_sum), scalar(norm)];
            values.extend(window.penalties.into_iter().map(scalar));
            // The fixture's sum is the mean over the batch.
            let nll_sum = case.expected.nll_sum * case.config.batch_size as f64;
            let mut expected = vec![nll_sum, case.expected.grad_norm];
            expected.extend(&case.expected.penalties);
            assert_eq!(values.len(), expected.len());
            for (value, expected) in values.iter().zip(&expected) {
                assert_values_close(
                    &[*value],
                    &[*expected],
                    &place,
                    &format!("{}: scalars", case.name),
                );
            }

            let mut compare = Compare {
                names,
                gradients: None,
                expected: &case.expected.updated,
                place: &place,
                what: format!("{}: updated ", case.name),
                compared: 0,
            };
            model.visit(&mut compare);
            assert_eq!(compare.compared, case.expected.updated.len(), "{}", case.name);
        }
    }
}

/// The loss summed over the window with `half_sum`, divided by T, is the loss per token with
/// AWD-LSTM's activation regularisation at α = ηBH/2: the same value, and the same gradient of
/// every parameter.
#[test]
fn the_penalty_is_activation_regularisation_rescaled() {
    let place = Place::all().into_iter().find(|place| place.dtype == DType::F64);
    let place = place.expect("tests are built with flex");
    let case =
        fixture().cases.into_iter().find(|case| case.config.penalties.len() == 1).expect("a case");
    let Config { seq_length, batch_size, d_hidden, .. } = case.config;
    let eta = case.config.penalties[0].eta;
    let model = learner(&case, &place);
    let window =
        Window { inputs: case.inputs.tensor(&place), targets: case.targets.tensor(&place) };
    let batch = LmBatch { window: window.clone(), state: Some(state(&case, &place)) };
    let output = model.step_with_masks(batch, &masks(&case, &place), None);
    let window_output = output.item.into_step();
    let mut ours = GradientsParams::new();
    model.visit(&mut Dense {
        gradients: &output.grads,
        rows: window_output.rows.as_ref(),
        all: &mut ours,
    });

    let output =
        model.lm.forward_with_masks(window.inputs, state(&case, &place), &masks(&case, &place));
    let alpha = eta * (batch_size * d_hidden) as f64 / 2.0;
    let activation_regularisation = output.dropped.clone().square().mean() * alpha;
    let per_token = model.lm.nll(output.dropped, window.targets).mean() + activation_regularisation;
    let gradients = GradientsParams::from_grads(per_token.backward(), &model);

    struct Same<'a> {
        ours: &'a GradientsParams,
        theirs: &'a GradientsParams,
        steps: f64,
        compared: usize,
    }
    impl ModuleVisitor for Same<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let ours = self.ours.get::<D>(param.id).expect("a gradient") * (1.0 / self.steps);
            let theirs = self.theirs.get::<D>(param.id).expect("a gradient");
            let largest = theirs.clone().abs().max().into_scalar::<f64>();
            let difference = (ours - theirs).abs().max().into_scalar::<f64>();
            // Other factors in another order: a few units in the last place of a double.
            assert!(difference <= 1e-14 * largest, "{difference} of {largest}");
            self.compared += 1;
        }
    }
    let mut same = Same { ours: &ours, theirs: &gradients, steps: seq_length as f64, compared: 0 };
    model.visit(&mut same);
    assert_eq!(same.compared, case.expected.gradients.len());
}

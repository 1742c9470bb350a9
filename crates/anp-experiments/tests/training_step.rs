//! One whole training step against PyTorch in float64, on every backend of this build.
//!
//! `reference/lstm_step.py` wrote `fixtures/lstm_step.json`: loss, penalties, states, every
//! gradient, the common norm, and the parameters after the update.

use anp_core::ActivationNormConfig;
use anp_experiments::text::batches::{LmBatch, Window};
use anp_experiments::text::{LmLearner, Objective, SitePenalty, WindowOutput};
use anp_models::{
    CellConfig, Kernels, LayerState, LmMasks, LmState, LstmCellConfig, RecurrentLmConfig,
};
use anp_testing::{
    Array, Arrays, RowsOf, TestDevice, assert_arrays_close, assert_close, fixture,
    optimizer_gradients, parameters, with_parameters,
};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Deserializer};

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
    #[serde(deserialize_with = "by_path")]
    parameters: Arrays,
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
    embedding: Option<Array>,
    between: Vec<Option<Array>>,
    output: Option<Array>,
}

#[derive(Deserialize)]
struct State {
    h: Array,
    c: Array,
}

#[derive(Deserialize)]
struct Expected {
    hidden: Vec<Array>,
    cell: Vec<Array>,
    output_dropped: Array,
    logits: Array,
    token_nll: Array,
    nll_sum: f64,
    penalties: Vec<f64>,
    #[serde(deserialize_with = "by_path")]
    gradients: Arrays,
    grad_norm: f64,
    #[serde(deserialize_with = "by_path")]
    updated: Arrays,
    final_state: State,
}

/// Arrays by the paths of parameters in the model; the fixture has other names.
fn by_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arrays, D::Error> {
    let path = |name: String| {
        [
            ("w_input", "Lstm.weight_input"),
            ("w_recurrent", "Lstm.weight_hidden"),
            ("b_input", "Lstm.bias_input"),
            ("b_recurrent", "Lstm.bias_hidden"),
            ("decoder.", "decoder_"),
        ]
        .into_iter()
        .fold(name, |name, (theirs, ours)| name.replace(theirs, ours))
    };
    let arrays = Arrays::deserialize(deserializer)?;
    Ok(arrays.into_iter().map(|(name, array)| (path(name), array)).collect())
}

fn cases() -> Vec<Case> {
    fixture::<Fixture>("lstm_step.json").cases
}

/// Every device of this build that is present, with either implementation.
fn places() -> impl Iterator<Item = (TestDevice, Kernels)> {
    let on = |device: &TestDevice| Kernels::ALL.map(|kernels| (device.autodiff(), kernels));
    TestDevice::all().iter().flat_map(on)
}

/// A value goes through about a hundred roundings.
fn tolerance(device: &TestDevice) -> f64 {
    // Burn's CPU backend is granted no more than the other CPUs.
    #[cfg(feature = "cpu")]
    if device.device.clone().inner() == burn::tensor::Device::cpu() {
        return 128.0 * f64::from(f32::EPSILON);
    }
    device.roundings(128.0)
}

fn learner(case: &Case, device: &TestDevice, kernels: Kernels) -> LmLearner {
    let config = &case.config;
    let cell = LstmCellConfig::new()
        .with_forget_bias(config.forget_bias)
        .with_num_biases(config.num_biases);
    let lm = RecurrentLmConfig::new(config.vocab_size, config.d_embed, config.d_hidden)
        .with_num_layers(config.num_layers)
        .with_cell(CellConfig::Lstm(cell))
        .with_tie_weights(config.tied)
        .with_kernels(kernels)
        .init(&device.device);
    let penalties = config
        .penalties
        .iter()
        .map(|penalty| SitePenalty {
            site: penalty.site.parse().expect("a site"),
            norm: ActivationNormConfig::new(penalty.eta).init(),
            temporal: false,
        })
        .collect();
    LmLearner {
        lm: with_parameters(lm, &case.parameters, device),
        objective: Objective { penalties, ..Objective::default() },
    }
}

fn state(case: &Case, device: &TestDevice) -> LmState {
    let hidden: Tensor<3> = case.initial_state.h.tensor(device);
    let cell: Tensor<3> = case.initial_state.c.tensor(device);
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

fn masks(case: &Case, device: &TestDevice) -> LmMasks {
    let tensor = |mask: &Option<Array>| mask.as_ref().map(|mask| mask.tensor(device));
    LmMasks {
        input: tensor(&case.masks.embedding),
        inter_layer: case.masks.between.iter().map(tensor).collect(),
        output: tensor(&case.masks.output),
        ..LmMasks::default()
    }
}

fn window(case: &Case, device: &TestDevice) -> Window {
    Window { inputs: case.inputs.tensor(device), targets: case.targets.tensor(device) }
}

/// What a step with the fixture's masks reports, and all gradients, each dense.
fn step(
    model: &LmLearner,
    case: &Case,
    device: &TestDevice,
) -> (WindowOutput, GradientsParams, Arrays) {
    let batch = LmBatch { window: window(case, device), state: Some(state(case, device)) };
    let output = model.step_with_masks(batch, &masks(case, device), None);
    let window = output.item.into_step();
    let rows = window.rows.clone();
    let rows = rows.map(|it| RowsOf { id: it.id, rows: it.rows, values: it.values });
    let dense = optimizer_gradients(&model.lm, &output.grads, rows);
    (window, output.grads, dense)
}

#[test]
fn forward_agrees_with_pytorch() {
    for (device, kernels) in places() {
        for case in cases() {
            let what = |what: &str| format!("{}, {kernels}, on {device:?}: {what}", case.name);
            let model = learner(&case, &device, kernels).lm;
            let (inputs, state) = (case.inputs.tensor(&device), state(&case, &device));
            let output = model.forward_with_masks(inputs, state, &masks(&case, &device));
            let expected = &case.expected;
            let check = |actual: Tensor<3>, expected: &Array, name: &str| {
                expected.assert_close(&what(name), actual, tolerance(&device));
            };
            for layer in 0..case.config.num_layers {
                check(output.hidden[layer].clone(), &expected.hidden[layer], "hidden");
                let cell = output.cell[layer].clone().expect("an LSTM has cells");
                check(cell, &expected.cell[layer], "cell");
            }
            check(output.dropped.clone(), &expected.output_dropped, "dropped output");
            check(model.logits(output.dropped.clone()), &expected.logits, "logits");
            let nll = model
                .nll(output.dropped, case.targets.tensor(&device))
                .reshape([case.config.seq_length, case.config.batch_size]);
            expected.token_nll.assert_close(&what("token nll"), nll, tolerance(&device));
            let last = |pick: fn(&LayerState) -> Option<Tensor<2>>| {
                Tensor::stack::<3>(output.state.layers.iter().filter_map(pick).collect(), 0)
            };
            let State { h, c } = &expected.final_state;
            check(last(|state| state.hidden.clone()), h, "final hidden state");
            check(last(|state| state.cell.clone()), c, "final cell state");
        }
    }
}

#[test]
fn a_whole_training_step_agrees_with_pytorch() {
    for (device, kernels) in places() {
        for case in cases() {
            let what = |what: &str| format!("{}, {kernels}, on {device:?}: {what}", case.name);
            let tolerance = tolerance(&device);
            let model = learner(&case, &device, kernels);
            let (window, gradients, dense) = step(&model, &case, &device);
            assert_arrays_close(&what("gradient"), &dense, &case.expected.gradients, tolerance);

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
            for (value, expected) in values.into_iter().zip(expected) {
                assert_close(&what("scalars"), &[value], &[expected], tolerance);
            }

            let updated = parameters(&model.lm);
            assert_arrays_close(&what("updated"), &updated, &case.expected.updated, tolerance);
        }
    }
}

/// The loss summed over the window with `half_sum`, divided by T, is the loss per token with
/// AWD-LSTM's activation regularisation at α = ηBH/2: the same value, and the same gradient of
/// every parameter.
#[test]
fn the_penalty_is_activation_regularisation_rescaled() {
    let place = places().find(|(device, _)| device.dtype == DType::F64);
    let (device, kernels) = place.expect("tests are built with flex");
    let case = cases().into_iter().find(|case| case.config.penalties.len() == 1).expect("a case");
    let Config { seq_length, batch_size, d_hidden, .. } = case.config;
    let eta = case.config.penalties[0].eta;
    let model = learner(&case, &device, kernels);
    let (_, _, mut ours) = step(&model, &case, &device);
    for array in ours.values_mut() {
        array.data.iter_mut().for_each(|value| *value *= 1.0 / seq_length as f64);
    }

    let Window { inputs, targets } = window(&case, &device);
    let output = model.lm.forward_with_masks(inputs, state(&case, &device), &masks(&case, &device));
    let alpha = eta * (batch_size * d_hidden) as f64 / 2.0;
    let activation_regularisation = output.dropped.clone().square().mean() * alpha;
    let per_token = model.lm.nll(output.dropped, targets).mean() + activation_regularisation;
    let gradients = GradientsParams::from_grads(per_token.backward(), &model);
    let theirs = optimizer_gradients(&model.lm, &gradients, None);
    // Other factors in another order: a few units in the last place of a double.
    assert_arrays_close("gradient", &ours, &theirs, 1e-14);
    assert_eq!(ours.len(), case.expected.gradients.len());
}

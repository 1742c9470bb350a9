//! Whole language models over one window against PyTorch in float64: loss, gradients of all
//! parameters, final states.
//!
//! `reference/systems.py` wrote `fixtures/*.json`.

use anp_kernels::sru::Activation;
use anp_models::{
    CellConfig, Kernels, LayerMasks, LayerState, LmMasks, LmState, LstmCellConfig, MixtureOver,
    NasCellConfig, PointerConfig, PointerState, RecurrentLm, RecurrentLmConfig, RhnCellConfig,
    ScaleMixture, SruCellConfig, StochasticConfig,
};
use anp_testing::{
    Array, Arrays, TestDevice, assert_arrays_close, assert_close, fixture, gradients, values,
    with_parameters,
};
use burn::tensor::{DType, Device, Tensor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    tokens: Array<i64>,
    targets: Array<i64>,
    parameters: Arrays,
    state: Vec<State>,
    masks: Masks,
    loss: f64,
    gradients: Arrays,
    final_state: Vec<State>,
    pointer: Option<Pointer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pointer {
    states: Array,
    words: Array<i64>,
    final_states: Array,
    final_words: Array<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    hidden: Option<Array>,
    cell: Option<Array>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Masks {
    words: Option<Array>,
    input: Option<Array>,
    inter_layer: Vec<Option<Array>>,
    layers: Vec<InnerMasks>,
    output: Option<Array>,
    noise: Option<Array>,
    #[serde(default)]
    weights: Vec<Array>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InnerMasks {
    product: Option<Array>,
    recurrent: Option<Array>,
    weight: Option<Array>,
}

/// What the divergence of a noisy output counts in the fixtures' loss.
const INFORMATION_WEIGHT: f64 = 0.03;
/// What the supervision of a pointer counts.
const SUPERVISION_WEIGHT: f64 = 0.7;
/// What the divergence of drawn weights counts.
const DIVERGENCE_WEIGHT: f64 = 0.02;

fn mask(mask: &Option<Array>, device: &TestDevice) -> Option<Tensor<3>> {
    mask.as_ref().map(|mask| mask.tensor(device))
}

fn lm_masks(masks: &Masks, device: &TestDevice) -> LmMasks {
    let inside = |masks: &InnerMasks| LayerMasks {
        input: mask(&masks.product, device),
        recurrent: mask(&masks.recurrent, device),
        weight: mask(&masks.weight, device),
    };
    LmMasks {
        words: mask(&masks.words, device),
        input: mask(&masks.input, device),
        inter_layer: masks.inter_layer.iter().map(|it| mask(it, device)).collect(),
        layers: masks.layers.iter().map(inside).collect(),
        output: mask(&masks.output, device),
        noise: mask(&masks.noise, device),
    }
}

fn lm_state(case: &Case, device: &TestDevice) -> LmState {
    let layer = |state: &State| LayerState {
        hidden: state.hidden.as_ref().map(|hidden| hidden.tensor(device)),
        cell: state.cell.as_ref().map(|cell| cell.tensor(device)),
    };
    let pointer = case.pointer.as_ref().map(|pointer| PointerState {
        states: pointer.states.tensor(device),
        words: pointer.words.tensor(device),
    });
    LmState { layers: case.state.iter().map(layer).collect(), pointer }
}

fn assert_state_close(
    what: &str,
    actual: Option<Tensor<2>>,
    expected: Option<&Array>,
    tolerance: f64,
) {
    match (actual, expected) {
        (Some(actual), Some(expected)) => expected.assert_close(what, actual, tolerance),
        (actual, expected) => {
            assert_eq!(actual.is_some(), expected.is_some(), "{what}: a state too few or too many");
        }
    }
}

/// Compare the model of `config` with the fixture, on the CPU in both precisions and with both
/// implementations, and on a GPU.
fn agrees(name: &str, config: &RecurrentLmConfig) {
    let case: Case = fixture(&format!("{name}.json"));
    let cpus = [DType::F64, DType::F32].map(|dtype| TestDevice { device: Device::flex(), dtype });
    let on_cpus = cpus.iter().flat_map(|cpu| Kernels::ALL.map(|kernels| (cpu.clone(), kernels)));
    // Each shader takes a software driver a tenth of a second to compile.
    let on_gpu = TestDevice::wgpu().map(|gpu| (gpu, Kernels::Fused));
    for (device, kernels) in on_cpus.chain(on_gpu) {
        agrees_on(&device.autodiff(), name, &case, &config.clone().with_kernels(kernels));
    }
}

/// Rounding, added up over five steps and some layers: hundreds of units in the last place.
/// Shaders may approximate exponentials more coarsely than the CPU's library does.
fn tolerance(device: &TestDevice) -> f64 {
    match (device.dtype, device.is_cpu()) {
        (DType::F64, _) => 1e-13,
        (_, true) => 1e-5,
        (_, false) => 1e-4,
    }
}

fn agrees_on(device: &TestDevice, name: &str, case: &Case, config: &RecurrentLmConfig) {
    let what = format!("{name}, {}, on {device:?}", config.kernels);
    let tolerance = tolerance(device);
    let model: RecurrentLm = with_parameters(config.init(&device.device), &case.parameters, device);

    let weights = &case.masks.weights;
    let drawn = (!weights.is_empty())
        .then(|| model.draw_weights(weights.iter().map(|noise| noise.tensor(device)).collect()));
    let lm = drawn.as_ref().map_or(&model, |drawn| &drawn.lm);
    let output = lm.forward_with_masks(
        case.tokens.tensor(device),
        lm_state(case, device),
        &lm_masks(&case.masks, device),
    );
    assert_eq!(output.state.layers.len(), case.final_state.len(), "{what}: other layers");
    for (layer, (actual, expected)) in
        output.state.layers.into_iter().zip(&case.final_state).enumerate()
    {
        let what = format!("{what}: layer {layer}'s final state");
        assert_state_close(&what, actual.hidden, expected.hidden.as_ref(), tolerance);
        assert_state_close(&what, actual.cell, expected.cell.as_ref(), tolerance);
    }

    let targets = case.targets.tensor(device);
    let nll = lm.nll(output.dropped, targets.clone());
    let mut supervision = None;
    let nll = match output.pointing {
        Some(pointing) => {
            let terms = pointing.mix(nll, targets);
            supervision = Some(terms.supervision);
            terms.nll
        }
        None => nll,
    };
    assert_eq!(output.state.pointer.is_some(), case.pointer.is_some(), "{what}: a pointer");
    if let (Some(actual), Some(expected)) = (output.state.pointer, &case.pointer) {
        let what = format!("{what}: what can be pointed at");
        expected.final_states.assert_close(&what, actual.states, tolerance);
        let words: Vec<i64> = actual.words.into_data().iter::<i64>().collect();
        assert_eq!(words, expected.final_words.data, "{what}");
    }
    // Summed over the steps, averaged over the batch. Burn differentiates a division in single
    // precision.
    let mut loss = nll.sum().mul_scalar(1.0 / case.tokens.shape[1] as f64);
    if let Some(supervision) = supervision {
        loss = loss + supervision.sum() * (SUPERVISION_WEIGHT / case.tokens.shape[1] as f64);
    }
    if let (Some(stochastic), Some(mean)) = (&model.stochastic, output.mean) {
        loss = loss + stochastic.divergence(mean) * INFORMATION_WEIGHT;
    }
    if let Some(drawn) = drawn {
        loss = loss + drawn.divergence * DIVERGENCE_WEIGHT;
    }
    assert_close(&format!("{what}: loss"), &values(loss.clone()), &[case.loss], tolerance);

    let gradients = gradients(&model, &loss.backward());
    assert_arrays_close(&format!("{what}: gradients"), &gradients, &case.gradients, tolerance);
}

/// A model without dropout of its own: [`RecurrentLm::forward_with_masks`] is given the masks.
fn config(
    cell: CellConfig,
    num_layers: usize,
    [d_embed, d_hidden, d_output]: [usize; 3],
) -> RecurrentLmConfig {
    RecurrentLmConfig::new(11, d_embed, d_hidden)
        .with_d_output(Some(d_output))
        .with_num_layers(num_layers)
        .with_cell(cell)
}

fn lstm(num_biases: usize, forget_bias: f64) -> CellConfig {
    let config = LstmCellConfig::new().with_num_biases(num_biases);
    CellConfig::Lstm(config.with_forget_bias(forget_bias))
}

fn sru(activation: Activation) -> CellConfig {
    CellConfig::Sru(SruCellConfig::new().with_activation(activation))
}

fn rhn() -> CellConfig {
    CellConfig::Rhn(RhnCellConfig::new(3))
}

fn nas() -> CellConfig {
    CellConfig::Nas(NasCellConfig::new())
}

/// Gates share their masks; words are dropped by type.
#[test]
fn vd_lstm() {
    let config = config(lstm(1, 0.0), 2, [3, 4, 5]);
    agrees("vd_lstm", &config);
}

/// Embedding and decoder share their weight; two biases and a constant on the forget gate; the
/// inputs' masks are inside the layers.
#[test]
fn vd_lstm_tied() {
    let config = config(lstm(2, 1.0), 2, [4, 5, 4]).with_tie_weights(true);
    agrees("vd_lstm_tied", &config);
}

/// Each gate has its own masks, on the input and on the recurrence.
#[test]
fn vd_lstm_separate() {
    let config = config(lstm(1, 0.0), 2, [3, 4, 4]);
    agrees("vd_lstm_separate", &config);
}

/// Layers wider, as wide and narrower than their input; one mask per step on embedding and output.
#[test]
fn sru_identity() {
    let config = config(sru(Activation::Identity), 3, [4, 5, 4]).with_tie_weights(true);
    agrees("sru", &config);
}

#[test]
fn sru_tanh() {
    let config = config(sru(Activation::Tanh), 2, [3, 4, 4]);
    agrees("sru_tanh", &config);
}

/// Both gates of all micro-steps share a mask.
#[test]
fn rhn_shared() {
    let config = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn", &config);
}

/// Each gate has its own recurrent mask; the input's is inside the layer.
#[test]
fn rhn_separate() {
    let config = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn_separate", &config);
}

/// The paper's Bayesian information penalty: noise on the output, which the next step sees or not.
#[test]
fn information() {
    for (name, in_recurrence) in [("information", true), ("information_outside", false)] {
        let stochastic = Some(StochasticConfig { initial_sigma: 0.1, in_recurrence });
        let config = config(lstm(1, 1.0), 2, [3, 4, 5]).with_stochastic(stochastic);
        agrees(name, &config);
    }
}

/// A pointer to words of this window and of earlier ones, further back than the window is long and
/// less far.
#[test]
fn pointer() {
    for (name, window, state_gradient) in
        [("pointer", 7, true), ("pointer_short", 3, true), ("pointer_detached", 7, false)]
    {
        let pointer = Some(PointerConfig { window, state_gradient });
        let config = config(lstm(1, 0.0), 2, [3, 4, 5]).with_pointer(pointer);
        agrees(name, &config);
    }
}

/// Bayes by Backprop: all weights drawn, with a prior of single weights or of rows; embedding and
/// decoder the same draw.
#[test]
fn bayes() {
    let prior = |over| Some(ScaleMixture { pi: 0.25, log_sigma1: 0.0, log_sigma2: -1.0, over });
    let untied = config(lstm(1, 0.0), 2, [3, 4, 5]).with_posterior(prior(MixtureOver::Weight));
    agrees("bayes", &untied);
    let tied = config(lstm(2, 1.0), 2, [4, 5, 4]).with_tie_weights(true);
    let tied = tied.with_posterior(prior(MixtureOver::Row));
    agrees("bayes_row", &tied);
}

#[test]
fn nas_cell() {
    let config = config(nas(), 2, [3, 4, 5]);
    agrees("nas", &config);
}

/// AWD-LSTM: recurrent matrices with elements dropped, words dropped in all sequences together, a
/// narrow last layer.
#[test]
fn awd_lstm() {
    let config = config(lstm(2, 0.0), 3, [4, 6, 4]).with_tie_weights(true);
    agrees("awd_lstm", &config);
}

/// The recurrent matrices of the other cells, beside masks on what they multiply.
#[test]
fn weight_drop() {
    let rhn = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn_weight_drop", &rhn);
    let nas = config(nas(), 2, [3, 4, 5]);
    agrees("nas_weight_drop", &nas);
}

//! Whole language models over one window against PyTorch in float64: loss, gradients of all
//! parameters, final states.
//!
//! `reference/systems.py` wrote `fixtures/*.json`.

#[path = "../../anp-kernels/tests/support/gpu.rs"]
mod gpu;

use std::collections::BTreeMap;

use anp_kernels::sru::Activation;
use anp_models::{
    CellConfig, Kernels, LayerMasks, LayerState, LmMasks, LmState, LstmCellConfig, MixtureOver,
    NasCellConfig, PointerConfig, PointerState, RecurrentLm, RecurrentLmConfig, RhnCellConfig,
    ScaleMixture, SruCellConfig, StochasticConfig,
};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Gradients, Int, Tensor, TensorData};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    tokens: Array,
    targets: Array,
    parameters: BTreeMap<String, Array>,
    state: Vec<State>,
    masks: Masks,
    loss: f64,
    gradients: BTreeMap<String, Array>,
    final_state: Vec<State>,
    pointer: Option<Pointer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pointer {
    states: Array,
    words: Array,
    final_states: Array,
    final_words: Array,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
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

/// Where and how precisely to compute.
#[derive(Debug, Clone)]
struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    fn tensor<const D: usize>(&self, array: &Array) -> Tensor<D> {
        let data = TensorData::new(array.data.clone(), array.shape.clone());
        Tensor::from_data(data, (&self.device, self.dtype))
    }

    fn tokens(&self, array: &Array) -> Tensor<2, Int> {
        let tokens: Vec<i64> = array.data.iter().map(|&token| token as i64).collect();
        Tensor::from_data(TensorData::new(tokens, array.shape.clone()), &self.device)
    }

    fn mask(&self, array: &Option<Array>) -> Option<Tensor<3>> {
        array.as_ref().map(|array| self.tensor(array))
    }

    fn masks(&self, masks: &Masks) -> LmMasks {
        let inside = |masks: &InnerMasks| LayerMasks {
            input: self.mask(&masks.product),
            recurrent: self.mask(&masks.recurrent),
            weight: self.mask(&masks.weight),
        };
        LmMasks {
            words: self.mask(&masks.words),
            input: self.mask(&masks.input),
            inter_layer: masks.inter_layer.iter().map(|mask| self.mask(mask)).collect(),
            layers: masks.layers.iter().map(inside).collect(),
            output: self.mask(&masks.output),
            noise: self.mask(&masks.noise),
        }
    }

    fn state(&self, layers: &[State], pointer: Option<&Pointer>) -> LmState {
        let layer = |state: &State| LayerState {
            hidden: state.hidden.as_ref().map(|hidden| self.tensor(hidden)),
            cell: state.cell.as_ref().map(|cell| self.tensor(cell)),
        };
        let pointer = pointer.map(|pointer| PointerState {
            states: self.tensor(&pointer.states),
            words: self.tokens(&pointer.words),
        });
        LmState { layers: layers.iter().map(layer).collect(), pointer }
    }
}

/// Gives each parameter its value of the fixture, by its path in the model.
struct Load<'a> {
    place: &'a Place,
    parameters: &'a BTreeMap<String, Array>,
    path: Vec<String>,
    num_loaded: usize,
}

impl ModuleMapper for Load<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let array =
            self.parameters.get(&path).unwrap_or_else(|| panic!("the fixture has no `{path}`"));
        assert_eq!(param.dims().to_vec(), array.shape, "{path} has another shape");
        self.num_loaded += 1;
        param.map(|_| self.place.tensor(array).require_grad())
    }
}

/// Compares the gradient of each parameter, by its path in the model.
struct CompareGradients<'a> {
    what: &'a str,
    gradients: &'a Gradients,
    expected: &'a BTreeMap<String, Array>,
    tolerance: f64,
    path: Vec<String>,
    num_compared: usize,
}

impl ModuleVisitor for CompareGradients<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.join(".");
        let what = format!("{}: {path}'s gradient", self.what);
        let gradient = param.val().grad(self.gradients);
        let gradient = gradient.unwrap_or_else(|| panic!("{what} is missing"));
        assert_close(&what, gradient, &self.expected[&path], self.tolerance);
        self.num_compared += 1;
    }
}

/// Panic if two tensors differ by more than `tolerance` times the largest magnitude of the expected
/// one.
fn assert_close<const D: usize>(what: &str, actual: Tensor<D>, expected: &Array, tolerance: f64) {
    assert_eq!(actual.dims().to_vec(), expected.shape, "{what} has another shape");
    let scale = expected.data.iter().fold(1e-30, |max: f64, x| max.max(x.abs()));
    for (index, (a, e)) in actual.into_data().iter::<f64>().zip(&expected.data).enumerate() {
        let error = (a - e).abs() / scale;
        assert!(error <= tolerance, "{what}[{index}] is {a}, expected {e} ({error:e})");
    }
}

fn assert_state_close(
    what: &str,
    actual: Option<Tensor<2>>,
    expected: Option<&Array>,
    tolerance: f64,
) {
    match (actual, expected) {
        (Some(actual), Some(expected)) => assert_close(what, actual, expected, tolerance),
        (actual, expected) => {
            assert_eq!(actual.is_some(), expected.is_some(), "{what}: a state too few or too many");
        }
    }
}

/// Compare the model of `config` with the fixture, on the CPU in both precisions and with both
/// implementations, and on a GPU.
fn agrees(name: &str, fixture: &str, config: &RecurrentLmConfig) {
    let case: Case = serde_json::from_str(fixture).expect("the fixture is valid");
    // Rounding, added up over five steps and some layers: hundreds of units in the last place.
    // Shaders may approximate exponentials more coarsely than the CPU's library does.
    let places = [
        (Place { device: Device::flex(), dtype: DType::F64 }, 1e-13),
        (Place { device: Device::flex(), dtype: DType::F32 }, 1e-5),
    ];
    let mut runs: Vec<_> = places
        .into_iter()
        .flat_map(|(place, tolerance)| {
            Kernels::ALL.map(|kernels| (place.clone(), kernels, tolerance))
        })
        .collect();
    // Each shader takes a software driver a tenth of a second to compile.
    let on_gpu = |device| (Place { device, dtype: DType::F32 }, Kernels::Fused, 1e-4);
    runs.extend(gpu::wgpu().map(on_gpu));
    for (place, kernels, tolerance) in runs {
        let place = Place { device: place.device.autodiff(), ..place };
        let what = format!("{name}, {kernels}, on {place:?}");
        let config = config.clone().with_kernels(kernels);
        agrees_in(&what, &case, &config, &place, tolerance);
    }
}

fn agrees_in(what: &str, case: &Case, config: &RecurrentLmConfig, place: &Place, tolerance: f64) {
    let mut load = Load { place, parameters: &case.parameters, path: Vec::new(), num_loaded: 0 };
    let model: RecurrentLm = config.init(&place.device).map(&mut load);
    assert_eq!(load.num_loaded, case.parameters.len(), "{what}: the model lacks a parameter");

    let weights = &case.masks.weights;
    let drawn = (!weights.is_empty())
        .then(|| model.draw_weights(weights.iter().map(|noise| place.tensor(noise)).collect()));
    let lm = drawn.as_ref().map_or(&model, |drawn| &drawn.lm);
    let output = lm.forward_with_masks(
        place.tokens(&case.tokens),
        place.state(&case.state, case.pointer.as_ref()),
        &place.masks(&case.masks),
    );
    assert_eq!(output.state.layers.len(), case.final_state.len(), "{what}: other layers");
    for (layer, (actual, expected)) in
        output.state.layers.into_iter().zip(&case.final_state).enumerate()
    {
        let what = format!("{what}: layer {layer}'s final state");
        assert_state_close(&what, actual.hidden, expected.hidden.as_ref(), tolerance);
        assert_state_close(&what, actual.cell, expected.cell.as_ref(), tolerance);
    }

    let targets = place.tokens(&case.targets);
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
        assert_close(&what, actual.states, &expected.final_states, tolerance);
        let words: Vec<f64> = actual.words.into_data().iter::<f64>().collect();
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
    let expected = Array { shape: vec![1], data: vec![case.loss] };
    assert_close(&format!("{what}: loss"), loss.clone(), &expected, tolerance);

    let mut compare = CompareGradients {
        what,
        gradients: &loss.backward(),
        expected: &case.gradients,
        tolerance,
        path: Vec::new(),
        num_compared: 0,
    };
    model.visit(&mut compare);
    assert_eq!(compare.num_compared, case.gradients.len(), "{what}: a gradient was not compared");
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
    agrees("vd_lstm", include_str!("fixtures/vd_lstm.json"), &config);
}

/// Embedding and decoder share their weight; two biases and a constant on the forget gate; the
/// inputs' masks are inside the layers.
#[test]
fn vd_lstm_tied() {
    let config = config(lstm(2, 1.0), 2, [4, 5, 4]).with_tie_weights(true);
    agrees("vd_lstm_tied", include_str!("fixtures/vd_lstm_tied.json"), &config);
}

/// Each gate has its own masks, on the input and on the recurrence.
#[test]
fn vd_lstm_separate() {
    let config = config(lstm(1, 0.0), 2, [3, 4, 4]);
    agrees("vd_lstm_separate", include_str!("fixtures/vd_lstm_separate.json"), &config);
}

/// Layers wider, as wide and narrower than their input; one mask per step on embedding and output.
#[test]
fn sru_identity() {
    let config = config(sru(Activation::Identity), 3, [4, 5, 4]).with_tie_weights(true);
    agrees("sru", include_str!("fixtures/sru.json"), &config);
}

#[test]
fn sru_tanh() {
    let config = config(sru(Activation::Tanh), 2, [3, 4, 4]);
    agrees("sru_tanh", include_str!("fixtures/sru_tanh.json"), &config);
}

/// Both gates of all micro-steps share a mask.
#[test]
fn rhn_shared() {
    let config = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn", include_str!("fixtures/rhn.json"), &config);
}

/// Each gate has its own recurrent mask; the input's is inside the layer.
#[test]
fn rhn_separate() {
    let config = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn_separate", include_str!("fixtures/rhn_separate.json"), &config);
}

/// The paper's Bayesian information penalty: noise on the output, which the next step sees or not.
#[test]
fn information() {
    for (name, fixture, in_recurrence) in [
        ("information", include_str!("fixtures/information.json"), true),
        ("information_outside", include_str!("fixtures/information_outside.json"), false),
    ] {
        let stochastic = Some(StochasticConfig { initial_sigma: 0.1, in_recurrence });
        let config = config(lstm(1, 1.0), 2, [3, 4, 5]).with_stochastic(stochastic);
        agrees(name, fixture, &config);
    }
}

/// A pointer to words of this window and of earlier ones, further back than the window is long and
/// less far.
#[test]
fn pointer() {
    for (name, fixture, window, state_gradient) in [
        ("pointer", include_str!("fixtures/pointer.json"), 7, true),
        ("pointer_short", include_str!("fixtures/pointer_short.json"), 3, true),
        ("pointer_detached", include_str!("fixtures/pointer_detached.json"), 7, false),
    ] {
        let pointer = Some(PointerConfig { window, state_gradient });
        let config = config(lstm(1, 0.0), 2, [3, 4, 5]).with_pointer(pointer);
        agrees(name, fixture, &config);
    }
}

/// Bayes by Backprop: all weights drawn, with a prior of single weights or of rows; embedding and
/// decoder the same draw.
#[test]
fn bayes() {
    let prior = |over| Some(ScaleMixture { pi: 0.25, log_sigma1: 0.0, log_sigma2: -1.0, over });
    let untied = config(lstm(1, 0.0), 2, [3, 4, 5]).with_posterior(prior(MixtureOver::Weight));
    agrees("bayes", include_str!("fixtures/bayes.json"), &untied);
    let tied = config(lstm(2, 1.0), 2, [4, 5, 4]).with_tie_weights(true);
    let tied = tied.with_posterior(prior(MixtureOver::Row));
    agrees("bayes_row", include_str!("fixtures/bayes_row.json"), &tied);
}

#[test]
fn nas_cell() {
    let config = config(nas(), 2, [3, 4, 5]);
    agrees("nas", include_str!("fixtures/nas.json"), &config);
}

/// AWD-LSTM: recurrent matrices with elements dropped, words dropped in all sequences together, a
/// narrow last layer.
#[test]
fn awd_lstm() {
    let config = config(lstm(2, 0.0), 3, [4, 6, 4]).with_tie_weights(true);
    agrees("awd_lstm", include_str!("fixtures/awd_lstm.json"), &config);
}

/// The recurrent matrices of the other cells, beside masks on what they multiply.
#[test]
fn weight_drop() {
    let rhn = config(rhn(), 1, [3, 4, 4]);
    agrees("rhn_weight_drop", include_str!("fixtures/rhn_weight_drop.json"), &rhn);
    let nas = config(nas(), 2, [3, 4, 5]);
    agrees("nas_weight_drop", include_str!("fixtures/nas_weight_drop.json"), &nas);
}

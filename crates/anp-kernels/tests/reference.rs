//! Values and gradients of every operation against PyTorch in float64: `reference/kernels.py` wrote `fixtures/*.json`.

mod support;

use std::collections::BTreeMap;

use anp_kernels::Kernels;
use anp_kernels::lstm::{LstmInputs, LstmSequence, LstmState};
use burn::tensor::{DType, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use support::{Place, assert_close, values};

#[derive(Deserialize)]
struct Fixture<O> {
    cases: Vec<Case<O>>,
}

/// `gradients` are those of `Σ outputs ⊙ upstream`.
#[derive(Deserialize)]
struct Case<O> {
    name: String,
    #[serde(flatten)]
    options: O,
    inputs: BTreeMap<String, Array>,
    outputs: BTreeMap<String, Array>,
    upstream: BTreeMap<String, Array>,
    gradients: BTreeMap<String, Array>,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

/// The inputs of a case. Leaves are flat, so that those of every rank lie in one map.
struct Inputs {
    leaves: BTreeMap<String, (Tensor<1>, Vec<usize>)>,
}

impl Inputs {
    fn new<O>(case: &Case<O>, place: &Place) -> Self {
        let leaf = |(name, array): (&String, &Array)| {
            let tensor = place.tensor(array.data.clone(), [array.data.len()]);
            let tracked = case.gradients.contains_key(name);
            (name.clone(), (tensor.set_require_grad(tracked), array.shape.clone()))
        };
        Self { leaves: case.inputs.iter().map(leaf).collect() }
    }

    fn find<const D: usize>(&self, name: &str) -> Option<Tensor<D>> {
        let (leaf, shape) = self.leaves.get(name)?;
        let shape: [usize; D] = shape.clone().try_into().expect("the input has this rank");
        Some(leaf.clone().reshape(shape))
    }

    fn get<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.find(name).unwrap_or_else(|| panic!("the case has no `{name}`"))
    }
}

type Outputs = BTreeMap<&'static str, Tensor<1>>;

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.flatten(0, D - 1)
}

fn assert_array(what: &str, actual: Tensor<1>, expected: &Array, tolerance: f64) {
    let expected = vec![("values", expected.data.clone())];
    assert_close(what, &vec![("values", values(actual))], &expected, tolerance);
}

/// Compare outputs and gradients of every case of `fixture` on every device, and of the compositions on the host.
fn agrees<O: DeserializeOwned>(
    fixture: &str,
    num_cases: usize,
    forward: impl Fn(Kernels, &O, &Inputs) -> Outputs,
) {
    let cases = serde_json::from_str::<Fixture<O>>(fixture).expect("the fixture is valid").cases;
    assert_eq!(cases.len(), num_cases, "a case is missing");
    for place in Place::all() {
        for case in &cases {
            agrees_in(case, place, Kernels::Fused, place.tolerance(), &forward);
            if place.is_host() {
                agrees_in(case, place, Kernels::Plain, plain_tolerance(place), &forward);
            }
        }
    }
}

/// On ndarray, Burn's sigmoid computes in single precision, whatever the type of its input.
fn plain_tolerance(place: &Place) -> f64 {
    let single = Place { dtype: DType::F32, ..place.clone() };
    let on_ndarray = format!("{:?}", place.device).contains("NdArray");
    if on_ndarray { single.tolerance() } else { place.tolerance() }
}

fn agrees_in<O>(
    case: &Case<O>,
    place: &Place,
    kernels: Kernels,
    tolerance: f64,
    forward: impl Fn(Kernels, &O, &Inputs) -> Outputs,
) {
    let place = &place.autodiff();
    let what = format!("{}, {kernels}, on {place:?}", case.name);
    let inputs = Inputs::new(case, place);
    let mut outputs = forward(kernels, &case.options, &inputs);
    assert_eq!(outputs.len(), case.outputs.len(), "{what}: other outputs");
    let mut losses = Vec::new();
    for (name, expected) in &case.outputs {
        let output = outputs.remove(name.as_str()).expect("the output is computed");
        assert_array(&format!("{what}: {name}"), output.clone(), expected, tolerance);
        if let Some(upstream) = case.upstream.get(name) {
            let upstream = place.tensor(upstream.data.clone(), output.dims());
            losses.push((output * upstream).sum());
        }
    }
    let gradients = Tensor::cat(losses, 0).sum().backward();
    for (name, expected) in &case.gradients {
        let what = format!("{what}: {name}'s gradient");
        let (leaf, _) = &inputs.leaves[name];
        let gradient = leaf.grad(&gradients).unwrap_or_else(|| panic!("{what} is missing"));
        assert_array(&what, gradient, expected, tolerance);
    }
}

#[derive(Deserialize)]
struct LstmOptions {
    forget_bias: f64,
}

#[test]
fn lstm() {
    agrees(include_str!("fixtures/lstm.json"), 7, |kernels, options: &LstmOptions, inputs| {
        let LstmSequence { hidden, cell, .. } = kernels.lstm_sequence(LstmInputs {
            gates: inputs.get("gates"),
            bias: inputs.get("bias"),
            weight_hidden: inputs.get("weight_hidden"),
            mask: inputs.find("mask"),
            state: LstmState { hidden: inputs.get("hidden0"), cell: inputs.get("cell0") },
            forget_bias: options.forget_bias,
        });
        Outputs::from([("hidden", flat(hidden)), ("cell", flat(cell))])
    });
}

#[derive(Deserialize)]
struct StackedLstmOptions {
    num_layers: usize,
    bias: bool,
}

/// `torch.nn.LSTM` itself: weights are the transposes of its own.
#[test]
fn stacked_lstm() {
    let fixture = include_str!("fixtures/stacked_lstm.json");
    agrees(fixture, 3, |kernels, options: &StackedLstmOptions, inputs| {
        let mut output = inputs.get::<3>("input");
        let [hidden0, cell0] = ["hidden0", "cell0"].map(|name| inputs.get::<3>(name));
        let (mut hidden, mut cell) = (Vec::new(), Vec::new());
        for layer in 0..options.num_layers {
            let weight = |name| inputs.get::<2>(&format!("weight_{name}_l{layer}")).transpose();
            let bias = |name| inputs.get::<1>(&format!("bias_{name}_l{layer}"));
            let weight_hidden = weight("hh");
            let [_, d_gates] = weight_hidden.dims();
            let bias = match options.bias {
                true => bias("ih") + bias("hh"),
                false => Tensor::zeros([d_gates], (&output.device(), output.dtype())),
            };
            let first = |states: &Tensor<3>| states.clone().narrow(0, layer, 1).squeeze_dim(0);
            let result = kernels.lstm_sequence(LstmInputs {
                gates: output.matmul(weight("ih").unsqueeze()),
                bias,
                weight_hidden,
                mask: None,
                state: LstmState { hidden: first(&hidden0), cell: first(&cell0) },
                forget_bias: 0.0,
            });
            output = result.hidden;
            hidden.push(flat(result.state.hidden));
            cell.push(flat(result.state.cell));
        }
        Outputs::from([
            ("output", flat(output)),
            ("hidden", Tensor::cat(hidden, 0)),
            ("cell", Tensor::cat(cell, 0)),
        ])
    });
}

//! Values and gradients of every operation against PyTorch in float64. `reference/kernels.py` wrote
//! `fixtures/*.json`.

use std::collections::BTreeMap;

use anp_kernels::batch_norm::{BatchNormInputs, BatchStatistics};
use anp_kernels::conv2d::{Conv2dInputs, Conv2dOptions};
use anp_kernels::cross_entropy::{LinearCrossEntropyInputs, LogitTerms};
use anp_kernels::lstm::{LstmInputs, LstmSequence, LstmState};
use anp_kernels::nn::BatchNorm2dConfig;
use anp_kernels::rhn::RhnInputs;
use anp_kernels::sgd::{ClippedSgd, Momentum, RowGradient, WeightDecay};
use anp_kernels::sru::{Activation, SruInputs, SruSequence};
use anp_kernels::{Kernels, MatmulPrecision};
use anp_testing::{Array, Arrays, TestDevice, assert_close, assert_values_close, fixture, values};
use burn::module::{Module, Param, RunningState};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Int, Tensor};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Fixture<O> {
    cases: Vec<Case<O>>,
}

/// `gradients` are those of `Σ outputs ⊙ upstream`.
#[derive(Deserialize)]
struct Case<O> {
    name: String,
    #[serde(default)]
    precision: MatmulPrecision,
    #[serde(flatten)]
    options: O,
    inputs: Arrays,
    outputs: Arrays,
    upstream: Arrays,
    gradients: Arrays,
}

/// The inputs of a case. Leaves are flat, so that those of every rank lie in one map.
struct Inputs {
    leaves: BTreeMap<String, (Tensor<1>, Vec<usize>)>,
    precision: MatmulPrecision,
}

impl Inputs {
    fn new<O>(case: &Case<O>, device: &TestDevice) -> Self {
        let leaf = |(name, array): (&String, &Array)| {
            let tensor = device.tensor(array.data.clone(), [array.data.len()]);
            let tracked = device.device.is_autodiff() && case.gradients.contains_key(name);
            let tensor = if tracked { tensor.require_grad() } else { tensor };
            (name.clone(), (tensor, array.shape.clone()))
        };
        Self { leaves: case.inputs.iter().map(leaf).collect(), precision: case.precision }
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

/// All cases on the CPU, every third elsewhere: a software GPU takes seconds to compile the shaders
/// of each.
fn few_on_gpus<'a, C>(
    cases: &'a [C],
    device: &TestDevice,
) -> impl Iterator<Item = &'a C> + use<'a, C> {
    cases.iter().step_by(if device.is_cpu() { 1 } else { 3 })
}

/// Compare outputs and gradients of the cases in the file `name` on every device, and on CPUs also
/// those of the references, and outputs without a graph.
fn agrees<O: DeserializeOwned>(
    name: &str,
    num_cases: usize,
    forward: impl Fn(Kernels, &O, &Inputs) -> Outputs,
) {
    let cases = fixture::<Fixture<O>>(name).cases;
    assert_eq!(cases.len(), num_cases, "a case is missing");
    for device in TestDevice::all() {
        for case in few_on_gpus(&cases, device) {
            let training = &device.autodiff();
            let is_rounded = case.precision == MatmulPrecision::Bf16;
            let has_reference = !is_rounded || device.device.supports_dtype(DType::BF16);
            let [fused, plain] = [device.tolerance(), plain_tolerance(device)].map(|tolerance| {
                // An operand that is off in its last place may be rounded to the next number.
                if is_rounded && device.dtype != DType::F64 { 2_f64.powi(-8) } else { tolerance }
            });
            if device.is_cpu() || has_reference {
                agrees_in(case, training, Kernels::Fused, fused, &forward);
            }
            if device.is_cpu() {
                agrees_in(case, device, Kernels::Fused, fused, &forward);
                if has_reference {
                    agrees_in(case, training, Kernels::Plain, plain, &forward);
                }
            }
        }
    }
}

/// On ndarray, Burn's sigmoid computes in single precision, whatever the type of its input.
fn plain_tolerance(device: &TestDevice) -> f64 {
    let single = TestDevice { dtype: DType::F32, ..device.clone() };
    let on_ndarray = format!("{:?}", device.device).contains("NdArray");
    if on_ndarray { single.tolerance() } else { device.tolerance() }
}

fn agrees_in<O>(
    case: &Case<O>,
    device: &TestDevice,
    kernels: Kernels,
    tolerance: f64,
    forward: impl Fn(Kernels, &O, &Inputs) -> Outputs,
) {
    let what = format!("{}, {kernels}, on {device:?}", case.name);
    let inputs = Inputs::new(case, device);
    let mut outputs = forward(kernels, &case.options, &inputs);
    assert_eq!(outputs.len(), case.outputs.len(), "{what}: other outputs");
    let mut losses = Vec::new();
    for (name, expected) in &case.outputs {
        let output = outputs.remove(name.as_str()).expect("the output is computed");
        let what = format!("{what}: {name}");
        assert_close(&what, &values(output.clone()), &expected.data, tolerance);
        if let Some(upstream) = case.upstream.get(name) {
            let upstream = device.tensor(upstream.data.clone(), output.dims());
            losses.push((output * upstream).sum());
        }
    }
    if !device.device.is_autodiff() {
        return;
    }
    let gradients = Tensor::cat(losses, 0).sum().backward();
    for (name, expected) in &case.gradients {
        let what = format!("{what}: {name}'s gradient");
        let (leaf, _) = &inputs.leaves[name];
        let gradient = leaf.grad(&gradients).unwrap_or_else(|| panic!("{what} is missing"));
        assert_close(&what, &values(gradient), &expected.data, tolerance);
    }
}

#[test]
fn matmul_agrees_with_pytorch() {
    agrees("matmul.json", 4, |kernels, _: &NoOptions, inputs| {
        let product = kernels.matmul(inputs.get("left"), inputs.get("right"), inputs.precision);
        Outputs::from([("product", flat(product))])
    });
}

#[derive(Deserialize)]
struct LstmOptions {
    forget_bias: f64,
}

#[test]
fn lstm_agrees_with_pytorch() {
    agrees("lstm.json", 10, |kernels, options: &LstmOptions, inputs| {
        let LstmSequence { hidden, cell, .. } = kernels.lstm_sequence(LstmInputs {
            gates: inputs.get("gates"),
            bias: inputs.get("bias"),
            weight_hidden: inputs.get("weight_hidden"),
            mask: inputs.find("mask"),
            state: LstmState { hidden: inputs.get("hidden0"), cell: inputs.get("cell0") },
            forget_bias: options.forget_bias,
            precision: inputs.precision,
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
fn stacked_lstm_agrees_with_pytorch() {
    agrees("stacked_lstm.json", 3, |kernels, options: &StackedLstmOptions, inputs| {
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
                precision: inputs.precision,
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

#[derive(Deserialize)]
struct CrossEntropyOptions {
    tied: bool,
    terms: bool,
    targets: Vec<i64>,
}

#[test]
fn cross_entropy_agrees_with_pytorch() {
    agrees("cross_entropy.json", 13, |kernels, options: &CrossEntropyOptions, inputs| {
        let hidden = inputs.get("hidden");
        let inputs = LinearCrossEntropyInputs {
            precision: inputs.precision,
            weight: inputs.get("weight"),
            tied: options.tied,
            bias: inputs.get("bias"),
            targets: Tensor::<1, Int>::from_data(options.targets.as_slice(), &hidden.device()),
            hidden,
        };
        if !options.terms {
            return Outputs::from([("nll", kernels.linear_cross_entropy(inputs))]);
        }
        let LogitTerms { nll, square, entropy, log_partition } = kernels.logit_terms(inputs);
        Outputs::from([
            ("nll", nll),
            ("square", square),
            ("entropy", entropy),
            ("log_partition", log_partition),
        ])
    });
}

#[derive(Deserialize)]
struct SruOptions {
    activation: Activation,
}

#[test]
fn sru_agrees_with_pytorch() {
    agrees("sru.json", 9, |kernels, options: &SruOptions, inputs| {
        let product = inputs.get::<4>("product");
        let [seq_length, batch_size, parts, d_hidden] = product.dims();
        let SruSequence { hidden, cell, .. } = kernels.sru_sequence(SruInputs {
            product: product.reshape([seq_length, batch_size, parts * d_hidden]),
            highway: inputs.find("input"),
            bias: flat(inputs.get::<2>("bias")),
            mask: inputs.find("mask"),
            cell: inputs.get("cell0"),
            activation: options.activation,
        });
        Outputs::from([("hidden", flat(hidden)), ("cell", flat(cell))])
    });
}

#[derive(Deserialize)]
struct NoOptions {}

#[test]
fn rhn_agrees_with_pytorch() {
    agrees("rhn.json", 7, |kernels, _: &NoOptions, inputs| {
        let output = kernels.rhn_sequence(RhnInputs {
            gates: inputs.get("gates"),
            weight_hidden: inputs.get("weight"),
            bias: inputs.get("bias"),
            mask: inputs.find("mask"),
            state: inputs.get("state0"),
            precision: inputs.precision,
        });
        Outputs::from([("output", flat(output))])
    });
}

#[test]
fn square_norm_agrees_with_pytorch() {
    agrees("square_norm.json", 2, |kernels, _: &NoOptions, inputs| {
        let activation = inputs.get::<3>("activation");
        Outputs::from([("square", kernels.square_norm(activation))])
    });
}

#[derive(Deserialize)]
struct Conv2dCaseOptions {
    stride: [usize; 2],
    padding: [usize; 2],
}

#[test]
fn conv2d_agrees_with_pytorch() {
    agrees("conv2d.json", 10, |kernels, options: &Conv2dCaseOptions, inputs| {
        let output = kernels.conv2d(Conv2dInputs {
            input: inputs.get("input"),
            weight: inputs.get("weight"),
            bias: inputs.find("bias"),
            options: Conv2dOptions { stride: options.stride, padding: options.padding },
            precision: inputs.precision,
        });
        Outputs::from([("output", flat(output))])
    });
}

#[derive(Deserialize)]
struct BatchNormOptions {
    epsilon: f64,
    relu: bool,
}

#[test]
fn batch_norm_agrees_with_pytorch() {
    agrees("batch_norm.json", 6, |kernels, options: &BatchNormOptions, inputs| {
        let given = inputs.find("mean").zip(inputs.find("variance"));
        let (output, BatchStatistics { mean, variance }) = kernels.batch_norm(BatchNormInputs {
            input: inputs.get("input"),
            gamma: inputs.get("gamma"),
            beta: inputs.get("beta"),
            statistics: given.map(|(mean, variance)| BatchStatistics { mean, variance }),
            epsilon: options.epsilon,
            relu: options.relu,
        });
        Outputs::from([("output", flat(output)), ("mean", mean), ("variance", variance)])
    });
}

/// `torch.nn.BatchNorm2d` over two batches, its running statistics, and its output in evaluation
/// after them.
#[test]
fn batch_norm_layer_agrees_with_pytorch() {
    #[derive(Deserialize)]
    struct Options {
        epsilon: f64,
        momentum: f64,
    }

    let cases = fixture::<Fixture<Options>>("batch_norm_layer.json").cases;
    assert_eq!(cases.len(), 2, "a case is missing");
    for device in TestDevice::all() {
        for (case, kernels) in
            cases.iter().flat_map(|case| Kernels::ALL.map(|kernels| (case, kernels)))
        {
            let training = device.autodiff();
            let inputs = Inputs::new(case, &training);
            let first = inputs.get::<4>("first");
            let mut layer = BatchNorm2dConfig::new(first.dims()[1])
                .with_epsilon(case.options.epsilon)
                .with_momentum(case.options.momentum)
                .with_kernels(kernels)
                .init(&training.device);
            layer.gamma = Param::from_tensor(inputs.get("gamma"));
            layer.beta = Param::from_tensor(inputs.get("beta"));
            let cast = |state: &RunningState<Tensor<1>>| {
                RunningState::new(state.value().cast(device.dtype))
            };
            layer.running_mean = cast(&layer.running_mean);
            layer.running_var = cast(&layer.running_var);

            layer.forward(first);
            layer.forward(inputs.get::<4>("second"));
            let layer = layer.valid();
            let evaluated = layer.forward(Inputs::new(case, device).get::<4>("second"));
            for (name, actual) in [
                ("running_mean", layer.running_mean.value()),
                ("running_var", layer.running_var.value()),
                ("evaluated", flat(evaluated)),
            ] {
                let what = format!("{}, {kernels}: {name} on {device:?}", case.name);
                assert_close(&what, &values(actual), &case.outputs[name].data, device.tolerance());
            }
        }
    }
}

#[derive(Deserialize)]
struct SgdFixture {
    cases: Vec<SgdCase>,
}

#[derive(Deserialize)]
struct SgdCase {
    name: String,
    learning_rate: f64,
    max_norm: Option<f64>,
    momentum: Option<SgdMomentum>,
    decays: [Option<SgdDecay>; 3],
    parameters: [Array; 3],
    steps: Vec<SgdStep>,
}

#[derive(Deserialize)]
struct SgdMomentum {
    factor: f64,
    dampening: f64,
    nesterov: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum SgdDecay {
    Coupled(f64),
    Decoupled(f64),
}

#[derive(Deserialize)]
struct SgdStep {
    /// The embedding's is missing if it has gradients of rows alone.
    gradients: Vec<Array>,
    rows: Option<SgdRows>,
    norm: f64,
    parameters: [Array; 3],
}

#[derive(Deserialize)]
struct SgdRows {
    indices: Vec<i64>,
    values: Array,
}

#[derive(Module, Debug)]
struct SgdModel {
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
    embedding: Param<Tensor<2>>,
}

fn steps_agree(case: &SgdCase, device: &TestDevice) {
    let training = &device.autodiff();
    let [matrix, vector, embedding] = &case.parameters;
    let mut model = SgdModel {
        matrix: Param::from_tensor(matrix.tensor(training)),
        vector: Param::from_tensor(vector.tensor(training)),
        embedding: Param::from_tensor(embedding.tensor(training)),
    };
    let [matrix, vector, embedding] = [model.matrix.id, model.vector.id, model.embedding.id];
    let decays = [matrix, vector, embedding].into_iter().zip(&case.decays);
    let mut optimizer = ClippedSgd {
        max_norm: case.max_norm,
        momentum: case.momentum.as_ref().map(|&SgdMomentum { factor, dampening, nesterov }| {
            Momentum { factor, dampening, nesterov }
        }),
        weight_decay_of: decays
            .filter_map(|(id, decay)| match *decay.as_ref()? {
                SgdDecay::Coupled(factor) => Some((id, WeightDecay::Coupled(factor))),
                SgdDecay::Decoupled(share) => Some((id, WeightDecay::Decoupled(share))),
            })
            .collect(),
        ..ClippedSgd::default()
    };
    for (index, step) in case.steps.iter().enumerate() {
        let mut gradients = GradientsParams::new();
        gradients.register(matrix, step.gradients[0].tensor::<2>(device));
        gradients.register(vector, step.gradients[1].tensor::<1>(device));
        if let Some(gradient) = step.gradients.get(2) {
            gradients.register(embedding, gradient.tensor::<2>(device));
        }
        let rows = step.rows.iter().map(|rows| RowGradient {
            id: embedding,
            rows: Tensor::from_data(rows.indices.as_slice(), &device.device),
            values: rows.values.tensor(device),
        });
        let (updated, norm) = optimizer.step(case.learning_rate, model, gradients, rows.collect());
        model = updated;

        let what = format!("{}, step {index}, on {device:?}", case.name);
        let actual = vec![
            ("norm", values(norm)),
            ("matrix", values(model.matrix.val())),
            ("vector", values(model.vector.val())),
            ("embedding", values(model.embedding.val())),
        ];
        let [matrix, vector, embedding] = &step.parameters;
        let expected = vec![
            ("norm", vec![step.norm]),
            ("matrix", matrix.data.clone()),
            ("vector", vector.data.clone()),
            ("embedding", embedding.data.clone()),
        ];
        assert_values_close(&what, &actual, &expected, device.tolerance());
        assert!(model.embedding.val().is_require_grad(), "{what}: no gradient any more");
    }
}

#[test]
fn sgd_agrees_with_pytorch() {
    let cases = fixture::<SgdFixture>("sgd.json").cases;
    assert_eq!(cases.len(), 13, "a case is missing");
    for device in TestDevice::all() {
        for case in few_on_gpus(&cases, device) {
            steps_agree(case, device);
        }
    }
}

use anp_kernels::Kernels;
use anp_kernels::sgd::{
    ClippedSgd, Momentum, RowGradient, SgdInputs, SgdOptions, WeightDecay, sgd_step_reference,
};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use proptest::prelude::*;

use crate::{agree_on_cpus, agree_on_every_device, proptest_config};
use anp_testing::{TestDevice, Values, assert_values_close, values};

#[derive(Debug, Clone, Copy)]
struct StepCase {
    shape: [usize; 2],
    options: SgdOptions,
}

/// The parameter after each of three steps, and its velocity if it has one.
fn run_steps(case: StepCase, device: &TestDevice, kernels: Kernels) -> Values {
    let StepCase { shape, options } = case;
    let scale = device.tensor(vec![0.7], [1]);
    let mut state = (device.random(1, shape, 1.0), None);
    let mut results = Vec::new();
    for seed in 2..5 {
        let ((tensor, velocity), gradient) = (state, device.random(seed, shape, 1.0));
        let scale = scale.clone();
        state = kernels.sgd_step(SgdInputs { tensor, gradient, scale, velocity, options });
        let (tensor, velocity) = state.clone();
        results.push(("parameter", values(tensor)));
        results.extend(velocity.map(|velocity| ("velocity", values(velocity))));
    }
    results
}

#[test]
fn a_step_agrees_with_the_reference_on_every_device() {
    for momentum in [None, Some((0.0, false)), Some((0.1, false)), Some((0.0, true))] {
        let momentum =
            momentum.map(|(dampening, nesterov)| Momentum { factor: 0.9, dampening, nesterov });
        let options =
            SgdOptions { learning_rate: 0.3, coupled_decay: 0.1, decoupled_decay: 0.01, momentum };
        agree_on_every_device(StepCase { shape: [3, 5], options }, run_steps);
    }
}

proptest! {
    #![proptest_config(proptest_config(32))]

    #[test]
    fn a_step_agrees_with_the_reference_on_any_shape(
        shape in prop::array::uniform2(1_usize..40),
        coupled_decay in prop_oneof![Just(0.0), 0.0..0.1],
        decoupled_decay in prop_oneof![Just(0.0), 0.0..0.1],
        momentum in prop::option::of((0.0..0.99, prop_oneof![Just(0.0), 0.0..1.0], any::<bool>())),
    ) {
        let momentum = momentum
            .map(|(factor, dampening, nesterov)| Momentum { factor, dampening, nesterov });
        let options = SgdOptions { learning_rate: 0.3, coupled_decay, decoupled_decay, momentum };
        agree_on_cpus(StepCase { shape, options }, run_steps);
    }
}

#[derive(Module, Debug)]
struct Parameters {
    embedding: Param<Tensor<2>>,
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

/// A step of all parameters, of which the embedding has a gradient of rows.
#[derive(Debug, Clone)]
struct Case {
    /// Rows that were looked up.
    lookups: Vec<i64>,
    /// Of the embedding.
    shape: [usize; 2],
    max_norm: Option<f64>,
    decay: Option<WeightDecay>,
}

/// More elements than units share a sum on GPUs.
const MATRIX: [usize; 2] = [211, 997];
const LEARNING_RATE: f64 = 0.5;

struct Gradients {
    lookups: Tensor<1, Int>,
    /// Of the rows that were looked up.
    rows: Tensor<2>,
    matrix: Tensor<2>,
    vector: Tensor<1>,
}

/// Norm and parameters after one step, by `step`.
fn run(
    case: &Case,
    device: &TestDevice,
    step: impl Fn(&Case, Parameters, Gradients) -> (Parameters, Tensor<1>),
) -> Values {
    let training = device.autodiff();
    let parameters = Parameters {
        embedding: Param::from_tensor(training.leaf(1, case.shape, 1.0)),
        matrix: Param::from_tensor(training.leaf(2, MATRIX, 1.0)),
        vector: Param::from_tensor(training.leaf(3, [7], 1.0)),
    };
    let gradients = Gradients {
        lookups: Tensor::from_data(case.lookups.as_slice(), &device.device),
        rows: device.random(5, [case.lookups.len(), case.shape[1]], 1.0),
        // A view, as a backward pass may give it.
        matrix: device.random(4, [MATRIX[1], MATRIX[0]], 1.0).transpose(),
        vector: device.random(6, [7], 1.0),
    };
    let (parameters, norm) = step(case, parameters, gradients);
    assert!(parameters.embedding.val().is_require_grad());
    vec![
        ("norm", values(norm)),
        ("embedding", values(parameters.embedding.val())),
        ("matrix", values(parameters.matrix.val())),
        ("vector", values(parameters.vector.val())),
    ]
}

fn fused(case: &Case, parameters: Parameters, gradients: Gradients) -> (Parameters, Tensor<1>) {
    let Gradients { lookups, rows, matrix, vector } = gradients;
    let mut gradients = GradientsParams::new();
    gradients.register(parameters.matrix.id, matrix);
    gradients.register(parameters.vector.id, vector);
    let rows = RowGradient { id: parameters.embedding.id, rows: lookups, values: rows };
    let mut sgd =
        ClippedSgd { max_norm: case.max_norm, weight_decay: case.decay, ..ClippedSgd::default() };
    sgd.step(LEARNING_RATE, parameters, gradients, vec![rows])
}

fn plain(case: &Case, parameters: Parameters, gradients: Gradients) -> (Parameters, Tensor<1>) {
    fn stepped<const D: usize>(
        param: Param<Tensor<D>>,
        gradient: Tensor<D>,
        scale: &Tensor<1>,
        options: SgdOptions,
    ) -> Param<Tensor<D>> {
        let (tensor, scale) = (param.val().inner(), scale.clone());
        let inputs = SgdInputs { tensor, gradient, scale, velocity: None, options };
        let (tensor, _) = sgd_step_reference(inputs);
        Param::from_tensor(Tensor::from_inner(tensor).require_grad())
    }

    let Gradients { lookups, rows, matrix, vector } = gradients;
    let embedding = Tensor::zeros(case.shape, (&rows.device(), rows.dtype()));
    let embedding = embedding.select_assign(0, lookups, rows, IndexingUpdateOp::Add);
    let square = |gradient: &Tensor<2>| gradient.clone().square().sum();
    let norm = (square(&embedding) + square(&matrix) + vector.clone().square().sum()).sqrt();
    let scale = match case.max_norm {
        Some(max_norm) => (norm.clone().recip() * max_norm).clamp_max(1.0),
        None => norm.ones_like(),
    };
    let (coupled_decay, decoupled_decay) = match case.decay {
        None => (0.0, 0.0),
        Some(WeightDecay::Coupled(factor)) => (factor, 0.0),
        Some(WeightDecay::Decoupled(share)) => (0.0, share),
    };
    let options =
        SgdOptions { learning_rate: LEARNING_RATE, coupled_decay, decoupled_decay, momentum: None };
    let parameters = Parameters {
        embedding: stepped(parameters.embedding, embedding, &scale, options),
        matrix: stepped(parameters.matrix, matrix, &scale, options),
        vector: stepped(parameters.vector, vector, &scale, options),
    };
    (parameters, norm)
}

#[test]
fn the_optimiser_agrees_with_burns_operations() {
    // Every row once, one row only, some rows often, and more than a cube works on.
    let spread = (0..5).map(|i| (2 * i + 1) % 5).collect();
    let same = vec![3; 9];
    let mixed = vec![0, 4, 4, 1, 0, 4, 0, 0, 2];
    let many = (0..300).map(|i| i * i % 61).collect();
    let cases = [
        (spread, [5, 3], Some(0.25), None),
        (same, [5, 1], None, None),
        (mixed.clone(), [6, 33], Some(1e6), None),
        (many, [61, 40], Some(2.0), None),
        (mixed.clone(), [6, 33], Some(0.5), Some(WeightDecay::Coupled(0.125))),
        (mixed, [6, 33], Some(0.5), Some(WeightDecay::Decoupled(0.25))),
    ];
    for device in TestDevice::all() {
        for (lookups, shape, max_norm, decay) in cases.clone() {
            let case = Case { lookups, shape, max_norm, decay };
            let what = format!("{case:?} on {device:?}");
            let (actual, expected) = (run(&case, device, fused), run(&case, device, plain));
            assert_values_close(&what, &actual, &expected, device.tolerance());
        }
    }
}

#[test]
fn rows_without_a_gradient_stay_unless_they_decay_or_move() {
    let momentum = Some(Momentum { factor: 0.5, dampening: 0.0, nesterov: false });
    for (weight_decay, momentum, stay) in [
        (None, None, true),
        (Some(WeightDecay::Coupled(0.1)), None, false),
        (Some(WeightDecay::Decoupled(0.1)), None, false),
        (None, momentum, false),
    ] {
        for device in TestDevice::all() {
            let mut sgd = ClippedSgd { weight_decay, momentum, ..ClippedSgd::default() };
            let mut embedding = Param::from_tensor(device.autodiff().leaf(1, [3, 2], 1.0));
            // All rows have a gradient in the first step, as a velocity is needed, and one in the
            // second.
            let [before, after] = [[0, 1, 2], [2, 2, 2]].map(|lookups| {
                let rows = RowGradient {
                    id: embedding.id,
                    rows: Tensor::from_data(lookups, &device.device),
                    values: device.random(2, [3, 2], 1.0),
                };
                let step = sgd.step(0.5, embedding.clone(), GradientsParams::new(), vec![rows]);
                embedding = step.0;
                values(embedding.val())
            });
            let kept = (0..6).map(|i| before[i] == after[i]).collect::<Vec<_>>();
            let what = format!("{weight_decay:?}, {momentum:?} on {device:?}");
            assert_eq!(kept, [stay, stay, stay, stay, false, false], "{what}");
        }
    }
}

/// A CPU panics on such a row; a GPU is not waited for.
#[test]
fn a_gpu_skips_rows_that_do_not_exist() {
    let case = |lookups: &[i64]| Case {
        lookups: lookups.to_vec(),
        shape: [4, 3],
        max_norm: Some(0.5),
        decay: None,
    };
    for device in TestDevice::all().iter().filter(|device| !device.is_cpu()) {
        let without = run(&case(&[1, 2, 1]), device, fused);
        assert_eq!(run(&case(&[1, 2, 1, 4, -1, 1 << 30]), device, fused), without, "{device:?}");
    }
}

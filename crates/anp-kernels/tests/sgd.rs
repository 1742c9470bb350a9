//! Steps of clipped SGD against the same in Burn's operations, on every device of this build.

mod support;

use anp_kernels::sgd::{ClippedSgd, RowGradient, SgdOptions, WeightDecay, sgd_step_reference};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use support::{Place, Values, assert_close, values};

#[derive(Module, Debug)]
struct Parameters {
    embedding: Param<Tensor<2>>,
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

#[derive(Debug, Clone)]
struct Case {
    /// Rows that were looked up.
    lookups: Vec<i64>,
    /// Of the embedding.
    shape: [usize; 2],
    max_norm: Option<f64>,
    decay: WeightDecay,
}

/// More elements than units share a sum on GPUs.
const MATRIX: [usize; 2] = [211, 997];
const LEARNING_RATE: f64 = 0.5;

/// Norm and parameters after one step, by `step`.
fn run(
    case: &Case,
    place: &Place,
    step: impl Fn(
        &Case,
        Parameters,
        [Tensor<2>; 2],
        Tensor<1>,
        Tensor<1, Int>,
    ) -> (Parameters, Tensor<1>),
) -> Values {
    let training = place.autodiff();
    let parameters = Parameters {
        embedding: Param::from_tensor(training.leaf(1, case.shape, 1.0)),
        matrix: Param::from_tensor(training.leaf(2, MATRIX, 1.0)),
        vector: Param::from_tensor(training.leaf(3, [7], 1.0)),
    };
    // A view, as a backward pass may give it.
    let matrix = place.random(4, [MATRIX[1], MATRIX[0]], 1.0).transpose();
    let rows = place.random(5, [case.lookups.len(), case.shape[1]], 1.0);
    let lookups = Tensor::from_data(case.lookups.as_slice(), &place.device);
    let vector = place.random(6, [7], 1.0);
    let (parameters, norm) = step(case, parameters, [matrix, rows], vector, lookups);
    assert!(parameters.embedding.val().is_require_grad());
    vec![
        ("norm", values(norm)),
        ("embedding", values(parameters.embedding.val())),
        ("matrix", values(parameters.matrix.val())),
        ("vector", values(parameters.vector.val())),
    ]
}

fn fused(
    case: &Case,
    parameters: Parameters,
    [matrix, rows]: [Tensor<2>; 2],
    vector: Tensor<1>,
    lookups: Tensor<1, Int>,
) -> (Parameters, Tensor<1>) {
    let mut gradients = GradientsParams::new();
    gradients.register(parameters.matrix.id, matrix);
    gradients.register(parameters.vector.id, vector);
    let rows = RowGradient { id: parameters.embedding.id, rows: lookups, values: rows };
    let mut sgd =
        ClippedSgd { max_norm: case.max_norm, weight_decay: case.decay, ..ClippedSgd::default() };
    sgd.step(LEARNING_RATE, parameters, gradients, vec![rows])
}

fn plain(
    case: &Case,
    parameters: Parameters,
    [matrix, rows]: [Tensor<2>; 2],
    vector: Tensor<1>,
    lookups: Tensor<1, Int>,
) -> (Parameters, Tensor<1>) {
    let embedding = Tensor::zeros(case.shape, (&rows.device(), rows.dtype()));
    let embedding = embedding.select_assign(0, lookups, rows, IndexingUpdateOp::Add);
    let square = |gradient: &Tensor<2>| gradient.clone().square().sum();
    let norm = (square(&embedding) + square(&matrix) + vector.clone().square().sum()).sqrt();
    let scale = match case.max_norm {
        Some(max_norm) => (norm.clone().recip() * max_norm).clamp_max(1.0),
        None => norm.ones_like(),
    };
    let (coupled_decay, decoupled_decay) = match case.decay {
        WeightDecay::None => (0.0, 0.0),
        WeightDecay::Coupled(factor) => (factor, 0.0),
        WeightDecay::Decoupled(share) => (0.0, share),
    };
    let options = SgdOptions { learning_rate: LEARNING_RATE, coupled_decay, decoupled_decay };
    fn stepped<const D: usize>(
        param: Param<Tensor<D>>,
        gradient: Tensor<D>,
        scale: &Tensor<1>,
        options: SgdOptions,
    ) -> Param<Tensor<D>> {
        let tensor = sgd_step_reference(param.val().inner(), gradient, scale.clone(), options);
        Param::from_tensor(Tensor::from_inner(tensor).require_grad())
    }
    let parameters = Parameters {
        embedding: stepped(parameters.embedding, embedding, &scale, options),
        matrix: stepped(parameters.matrix, matrix, &scale, options),
        vector: stepped(parameters.vector, vector, &scale, options),
    };
    (parameters, norm)
}

#[test]
fn steps_are_those_of_burns_operations() {
    // Every row once, one row only, some rows often, and more than a cube works on.
    let spread = (0..5).map(|i| (2 * i + 1) % 5).collect();
    let same = vec![3; 9];
    let mixed = vec![0, 4, 4, 1, 0, 4, 0, 0, 2];
    let many = (0..300).map(|i| i * i % 61).collect();
    let cases = [
        (spread, [5, 3], Some(0.25), WeightDecay::None),
        (same, [5, 1], None, WeightDecay::None),
        (mixed.clone(), [6, 33], Some(1e6), WeightDecay::None),
        (many, [61, 40], Some(2.0), WeightDecay::None),
        (mixed.clone(), [6, 33], Some(0.5), WeightDecay::Coupled(0.125)),
        (mixed, [6, 33], Some(0.5), WeightDecay::Decoupled(0.25)),
    ];
    for place in Place::all() {
        for (lookups, shape, max_norm, decay) in cases.clone() {
            let case = Case { lookups, shape, max_norm, decay };
            let what = format!("{case:?} on {place:?}");
            let (actual, expected) = (run(&case, place, fused), run(&case, place, plain));
            assert_close(&what, &actual, &expected, place.tolerance());
        }
    }
}

/// On the host such a row is a panic; a GPU is not waited for.
#[test]
fn a_gpu_leaves_out_rows_that_are_not_there() {
    let case = |lookups: &[i64]| Case {
        lookups: lookups.to_vec(),
        shape: [4, 3],
        max_norm: Some(0.5),
        decay: WeightDecay::None,
    };
    for place in Place::all().iter().filter(|place| !place.is_cpu()) {
        let without = run(&case(&[1, 2, 1]), place, fused);
        assert_eq!(run(&case(&[1, 2, 1, 4, -1, 1 << 30]), place, fused), without, "{place:?}");
    }
}

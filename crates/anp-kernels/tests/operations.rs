//! Fused operations against their compositions, forward and every gradient, on every device of this build.

mod support;

use anp_kernels::batch_norm::{BatchNormInputs, BatchStatistics, batch_norm, batch_norm_reference};
use anp_kernels::conv2d::{Conv2dInputs, Conv2dOptions, conv2d, conv2d_reference};
use anp_kernels::cross_entropy::{
    LinearCrossEntropyInputs, LogitTerms, linear_cross_entropy, linear_cross_entropy_reference,
    logit_terms, logit_terms_reference,
};
use anp_kernels::matmul::{matmul, matmul_reference};
use anp_kernels::rhn::{RhnInputs, rhn_reference, rhn_sequence};
use anp_kernels::sgd::{
    Momentum, SgdOptions, sgd_momentum_step, sgd_momentum_step_reference, sgd_step,
    sgd_step_reference,
};
use anp_kernels::square_norm::{square_norm, square_norm_reference};
use anp_kernels::sru::{Activation, SruInputs, SruSequence, sru_reference, sru_sequence};
use burn::tensor::{DType, Int, Tensor, TensorData};
use proptest::prelude::*;
use support::{Place, Values, assert_close, values};

/// `Σ w x` with other weights for every element.
fn weighted<const D: usize>(tensor: Tensor<D>, place: &Place, seed: u64) -> Tensor<1> {
    let weights = place.random(seed, tensor.dims(), 1.0);
    (tensor * weights).sum()
}

#[derive(Debug, Clone, Copy)]
struct CrossEntropyCase {
    num_tokens: usize,
    d_hidden: usize,
    num_classes: usize,
    tied: bool,
    terms: bool,
}

fn run_cross_entropy(case: CrossEntropyCase, place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let CrossEntropyCase { num_tokens, d_hidden, num_classes, tied, terms } = case;
    let shape = if tied { [num_classes, d_hidden] } else { [d_hidden, num_classes] };
    let hidden = place.leaf(1, [num_tokens, d_hidden], 1.0);
    let weight = place.leaf(2, shape, 1.0);
    let bias = place.leaf(3, [num_classes], 1.0);
    let targets: Vec<i64> = (0..num_tokens).map(|n| ((7 * n + 3) % num_classes) as i64).collect();
    let targets: Tensor<1, Int> =
        Tensor::from_data(TensorData::new(targets, [num_tokens]), &place.device);
    let inputs = LinearCrossEntropyInputs {
        hidden: hidden.clone(),
        weight: weight.clone(),
        tied,
        bias: bias.clone(),
        targets,
    };
    let (outputs, loss) = if terms {
        let LogitTerms { nll, square, entropy } =
            if fused { logit_terms(inputs) } else { logit_terms_reference(inputs) };
        let loss = weighted(nll.clone(), place, 4)
            + weighted(square.clone(), place, 5)
            + weighted(entropy.clone(), place, 6);
        (vec![("nll", values(nll)), ("square", values(square)), ("entropy", values(entropy))], loss)
    } else {
        let nll = if fused {
            linear_cross_entropy(inputs)
        } else {
            linear_cross_entropy_reference(inputs)
        };
        (vec![("nll", values(nll.clone()))], weighted(nll, place, 4))
    };
    let gradients = loss.backward();
    let mut results = outputs;
    results.push(("hidden's gradient", values(hidden.grad(&gradients).unwrap())));
    results.push(("weight's gradient", values(weight.grad(&gradients).unwrap())));
    results.push(("bias' gradient", values(bias.grad(&gradients).unwrap())));
    results
}

#[derive(Debug, Clone, Copy)]
struct SruCase {
    seq_length: usize,
    batch_size: usize,
    d_hidden: usize,
    highway: bool,
    mask: bool,
    activation: Activation,
}

fn run_sru(case: SruCase, place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let SruCase { seq_length, batch_size, d_hidden, highway, mask, activation } = case;
    let parts = if highway { 3 } else { 4 };
    let product = place.leaf(1, [seq_length, batch_size, parts * d_hidden], 2.0);
    let x = place.leaf(2, [seq_length, batch_size, d_hidden], 1.0);
    let bias = place.leaf(3, [2 * d_hidden], 1.0);
    let cell0 = place.leaf(4, [batch_size, d_hidden], 1.0);
    let inputs = SruInputs {
        product: product.clone(),
        highway: highway.then(|| x.clone()),
        bias: bias.clone(),
        mask: mask.then(|| place.mask(5, [batch_size, d_hidden])),
        cell: cell0.clone(),
        activation,
    };
    let SruSequence { hidden, cell, last } =
        if fused { sru_sequence(inputs) } else { sru_reference(inputs) };
    let loss = weighted(hidden.clone(), place, 6)
        + weighted(cell.clone(), place, 7)
        + weighted(last.clone(), place, 8);
    let gradients = loss.backward();
    let mut results = vec![
        ("hidden", values(hidden)),
        ("cell", values(cell)),
        ("last", values(last)),
        ("product's gradient", values(product.grad(&gradients).unwrap())),
        ("bias' gradient", values(bias.grad(&gradients).unwrap())),
        ("state's gradient", values(cell0.grad(&gradients).unwrap())),
    ];
    if highway {
        results.push(("highway's gradient", values(x.grad(&gradients).unwrap())));
    }
    results
}

#[derive(Debug, Clone, Copy)]
struct RhnCase {
    seq_length: usize,
    depth: usize,
    batch_size: usize,
    d_hidden: usize,
    mask_groups: Option<usize>,
}

fn run_rhn(case: RhnCase, place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let RhnCase { seq_length, depth, batch_size, d_hidden, mask_groups } = case;
    let range = 2.0 / (d_hidden as f64).sqrt();
    let gates = place.leaf(1, [seq_length, batch_size, 2 * d_hidden], 2.0);
    let weight_hidden = place.leaf(2, [depth, d_hidden, 2 * d_hidden], range);
    let bias = place.leaf(3, [depth, 2 * d_hidden], 1.0);
    let state = place.leaf(4, [batch_size, d_hidden], 1.0);
    let inputs = RhnInputs {
        gates: gates.clone(),
        weight_hidden: weight_hidden.clone(),
        bias: bias.clone(),
        mask: mask_groups.map(|groups| place.mask(5, [groups, batch_size, d_hidden])),
        state: state.clone(),
    };
    let hidden = if fused { rhn_sequence(inputs) } else { rhn_reference(inputs) };
    let gradients = weighted(hidden.clone(), place, 6).backward();
    vec![
        ("hidden", values(hidden)),
        ("gates' gradient", values(gates.grad(&gradients).unwrap())),
        ("weight's gradient", values(weight_hidden.grad(&gradients).unwrap())),
        ("bias' gradient", values(bias.grad(&gradients).unwrap())),
        ("state's gradient", values(state.grad(&gradients).unwrap())),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Conv2dCase {
    batch_size: usize,
    channels: [usize; 2],
    input: [usize; 2],
    kernel: [usize; 2],
    bias: bool,
    options: Conv2dOptions,
}

fn run_conv2d(case: Conv2dCase, place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let Conv2dCase { batch_size, channels, input, kernel, bias, options } = case;
    let [channels_in, channels_out] = channels;
    let input = place.leaf(1, [batch_size, channels_in, input[0], input[1]], 1.0);
    let weight = place.leaf(2, [channels_out, channels_in, kernel[0], kernel[1]], 1.0);
    let bias = bias.then(|| place.leaf(3, [channels_out], 1.0));
    let inputs =
        Conv2dInputs { input: input.clone(), weight: weight.clone(), bias: bias.clone(), options };
    let output = if fused { conv2d(inputs) } else { conv2d_reference(inputs) };
    let gradients = weighted(output.clone(), place, 4).backward();
    let mut results = vec![
        ("output", values(output)),
        ("input's gradient", values(input.grad(&gradients).unwrap())),
        ("weight's gradient", values(weight.grad(&gradients).unwrap())),
    ];
    if let Some(bias) = bias {
        results.push(("bias' gradient", values(bias.grad(&gradients).unwrap())));
    }
    results
}

#[derive(Debug, Clone, Copy)]
struct BatchNormCase {
    shape: [usize; 4],
    of_batch: bool,
    relu: bool,
}

fn run_batch_norm(case: BatchNormCase, place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let BatchNormCase { shape, of_batch, relu } = case;
    let channels = [shape[1]];
    let input = place.leaf(1, shape, 2.0);
    let gamma = place.leaf(2, channels, 1.0);
    let beta = place.leaf(3, channels, 1.0);
    let inputs = BatchNormInputs {
        input: input.clone(),
        gamma: gamma.clone(),
        beta: beta.clone(),
        statistics: (!of_batch).then(|| BatchStatistics {
            mean: place.random(4, channels, 1.0),
            variance: place.random(5, channels, 1.0).square(),
        }),
        // Two values may be close to each other; the reciprocal of their deviation is bounded.
        epsilon: 0.1,
        relu,
    };
    let (output, BatchStatistics { mean, variance }) =
        if fused { batch_norm(inputs) } else { batch_norm_reference(inputs) };
    let gradients = weighted(output.clone(), place, 6).backward();
    vec![
        ("output", values(output)),
        ("mean", values(mean)),
        ("variance", values(variance)),
        ("input's gradient", values(input.grad(&gradients).unwrap())),
        ("gamma's gradient", values(gamma.grad(&gradients).unwrap())),
        ("beta's gradient", values(beta.grad(&gradients).unwrap())),
    ]
}

fn run_square_norm(shape: [usize; 3], place: &Place, fused: bool) -> Values {
    let place = &place.autodiff();
    let x = place.leaf(1, shape, 2.0);
    let square_norm = if fused { square_norm } else { square_norm_reference };
    let turned = square_norm(x.clone().swap_dims(0, 2).narrow(0, shape[2] / 2, 1));
    let norm = square_norm(x.clone());
    let gradients = (norm.clone() * 0.7 + turned.clone()).backward();
    vec![
        ("norm", values(norm)),
        ("norm of a view", values(turned)),
        ("gradient", values(x.grad(&gradients).unwrap())),
    ]
}

#[derive(Debug, Clone, Copy)]
struct SgdCase {
    shape: [usize; 2],
    coupled_decay: f64,
    decoupled_decay: f64,
    momentum: Option<Momentum>,
}

/// The parameter after each of three steps, and its velocity if it has one.
fn run_sgd(case: SgdCase, place: &Place, fused: bool) -> Values {
    let SgdCase { shape, coupled_decay, decoupled_decay, momentum } = case;
    let options = SgdOptions { learning_rate: 0.3, coupled_decay, decoupled_decay };
    let scale = place.tensor(vec![0.7], [1]);
    let mut tensor = place.random(1, shape, 1.0);
    let mut velocity = None;
    let mut results = Vec::new();
    for seed in 2..5 {
        let gradient = place.random(seed, shape, 1.0);
        let Some(momentum) = momentum else {
            let step = if fused { sgd_step } else { sgd_step_reference };
            tensor = step(tensor, gradient, scale.clone(), options);
            results.push(("parameter", values(tensor.clone())));
            continue;
        };
        let step = if fused { sgd_momentum_step } else { sgd_momentum_step_reference };
        let moved = step(tensor, gradient, velocity, scale.clone(), options, momentum);
        results.push(("parameter", values(moved.0.clone())));
        results.push(("velocity", values(moved.1.clone())));
        (tensor, velocity) = (moved.0, Some(moved.1));
    }
    results
}

#[track_caller]
fn agree(what: &dyn std::fmt::Debug, place: &Place, run: impl Fn(bool) -> Values) {
    assert_close(&format!("{what:?} on {place:?}"), &run(true), &run(false), place.tolerance());
}

#[test]
fn cross_entropy_agrees_on_every_device() {
    for place in Place::all() {
        for (tied, terms) in [(false, false), (true, false), (false, true), (true, true)] {
            let case =
                CrossEntropyCase { num_tokens: 5, d_hidden: 7, num_classes: 33, tied, terms };
            agree(&case, place, |fused| run_cross_entropy(case, place, fused));
        }
    }
}

#[test]
fn sru_agrees_on_every_device() {
    for place in Place::all() {
        for (highway, mask) in [(true, false), (false, true)] {
            for activation in [Activation::Identity, Activation::Tanh, Activation::Relu] {
                let (seq_length, batch_size, d_hidden) = (4, 3, 9);
                let case = SruCase { seq_length, batch_size, d_hidden, highway, mask, activation };
                agree(&case, place, |fused| run_sru(case, place, fused));
            }
        }
    }
}

#[test]
fn conv2d_agrees_on_every_device() {
    for place in Place::all() {
        for (kernel, stride, padding, bias) in
            [(3, 1, 1, false), (3, 2, 1, true), (1, 1, 0, true), (1, 2, 0, false)]
        {
            let options = Conv2dOptions { stride: [stride; 2], padding: [padding; 2] };
            let (channels, input, kernel) = ([3, 5], [6, 7], [kernel; 2]);
            let case = Conv2dCase { batch_size: 2, channels, input, kernel, bias, options };
            agree(&case, place, |fused| run_conv2d(case, place, fused));
        }
    }
}

#[test]
fn batch_norm_agrees_on_every_device() {
    for place in Place::all() {
        for (of_batch, relu) in [(true, false), (true, true), (false, false), (false, true)] {
            let case = BatchNormCase { shape: [3, 4, 5, 6], of_batch, relu };
            agree(&case, place, |fused| run_batch_norm(case, place, fused));
        }
    }
}

#[test]
fn sgd_agrees_on_every_device() {
    for place in Place::all() {
        for momentum in [None, Some((0.0, false)), Some((0.1, false)), Some((0.0, true))] {
            let momentum =
                momentum.map(|(dampening, nesterov)| Momentum { factor: 0.9, dampening, nesterov });
            let (shape, coupled_decay, decoupled_decay) = ([3, 5], 0.1, 0.01);
            let case = SgdCase { shape, coupled_decay, decoupled_decay, momentum };
            agree(&case, place, |fused| run_sgd(case, place, fused));
        }
    }
}

#[test]
fn rhn_agrees_on_every_device() {
    for place in Place::all() {
        for (depth, mask_groups) in [(1, None), (3, Some(1)), (2, Some(2))] {
            let (seq_length, batch_size, d_hidden) = (3, 2, 5);
            let case = RhnCase { seq_length, depth, batch_size, d_hidden, mask_groups };
            agree(&case, place, |fused| run_rhn(case, place, fused));
        }
        for (seq_length, depth, batch_size, d_hidden) in [(1, 2, 1, 1), (4, 2, 3, 33)] {
            let case = RhnCase { seq_length, depth, batch_size, d_hidden, mask_groups: None };
            agree(&case, place, |fused| run_rhn(case, place, fused));
        }
    }
}

#[test]
fn square_norm_agrees_on_every_device() {
    for place in Place::all() {
        // The last is more than one element for each unit of the cubes that share a sum.
        for shape in [[1, 1, 1], [4, 3, 5], [3, 211, 331]] {
            agree(&("square norm", shape), place, |fused| run_square_norm(shape, place, fused));
        }
    }
}

/// On a GPU without such a type there is nothing to test.
#[test]
fn a_square_norm_of_half_precision_is_summed_in_single() {
    for place in Place::all().iter().filter(|place| place.dtype == DType::F32) {
        if !place.device.supports_dtype(DType::F16) {
            continue;
        }
        // In half precision, a sum that has reached 2,048 does not change by adding 1.
        let device = &place.autodiff().device;
        let x = Tensor::<1>::ones([9000], (device, DType::F16)).require_grad();
        let norm = square_norm(x.clone());
        assert_eq!(norm.dtype(), DType::F16, "{place:?}");
        assert_eq!(values(norm.clone()), [9000.0], "{place:?}");
        let gradient = x.grad(&norm.backward()).unwrap();
        assert_eq!(gradient.dtype(), DType::F16, "{place:?}");
        assert_eq!(values(gradient), [2.0; 9000], "{place:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cross_entropy_agrees_on_any_shape(
        num_tokens in 1_usize..40,
        d_hidden in 1_usize..40,
        num_classes in 1_usize..300,
        tied: bool,
        terms: bool,
    ) {
        let case = CrossEntropyCase { num_tokens, d_hidden, num_classes, tied, terms };
        for place in Place::host() {
            agree(&case, place, |fused| run_cross_entropy(case, place, fused));
        }
    }

    #[test]
    fn sgd_agrees_on_any_shape(
        shape in prop::array::uniform2(1_usize..40),
        coupled_decay in prop_oneof![Just(0.0), 0.0..0.1],
        decoupled_decay in prop_oneof![Just(0.0), 0.0..0.1],
        momentum in prop::option::of((0.0..0.99, prop_oneof![Just(0.0), 0.0..1.0], any::<bool>())),
    ) {
        let momentum = momentum
            .map(|(factor, dampening, nesterov)| Momentum { factor, dampening, nesterov });
        let case = SgdCase { shape, coupled_decay, decoupled_decay, momentum };
        for place in Place::host() {
            agree(&case, place, |fused| run_sgd(case, place, fused));
        }
    }

    #[test]
    fn product_agrees_on_any_shape(
        rows in 1_usize..50,
        inner in 1_usize..50,
        columns in 1_usize..50,
        turned: bool,
    ) {
        for place in Place::host() {
            agree(&(rows, inner, columns, turned), place, |fused| {
                let place = &place.autodiff();
                let lhs = place.leaf(1, if turned { [inner, rows] } else { [rows, inner] }, 1.0);
                let rhs = place.leaf(2, [inner, columns], 1.0);
                let view = if turned { lhs.clone().transpose() } else { lhs.clone() };
                let multiply = if fused { matmul } else { matmul_reference };
                let out = multiply(view, rhs.clone());
                let gradients = weighted(out.clone(), place, 3).backward();
                vec![
                    ("product", values(out)),
                    ("gradient of lhs", values(lhs.grad(&gradients).unwrap())),
                    ("gradient of rhs", values(rhs.grad(&gradients).unwrap())),
                ]
            });
        }
    }

    #[test]
    fn conv2d_agrees_on_any_shape(
        batch_size in 1_usize..5,
        channels in prop::array::uniform2(1_usize..20),
        input in prop::array::uniform2(1_usize..12),
        kernel in prop::array::uniform2(1_usize..4),
        bias: bool,
        stride in prop::array::uniform2(1_usize..4),
        padding in prop::array::uniform2(0_usize..3),
    ) {
        let fits = |axis: usize| kernel[axis] <= input[axis] + 2 * padding[axis];
        prop_assume!(fits(0) && fits(1));
        let options = Conv2dOptions { stride, padding };
        let case = Conv2dCase { batch_size, channels, input, kernel, bias, options };
        for place in Place::host() {
            agree(&case, place, |fused| run_conv2d(case, place, fused));
        }
    }

    #[test]
    fn batch_norm_agrees_on_any_shape(
        batch_size in 1_usize..5,
        channels in 1_usize..20,
        height in 1_usize..9,
        width in 1_usize..9,
        of_batch: bool,
        relu: bool,
    ) {
        for place in Place::host() {
            // In single precision, rounding may move a value over the ReLU's kink.
            let relu = relu && place.dtype == DType::F64;
            let case = BatchNormCase { shape: [batch_size, channels, height, width], of_batch, relu };
            agree(&case, place, |fused| run_batch_norm(case, place, fused));
        }
    }

    #[test]
    fn sru_agrees_on_any_shape(
        seq_length in 1_usize..8,
        batch_size in 1_usize..20,
        d_hidden in 1_usize..70,
        highway: bool,
        mask: bool,
        activation in prop_oneof![
            Just(Activation::Identity), Just(Activation::Tanh), Just(Activation::Relu)
        ],
    ) {
        let case = SruCase { seq_length, batch_size, d_hidden, highway, mask, activation };
        for place in Place::host() {
            agree(&case, place, |fused| run_sru(case, place, fused));
        }
    }

    #[test]
    fn rhn_agrees_on_any_shape(
        seq_length in 1_usize..5,
        depth in 1_usize..5,
        batch_size in 1_usize..20,
        d_hidden in 1_usize..50,
        mask_groups in prop_oneof![Just(None), Just(Some(1)), Just(Some(2))],
    ) {
        let case = RhnCase { seq_length, depth, batch_size, d_hidden, mask_groups };
        for place in Place::host() {
            agree(&case, place, |fused| run_rhn(case, place, fused));
        }
    }
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(expected = "target")]
fn a_target_outside_of_the_classes_is_named() {
    let place = Place::host().next().unwrap();
    let targets = Tensor::from_data([1, 9], &place.device);
    linear_cross_entropy(LinearCrossEntropyInputs {
        hidden: place.random(1, [2, 3], 1.0),
        weight: place.random(2, [3, 4], 1.0),
        tied: false,
        bias: place.random(3, [4], 1.0),
        targets,
    });
}

#[cfg(feature = "flex")]
#[test]
#[should_panic(
    expected = "a kernel of 3 × 3 is larger than the input of 2 × 5 with its padding of 0, 0"
)]
fn a_kernel_larger_than_its_input_is_named() {
    let place = Place::host().next().unwrap();
    conv2d(Conv2dInputs {
        input: place.random(1, [1, 2, 2, 5], 1.0),
        weight: place.random(2, [4, 2, 3, 3], 1.0),
        bias: None,
        options: Conv2dOptions::default(),
    });
}

use anp_kernels::lstm::{LstmInputs, LstmSequence, LstmState, lstm_sequence};
use anp_kernels::{Kernels, MatmulPrecision};
use burn::tensor::{DType, Tensor};
use proptest::prelude::*;

use crate::{agree_in, agree_on_every_device, any_precision, proptest_config};
use anp_testing::{TestDevice, Values, assert_gradient, gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    seq_length: usize,
    batch_size: usize,
    d_hidden: usize,
    /// Masks on the recurrent input: none, one for all gates, or one per gate.
    mask_groups: Option<usize>,
    forget_bias: f64,
    /// What the loss looks at.
    loss: Loss,
    precision: MatmulPrecision,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Loss {
    Hidden,
    Cell,
    Both,
    LastState,
}

const CASE: Case = Case {
    seq_length: 3,
    batch_size: 2,
    d_hidden: 5,
    mask_groups: None,
    forget_bias: 0.0,
    loss: Loss::Both,
    precision: MatmulPrecision::Full,
};

/// Every differentiable input, as leaves of a graph.
struct Leaves {
    gates: Tensor<3>,
    bias: Tensor<1>,
    weight_hidden: Tensor<2>,
    hidden0: Tensor<2>,
    cell0: Tensor<2>,
}

impl Leaves {
    fn new(case: Case, device: &TestDevice) -> Self {
        let Case { seq_length, batch_size, d_hidden, .. } = case;
        let range = 2.0 / (d_hidden as f64).sqrt();
        Self {
            gates: device.leaf(1, [seq_length, batch_size, 4 * d_hidden], 2.0),
            bias: device.leaf(2, [4 * d_hidden], 1.0),
            weight_hidden: device.leaf(3, [d_hidden, 4 * d_hidden], range),
            hidden0: device.leaf(4, [batch_size, d_hidden], 1.0),
            cell0: device.leaf(5, [batch_size, d_hidden], 1.0),
        }
    }

    fn inputs(&self, case: Case, device: &TestDevice) -> LstmInputs {
        let Case { batch_size, d_hidden, mask_groups, forget_bias, precision, .. } = case;
        LstmInputs {
            gates: self.gates.clone(),
            bias: self.bias.clone(),
            weight_hidden: self.weight_hidden.clone(),
            mask: mask_groups.map(|groups| device.mask(6, [groups, batch_size, d_hidden])),
            state: LstmState { hidden: self.hidden0.clone(), cell: self.cell0.clone() },
            forget_bias,
            precision,
        }
    }
}

/// A loss in which every element counts differently.
fn loss(sequence: &LstmSequence, case: Case, device: &TestDevice) -> Tensor<1> {
    let Case { seq_length, batch_size, d_hidden, .. } = case;
    let weights = |seed| device.random(seed, [seq_length, batch_size, d_hidden], 1.0);
    let last = |seed| device.random(seed, [batch_size, d_hidden], 1.0);
    let hidden = (sequence.hidden.clone() * weights(7)).sum();
    let cell = (sequence.cell.clone() * weights(8)).sum();
    match case.loss {
        Loss::Hidden => hidden,
        Loss::Cell => cell,
        Loss::Both => hidden + cell,
        Loss::LastState => {
            let LstmState { hidden, cell } = sequence.state.clone();
            (hidden * last(9)).sum() + (cell * last(10)).sum()
        }
    }
}

fn run(case: Case, device: &TestDevice, kernels: Kernels) -> Values {
    let device = &device.autodiff();
    let leaves = Leaves::new(case, device);
    let sequence = kernels.lstm_sequence(leaves.inputs(case, device));
    let gradients = loss(&sequence, case, device).backward();
    vec![
        ("hidden", values(sequence.hidden)),
        ("cell", values(sequence.cell)),
        ("last hidden", values(sequence.state.hidden)),
        ("last cell", values(sequence.state.cell)),
        ("gates' gradient", gradient(&leaves.gates, &gradients)),
        ("bias' gradient", gradient(&leaves.bias, &gradients)),
        ("weight's gradient", gradient(&leaves.weight_hidden, &gradients)),
        ("hidden state's gradient", gradient(&leaves.hidden0, &gradients)),
        ("cell state's gradient", gradient(&leaves.cell0, &gradients)),
    ]
}

#[test]
fn agrees_with_the_reference_on_every_device() {
    for case in [
        CASE,
        Case { mask_groups: Some(1), loss: Loss::Hidden, ..CASE },
        Case { mask_groups: Some(4), loss: Loss::Cell, forget_bias: 1.0, ..CASE },
        Case { loss: Loss::LastState, ..CASE },
        Case { seq_length: 1, batch_size: 1, d_hidden: 1, ..CASE },
        Case { seq_length: 4, batch_size: 3, d_hidden: 33, ..CASE },
    ] {
        agree_on_every_device(case, run);
    }
}

proptest! {
    #![proptest_config(proptest_config(48))]

    #[test]
    fn agrees_with_the_reference_on_any_shape(
        seq_length in 1_usize..6,
        batch_size in 1_usize..24,
        d_hidden in 1_usize..70,
        mask_groups in prop_oneof![Just(None), Just(Some(1)), Just(Some(4))],
        forget_bias in prop_oneof![Just(0.0), Just(1.0)],
        loss in prop_oneof![
            Just(Loss::Hidden), Just(Loss::Cell), Just(Loss::Both), Just(Loss::LastState)
        ],
        precision in any_precision(),
    ) {
        let case =
            Case { seq_length, batch_size, d_hidden, mask_groups, forget_bias, loss, precision };
        agree_in(precision, case, run);
    }
}

/// Each step is larger than what a window is cut into, and the batch is larger than one tile.
#[test]
fn agrees_with_the_reference_at_a_realistic_size() {
    for precision in [MatmulPrecision::Full, MatmulPrecision::Bf16] {
        let case = Case { seq_length: 12, batch_size: 20, d_hidden: 200, precision, ..CASE };
        agree_in(precision, case, run);
    }
}

#[test]
fn gradients_match_finite_differences() {
    let case = Case { mask_groups: Some(4), forget_bias: 0.5, ..CASE };
    for device in TestDevice::cpus().filter(|device| device.dtype == DType::F64) {
        let results = run(case, device, Kernels::Fused);
        let gradient = |name: &str| &results.iter().find(|(n, _)| *n == name).unwrap().1;
        let leaves = Leaves::new(case, device);
        let total = |change: &dyn Fn(&mut LstmInputs)| {
            let mut inputs = leaves.inputs(case, device);
            change(&mut inputs);
            values(loss(&lstm_sequence(inputs), case, device))[0]
        };
        let Case { seq_length, batch_size, d_hidden, .. } = case;
        let state = [batch_size, d_hidden];
        assert_gradient("gates", &values(leaves.gates.clone()), gradient("gates' gradient"), |v| {
            total(&|inputs| {
                inputs.gates = device.tensor(v.clone(), [seq_length, batch_size, 4 * d_hidden]);
            })
        });
        assert_gradient("bias", &values(leaves.bias.clone()), gradient("bias' gradient"), |v| {
            total(&|inputs| inputs.bias = device.tensor(v.clone(), [4 * d_hidden]))
        });
        let weight = values(leaves.weight_hidden.clone());
        assert_gradient("weight", &weight, gradient("weight's gradient"), |v| {
            total(&|inputs| {
                inputs.weight_hidden = device.tensor(v.clone(), [d_hidden, 4 * d_hidden])
            })
        });
        let hidden0 = values(leaves.hidden0.clone());
        assert_gradient("hidden state", &hidden0, gradient("hidden state's gradient"), |v| {
            total(&|inputs| inputs.state.hidden = device.tensor(v.clone(), state))
        });
        let cell0 = values(leaves.cell0.clone());
        assert_gradient("cell state", &cell0, gradient("cell state's gradient"), |v| {
            total(&|inputs| inputs.state.cell = device.tensor(v.clone(), state))
        });
    }
}

#[test]
fn views_with_strides_are_read_as_what_they_show() {
    for device in TestDevice::all() {
        let leaves = Leaves::new(CASE, device);
        let straight = leaves.inputs(CASE, device);
        let mut strided = straight.clone();
        // Half of twice as many rows, seen through a swap of dimensions.
        let swapped = straight.gates.clone().swap_dims(0, 2);
        let [width, ..] = swapped.dims();
        let doubled = Tensor::cat(vec![swapped.clone(), swapped.zeros_like()], 0);
        strided.gates = doubled.narrow(0, 0, width).swap_dims(0, 2);
        strided.weight_hidden =
            straight.weight_hidden.clone().transpose().mul_scalar(1.0).transpose();
        strided.state.cell = straight.state.cell.clone().transpose().mul_scalar(1.0).transpose();
        let (a, b) = (lstm_sequence(straight), lstm_sequence(strided));
        assert_eq!(values(a.hidden), values(b.hidden), "{device:?}");
        assert_eq!(values(a.cell), values(b.cell), "{device:?}");
    }
}

/// A frozen weight gets no gradient, and what does not lead to the loss costs no backward step.
#[test]
fn only_tracked_inputs_get_a_gradient() {
    for device in TestDevice::all() {
        let device = &device.autodiff();
        let leaves = Leaves::new(CASE, device);
        let mut inputs = leaves.inputs(CASE, device);
        inputs.weight_hidden = inputs.weight_hidden.detach();
        inputs.state = inputs.state.detach();
        let gradients = lstm_sequence(inputs).hidden.sum().backward();
        assert!(leaves.gates.grad(&gradients).is_some());
        assert!(leaves.weight_hidden.grad(&gradients).is_none());
        assert!(leaves.hidden0.grad(&gradients).is_none());
    }
}

#[cfg(feature = "flex")]
#[test]
fn half_precision_computes_in_single_precision() {
    let device = TestDevice { device: burn::tensor::Device::flex(), dtype: DType::F32 };
    let inputs = Leaves::new(CASE, &device).inputs(CASE, &device);
    let exact = values(lstm_sequence(inputs.clone()).hidden);
    let cast = |dtype| {
        let mut inputs = inputs.clone();
        inputs.gates = inputs.gates.cast(dtype);
        inputs.bias = inputs.bias.cast(dtype);
        inputs.weight_hidden = inputs.weight_hidden.cast(dtype);
        inputs.state.hidden = inputs.state.hidden.cast(dtype);
        inputs.state.cell = inputs.state.cell.cast(dtype);
        let hidden = lstm_sequence(inputs).hidden;
        assert_eq!(hidden.dtype(), dtype);
        values(hidden.cast(DType::F32))
    };
    for (dtype, epsilon) in [(DType::F16, 1e-3), (DType::BF16, 8e-3)] {
        for (half, exact) in cast(dtype).into_iter().zip(&exact) {
            // Inputs of up to 4, rounded once, through slopes below one.
            assert!((half - exact).abs() < 8.0 * epsilon, "{half} for {exact}");
        }
    }
}

#[cfg(feature = "flex")]
mod misuse {
    use super::*;

    fn inputs() -> LstmInputs {
        let device = TestDevice::cpus().next().unwrap();
        Leaves::new(CASE, device).inputs(CASE, device)
    }

    #[test]
    #[should_panic(expected = "`weight_hidden` has the shape [5, 19], but [5, 20] is needed")]
    fn a_wrong_shape_is_named() {
        let inputs = inputs();
        let weight_hidden = inputs.weight_hidden.clone().narrow(1, 0, 19);
        lstm_sequence(LstmInputs { weight_hidden, ..inputs });
    }

    #[test]
    #[should_panic(expected = "`bias` is of F16")]
    fn a_wrong_type_is_named() {
        let inputs = inputs();
        let bias = inputs.bias.clone().cast(DType::F16);
        lstm_sequence(LstmInputs { bias, ..inputs });
    }

    #[cfg(feature = "ndarray")]
    #[test]
    #[should_panic(expected = "`bias` is on")]
    fn a_wrong_device_is_named() {
        let inputs = inputs();
        let ndarray = burn::tensor::Device::enumerate(burn::tensor::DeviceType::NdArray);
        let bias = Tensor::zeros([20], &ndarray.to_vec()[0]);
        lstm_sequence(LstmInputs { bias, ..inputs });
    }
}

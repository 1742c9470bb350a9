//! The fused LSTM against its composition, on every device of this build.

mod support;

use anp_kernels::lstm::{LstmInputs, LstmSequence, LstmState, lstm_reference, lstm_sequence};
use burn::tensor::Tensor;
use proptest::prelude::*;
use support::{Place, Values, assert_close, assert_gradient, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    seq_length: usize,
    batch_size: usize,
    d_hidden: usize,
    /// Masks on the recurrent input: none, one for all gates, or one a gate.
    mask_groups: Option<usize>,
    forget_bias: f64,
    /// What the loss looks at.
    loss: Loss,
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
    fn new(case: Case, place: &Place) -> Self {
        let Case { seq_length, batch_size, d_hidden, .. } = case;
        let range = 2.0 / (d_hidden as f64).sqrt();
        Self {
            gates: place.leaf(1, [seq_length, batch_size, 4 * d_hidden], 2.0),
            bias: place.leaf(2, [4 * d_hidden], 1.0),
            weight_hidden: place.leaf(3, [d_hidden, 4 * d_hidden], range),
            hidden0: place.leaf(4, [batch_size, d_hidden], 1.0),
            cell0: place.leaf(5, [batch_size, d_hidden], 1.0),
        }
    }

    fn inputs(&self, case: Case, place: &Place) -> LstmInputs {
        let Case { batch_size, d_hidden, mask_groups, forget_bias, .. } = case;
        LstmInputs {
            gates: self.gates.clone(),
            bias: self.bias.clone(),
            weight_hidden: self.weight_hidden.clone(),
            mask: mask_groups.map(|groups| place.mask(6, [groups, batch_size, d_hidden])),
            state: LstmState { hidden: self.hidden0.clone(), cell: self.cell0.clone() },
            forget_bias,
        }
    }
}

/// A loss in which every element counts differently.
fn loss(sequence: &LstmSequence, case: Case, place: &Place) -> Tensor<1> {
    let Case { seq_length, batch_size, d_hidden, .. } = case;
    let weights = |seed| place.random(seed, [seq_length, batch_size, d_hidden], 1.0);
    let last = |seed| place.random(seed, [batch_size, d_hidden], 1.0);
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

fn run(case: Case, place: &Place, lstm: impl Fn(LstmInputs) -> LstmSequence) -> Values {
    let place = &place.autodiff();
    let leaves = Leaves::new(case, place);
    let sequence = lstm(leaves.inputs(case, place));
    let gradients = loss(&sequence, case, place).backward();
    vec![
        ("hidden", values(sequence.hidden)),
        ("cell", values(sequence.cell)),
        ("last hidden", values(sequence.state.hidden)),
        ("last cell", values(sequence.state.cell)),
        ("gates' gradient", values(leaves.gates.grad(&gradients).unwrap())),
        ("bias' gradient", values(leaves.bias.grad(&gradients).unwrap())),
        ("weight's gradient", values(leaves.weight_hidden.grad(&gradients).unwrap())),
        ("hidden state's gradient", values(leaves.hidden0.grad(&gradients).unwrap())),
        ("cell state's gradient", values(leaves.cell0.grad(&gradients).unwrap())),
    ]
}

#[track_caller]
fn agrees(case: Case, place: &Place) {
    let (fused, plain) = (run(case, place, lstm_sequence), run(case, place, lstm_reference));
    assert_close(&format!("{case:?} on {place:?}"), &fused, &plain, place.tolerance());
}

#[test]
fn agrees_with_the_composition_on_every_device() {
    for place in Place::all() {
        agrees(CASE, place);
        agrees(Case { mask_groups: Some(1), loss: Loss::Hidden, ..CASE }, place);
        agrees(Case { mask_groups: Some(4), loss: Loss::Cell, forget_bias: 1.0, ..CASE }, place);
        agrees(Case { loss: Loss::LastState, ..CASE }, place);
        agrees(Case { seq_length: 1, batch_size: 1, d_hidden: 1, ..CASE }, place);
        agrees(Case { seq_length: 4, batch_size: 3, d_hidden: 33, ..CASE }, place);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_composition_on_any_shape(
        seq_length in 1_usize..6,
        batch_size in 1_usize..24,
        d_hidden in 1_usize..70,
        mask_groups in prop_oneof![Just(None), Just(Some(1)), Just(Some(4))],
        forget_bias in prop_oneof![Just(0.0), Just(1.0)],
        loss in prop_oneof![Just(Loss::Hidden), Just(Loss::Cell), Just(Loss::Both), Just(Loss::LastState)],
    ) {
        let case = Case { seq_length, batch_size, d_hidden, mask_groups, forget_bias, loss };
        for place in Place::host() {
            agrees(case, place);
        }
    }
}

/// Each step is larger than what a window is cut into, and the batch is larger than one tile.
#[test]
fn agrees_with_the_composition_at_a_size_of_use() {
    for place in Place::host() {
        agrees(Case { seq_length: 12, batch_size: 20, d_hidden: 200, ..CASE }, place);
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let case = Case { mask_groups: Some(4), forget_bias: 0.5, ..CASE };
    for place in Place::host().filter(|place| place.dtype == burn::tensor::DType::F64) {
        let results = run(case, place, lstm_sequence);
        let gradient = |name: &str| &results.iter().find(|(n, _)| *n == name).unwrap().1;
        let leaves = Leaves::new(case, place);
        let total = |change: &dyn Fn(&mut LstmInputs)| {
            let mut inputs = leaves.inputs(case, place);
            change(&mut inputs);
            values(loss(&lstm_sequence(inputs), case, place))[0]
        };
        let Case { seq_length, batch_size, d_hidden, .. } = case;
        let state = [batch_size, d_hidden];
        assert_gradient("gates", &values(leaves.gates.clone()), gradient("gates' gradient"), |v| {
            total(&|inputs| {
                inputs.gates = place.tensor(v.clone(), [seq_length, batch_size, 4 * d_hidden]);
            })
        });
        assert_gradient("bias", &values(leaves.bias.clone()), gradient("bias' gradient"), |v| {
            total(&|inputs| inputs.bias = place.tensor(v.clone(), [4 * d_hidden]))
        });
        let weight = values(leaves.weight_hidden.clone());
        assert_gradient("weight", &weight, gradient("weight's gradient"), |v| {
            total(&|inputs| {
                inputs.weight_hidden = place.tensor(v.clone(), [d_hidden, 4 * d_hidden])
            })
        });
        let hidden0 = values(leaves.hidden0.clone());
        assert_gradient("hidden state", &hidden0, gradient("hidden state's gradient"), |v| {
            total(&|inputs| inputs.state.hidden = place.tensor(v.clone(), state))
        });
        let cell0 = values(leaves.cell0.clone());
        assert_gradient("cell state", &cell0, gradient("cell state's gradient"), |v| {
            total(&|inputs| inputs.state.cell = place.tensor(v.clone(), state))
        });
    }
}

/// Views with strides are read as what they show.
#[test]
fn inputs_need_not_be_contiguous() {
    for place in Place::all() {
        let leaves = Leaves::new(CASE, place);
        let straight = leaves.inputs(CASE, place);
        let mut turned = straight.clone();
        // Half of twice as many rows, seen through a swap of dimensions.
        let swapped = straight.gates.clone().swap_dims(0, 2);
        let [width, ..] = swapped.dims();
        let doubled = Tensor::cat(vec![swapped.clone(), swapped.zeros_like()], 0);
        turned.gates = doubled.narrow(0, 0, width).swap_dims(0, 2);
        turned.weight_hidden =
            straight.weight_hidden.clone().transpose().mul_scalar(1.0).transpose();
        turned.state.cell = straight.state.cell.clone().transpose().mul_scalar(1.0).transpose();
        let (a, b) = (lstm_sequence(straight), lstm_sequence(turned));
        assert_eq!(values(a.hidden), values(b.hidden), "{place:?}");
        assert_eq!(values(a.cell), values(b.cell), "{place:?}");
    }
}

/// A frozen weight gets no gradient, and what does not lead to the loss costs no backward step.
#[test]
fn only_what_is_tracked_gets_a_gradient() {
    for place in Place::all() {
        let place = &place.autodiff();
        let leaves = Leaves::new(CASE, place);
        let mut inputs = leaves.inputs(CASE, place);
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
fn half_precision_computes_in_single() {
    use burn::tensor::{DType, Device};
    let place = Place { device: Device::flex(), dtype: DType::F32 };
    let inputs = Leaves::new(CASE, &place).inputs(CASE, &place);
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
        let place = Place::host().next().unwrap();
        Leaves::new(CASE, place).inputs(CASE, place)
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
        let bias = inputs.bias.clone().cast(burn::tensor::DType::F16);
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

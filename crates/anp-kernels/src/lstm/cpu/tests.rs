use std::array;

use proptest::prelude::*;

use super::backward::{Gradients, StateGradients, backward, weight_gradient};
use super::forward::{States, forward};
use super::{Dims, GATES, Lstm, Recurrence, Scalar};
use crate::cpu::tests::{assert_near, narrow, noise, widen};
use crate::precision::MatmulPrecision;

/// All that goes in, with upstream gradients of all states.
#[derive(Debug, Clone)]
struct Case {
    dims: Dims,
    groups: usize,
    forget_bias: f64,
    precision: MatmulPrecision,
    mask: Vec<f64>,
    hidden_grad: Vec<f64>,
    /// Zero if absent.
    cell_grad: Option<Vec<f64>>,
    /// What has a gradient: gates, bias, recurrent weight, hidden and cell state at the start.
    inputs: [Vec<f64>; 5],
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Case {
    fn new([seq_length, batch_size, d_hidden]: [usize; 3], groups: usize, seed: u64) -> Self {
        let dims = super::dims([seq_length, batch_size, GATES * d_hidden]);
        let mut noise = noise(seed);
        let states = seq_length * dims.state();
        let scale = 2.0 / (d_hidden as f64).sqrt();
        let weight = noise(d_hidden * GATES * d_hidden).iter().map(|w| w * scale).collect();
        Self {
            dims,
            groups,
            forget_bias: 0.7,
            precision: MatmulPrecision::Full,
            mask: noise(groups * dims.state())
                .iter()
                .map(|m| if *m < 0.0 { 0.0 } else { 1.6 })
                .collect(),
            hidden_grad: noise(states),
            cell_grad: Some(noise(states)),
            inputs: [
                noise(states * GATES),
                noise(GATES * d_hidden),
                weight,
                noise(dims.state()),
                noise(dims.state()),
            ],
        }
    }

    /// Activated gates, hidden and cell states, straight from the equations.
    fn reference(&self) -> [Vec<f64>; 3] {
        let Dims { seq_length, batch_size, d_hidden, .. } = self.dims;
        let [gates, bias, weight, hidden0, cell0] = &self.inputs;
        let (mut activated, mut hidden, mut cell) = (gates.clone(), vec![], vec![]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for row in 0..seq_length * batch_size {
            let in_batch = row % batch_size;
            for unit in 0..d_hidden {
                let before = |states: &[f64], start: &[f64], unit: usize| match row
                    .checked_sub(batch_size)
                {
                    Some(row) => states[row * d_hidden + unit],
                    None => start[row * d_hidden + unit],
                };
                let a: [f64; GATES] = array::from_fn(|gate| {
                    let column = gate * d_hidden + unit;
                    let product = (0..d_hidden).map(|k| {
                        let mask = match self.groups {
                            0 => 1.0,
                            groups => {
                                let row = gate % groups * batch_size + in_batch;
                                self.mask[row * d_hidden + k]
                            }
                        };
                        before(&hidden, hidden0, k) * mask * weight[k * GATES * d_hidden + column]
                    });
                    gates[row * GATES * d_hidden + column] + bias[column] + product.sum::<f64>()
                });
                let [i, f, g, o] =
                    [sigmoid(a[0]), sigmoid(a[1] + self.forget_bias), a[2].tanh(), sigmoid(a[3])];
                let c = f * before(&cell, cell0, unit) + i * g;
                cell.push(c);
                hidden.push(o * c.tanh());
                for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                    activated[(row * GATES + gate) * d_hidden + unit] = value;
                }
            }
        }
        [activated, hidden, cell]
    }

    /// What the upstream gradients are those of.
    fn loss(&self) -> f64 {
        let [_, hidden, cell] = self.reference();
        let through_cell = self.cell_grad.iter().map(|cell_grad| dot(&cell, cell_grad));
        dot(&hidden, &self.hidden_grad) + through_cell.sum::<f64>()
    }

    /// Activated gates, hidden and cell states, and the gradients of the inputs.
    fn run<E: Scalar>(&self, threads: usize) -> ([Vec<f64>; 3], [Vec<f64>; 5]) {
        let [mut gates, bias, weight, hidden0, cell0] =
            self.inputs.each_ref().map(|input| narrow::<E>(input));
        let mask = (self.groups > 0).then(|| narrow(&self.mask));
        let recurrence = Recurrence::new(self.dims, &weight, mask.as_deref(), &hidden0)
            .with_precision(self.precision);
        let lstm = Lstm::new(recurrence, &cell0);
        let mut hidden = vec![E::ZERO; self.hidden_grad.len()];
        let mut cell = hidden.clone();
        let states = States { gates: &mut gates, hidden: &mut hidden, cell: &mut cell };
        forward(lstm, &bias, E::from_f64(self.forget_bias), states, threads);
        let states = [&gates, &hidden, &cell].map(|states| widen(states));
        let cell_grad = self.cell_grad.as_deref().map(narrow);
        let state_grads =
            StateGradients { hidden: &narrow(&self.hidden_grad), cell: cell_grad.as_deref() };
        let Gradients { bias, hidden0, cell0 } =
            backward(lstm, &cell, state_grads, &mut gates, threads);
        let weight = weight_gradient(lstm, &hidden, &gates, threads);
        (states, [gates, bias, weight, hidden0, cell0].map(|gradient| widen(&gradient)))
    }

    /// Derivative of the loss by central differences when an input moves along `direction`.
    fn slope(&self, input: usize, direction: &[f64]) -> f64 {
        const STEP: f64 = 1e-5;
        let loss = |step: f64| {
            let mut moved = self.clone();
            moved.inputs[input].iter_mut().zip(direction).for_each(|(x, d)| *x += step * d);
            moved.loss()
        };
        (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
    }
}

/// Each number of each gradient.
fn check_every_gradient(case: &Case) {
    let (_, grads) = case.run::<f64>(1);
    for (input, grad) in grads.iter().enumerate() {
        for (n, &grad) in grad.iter().enumerate() {
            let mut direction = vec![0.0; case.inputs[input].len()];
            direction[n] = 1.0;
            // The differences are exact to the square of their step, and round at 1e-16 over it.
            assert_near("gradient", &[grad], &[case.slope(input, &direction)], 1e-8);
        }
    }
}

/// Along one direction each.
fn check_gradients(case: &Case) {
    let (_, grads) = case.run::<f64>(2);
    for (input, grad) in grads.iter().enumerate() {
        let direction = noise(input as u64 + 1)(grad.len());
        let norm = dot(&direction, &direction).sqrt();
        let direction: Vec<f64> = direction.iter().map(|d| d / norm).collect();
        assert_near("gradient", &[dot(grad, &direction)], &[case.slope(input, &direction)], 1e-7);
    }
}

fn groups() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, GATES])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn small_shapes_agree_with_the_equations(
        shape in [1_usize..5, 1_usize..4, 1_usize..6],
        groups in groups(),
        seed: u64,
    ) {
        let case = Case::new(shape, groups, seed);
        for (actual, expected) in case.run::<f64>(1).0.iter().zip(&case.reference()) {
            assert_near("states", actual, expected, 1e-13);
        }
        check_every_gradient(&case);
    }

    #[test]
    fn odd_shapes_agree_with_the_equations(
        shape in [1_usize..7, 1_usize..15, 1_usize..80],
        groups in groups(),
        seed: u64,
    ) {
        let case = Case::new(shape, groups, seed);
        for (actual, expected) in case.run::<f64>(2).0.iter().zip(&case.reference()) {
            assert_near("states", actual, expected, 1e-12);
        }
        check_gradients(&case);
    }
}

#[test]
fn shared_work_agrees_with_the_equations() {
    for groups in [0, 1, GATES] {
        let case = Case::new([9, 20, 133], groups, 5);
        assert_eq!(case.dims.threads(2), 2);
        for (actual, expected) in case.run::<f64>(2).0.iter().zip(&case.reference()) {
            assert_near("states", actual, expected, 1e-12);
        }
        check_gradients(&case);
    }
}

/// A few dozen roundings of 6e-8 follow each other. Where operands are rounded to bfloat16, a sum
/// that is off in its last place may be rounded to the next number, 2⁻⁸ away.
#[test]
fn f32_agrees_with_f64() {
    for (shape, groups) in [([9, 20, 133], 0), ([6, 7, 300], 4), ([1, 1, 33], 1), ([20, 1, 64], 0)]
    {
        for (precision, of_states, of_grads) in
            [(MatmulPrecision::Full, 3e-6, 2e-5), (MatmulPrecision::Bf16, 1e-3, 1e-2)]
        {
            let case = Case { precision, ..Case::new(shape, groups, 11) };
            let (states, grads) = case.run::<f32>(2);
            let (exact_states, exact_grads) = case.run::<f64>(2);
            for (actual, expected) in states.iter().zip(&exact_states) {
                assert_near("states", actual, expected, of_states);
            }
            for (actual, expected) in grads.iter().zip(&exact_grads) {
                assert_near("gradients", actual, expected, of_grads);
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for groups in [0, 1, GATES] {
        let mut case = Case::new([16, 20, 150], groups, 3);
        assert_eq!(case.dims.threads(3), 3);
        for precision in [MatmulPrecision::Full, MatmulPrecision::Bf16] {
            case.precision = precision;
            let one = case.run::<f32>(1);
            assert!(one == case.run::<f32>(2), "{precision}");
            assert!(one == case.run::<f32>(3), "{precision}");
        }
    }
}

#[test]
fn an_absent_gradient_of_the_cell_states_is_zero() {
    for shape in [[5, 3, 9], [1, 2, 9]] {
        let mut case = Case::new(shape, 1, 7);
        case.cell_grad.as_mut().unwrap().fill(0.0);
        let zero = case.run::<f64>(1);
        case.cell_grad = None;
        assert!(case.run::<f64>(1) == zero);
        case.hidden_grad.fill(0.0);
        let (_, grads) = case.run::<f64>(1);
        assert!(grads.iter().flatten().all(|&grad| grad == 0.0));
    }
}

#[test]
#[should_panic(expected = "size of the state of Dims { seq_length: 2, depth: 1, batch_size: 3")]
fn lengths_are_checked() {
    let mut case = Case::new([2, 3, 4], 0, 1);
    case.inputs[3].pop();
    case.run::<f64>(1);
}

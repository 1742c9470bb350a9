use proptest::prelude::*;

use super::backward::{self, Gradients, backward};
use super::forward::{States, forward};
use super::{Dims, Scan};
use crate::cpu::scalar::Scalar;
use crate::cpu::tests::{assert_close, narrow, noise};
use crate::sru::Activation;

const ACTIVATIONS: [Activation; 3] = [Activation::Identity, Activation::Tanh, Activation::Relu];

/// Everything that the two halves read, with the product's columns in the order of the authors' code.
#[derive(Debug, Clone)]
struct Case {
    dims: Dims,
    activation: Activation,
    product: Vec<f64>,
    bias: Vec<f64>,
    highway: Option<Vec<f64>>,
    mask: Option<Vec<f64>>,
    cell0: Vec<f64>,
    hidden_grad: Vec<f64>,
    cell_grad: Option<Vec<f64>>,
}

impl Case {
    /// `present`: of the highway, the mask, and the gradients of hidden and cell states.
    fn new(
        [seq_length, batch_size, d_hidden]: [usize; 3],
        activation: Activation,
        [highway, mask, hidden_grad, cell_grad]: [bool; 4],
        seed: u64,
    ) -> Self {
        let gates = if highway { 3 } else { 4 };
        let dims = Dims { seq_length, depth: 1, batch_size, d_hidden, gates };
        let mut noise = noise(seed);
        let product = noise(dims.sequence() * gates).into_iter().map(|u| 3.0 * u).collect();
        Self {
            dims,
            activation,
            product,
            bias: noise(2 * dims.d_hidden),
            highway: highway.then(|| noise(dims.sequence())),
            mask: mask.then(|| {
                let keep = |u: f64| if u < 0.2 { 1.0 / 0.6 } else { 0.0 };
                noise(dims.state()).into_iter().map(keep).collect()
            }),
            cell0: noise(dims.state()),
            hidden_grad: match hidden_grad {
                true => noise(dims.sequence()),
                false => vec![0.0; dims.sequence()],
            },
            cell_grad: cell_grad.then(|| noise(dims.sequence())),
        }
    }

    /// Hidden and cell states from the equations, one number after the other.
    fn states(&self) -> (Vec<f64>, Vec<f64>) {
        let Dims { seq_length, batch_size, d_hidden, .. } = self.dims;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut hidden, mut cell) = (Vec::new(), self.cell0.clone());
        for at in 0..self.dims.sequence() {
            let (b, i) = (at / d_hidden % batch_size, at % d_hidden);
            let u = &self.product[at * self.dims.gates..][..self.dims.gates];
            let f = sigmoid(u[1] + self.bias[i]);
            let r = sigmoid(u[2] + self.bias[d_hidden + i]);
            // The initial states come first, so that this is the state one step before.
            let c = f * cell[at] + (1.0 - f) * u[0];
            let g = match self.activation {
                Activation::Identity => c,
                Activation::Tanh => c.tanh(),
                Activation::Relu => c.max(0.0),
            };
            let mask = self.mask.as_ref().map_or(1.0, |mask| mask[b * d_hidden + i]);
            let highway = self.highway.as_ref().map_or_else(|| u[3], |x| x[at]);
            cell.push(c);
            hidden.push(r * g * mask + (1.0 - r) * highway);
        }
        assert_eq!(hidden.len(), seq_length * batch_size * d_hidden);
        (hidden, cell.split_off(self.cell0.len()))
    }

    /// A number whose gradients with respect to the states are `hidden_grad` and `cell_grad`.
    fn loss(&self) -> f64 {
        let (hidden, cell) = self.states();
        let dot = |values: &[f64], gradient: &[f64]| -> f64 {
            gradient.iter().zip(values).map(|(gradient, value)| gradient * value).sum()
        };
        let cell_grad = self.cell_grad.as_deref().unwrap_or_default();
        dot(&hidden, &self.hidden_grad) + dot(&cell, cell_grad)
    }

    /// Central differences of the loss with respect to the numbers that `of` selects.
    fn differences(&self, of: impl Fn(&mut Self) -> &mut [f64]) -> Vec<f64> {
        const STEP: f64 = 1e-5;
        let mut case = self.clone();
        (0..of(&mut case).len())
            .map(|i| {
                let value = of(&mut case)[i];
                of(&mut case)[i] = value + STEP;
                let above = case.loss();
                of(&mut case)[i] = value - STEP;
                let below = case.loss();
                of(&mut case)[i] = value;
                (above - below) / (2.0 * STEP)
            })
            .collect()
    }

    /// From the order of the authors' columns to that of the kernels.
    fn by_part(&self, interleaved: &[f64]) -> Vec<f64> {
        let (k, n) = (self.dims.gates, self.dims.d_hidden);
        interleaved
            .chunks(k * n)
            .flat_map(|row| (0..k * n).map(move |column| row[column % n * k + column / n]))
            .collect()
    }

    /// What the kernels compute in `E`.
    fn run<E: Scalar>(&self, threads: usize) -> Results<E> {
        let optional = |values: &Option<Vec<f64>>| values.as_deref().map(narrow::<E>);
        let (bias, cell0) = (narrow(&self.bias), narrow(&self.cell0));
        let (highway, mask) = (optional(&self.highway), optional(&self.mask));
        let scan = Scan {
            dims: self.dims,
            activation: self.activation,
            bias: &bias,
            highway: highway.as_deref(),
            mask: mask.as_deref(),
            cell0: &cell0,
        };
        let mut product = narrow(&self.by_part(&self.product));
        let States { hidden, cell } = forward(&scan, &product, threads);
        let (hidden_grad, cell_grad) = (narrow(&self.hidden_grad), optional(&self.cell_grad));
        let states = backward::States {
            cell: &cell,
            hidden_grad: &hidden_grad,
            cell_grad: cell_grad.as_deref(),
        };
        let Gradients { highway, bias, cell0 } = backward(&scan, &mut product, states, threads);
        Results { hidden, cell, product, highway, bias, cell0 }
    }
}

/// The states, and the gradients of the product, the highway, the bias and the initial state.
#[derive(Debug, PartialEq)]
struct Results<E> {
    hidden: Vec<E>,
    cell: Vec<E>,
    product: Vec<E>,
    highway: Option<Vec<E>>,
    bias: Vec<E>,
    cell0: Vec<E>,
}

impl<E: Scalar> Results<E> {
    fn all(&self) -> [&[E]; 6] {
        let highway = self.highway.as_deref().unwrap_or_default();
        [&self.hidden, &self.cell, &self.product, highway, &self.bias, &self.cell0]
    }
}

/// Steps, sequences and units.
fn shapes() -> impl Strategy<Value = [usize; 3]> {
    let d_hidden = prop_oneof![1..5_usize, Just(16), Just(33)];
    (1..5_usize, 1..4_usize, d_hidden).prop_map(<[usize; 3]>::from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn agrees_with_the_equations_and_finite_differences(
        shape in shapes(),
        activation in proptest::sample::select(&ACTIVATIONS[..]),
        present: [bool; 4],
        seed: u64,
    ) {
        let case = Case::new(shape, activation, present, seed);
        let (hidden, cell) = case.states();
        // A difference across the corner of the rectifier is no derivative.
        prop_assume!(activation != Activation::Relu || cell.iter().all(|c| c.abs() > 1e-4));

        let results = case.run::<f64>(1);
        assert_close(&results.hidden, &hidden, 1e-13);
        assert_close(&results.cell, &cell, 1e-13);
        // Differences have an error of 1e-10 from their step, and one of 1e-9 from rounding a loss near 100.
        let product = case.by_part(&case.differences(|case| &mut case.product));
        assert_close(&results.product, &product, 1e-7);
        assert_close(&results.bias, &case.differences(|case| &mut case.bias), 1e-7);
        assert_close(&results.cell0, &case.differences(|case| &mut case.cell0), 1e-7);
        if let Some(highway) = &results.highway {
            let expected = case.differences(|case| case.highway.as_mut().unwrap());
            assert_close(highway, &expected, 1e-7);
        }
    }

    /// No number here exceeds 20, and each has gone through at most some ten roundings a step.
    #[test]
    fn single_precision_agrees_with_double(
        shape in shapes(),
        activation in proptest::sample::select(&ACTIVATIONS[..]),
        present: [bool; 4],
        seed: u64,
    ) {
        let case = Case::new(shape, activation, present, seed);
        let (_, cell) = case.states();
        prop_assume!(activation != Activation::Relu || cell.iter().all(|c| c.abs() > 1e-4));
        let (single, double) = (case.run::<f32>(1), case.run::<f64>(1));
        for (single, double) in single.all().into_iter().zip(double.all()) {
            assert_close(single, double, 2e-5);
        }
    }
}

/// With gates that stand half open, `c₁ = (c₀ + x̃₁) / 2 = 2` and `h₁ = (c₁ + x'₁) / 2 = 6`, and so on.
#[test]
fn half_open_gates_take_means() {
    let scan = Scan {
        dims: Dims { seq_length: 2, depth: 1, batch_size: 1, d_hidden: 1, gates: 4 },
        activation: Activation::Identity,
        bias: &[0.0, 0.0_f64],
        highway: None,
        mask: None,
        cell0: &[1.0],
    };
    let product = [3.0, 0.0, 0.0, 10.0, 6.0, 0.0, 0.0, -4.0];
    let States { hidden, cell } = forward(&scan, &product, 1);
    assert_eq!(cell, [2.0, 4.0]);
    assert_eq!(hidden, [6.0, 0.0]);
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for activation in ACTIVATIONS {
        let case = Case::new([5, 20, 201], activation, [true; 4], 1);
        let one = case.run::<f32>(1);
        assert_eq!(pool.install(|| case.run::<f32>(2)), one);
    }
}

#[test]
fn an_absent_mask_is_one_and_an_absent_gradient_zero() {
    for hidden_grad in [true, false] {
        let present = [true, false, hidden_grad, false];
        let absent = Case::new([3, 2, 17], Activation::Tanh, present, 2);
        let mut present = absent.clone();
        present.mask = Some(vec![1.0; absent.dims.state()]);
        present.cell_grad = Some(vec![0.0; absent.dims.sequence()]);
        assert_eq!(absent.run::<f32>(1), present.run::<f32>(1));
    }
}

#[test]
#[should_panic(expected = "size of the product")]
fn without_a_highway_the_product_has_a_fourth_part() {
    let case = Case::new([2, 1, 3], Activation::Identity, [true; 4], 3);
    let scan = Scan {
        dims: Dims { gates: 4, ..case.dims },
        activation: case.activation,
        bias: &case.bias,
        highway: None,
        mask: None,
        cell0: &case.cell0,
    };
    forward(&scan, &case.product, 1);
}

use proptest::prelude::*;

use super::backward::{self, backward};
use super::forward::{self, forward};
use super::{Dims, GATES};
use crate::cpu::recurrent::{Recurrence, nth};
use crate::cpu::scalar::Scalar;
use crate::cpu::tests::{assert_close, narrow, noise};
use crate::precision::MatmulPrecision;

fn dims_of([seq_length, depth, batch_size, d_hidden]: [usize; 4]) -> Dims {
    Dims { seq_length, depth, batch_size, d_hidden, gates: GATES }
}

/// Everything that the two halves read.
#[derive(Debug, Clone)]
struct Case {
    dims: Dims,
    gates: Vec<f64>,
    weight_hidden: Vec<f64>,
    bias: Vec<f64>,
    mask: Option<Vec<f64>>,
    state0: Vec<f64>,
    hidden_grad: Vec<f64>,
    precision: MatmulPrecision,
}

impl Case {
    /// `masks`: none, one for both gates, or one for each.
    fn new(dims: Dims, masks: usize, seed: u64) -> Self {
        let mut noise = noise(seed);
        let n = dims.d_hidden;
        // Gates keep a spread of about one, however wide the state is.
        let scale = 1.5 / (n as f64).sqrt();
        let weights = noise(dims.depth * n * 2 * n);
        let keep = |u: f64| if u < 0.2 { 1.0 / 0.6 } else { 0.0 };
        Self {
            dims,
            gates: noise(2 * dims.sequence()),
            weight_hidden: weights.into_iter().map(|w| scale * w).collect(),
            bias: noise(dims.depth * 2 * n),
            mask: (masks > 0).then(|| noise(masks * dims.state()).into_iter().map(keep).collect()),
            state0: noise(dims.state()),
            hidden_grad: noise(dims.sequence()),
            precision: MatmulPrecision::Full,
        }
    }

    /// States after each micro-step, `[seq_length, depth, batch_size, d_hidden]`, from the
    /// equations.
    fn states(&self) -> Vec<Vec<f64>> {
        let Dims { seq_length, depth, batch_size, d_hidden: n, .. } = self.dims;
        let mut states = vec![self.state0.clone()];
        for (t, layer) in (0..seq_length).flat_map(|t| (0..depth).map(move |layer| (t, layer))) {
            let s = states.last().unwrap();
            let pre = |b: usize, column: usize| -> f64 {
                let mut sum = self.bias[layer * 2 * n + column];
                if layer == 0 {
                    sum += self.gates[(t * batch_size + b) * 2 * n + column];
                }
                for i in 0..n {
                    let mask = self.mask.as_ref().map_or(1.0, |mask| {
                        let own = mask.len() == 2 * s.len() && column >= n;
                        mask[if own { s.len() } else { 0 } + b * n + i]
                    });
                    let weight = self.weight_hidden[(layer * n + i) * 2 * n + column];
                    sum += s[b * n + i] * mask * weight;
                }
                sum
            };
            let next = (0..batch_size * n).map(|at| {
                let (b, i) = (at / n, at % n);
                let transform = 1.0 / (1.0 + (-pre(b, n + i)).exp());
                pre(b, i).tanh() * transform + s[at] * (1.0 - transform)
            });
            let next = next.collect();
            states.push(next);
        }
        states.split_off(1)
    }

    /// A number whose gradient with respect to the hidden states is `hidden_grad`.
    fn loss(&self) -> f64 {
        let states = self.states();
        let hidden = states.chunks(self.dims.depth).flat_map(|step| step.last().unwrap());
        hidden.zip(&self.hidden_grad).map(|(value, gradient)| value * gradient).sum()
    }

    /// Compare some of `gradient` with central differences of the loss with respect to what `of`
    /// selects.
    #[track_caller]
    fn check(&self, gradient: &[f64], offset: u64, of: impl Fn(&mut Self) -> &mut [f64]) {
        const STEP: f64 = 1e-5;
        let mut case = self.clone();
        assert_eq!(of(&mut case).len(), gradient.len());
        let stride = gradient.len() / 40 + 1;
        for i in (offset as usize % stride..gradient.len()).step_by(stride) {
            let value = of(&mut case)[i];
            of(&mut case)[i] = value + STEP;
            let above = case.loss();
            of(&mut case)[i] = value - STEP;
            let below = case.loss();
            of(&mut case)[i] = value;
            let expected = (above - below) / (2.0 * STEP);
            // Errors of 1e-10 from the step and 1e-9 from rounding a loss near 100.
            let error = (gradient[i] - expected).abs();
            assert!(error < 1e-7, "{} instead of {expected} at {i}", gradient[i]);
        }
    }

    /// What the kernels compute in `E`.
    fn run<E: Scalar>(&self, threads: usize) -> Results<E> {
        let (weight_hidden, state0) = (narrow(&self.weight_hidden), narrow(&self.state0));
        let mask = self.mask.as_deref().map(narrow);
        let recurrence = Recurrence::new(self.dims, &weight_hidden, mask.as_deref(), &state0)
            .with_precision(self.precision);
        // Every output starts as a number that would show if it were left or added to.
        let stale = |len: usize| vec![E::from_f64(1e3); len];
        let Dims { depth, .. } = self.dims;
        let mut inner = stale((depth - 1) * self.dims.sequence());
        let mut hidden = stale(self.dims.sequence());
        let mut gates = stale(depth * GATES * self.dims.sequence());
        forward(
            recurrence,
            &narrow(&self.gates),
            &narrow(&self.bias),
            forward::States { activated: &mut gates, inner: &mut inner, hidden: &mut hidden },
            threads,
        );
        let gradients = backward(
            recurrence,
            backward::States { inner: &inner, hidden: &hidden },
            &narrow(&self.hidden_grad),
            &mut gates,
            threads,
        );
        gates.truncate(GATES * self.dims.sequence());
        let backward::Gradients { bias, weight_hidden, hidden0 } = gradients;
        Results { inner, hidden, gates, weight_hidden, bias, state0: hidden0 }
    }
}

/// The states, and the gradients of the gates' inputs, the weight, the bias and the initial state.
#[derive(Debug, PartialEq)]
struct Results<E> {
    inner: Vec<E>,
    hidden: Vec<E>,
    gates: Vec<E>,
    weight_hidden: Vec<E>,
    bias: Vec<E>,
    state0: Vec<E>,
}

impl<E: Scalar> Results<E> {
    fn all(&self) -> [&[E]; 6] {
        let gradients = [&self.gates, &self.weight_hidden, &self.bias, &self.state0];
        let [gates, weight_hidden, bias, state0] = gradients;
        [&self.inner, &self.hidden, gates, weight_hidden, bias, state0]
    }
}

fn dims() -> impl Strategy<Value = Dims> {
    let d_hidden = prop_oneof![1..5_usize, Just(16), Just(33)];
    (1..5_usize, 1..5_usize, 1..4_usize, d_hidden).prop_map(
        |(seq_length, depth, batch_size, d_hidden)| {
            dims_of([seq_length, depth, batch_size, d_hidden])
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn agrees_with_the_equations_and_finite_differences(
        dims in dims(),
        masks in 0..3_usize,
        seed: u64,
    ) {
        let case = Case::new(dims, masks, seed);
        let results = case.run::<f64>(1);
        for (i, expected) in case.states().iter().enumerate() {
            let (t, layer) = (i / dims.depth, i % dims.depth);
            let actual = if layer + 1 == dims.depth {
                nth(&results.hidden, t, dims.state())
            } else {
                nth(&results.inner, layer * dims.seq_length + t, dims.state())
            };
            assert_close(actual, expected, 1e-13);
        }
        case.check(&results.gates, seed, |case| &mut case.gates);
        case.check(&results.weight_hidden, seed, |case| &mut case.weight_hidden);
        case.check(&results.bias, seed, |case| &mut case.bias);
        case.check(&results.state0, seed, |case| &mut case.state0);
    }

    /// Gradients stay below 50; an error grows over at most 16 micro-steps.
    #[test]
    fn single_precision_agrees_with_double(dims in dims(), masks in 0..3_usize, seed: u64) {
        let mut case = Case::new(dims, masks, seed);
        for (precision, tolerance) in [(MatmulPrecision::Full, 2e-5), (MatmulPrecision::Bf16, 2e-2)]
        {
            case.precision = precision;
            // A sum that is off in its last place may be rounded to the next number of bfloat16.
            let (single, double) = (case.run::<f32>(1), case.run::<f64>(1));
            for (single, double) in single.all().into_iter().zip(double.all()) {
                assert_close(single, double, tolerance);
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // The last has too few rows for a packed weight.
    for (seq_length, batch_size, d_hidden) in [(2, 20, 821), (9, 3, 300), (9, 1, 301), (2, 3, 300)]
    {
        let dims = dims_of([seq_length, 2, batch_size, d_hidden]);
        for masks in 0..3 {
            let mut case = Case::new(dims, masks, 1);
            for precision in [MatmulPrecision::Full, MatmulPrecision::Bf16] {
                case.precision = precision;
                let one = case.run::<f32>(1);
                let two = pool.install(|| case.run::<f32>(2));
                assert!(two == one, "{dims:?}, {masks} masks, {precision}");
            }
        }
    }
}

#[test]
fn one_mask_for_both_gates_is_the_same_mask_for_each() {
    let dims = dims_of([3, 2, 2, 17]);
    let both = Case::new(dims, 1, 2);
    let mut each = both.clone();
    each.mask = both.mask.as_ref().map(|mask| mask.repeat(2));
    let mut none = both.clone();
    none.mask = None;
    let both = both.run::<f64>(1);
    for (each, both) in each.run::<f64>(1).all().into_iter().zip(both.all()) {
        assert_close(each, both, 1e-12);
    }
    assert_ne!(none.run::<f64>(1).hidden, both.hidden);
}

/// With a transform gate of one half and a candidate of zero, each micro-step halves the state.
#[test]
fn micro_steps_without_weights_halve_the_state() {
    let recurrence = Recurrence::new(dims_of([2, 3, 1, 1]), &[0.0_f64; 6], None, &[64.0]);
    let (mut activated, mut inner, mut hidden) = ([1.0; 12], [1.0; 4], [1.0; 2]);
    let states =
        forward::States { activated: &mut activated, inner: &mut inner, hidden: &mut hidden };
    forward(recurrence, &[0.0; 4], &[0.0; 6], states, 1);
    assert_eq!(hidden, [8.0, 1.0]);
    assert_eq!(inner, [32.0, 4.0, 16.0, 2.0]);
}

#[test]
#[should_panic(expected = "size of the mask")]
fn a_mask_belongs_to_both_gates_or_to_each() {
    let dims = dims_of([1, 1, 2, 2]);
    let mut case = Case::new(dims, 1, 3);
    case.mask.as_mut().unwrap().extend([1.0; 3]);
    case.run::<f64>(1);
}

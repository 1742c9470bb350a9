//! A Recurrent Highway Network over a sequence: several micro-steps inside each step.
//!
//! ```text
//! s_{t,0} = s_{t−1,L}
//! h, u    = split([l = 1] x_t W + (s_{t,l−1} ⊙ m) R_l + b_l)        l = 1 … L
//! s_{t,l} = σ(u) ⊙ (tanh(h) − s_{t,l−1}) + s_{t,l−1}
//! y_t     = s_{t,L}
//! ```
//!
//! [Zilly et al., 2016](https://arxiv.org/abs/1607.03474), with the carry gate coupled to the transform gate:
//! `1 − σ(u)`. The mask is drawn once for a sequence and serves all steps and micro-steps. It is one for both gates, as
//! in the authors' TensorFlow code, or one for each, as in their Torch code.

use super::matmul::{Destination, Matrix, matmul};
use super::real::Real;
use super::simd::vectorized;
use super::tasks;

/// Sizes of a sequence; none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) seq_length: usize,
    /// `L`, micro-steps in a step.
    pub(crate) depth: usize,
    pub(crate) batch_size: usize,
    pub(crate) d_hidden: usize,
}

impl Dims {
    /// Elements of a state.
    fn state(self) -> usize {
        self.batch_size * self.d_hidden
    }

    /// Elements of the states of all steps after one of the micro-steps.
    fn sequence(self) -> usize {
        self.seq_length * self.state()
    }
}

/// What both halves read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'a, E> {
    pub(crate) dims: Dims,
    /// `R`: `[depth, d_hidden, 2 · d_hidden]`, the columns of `h` before those of `u`.
    pub(crate) weight_hidden: &'a [E],
    /// `m`: `[1, batch_size, d_hidden]` for both gates together or `[2, batch_size, d_hidden]` for each its own.
    pub(crate) mask: Option<&'a [E]>,
    /// `y_0`: `[batch_size, d_hidden]`.
    pub(crate) state0: &'a [E],
}

impl<'a, E: Real> Inputs<'a, E> {
    fn check(&self) {
        let dims = self.dims;
        assert!(dims.depth * dims.sequence() > 0, "no size may be zero: {dims:?}");
        let weights = dims.depth * dims.d_hidden * 2 * dims.d_hidden;
        assert_eq!(self.weight_hidden.len(), weights, "size of the recurrent weight");
        assert_eq!(self.state0.len(), dims.state(), "size of the initial state");
        let masks = self.mask.map_or(1, |mask| mask.len() / dims.state());
        assert!(
            matches!(masks, 1 | 2)
                && self.mask.is_none_or(|mask| mask.len() == masks * dims.state()),
            "size of the mask"
        );
    }

    /// Parts of the gates that have a mask of their own.
    fn groups(&self) -> usize {
        self.mask.map_or(1, |mask| mask.len() / self.dims.state())
    }

    /// The weights of a micro-step into one group of its gates: `[d_hidden, 2 · d_hidden / groups]`.
    fn weight(&self, layer: usize, group: usize) -> Matrix<'a, E> {
        let n = self.dims.d_hidden;
        let weight = nth(self.weight_hidden, layer, n * 2 * n);
        self.columns(weight, n, group)
    }

    /// Of a matrix of `rows` rows with the columns of all gates, those of one group.
    fn columns<'m>(&self, gates: &'m [E], rows: usize, group: usize) -> Matrix<'m, E> {
        let (width, n) = (self.width(), 2 * self.dims.d_hidden);
        Matrix::strided(&gates[group * width..], [rows, width], [n, 1])
    }

    /// Columns of a group.
    fn width(&self) -> usize {
        2 * self.dims.d_hidden / self.groups()
    }

    /// The state before a micro-step.
    fn previous<'s>(&'s self, layer: usize, t: usize, inner: &'s [E], hidden: &'s [E]) -> &'s [E] {
        let state = self.dims.state();
        match (layer, t) {
            (0, 0) => self.state0,
            (0, _) => nth(hidden, t - 1, state),
            _ => nth(inner, (layer - 1) * self.dims.seq_length + t, state),
        }
    }
}

/// States of all steps and micro-steps.
///
/// - `gates`: `x_t W`, `[seq_length, batch_size, 2 · d_hidden]`, the columns of `h` before those of `u`
/// - `bias`: `[depth, 2 · d_hidden]`
/// - `activated`: `tanh(h), σ(u)`, `[depth, seq_length, batch_size, 2 · d_hidden]`, written
/// - `inner`: `s` but for the last micro-step, `[depth − 1, seq_length, batch_size, d_hidden]`, written
/// - `hidden`: `y`, `[seq_length, batch_size, d_hidden]`, written
///
/// # Panics
///
/// If sizes do not fit each other or one of [`Dims`] is zero.
pub(crate) fn forward<E: Real>(
    inputs: &Inputs<'_, E>,
    gates: &[E],
    bias: &[E],
    activated: &mut [E],
    inner: &mut [E],
    hidden: &mut [E],
    threads: usize,
) {
    inputs.check();
    let dims @ Dims { seq_length, depth, batch_size, d_hidden } = inputs.dims;
    assert_eq!(gates.len(), 2 * dims.sequence(), "size of the gates' inputs");
    assert_eq!(bias.len(), depth * 2 * d_hidden, "size of the bias");
    assert_eq!(activated.len(), depth * 2 * dims.sequence(), "size of the activated gates");
    assert_eq!(inner.len(), (depth - 1) * dims.sequence(), "size of the inner states");
    assert_eq!(hidden.len(), dims.sequence(), "size of the hidden states");

    let mut state = inputs.state0.to_vec();
    let mut masked = state.clone();
    for t in 0..seq_length {
        for layer in 0..depth {
            let at = layer * seq_length + t;
            let activated = nth_mut(activated, at, 2 * dims.state());
            let destination = if layer == 0 {
                activated.copy_from_slice(nth(gates, t, activated.len()));
                Destination::Accumulate
            } else {
                Destination::Overwrite
            };
            for group in 0..inputs.groups() {
                let input = match inputs.mask {
                    Some(mask) => {
                        multiply(&mut masked, &state, nth(mask, group, state.len()));
                        &masked
                    }
                    None => &state,
                };
                matmul(
                    &mut activated[group * inputs.width()..],
                    2 * d_hidden,
                    destination,
                    E::ONE,
                    Matrix::new(input, batch_size, d_hidden),
                    inputs.weight(layer, group),
                    threads,
                );
            }
            let bias = nth(bias, layer, 2 * d_hidden);
            for_each_row(dims, threads, activated, &mut state, |_, gates, state| {
                vectorized(
                    #[inline(always)]
                    || forward_row(bias, gates, state),
                );
            });
            let states = if layer + 1 == depth {
                nth_mut(hidden, t, state.len())
            } else {
                nth_mut(inner, at, state.len())
            };
            states.copy_from_slice(&state);
        }
    }
}

/// What [`backward`] writes beside the gates' gradient.
#[derive(Debug)]
pub(crate) struct Gradients<'a, E> {
    pub(crate) weight_hidden: &'a mut [E],
    pub(crate) bias: &'a mut [E],
    pub(crate) state0: &'a mut [E],
}

/// Gradients of everything that [`forward`] read but the mask, from those of the hidden states.
///
/// - `activated`: as `forward` wrote it; the gradient of `h, u` is written over it, whose first
///   `[seq_length, batch_size, 2 · d_hidden]` is that of the gates' inputs
/// - `inner`, `hidden`: as `forward` wrote them
/// - `hidden_grad`: `[seq_length, batch_size, d_hidden]`
///
/// # Panics
///
/// If sizes do not fit each other or one of [`Dims`] is zero.
pub(crate) fn backward<E: Real>(
    inputs: &Inputs<'_, E>,
    activated: &mut [E],
    inner: &[E],
    hidden: &[E],
    hidden_grad: &[E],
    gradients: Gradients<'_, E>,
    threads: usize,
) {
    inputs.check();
    let dims @ Dims { seq_length, depth, batch_size, d_hidden } = inputs.dims;
    let Gradients { weight_hidden, bias, state0 } = gradients;
    assert_eq!(activated.len(), depth * 2 * dims.sequence(), "size of the activated gates");
    assert_eq!(inner.len(), (depth - 1) * dims.sequence(), "size of the inner states");
    assert_eq!(hidden.len(), dims.sequence(), "size of the hidden states");
    assert_eq!(hidden_grad.len(), dims.sequence(), "size of the hidden states' gradient");
    let weights = inputs.weight_hidden.len();
    assert_eq!(weight_hidden.len(), weights, "size of the recurrent weight's gradient");
    assert_eq!(bias.len(), depth * 2 * d_hidden, "size of the bias's gradient");
    assert_eq!(state0.len(), dims.state(), "size of the initial state's gradient");

    // The gradient of the state that the loops have come to.
    let state_grad = state0;
    state_grad.fill(E::ZERO);
    let mut returned = vec![E::ZERO; dims.state()];
    for t in (0..seq_length).rev() {
        add(state_grad, nth(hidden_grad, t, dims.state()));
        for layer in (0..depth).rev() {
            let gates = nth_mut(activated, layer * seq_length + t, 2 * dims.state());
            let previous = inputs.previous(layer, t, inner, hidden);
            for_each_row(dims, threads, gates, state_grad, |row, gates, state_grad| {
                let previous = nth(previous, row, d_hidden);
                vectorized(
                    #[inline(always)]
                    || backward_row(previous, gates, state_grad),
                );
            });
            for group in 0..inputs.groups() {
                let gates = inputs.columns(gates, batch_size, group);
                let weight = inputs.weight(layer, group).t();
                let product = |out: &mut [E], destination| {
                    matmul(out, d_hidden, destination, E::ONE, gates, weight, threads);
                };
                match inputs.mask {
                    Some(mask) => {
                        product(&mut returned, Destination::Overwrite);
                        let mask = nth(mask, group, dims.state());
                        add_product(state_grad, &returned, mask);
                    }
                    None => product(state_grad, Destination::Accumulate),
                }
            }
        }
    }

    let rows = seq_length * batch_size;
    let mut scratch = vec![E::ZERO; dims.sequence()];
    for layer in 0..depth {
        let gates = nth(activated, layer, 2 * dims.sequence());
        sum_rows(nth_mut(bias, layer, 2 * d_hidden), gates, threads);
        let weight_grad = nth_mut(weight_hidden, layer, d_hidden * 2 * d_hidden);
        for group in 0..inputs.groups() {
            for (t, input) in scratch.chunks_exact_mut(dims.state()).enumerate() {
                let previous = inputs.previous(layer, t, inner, hidden);
                match inputs.mask {
                    Some(mask) => multiply(input, previous, nth(mask, group, dims.state())),
                    None => input.copy_from_slice(previous),
                }
            }
            matmul(
                &mut weight_grad[group * inputs.width()..],
                2 * d_hidden,
                Destination::Overwrite,
                E::ONE,
                Matrix::new(&scratch, rows, d_hidden).t(),
                inputs.columns(gates, rows, group),
                threads,
            );
        }
    }
}

#[inline(always)]
fn forward_row<E: Real>(bias: &[E], gates: &mut [E], state: &mut [E]) {
    let n = state.len();
    let (h, u) = gates.split_at_mut(n);
    let (bias_h, bias_u) = bias.split_at(n);
    let (u, bias_h, bias_u) = (&mut u[..n], &bias_h[..n], &bias_u[..n]);
    for i in 0..n {
        let candidate = (h[i] + bias_h[i]).tanh();
        let transform = (u[i] + bias_u[i]).sigmoid();
        h[i] = candidate;
        u[i] = transform;
        state[i] = transform * (candidate - state[i]) + state[i];
    }
}

#[inline(always)]
fn backward_row<E: Real>(previous: &[E], gates: &mut [E], state_grad: &mut [E]) {
    let n = state_grad.len();
    let (h, u) = gates.split_at_mut(n);
    let (u, previous) = (&mut u[..n], &previous[..n]);
    for i in 0..n {
        let (candidate, transform, gradient) = (h[i], u[i], state_grad[i]);
        let carry = E::ONE - transform;
        h[i] = gradient * transform * (E::ONE - candidate * candidate);
        u[i] = gradient * (candidate - previous[i]) * (transform * carry);
        state_grad[i] = gradient * carry;
    }
}

/// Part `index` of those of `len` elements each.
fn nth<E>(values: &[E], index: usize, len: usize) -> &[E] {
    &values[index * len..][..len]
}

fn nth_mut<E>(values: &mut [E], index: usize, len: usize) -> &mut [E] {
    &mut values[index * len..][..len]
}

/// Call `f` with the number of each row, its gates and its state, in parallel where this pays.
fn for_each_row<E: Real>(
    dims: Dims,
    threads: usize,
    gates: &mut [E],
    states: &mut [E],
    f: impl Fn(usize, &mut [E], &mut [E]) + Send + Sync,
) {
    /// Elements below which waking a thread takes longer than the work.
    const SMALL: usize = 1 << 14;
    let threads = if dims.state() < SMALL { 1 } else { threads };
    let n = dims.d_hidden;
    let rows = gates.chunks_exact_mut(2 * n).zip(states.chunks_exact_mut(n)).enumerate();
    tasks::map(rows.collect(), threads, |(row, (gates, state))| f(row, gates, state));
}

fn add<E: Real>(out: &mut [E], values: &[E]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out += value;
    }
}

fn add_product<E: Real>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out += a * b;
    }
}

fn multiply<E: Real>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
}

/// Sum of the rows of a matrix as wide as `sums`; each column in order, however many threads there are.
fn sum_rows<E: Real>(sums: &mut [E], matrix: &[E], threads: usize) {
    let width = sums.len();
    let chunk = width.div_ceil(threads.max(1));
    tasks::map(sums.chunks_mut(chunk).enumerate().collect(), threads, |(i, sums)| {
        sums.fill(E::ZERO);
        for row in matrix.chunks_exact(width) {
            add(sums, &row[i * chunk..]);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    }

    /// Numbers between −1 and 1 (SplitMix64).
    fn noise(seed: u64) -> impl FnMut(usize) -> Vec<f64> {
        let mut state = seed;
        let mut draw = move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        move |n| (0..n).map(|_| draw()).collect()
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
                mask: (masks > 0)
                    .then(|| noise(masks * dims.state()).into_iter().map(keep).collect()),
                state0: noise(dims.state()),
                hidden_grad: noise(dims.sequence()),
            }
        }

        /// States after each micro-step, `[seq_length, depth, batch_size, d_hidden]`, from the equations.
        fn states(&self) -> Vec<Vec<f64>> {
            let Dims { seq_length, depth, batch_size, d_hidden: n } = self.dims;
            let mut states = vec![self.state0.clone()];
            for (t, layer) in (0..seq_length).flat_map(|t| (0..depth).map(move |layer| (t, layer)))
            {
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

        /// Compare some of `gradient` with central differences of the loss with respect to what `of` selects.
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
        fn run<E: Real>(&self, threads: usize) -> Results<E> {
            fn real<E: Real>(values: &[f64]) -> Vec<E> {
                values.iter().map(|&value| E::from_f64(value)).collect()
            }
            let (weight_hidden, state0) = (real(&self.weight_hidden), real(&self.state0));
            let mask = self.mask.as_deref().map(real::<E>);
            let inputs = Inputs {
                dims: self.dims,
                weight_hidden: &weight_hidden,
                mask: mask.as_deref(),
                state0: &state0,
            };
            // Every output starts as a number that would show if it were left or added to.
            let stale = |len: usize| vec![E::from_f64(1e3); len];
            let Dims { depth, .. } = self.dims;
            let mut results = Results {
                inner: stale((depth - 1) * self.dims.sequence()),
                hidden: stale(self.dims.sequence()),
                gates: stale(depth * 2 * self.dims.sequence()),
                weight_hidden: stale(weight_hidden.len()),
                bias: stale(self.bias.len()),
                state0: stale(state0.len()),
            };
            forward(
                &inputs,
                &real(&self.gates),
                &real(&self.bias),
                &mut results.gates,
                &mut results.inner,
                &mut results.hidden,
                threads,
            );
            backward(
                &inputs,
                &mut results.gates,
                &results.inner,
                &results.hidden,
                &real(&self.hidden_grad),
                Gradients {
                    weight_hidden: &mut results.weight_hidden,
                    bias: &mut results.bias,
                    state0: &mut results.state0,
                },
                threads,
            );
            results.gates.truncate(2 * self.dims.sequence());
            results
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

    impl<E: Real> Results<E> {
        fn all(&self) -> [&[E]; 6] {
            let gradients = [&self.gates, &self.weight_hidden, &self.bias, &self.state0];
            let [gates, weight_hidden, bias, state0] = gradients;
            [&self.inner, &self.hidden, gates, weight_hidden, bias, state0]
        }
    }

    #[track_caller]
    fn assert_close<E: Real>(actual: &[E], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (i, (actual, &expected)) in actual.iter().zip(expected).enumerate() {
            let error = (actual.to_f64() - expected).abs();
            assert!(error <= tolerance, "{actual:?} instead of {expected} at {i}");
        }
    }

    fn dims() -> impl Strategy<Value = Dims> {
        let d_hidden = prop_oneof![1..5_usize, Just(16), Just(33)];
        (1..5_usize, 1..5_usize, 1..4_usize, d_hidden).prop_map(
            |(seq_length, depth, batch_size, d_hidden)| Dims {
                seq_length,
                depth,
                batch_size,
                d_hidden,
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
            let case = Case::new(dims, masks, seed);
            let (single, double) = (case.run::<f32>(1), case.run::<f64>(1));
            for (single, double) in single.all().into_iter().zip(double.all()) {
                assert_close(single, double, 2e-5);
            }
        }
    }

    #[test]
    fn results_do_not_depend_on_the_threads() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for (batch_size, d_hidden) in [(20, 821), (3, 300), (1, 301)] {
            let dims = Dims { seq_length: 2, depth: 2, batch_size, d_hidden };
            for masks in 0..3 {
                let case = Case::new(dims, masks, 1);
                let one = case.run::<f32>(1);
                assert!(pool.install(|| case.run::<f32>(2)) == one, "{dims:?}, {masks} masks");
            }
        }
    }

    #[test]
    fn one_mask_for_both_gates_is_the_same_mask_for_each() {
        let dims = Dims { seq_length: 3, depth: 2, batch_size: 2, d_hidden: 17 };
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
        let inputs = Inputs {
            dims: Dims { seq_length: 2, depth: 3, batch_size: 1, d_hidden: 1 },
            weight_hidden: &[0.0_f64; 6],
            mask: None,
            state0: &[64.0],
        };
        let (mut activated, mut inner, mut hidden) = ([1.0; 12], [1.0; 4], [1.0; 2]);
        forward(&inputs, &[0.0; 4], &[0.0; 6], &mut activated, &mut inner, &mut hidden, 1);
        assert_eq!(hidden, [8.0, 1.0]);
        assert_eq!(inner, [32.0, 4.0, 16.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "size of the mask")]
    fn a_mask_belongs_to_both_gates_or_to_each() {
        let dims = Dims { seq_length: 1, depth: 1, batch_size: 2, d_hidden: 2 };
        let mut case = Case::new(dims, 1, 3);
        case.mask.as_mut().unwrap().extend([1.0; 3]);
        case.run::<f64>(1);
    }
}

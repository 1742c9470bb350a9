//! The Simple Recurrent Unit, in its first version, over a sequence.
//!
//! ```text
//! x̃_t, f_t, r_t, x'_t = split(x_t W)             x'_t is the layer's input if both are equally wide
//! c_t = σ(f_t + b_f) ⊙ (c_{t−1} − x̃_t) + x̃_t
//! h_t = σ(r_t + b_r) ⊙ (g(c_t) ⊙ m − x'_t) + x'_t
//! ```
//!
//! [Lei & Zhang, 2017](https://arxiv.org/abs/1709.02755v1). After the product, nothing is left but this scan: it is
//! bound by memory, so each value is read once, and the gates are computed again in the backward half, which costs less
//! than to write and read them.
//!
//! A row of the product holds its parts one after the other, each `d_hidden` wide, so that every loop runs over
//! consecutive units. The authors' code interleaves them: column `i · k + j` there is column `j · d_hidden + i` here,
//! for part `j` of `k` and unit `i`. The order of the bias is the same.

use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks;
use crate::sru::Activation;

/// Sizes of a sequence; none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) seq_length: usize,
    pub(crate) batch_size: usize,
    pub(crate) d_hidden: usize,
}

impl Dims {
    /// Elements of one step: those of an initial state.
    fn step(self) -> usize {
        self.batch_size * self.d_hidden
    }

    /// Elements of all steps: those of the states.
    fn sequence(self) -> usize {
        self.seq_length * self.step()
    }
}

/// What both halves of the scan read beside the product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs<'a, E> {
    pub(crate) dims: Dims,
    pub(crate) activation: Activation,
    /// `b_f, b_r`: `[2 · d_hidden]`.
    pub(crate) bias: &'a [E],
    /// `x'`: `[seq_length, batch_size, d_hidden]`; if absent, it is the fourth part of the product.
    pub(crate) highway: Option<&'a [E]>,
    /// `m`: `[batch_size, d_hidden]`, constant over the sequence.
    pub(crate) mask: Option<&'a [E]>,
    /// `c_0`: `[batch_size, d_hidden]`.
    pub(crate) cell0: &'a [E],
}

impl<E: Scalar> Inputs<'_, E> {
    /// Parts of the product.
    fn parts(&self) -> usize {
        if self.highway.is_some() { 3 } else { 4 }
    }

    fn check(&self, product: &[E]) {
        let dims = self.dims;
        assert!(dims.sequence() > 0, "no size may be zero: {dims:?}");
        assert_eq!(product.len(), dims.sequence() * self.parts(), "size of the product");
        assert_eq!(self.bias.len(), 2 * dims.d_hidden, "size of the bias");
        assert_eq!(self.cell0.len(), dims.step(), "size of the initial state");
        assert!(self.highway.is_none_or(|x| x.len() == dims.sequence()), "size of the highway");
        assert!(self.mask.is_none_or(|mask| mask.len() == dims.step()), "size of the mask");
    }
}

/// States of all steps.
///
/// - `product`: `[seq_length, batch_size, k · d_hidden]`, the parts in the order candidate, forget, reset, highway; `k`
///   is 3 if the highway is an input of its own, or else 4
/// - `hidden`, `cell`: `[seq_length, batch_size, d_hidden]`, written
///
/// # Panics
///
/// If sizes do not fit each other or one of [`Dims`] is zero.
pub(crate) fn forward<E: Scalar>(
    inputs: &Inputs<'_, E>,
    product: &[E],
    hidden: &mut [E],
    cell: &mut [E],
    threads: usize,
) {
    inputs.check(product);
    let dims = inputs.dims;
    assert_eq!(hidden.len(), dims.sequence(), "size of the hidden states");
    assert_eq!(cell.len(), dims.sequence(), "size of the cell states");
    let ones = vec![E::ONE; dims.d_hidden];
    let rows = rows(hidden, dims, 1).into_iter().zip(rows(cell, dims, 1)).enumerate();
    let scan = match inputs.activation {
        Activation::Identity => forward_sequence::<E, Identity>,
        Activation::Tanh => forward_sequence::<E, Tanh>,
        Activation::Relu => forward_sequence::<E, Relu>,
    };
    for_each(rows.collect(), dims, threads, |(row, (mut hidden, mut cell))| {
        scan(inputs, product, &ones, row, &mut hidden, &mut cell)
    });
}

/// What [`backward`] writes beside the product's gradient.
#[derive(Debug)]
pub(crate) struct Gradients<'a, E> {
    /// Of `x'` alone, without what reaches the layer's input through the product: there if [`Inputs::highway`] is.
    pub(crate) highway: Option<&'a mut [E]>,
    pub(crate) bias: &'a mut [E],
    pub(crate) cell0: &'a mut [E],
}

/// Gradients of everything that [`forward`] read but the mask, from those of the states.
///
/// - `product`: as `forward` read it; its gradient is written over it
/// - `cell`: as `forward` wrote it
/// - `hidden_grad`, `cell_grad`: `[seq_length, batch_size, d_hidden]`; an absent one is zero
///
/// # Panics
///
/// If sizes do not fit each other or one of [`Dims`] is zero.
pub(crate) fn backward<E: Scalar>(
    inputs: &Inputs<'_, E>,
    product: &mut [E],
    cell: &[E],
    hidden_grad: Option<&[E]>,
    cell_grad: Option<&[E]>,
    gradients: Gradients<'_, E>,
    threads: usize,
) {
    inputs.check(product);
    let dims = inputs.dims;
    let Gradients { highway, bias, cell0 } = gradients;
    assert_eq!(cell.len(), dims.sequence(), "size of the cell states");
    for gradient in [hidden_grad, cell_grad].into_iter().flatten() {
        assert_eq!(gradient.len(), dims.sequence(), "size of a state's gradient");
    }
    assert_eq!(
        highway.as_ref().map(|gradient| gradient.len()),
        inputs.highway.map(<[E]>::len),
        "size of the highway's gradient"
    );
    assert_eq!(bias.len(), 2 * dims.d_hidden, "size of the bias's gradient");
    assert_eq!(cell0.len(), dims.step(), "size of the initial state's gradient");

    let upstream = Upstream { cell, hidden_grad, cell_grad };
    let constants = (vec![E::ONE; dims.d_hidden], vec![E::ZERO; dims.d_hidden]);
    let mut bias_of_row = vec![E::ZERO; dims.batch_size * bias.len()];
    let highway: Vec<_> = match highway {
        Some(gradient) => rows(gradient, dims, 1).into_iter().map(Some).collect(),
        None => (0..dims.batch_size).map(|_| None).collect(),
    };
    let rows = rows(product, dims, inputs.parts())
        .into_iter()
        .zip(highway)
        .zip(bias_of_row.chunks_mut(bias.len()))
        .zip(cell0.chunks_mut(dims.d_hidden))
        .enumerate()
        .map(|(row, (((product, highway), bias), carry))| Sequence {
            row,
            product,
            highway,
            bias,
            carry,
        });
    let scan = match inputs.activation {
        Activation::Identity => backward_sequence::<E, Identity>,
        Activation::Tanh => backward_sequence::<E, Tanh>,
        Activation::Relu => backward_sequence::<E, Relu>,
    };
    for_each(rows.collect(), dims, threads, |row| scan(inputs, &upstream, &constants, row));
    // One after the other, so that the sum does not depend on the threads.
    bias.fill(E::ZERO);
    for of_row in bias_of_row.chunks(bias.len()) {
        for (sum, &gradient) in bias.iter_mut().zip(of_row) {
            *sum += gradient;
        }
    }
}

trait Activate {
    /// `g(c)`.
    fn value<E: Scalar>(cell: E) -> E;
    /// `g'(c)`, from `g(c)`.
    fn slope<E: Scalar>(value: E) -> E;
}

struct Identity;

impl Activate for Identity {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell
    }

    #[inline(always)]
    fn slope<E: Scalar>(_: E) -> E {
        E::ONE
    }
}

struct Tanh;

impl Activate for Tanh {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell.tanh()
    }

    #[inline(always)]
    fn slope<E: Scalar>(value: E) -> E {
        E::ONE - value * value
    }
}

struct Relu;

impl Activate for Relu {
    #[inline(always)]
    fn value<E: Scalar>(cell: E) -> E {
        cell.maximum(E::ZERO)
    }

    #[inline(always)]
    fn slope<E: Scalar>(value: E) -> E {
        if value > E::ZERO { E::ONE } else { E::ZERO }
    }
}

/// Row `row` of a matrix of `width` columns.
#[inline(always)]
fn nth<E>(matrix: &[E], row: usize, width: usize) -> &[E] {
    &matrix[row * width..][..width]
}

/// Row `row` of a matrix as wide as `absent`, or `absent` itself.
#[inline(always)]
fn nth_or<'a, E>(matrix: Option<&'a [E]>, row: usize, absent: &'a [E]) -> &'a [E] {
    matrix.map_or(absent, |matrix| nth(matrix, row, absent.len()))
}

/// For each sequence its row at every step, of `[seq_length, batch_size, parts · d_hidden]`.
fn rows<E>(values: &mut [E], dims: Dims, parts: usize) -> Vec<Vec<&mut [E]>> {
    let mut rows: Vec<_> =
        (0..dims.batch_size).map(|_| Vec::with_capacity(dims.seq_length)).collect();
    for (i, row) in values.chunks_exact_mut(parts * dims.d_hidden).enumerate() {
        rows[i % dims.batch_size].push(row);
    }
    rows
}

/// Scan all sequences, in parallel where this pays.
fn for_each<S: Send>(rows: Vec<S>, dims: Dims, threads: usize, scan: impl Fn(S) + Send + Sync) {
    /// Elements below which waking a thread takes longer than the scan.
    const SMALL: usize = 1 << 14;
    let threads = if dims.sequence() < SMALL { 1 } else { threads };
    tasks::map(rows, threads, scan);
}

fn forward_sequence<E: Scalar, G: Activate>(
    inputs: &Inputs<'_, E>,
    product: &[E],
    ones: &[E],
    row: usize,
    hidden: &mut [&mut [E]],
    cell: &mut [&mut [E]],
) {
    let Dims { batch_size, d_hidden, .. } = inputs.dims;
    let mask = nth_or(inputs.mask, row, ones);
    vectorized(
        #[inline(always)]
        || {
            let mut previous = nth(inputs.cell0, row, d_hidden);
            for (t, (hidden, cell)) in hidden.iter_mut().zip(cell).enumerate() {
                let at = t * batch_size + row;
                let parts = nth(product, at, inputs.parts() * d_hidden);
                let highway = match inputs.highway {
                    Some(highway) => nth(highway, at, d_hidden),
                    None => nth(parts, 3, d_hidden),
                };
                forward_row::<E, G>(parts, inputs.bias, highway, mask, previous, cell, hidden);
                previous = cell;
            }
        },
    );
}

#[inline(always)]
fn forward_row<E: Scalar, G: Activate>(
    parts: &[E],
    bias: &[E],
    highway: &[E],
    mask: &[E],
    previous: &[E],
    cell: &mut [E],
    hidden: &mut [E],
) {
    let n = cell.len();
    let (candidate, forget, reset) = (nth(parts, 0, n), nth(parts, 1, n), nth(parts, 2, n));
    let (bias_forget, bias_reset) = (nth(bias, 0, n), nth(bias, 1, n));
    let (highway, mask, previous, hidden) =
        (&highway[..n], &mask[..n], &previous[..n], &mut hidden[..n]);
    for i in 0..n {
        let f = (forget[i] + bias_forget[i]).sigmoid();
        let r = (reset[i] + bias_reset[i]).sigmoid();
        let c = f * (previous[i] - candidate[i]) + candidate[i];
        cell[i] = c;
        hidden[i] = r * (G::value(c) * mask[i] - highway[i]) + highway[i];
    }
}

/// What the backward half reads beside the inputs and the product.
struct Upstream<'a, E> {
    cell: &'a [E],
    hidden_grad: Option<&'a [E]>,
    cell_grad: Option<&'a [E]>,
}

/// What the backward half writes for one sequence.
struct Sequence<'a, E> {
    row: usize,
    product: Vec<&'a mut [E]>,
    highway: Option<Vec<&'a mut [E]>>,
    bias: &'a mut [E],
    /// Gradient of the cell state before a step, and at last of the initial one.
    carry: &'a mut [E],
}

fn backward_sequence<E: Scalar, G: Activate>(
    inputs: &Inputs<'_, E>,
    upstream: &Upstream<'_, E>,
    (ones, zeros): &(Vec<E>, Vec<E>),
    sequence: Sequence<'_, E>,
) {
    let Dims { batch_size, d_hidden, .. } = inputs.dims;
    let Sequence { row, product, highway: mut highway_grad, bias, carry } = sequence;
    let mask = nth_or(inputs.mask, row, ones);
    let mut fourth = vec![E::ZERO; d_hidden];
    carry.fill(E::ZERO);
    vectorized(
        #[inline(always)]
        || {
            for (t, parts) in product.into_iter().enumerate().rev() {
                let at = t * batch_size + row;
                let previous = match t {
                    0 => nth(inputs.cell0, row, d_hidden),
                    _ => nth(upstream.cell, at - batch_size, d_hidden),
                };
                let (parts, rest) = parts.split_at_mut(3 * d_hidden);
                let (highway, highway_grad) = match (inputs.highway, &mut highway_grad) {
                    (Some(highway), Some(gradient)) => {
                        (nth(highway, at, d_hidden), &mut *gradient[t])
                    }
                    _ => {
                        fourth.copy_from_slice(rest);
                        (&*fourth, rest)
                    }
                };
                backward_row::<E, G>(
                    parts,
                    inputs.bias,
                    highway,
                    mask,
                    previous,
                    nth(upstream.cell, at, d_hidden),
                    nth_or(upstream.hidden_grad, at, zeros),
                    nth_or(upstream.cell_grad, at, zeros),
                    highway_grad,
                    bias,
                    carry,
                );
            }
        },
    );
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward_row<E: Scalar, G: Activate>(
    parts: &mut [E],
    bias: &[E],
    highway: &[E],
    mask: &[E],
    previous: &[E],
    cell: &[E],
    hidden_grad: &[E],
    cell_grad: &[E],
    highway_grad: &mut [E],
    bias_grad: &mut [E],
    carry: &mut [E],
) {
    let n = carry.len();
    let (candidate, gates) = parts.split_at_mut(n);
    let (forget, reset) = gates.split_at_mut(n);
    let reset = &mut reset[..n];
    let (bias_forget, bias_reset) = (nth(bias, 0, n), nth(bias, 1, n));
    let (forget_sum, reset_sum) = bias_grad.split_at_mut(n);
    let (reset_sum, highway_grad) = (&mut reset_sum[..n], &mut highway_grad[..n]);
    let (highway, mask, previous, cell) = (&highway[..n], &mask[..n], &previous[..n], &cell[..n]);
    let (hidden_grad, cell_grad) = (&hidden_grad[..n], &cell_grad[..n]);
    for i in 0..n {
        let f = (forget[i] + bias_forget[i]).sigmoid();
        let r = (reset[i] + bias_reset[i]).sigmoid();
        let value = G::value(cell[i]);
        let dh = hidden_grad[i];
        let dc = dh * mask[i] * G::slope(value) * r + cell_grad[i] + carry[i];
        let df = dc * (previous[i] - candidate[i]) * (f * (E::ONE - f));
        let dr = dh * (value * mask[i] - highway[i]) * (r * (E::ONE - r));
        candidate[i] = dc * (E::ONE - f);
        forget[i] = df;
        reset[i] = dr;
        highway_grad[i] = dh * (E::ONE - r);
        forget_sum[i] += df;
        reset_sum[i] += dr;
        carry[i] = dc * f;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        hidden_grad: Option<Vec<f64>>,
        cell_grad: Option<Vec<f64>>,
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
        /// `present`: of the highway, the mask, and the gradients of hidden and cell states.
        fn new(
            dims: Dims,
            activation: Activation,
            [highway, mask, hidden_grad, cell_grad]: [bool; 4],
            seed: u64,
        ) -> Self {
            let mut noise = noise(seed);
            let parts = if highway { 3 } else { 4 };
            let product = noise(dims.sequence() * parts).into_iter().map(|u| 3.0 * u).collect();
            Self {
                dims,
                activation,
                product,
                bias: noise(2 * dims.d_hidden),
                highway: highway.then(|| noise(dims.sequence())),
                mask: mask.then(|| {
                    let keep = |u: f64| if u < 0.2 { 1.0 / 0.6 } else { 0.0 };
                    noise(dims.step()).into_iter().map(keep).collect()
                }),
                cell0: noise(dims.step()),
                hidden_grad: hidden_grad.then(|| noise(dims.sequence())),
                cell_grad: cell_grad.then(|| noise(dims.sequence())),
            }
        }

        fn parts(&self) -> usize {
            if self.highway.is_some() { 3 } else { 4 }
        }

        /// Hidden and cell states from the equations, one number after the other.
        fn states(&self) -> (Vec<f64>, Vec<f64>) {
            let Dims { seq_length, batch_size, d_hidden } = self.dims;
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let (mut hidden, mut cell) = (Vec::new(), self.cell0.clone());
            for at in 0..self.dims.sequence() {
                let (b, i) = (at / d_hidden % batch_size, at % d_hidden);
                let u = &self.product[at * self.parts()..][..self.parts()];
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
            let dot = |values: &[f64], gradient: &Option<Vec<f64>>| -> f64 {
                gradient
                    .iter()
                    .flatten()
                    .zip(values)
                    .map(|(gradient, value)| gradient * value)
                    .sum()
            };
            dot(&hidden, &self.hidden_grad) + dot(&cell, &self.cell_grad)
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
            let (k, n) = (self.parts(), self.dims.d_hidden);
            interleaved
                .chunks(k * n)
                .flat_map(|row| (0..k * n).map(move |column| row[column % n * k + column / n]))
                .collect()
        }

        /// What the kernels compute in `E`.
        fn run<E: Scalar>(&self, threads: usize) -> Results<E> {
            fn real<E: Scalar>(values: &[f64]) -> Vec<E> {
                values.iter().map(|&value| E::from_f64(value)).collect()
            }
            let optional = |values: &Option<Vec<f64>>| values.as_deref().map(real::<E>);
            let (bias, cell0) = (real(&self.bias), real(&self.cell0));
            let (highway, mask) = (optional(&self.highway), optional(&self.mask));
            let inputs = Inputs {
                dims: self.dims,
                activation: self.activation,
                bias: &bias,
                highway: highway.as_deref(),
                mask: mask.as_deref(),
                cell0: &cell0,
            };
            // Every output starts as a number that would show if it were left or added to.
            let stale = |len: usize| vec![E::from_f64(1e3); len];
            let mut results = Results {
                hidden: stale(self.dims.sequence()),
                cell: stale(self.dims.sequence()),
                product: real(&self.by_part(&self.product)),
                highway: highway.as_ref().map(|highway| stale(highway.len())),
                bias: stale(bias.len()),
                cell0: stale(cell0.len()),
            };
            forward(&inputs, &results.product, &mut results.hidden, &mut results.cell, threads);
            backward(
                &inputs,
                &mut results.product,
                &results.cell,
                optional(&self.hidden_grad).as_deref(),
                optional(&self.cell_grad).as_deref(),
                Gradients {
                    highway: results.highway.as_deref_mut(),
                    bias: &mut results.bias,
                    cell0: &mut results.cell0,
                },
                threads,
            );
            results
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

    #[track_caller]
    fn assert_close<E: Scalar>(actual: &[E], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (i, (actual, &expected)) in actual.iter().zip(expected).enumerate() {
            let error = (actual.to_f64() - expected).abs();
            assert!(error <= tolerance, "{actual:?} instead of {expected} at {i}");
        }
    }

    fn dims() -> impl Strategy<Value = Dims> {
        let d_hidden = prop_oneof![1..5_usize, Just(16), Just(33)];
        (1..5_usize, 1..4_usize, d_hidden).prop_map(|(seq_length, batch_size, d_hidden)| Dims {
            seq_length,
            batch_size,
            d_hidden,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn agrees_with_the_equations_and_finite_differences(
            dims in dims(),
            activation in proptest::sample::select(&ACTIVATIONS[..]),
            present: [bool; 4],
            seed: u64,
        ) {
            let case = Case::new(dims, activation, present, seed);
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
            dims in dims(),
            activation in proptest::sample::select(&ACTIVATIONS[..]),
            present: [bool; 4],
            seed: u64,
        ) {
            let case = Case::new(dims, activation, present, seed);
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
        let inputs = Inputs {
            dims: Dims { seq_length: 2, batch_size: 1, d_hidden: 1 },
            activation: Activation::Identity,
            bias: &[0.0, 0.0_f64],
            highway: None,
            mask: None,
            cell0: &[1.0],
        };
        let (mut hidden, mut cell) = ([0.0; 2], [0.0; 2]);
        let product = [3.0, 0.0, 0.0, 10.0, 6.0, 0.0, 0.0, -4.0];
        forward(&inputs, &product, &mut hidden, &mut cell, 1);
        assert_eq!(cell, [2.0, 4.0]);
        assert_eq!(hidden, [6.0, 0.0]);
    }

    #[test]
    fn results_do_not_depend_on_the_threads() {
        let dims = Dims { seq_length: 5, batch_size: 20, d_hidden: 201 };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for activation in ACTIVATIONS {
            let case = Case::new(dims, activation, [true; 4], 1);
            let one = case.run::<f32>(1);
            assert_eq!(pool.install(|| case.run::<f32>(2)), one);
        }
    }

    #[test]
    fn an_absent_mask_is_one_and_an_absent_gradient_zero() {
        let dims = Dims { seq_length: 3, batch_size: 2, d_hidden: 17 };
        for [hidden_grad, cell_grad] in [[false, true], [true, false], [false, false]] {
            let absent =
                Case::new(dims, Activation::Tanh, [true, false, hidden_grad, cell_grad], 2);
            let zeros = Some(vec![0.0; dims.sequence()]);
            let mut present = absent.clone();
            present.mask = Some(vec![1.0; dims.step()]);
            present.hidden_grad = present.hidden_grad.or(zeros.clone());
            present.cell_grad = present.cell_grad.or(zeros);
            assert_eq!(absent.run::<f32>(1), present.run::<f32>(1));
        }
    }

    #[test]
    #[should_panic(expected = "size of the product")]
    fn without_a_highway_the_product_has_a_fourth_part() {
        let dims = Dims { seq_length: 2, batch_size: 1, d_hidden: 3 };
        let mut case = Case::new(dims, Activation::Identity, [true; 4], 3);
        let interleaved = case.product.clone();
        case.highway = None;
        let inputs = Inputs {
            dims,
            activation: case.activation,
            bias: &case.bias,
            highway: None,
            mask: None,
            cell0: &case.cell0,
        };
        forward(&inputs, &interleaved, &mut [0.0; 6], &mut [0.0; 6], 1);
    }
}

//! A Long Short-Term Memory over a sequence, forward and backward.
//!
//! ```text
//! a_t = gates_t + b + (h_{t−1} ⊙ m) W_h
//! i, f, g, o = σ(a_i), σ(a_f + forget_bias), tanh(a_g), σ(a_o)
//! c_t = f ⊙ c_{t−1} + i ⊙ g
//! h_t = o ⊙ tanh(c_t)
//! ```
//!
//! In both directions a thread owns some hidden units for the whole sequence. A step is its part of one product with few
//! rows ([`panels`](crate::cpu::panels)) and the element-wise rest, and ends when all threads meet
//! ([`lockstep`](crate::cpu::lockstep)). No result depends on how many there are.

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::cpu::lockstep::lockstep;
use crate::cpu::matmul::{Destination, Matrix, matmul, product};
use crate::cpu::panels::Panels;
use crate::cpu::scalar::Scalar;
use crate::cpu::shared::Shared;
use crate::cpu::simd::{dispatch, vectorized_for};

/// Input, forget, cell and output gate, in this order.
const GATES: usize = 4;

/// Sizes of an LSTM over a sequence, each at least one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dims {
    pub(crate) seq_length: usize,
    pub(crate) batch_size: usize,
    pub(crate) d_hidden: usize,
}

impl Dims {
    /// Numbers in a state of all sequences at one step.
    fn state(self) -> usize {
        self.batch_size * self.d_hidden
    }

    /// Where `[seq_length · batch_size, d_hidden]` holds some units of a row.
    #[inline(always)]
    fn units(self, row: usize, units: &Range<usize>) -> Range<usize> {
        let start = row * self.d_hidden;
        start + units.start..start + units.end
    }

    /// Where `[seq_length · batch_size, GATES · d_hidden]` holds them, for each gate.
    #[inline(always)]
    fn gates(self, row: usize, units: &Range<usize>) -> [Range<usize>; GATES] {
        array::from_fn(|gate| self.units(row * GATES + gate, units))
    }

    /// Multiply-adds in the product of one step.
    fn work(self) -> usize {
        self.state() * GATES * self.d_hidden
    }

    /// Of `threads`, how many pay.
    fn threads(self, threads: usize) -> usize {
        /// Takes some times as long as it takes threads to meet.
        const STEP: usize = 1 << 15;
        /// Takes some times as long as it takes to call a thread.
        const SEQUENCE: usize = 1 << 21;

        threads.min(self.work() / STEP).min(self.seq_length * self.work() / SEQUENCE).max(1)
    }

    /// Whether there are too few products to pack the weight for.
    fn few(self) -> bool {
        self.seq_length * self.batch_size < 8 || self.seq_length == 1
    }

    fn check<E: Scalar>(self, gates: &[E], weight: &[E], mask: Mask<'_, E>, others: [&[E]; 4]) {
        let Self { seq_length, batch_size, d_hidden } = self;
        assert!(seq_length * batch_size * d_hidden > 0, "an empty LSTM: {self:?}");
        assert_eq!(gates.len(), seq_length * self.state() * GATES, "`gates` of {self:?}");
        assert_eq!(weight.len(), d_hidden * GATES * d_hidden, "`weight_hidden` of {self:?}");
        assert!([0, 1, GATES].contains(&mask.groups), "`mask` of {self:?}");
        assert_eq!(mask.values.len(), mask.groups * self.state(), "`mask` of {self:?}");
        let names = ["hidden0", "cell0", "hidden", "cell"];
        for ((name, values), steps) in
            names.into_iter().zip(others).zip([1, 1, seq_length, seq_length])
        {
            assert_eq!(values.len(), steps * self.state(), "`{name}` of {self:?}");
        }
    }
}

/// A mask on the recurrent input: none, one for all gates or one for each.
#[derive(Debug, Clone, Copy)]
struct Mask<'a, E> {
    /// `[groups, batch_size, d_hidden]`.
    values: &'a [E],
    groups: usize,
}

impl<'a, E: Scalar> Mask<'a, E> {
    fn new(values: Option<&'a [E]>, dims: Dims) -> Self {
        let values = values.unwrap_or(&[]);
        Self { values, groups: values.len() / dims.state().max(1) }
    }

    /// Inputs of the product that differ: columns of the weight are divided among them.
    fn inputs(self) -> usize {
        self.groups.max(1)
    }

    /// `out ← h ⊙ m` for `[n, batch_size, d_hidden]` of `h`.
    fn apply(self, group: usize, h: &[E], out: &mut [E]) {
        let len = self.values.len() / self.groups;
        let mask = &self.values[group * len..][..len];
        for (out, h) in out.chunks_exact_mut(len).zip(h.chunks_exact(len)) {
            multiply(out, h, mask);
        }
    }
}

#[inline(always)]
fn multiply<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
}

#[inline(always)]
fn add<E: Scalar>(sum: &mut [E], a: &[E]) {
    for (sum, &a) in sum.iter_mut().zip(a) {
        *sum += a;
    }
}

/// All hidden and cell states of a sequence.
///
/// # Shapes
///
/// - `gates`: `[seq_length, batch_size, 4 · d_hidden]`, `x_t W_x`; afterwards the activated gates `i, f, g, o`
/// - `bias`: `[4 · d_hidden]`; zero if absent
/// - `weight_hidden`: `[d_hidden, 4 · d_hidden]`
/// - `mask`: `[groups, batch_size, d_hidden]`, where `groups` is 1 (for all gates) or 4 (for each its own)
/// - `hidden0`, `cell0`: `[batch_size, d_hidden]`
/// - `hidden`, `cell`: `[seq_length, batch_size, d_hidden]`, written
///
/// # Panics
///
/// If a size is zero or a slice has another length.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward<E: Scalar>(
    dims: Dims,
    gates: &mut [E],
    bias: Option<&[E]>,
    weight_hidden: &[E],
    mask: Option<&[E]>,
    hidden0: &[E],
    cell0: &[E],
    forget_bias: E,
    hidden: &mut [E],
    cell: &mut [E],
    threads: usize,
) {
    let mask = Mask::new(mask, dims);
    dims.check(gates, weight_hidden, mask, [hidden0, cell0, hidden, cell]);
    let mut biases = vec![E::ZERO; GATES * dims.d_hidden];
    if let Some(bias) = bias {
        biases.copy_from_slice(bias);
    }
    biases[dims.d_hidden..2 * dims.d_hidden].iter_mut().for_each(|bias| *bias += forget_bias);
    let mut masked = vec![E::ZERO; 2 * mask.groups * dims.state()];
    for (group, masked) in masked.chunks_exact_mut(dims.state()).take(mask.groups).enumerate() {
        mask.apply(group, hidden0, masked);
    }
    dispatch(Forward {
        dims,
        bias: &biases,
        weight_hidden,
        mask,
        hidden0,
        cell0,
        gates: Shared::new(gates),
        hidden: Shared::new(hidden),
        cell: Shared::new(cell),
        masked: Shared::new(&mut masked),
        threads,
    });
}

/// A step writes its rows of the shared slices, of these each thread only its units, and reads those of the step before.
struct Forward<'a, E> {
    dims: Dims,
    /// Of the forget gate with its constant.
    bias: &'a [E],
    weight_hidden: &'a [E],
    mask: Mask<'a, E>,
    hidden0: &'a [E],
    cell0: &'a [E],
    gates: Shared<'a, E>,
    hidden: Shared<'a, E>,
    cell: Shared<'a, E>,
    /// `h_{t−1} ⊙ m` of even and of odd steps: `[2, groups, batch_size, d_hidden]`.
    masked: Shared<'a, E>,
    threads: usize,
}

impl<E: Scalar> WithSimd for Forward<'_, E> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let Dims { seq_length, batch_size, d_hidden } = self.dims;
        if self.dims.few() {
            for step in 0..seq_length {
                self.few_products(step);
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || self.activate(step, 0..d_hidden),
                );
            }
            return;
        }
        let threads = self.dims.threads(self.threads);
        let panels = Panels::new::<E, S>(d_hidden, GATES, batch_size, threads);
        let mut storage = panels.storage();
        let packed = panels.share(&mut storage);
        lockstep(seq_length, panels.shares(), |step, chunk| {
            vectorized_for(
                simd,
                #[inline(always)]
                || {
                    self.product(simd, &panels, &packed, step, chunk);
                    self.activate(step, panels.columns(chunk));
                },
            );
        });
    }
}

impl<E: Scalar> Forward<'_, E> {
    /// `h_{t−1} ⊙ m`: `[batch_size, d_hidden]`.
    #[allow(unsafe_code)]
    fn previous(&self, step: usize, group: usize) -> &[E] {
        let state = self.dims.state();
        let part = |index: usize| index * state..(index + 1) * state;
        // SAFETY: the step before wrote it, no other writes it before this step is done.
        unsafe {
            match (self.mask.groups, step) {
                (0, 0) => self.hidden0,
                (0, _) => self.hidden.get(part(step - 1)),
                (groups, _) => self.masked.get(part(step % 2 * groups + group)),
            }
        }
    }

    #[allow(unsafe_code)]
    fn few_products(&self, step: usize) {
        let Dims { batch_size, d_hidden, .. } = self.dims;
        let width = GATES * d_hidden;
        let columns = width / self.mask.inputs();
        let rows = step * batch_size * width..(step + 1) * batch_size * width;
        // SAFETY: there is one thread.
        let gates = unsafe { self.gates.get_mut(rows) };
        for group in 0..self.mask.inputs() {
            let weight = &self.weight_hidden[group * columns..];
            matmul(
                &mut gates[group * columns..],
                width,
                Destination::Accumulate,
                E::ONE,
                Matrix::new(self.previous(step, group), batch_size, d_hidden),
                Matrix::strided(weight, [d_hidden, columns], [width, 1]),
                self.threads,
            );
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(
        &self,
        simd: S,
        panels: &Panels,
        packed: &Shared<'_, E>,
        step: usize,
        chunk: usize,
    ) {
        let Dims { batch_size, d_hidden, .. } = self.dims;
        // SAFETY: only who has claimed the chunk uses this part.
        let packed = unsafe { packed.get_mut(panels.packed(chunk)) };
        if step == 0 {
            panels.pack(self.weight_hidden, chunk, packed);
        }
        for gate in 0..GATES {
            let previous = self.previous(step, gate % self.mask.inputs());
            let out = |row, units: Range<usize>| {
                let place = self.dims.units((step * batch_size + row) * GATES + gate, &units);
                // SAFETY: only this chunk has these units at this step.
                unsafe { self.gates.get_mut(place) }
            };
            panels.product(simd, packed, chunk, gate, previous, d_hidden, batch_size, out);
        }
    }

    /// The element-wise rest of a step.
    ///
    /// Loops of few slices each: the compiler makes vector code only of those.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn activate(&self, step: usize, units: Range<usize>) {
        let Self { dims, mask, .. } = self;
        let [bias_i, bias_f, bias_g, bias_o] = dims.gates(0, &units).map(|part| &self.bias[part]);
        for row in 0..dims.batch_size {
            let now = step * dims.batch_size + row;
            // SAFETY: only this chunk has these units at this step.
            let (gates, c, h) = unsafe {
                (
                    dims.gates(now, &units).map(|part| self.gates.get_mut(part)),
                    self.cell.get_mut(dims.units(now, &units)),
                    self.hidden.get_mut(dims.units(now, &units)),
                )
            };
            let [i, f, g, o] = gates;
            let c_before = if step == 0 {
                &self.cell0[dims.units(row, &units)]
            } else {
                // SAFETY: the step before wrote it, no other does.
                unsafe { self.cell.get(dims.units(now - dims.batch_size, &units)) }
            };

            for (gate, bias) in [(&mut *i, bias_i), (&mut *f, bias_f), (&mut *o, bias_o)] {
                for (gate, &bias) in gate.iter_mut().zip(bias) {
                    *gate = (*gate + bias).sigmoid();
                }
            }
            for (g, &bias) in g.iter_mut().zip(bias_g) {
                *g = (*g + bias).tanh();
            }
            let old_and_new = c_before.iter().zip(&*f).zip(i.iter().zip(&*g));
            for (c, ((&c_before, &f), (&i, &g))) in c.iter_mut().zip(old_and_new) {
                *c = f * c_before + i * g;
            }
            for ((h, &c), &o) in h.iter_mut().zip(&*c).zip(&*o) {
                *h = o * c.tanh();
            }
            for group in 0..mask.groups {
                let row = group * dims.batch_size + row;
                let next = (step + 1) % 2 * mask.groups * dims.batch_size + row;
                // SAFETY: as above.
                let masked = unsafe { self.masked.get_mut(dims.units(next, &units)) };
                multiply(masked, h, &mask.values[dims.units(row, &units)]);
            }
        }
    }
}

/// Gradients of [`forward`].
///
/// # Shapes
///
/// Those of [`forward`], and
///
/// - `gates`: the activated gates; afterwards the gradient of its `gates`, which is that of all pre-activations
/// - `hidden_grad`, `cell_grad`: `[seq_length, batch_size, d_hidden]`, gradients of all states; zero if absent
/// - `bias_grad`, `hidden0_grad`, `cell0_grad`: written where present
///
/// That of `weight_hidden` is [`weight_gradient`].
///
/// # Panics
///
/// If a size is zero or a slice has another length.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward<E: Scalar>(
    dims: Dims,
    gates: &mut [E],
    weight_hidden: &[E],
    mask: Option<&[E]>,
    hidden0: &[E],
    cell0: &[E],
    hidden: &[E],
    cell: &[E],
    hidden_grad: Option<&[E]>,
    cell_grad: Option<&[E]>,
    bias_grad: Option<&mut [E]>,
    hidden0_grad: Option<&mut [E]>,
    cell0_grad: Option<&mut [E]>,
    threads: usize,
) {
    let mask = Mask::new(mask, dims);
    dims.check(gates, weight_hidden, mask, [hidden0, cell0, hidden, cell]);
    let mut bias_sums = vec![E::ZERO; GATES * dims.d_hidden];
    let mut carry = vec![E::ZERO; dims.state()];
    let mut recurrent = vec![E::ZERO; mask.inputs() * dims.state()];
    dispatch(Backward {
        dims,
        weight_hidden,
        mask,
        cell0,
        cell,
        hidden_grad,
        cell_grad,
        to_start: hidden0_grad.is_some(),
        gates: Shared::new(gates),
        bias: Shared::new(&mut bias_sums),
        recurrent: Shared::new(&mut recurrent),
        carry: Shared::new(&mut carry),
        threads,
    });
    for (gradient, sums) in [
        (bias_grad, &bias_sums[..]),
        (hidden0_grad, &recurrent[..dims.state()]),
        (cell0_grad, &carry),
    ] {
        if let Some(gradient) = gradient {
            gradient.copy_from_slice(sums);
        }
    }
}

/// Gradient of `weight_hidden`, `Σ_t (h_{t−1} ⊙ m)ᵀ ∂a_t`: one product over all steps.
///
/// # Shapes
///
/// As in [`backward`]; `gates_grad` is what it leaves in `gates`.
///
/// # Panics
///
/// If a size is zero or a slice has another length.
pub(crate) fn weight_gradient<E: Scalar>(
    dims: Dims,
    gates_grad: &[E],
    mask: Option<&[E]>,
    hidden0: &[E],
    hidden: &[E],
    threads: usize,
) -> Vec<E> {
    let mask = Mask::new(mask, dims);
    let Dims { seq_length, batch_size, d_hidden } = dims;
    let (rows, width) = (seq_length * batch_size, GATES * d_hidden);
    let previous = [hidden0, &hidden[..hidden.len() - dims.state()]].concat();
    let mut masked = vec![E::ZERO; if mask.groups > 0 { previous.len() } else { 0 }];
    let columns = width / mask.inputs();
    let grad =
        |group: usize| Matrix::strided(&gates_grad[group * columns..], [rows, columns], [width, 1]);
    if mask.groups == 0 {
        let previous = Matrix::new(&previous, rows, d_hidden).t();
        return product(E::ONE, previous, grad(0), threads);
    }
    let mut gradient = vec![E::ZERO; d_hidden * width];
    for group in 0..mask.groups {
        mask.apply(group, &previous, &mut masked);
        let masked = Matrix::new(&masked, rows, d_hidden).t();
        let gradient = &mut gradient[group * columns..];
        matmul(gradient, width, Destination::Overwrite, E::ONE, masked, grad(group), threads);
    }
    gradient
}

/// A step writes its rows of `gates` and the other shared slices, of these each thread only its units, and reads the rows
/// of `gates` that the step before wrote.
struct Backward<'a, E> {
    dims: Dims,
    weight_hidden: &'a [E],
    mask: Mask<'a, E>,
    cell0: &'a [E],
    cell: &'a [E],
    hidden_grad: Option<&'a [E]>,
    cell_grad: Option<&'a [E]>,
    /// Whether the gradient of `h_0` is wanted.
    to_start: bool,
    gates: Shared<'a, E>,
    /// `[4 · d_hidden]`.
    bias: Shared<'a, E>,
    /// What comes back from the next step's gates, to each input of the product: `[inputs, batch_size, d_hidden]`; after
    /// the masks, the sum in the first.
    recurrent: Shared<'a, E>,
    /// Gradient of `c_t` from the step after it: `[batch_size, d_hidden]`.
    carry: Shared<'a, E>,
    threads: usize,
}

impl<E: Scalar> WithSimd for Backward<'_, E> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let Dims { seq_length, batch_size, d_hidden } = self.dims;
        // Backwards: after the last comes the state before the first.
        let steps = seq_length + usize::from(self.to_start);
        if self.dims.few() {
            for step in 0..steps {
                if step > 0 {
                    self.few_products(seq_length - step);
                }
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || self.differentiate(step, 0..d_hidden),
                );
            }
            return;
        }
        let threads = self.dims.threads(self.threads);
        let panels = Panels::new::<E, S>(d_hidden, GATES, batch_size, threads);
        let mut storage = panels.storage();
        let packed = panels.share(&mut storage);
        lockstep(steps, panels.shares(), |step, chunk| {
            vectorized_for(
                simd,
                #[inline(always)]
                || {
                    if step > 0 {
                        self.product(simd, &panels, &packed, step, chunk);
                    }
                    self.differentiate(step, panels.columns(chunk));
                },
            );
        });
    }
}

impl<E: Scalar> Backward<'_, E> {
    /// `∂a_t`: `[batch_size, 4 · d_hidden]`.
    #[allow(unsafe_code)]
    fn gates_grad(&self, t: usize) -> &[E] {
        let len = self.dims.state() * GATES;
        // SAFETY: the step before wrote it, no other writes it before this step is done.
        unsafe { self.gates.get(t * len..(t + 1) * len) }
    }

    #[allow(unsafe_code)]
    fn few_products(&self, t: usize) {
        let Dims { batch_size, d_hidden, .. } = self.dims;
        let width = GATES * d_hidden;
        let columns = width / self.mask.inputs();
        // SAFETY: there is one thread.
        let recurrent =
            unsafe { self.recurrent.get_mut(0..self.mask.inputs() * self.dims.state()) };
        for (group, recurrent) in recurrent.chunks_exact_mut(self.dims.state()).enumerate() {
            let grad = &self.gates_grad(t)[group * columns..];
            let weight = &self.weight_hidden[group * columns..];
            matmul(
                recurrent,
                d_hidden,
                Destination::Overwrite,
                E::ONE,
                Matrix::strided(grad, [batch_size, columns], [width, 1]),
                Matrix::strided(weight, [d_hidden, columns], [width, 1]).t(),
                self.threads,
            );
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(
        &self,
        simd: S,
        panels: &Panels,
        packed: &Shared<'_, E>,
        step: usize,
        chunk: usize,
    ) {
        let Dims { seq_length, batch_size, d_hidden } = self.dims;
        // SAFETY: only who has claimed the chunk uses this part.
        let packed = unsafe { packed.get_mut(panels.packed(chunk)) };
        if step == 1 {
            panels.pack_transposed(self.weight_hidden, chunk, packed);
        }
        let recurrent = |row, units: Range<usize>| {
            // SAFETY: only this chunk has these units.
            unsafe { self.recurrent.get_mut(self.dims.units(row, &units)) }
        };
        for row in 0..self.mask.inputs() * batch_size {
            recurrent(row, panels.columns(chunk)).fill(E::ZERO);
        }
        let grad = self.gates_grad(seq_length - step);
        for gate in 0..GATES {
            let first = gate % self.mask.inputs() * batch_size;
            let out = |row, units| recurrent(first + row, units);
            let grad = &grad[gate * d_hidden..];
            panels.product(simd, packed, chunk, gate, grad, GATES * d_hidden, batch_size, out);
        }
    }

    /// The element-wise rest of a step.
    ///
    /// Loops of few slices each: the compiler makes vector code only of those.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn differentiate(&self, step: usize, units: Range<usize>) {
        let Self { dims, mask, .. } = self;
        // SAFETY: only this chunk has these units.
        let bias = dims.gates(0, &units).map(|part| unsafe { self.bias.get_mut(part) });
        for row in 0..dims.batch_size {
            // SAFETY: as above.
            let (dh, dc) = unsafe {
                (
                    self.recurrent.get_mut(dims.units(row, &units)),
                    self.carry.get_mut(dims.units(row, &units)),
                )
            };
            for group in 0..mask.groups {
                let place = dims.units(group * dims.batch_size + row, &units);
                let mask = &mask.values[place.clone()];
                if group == 0 {
                    dh.iter_mut().zip(mask).for_each(|(dh, &mask)| *dh *= mask);
                } else {
                    // SAFETY: as above.
                    let recurrent = unsafe { self.recurrent.get(place) };
                    for ((dh, &recurrent), &mask) in dh.iter_mut().zip(recurrent).zip(mask) {
                        *dh += recurrent * mask;
                    }
                }
            }
            let Some(t) = (dims.seq_length - 1).checked_sub(step) else {
                continue;
            };

            let now = t * dims.batch_size + row;
            // SAFETY: only this chunk has these units at this step.
            let gates = dims.gates(now, &units).map(|part| unsafe { self.gates.get_mut(part) });
            let [i, f, g, o] = gates;
            let c = &self.cell[dims.units(now, &units)];
            let c_before = match t {
                0 => &self.cell0[dims.units(row, &units)],
                _ => &self.cell[dims.units(now - dims.batch_size, &units)],
            };
            for (sum, grad) in [(&mut *dh, self.hidden_grad), (&mut *dc, self.cell_grad)] {
                if let Some(grad) = grad {
                    add(sum, &grad[dims.units(now, &units)]);
                }
            }
            for (((dc, o), &dh), &c) in dc.iter_mut().zip(&mut *o).zip(&*dh).zip(c) {
                let tanh_c = c.tanh();
                *dc += dh * *o * (E::ONE - tanh_c * tanh_c);
                *o = dh * tanh_c * *o * (E::ONE - *o);
            }
            for ((i, g), &dc) in i.iter_mut().zip(&mut *g).zip(&*dc) {
                let di = dc * *g * *i * (E::ONE - *i);
                *g = dc * *i * (E::ONE - *g * *g);
                *i = di;
            }
            for ((f, dc), &c_before) in f.iter_mut().zip(dc).zip(c_before) {
                let df = *dc * c_before * *f * (E::ONE - *f);
                *dc *= *f;
                *f = df;
            }
            add(bias[0], i);
            add(bias[1], f);
            add(bias[2], g);
            add(bias[3], o);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that goes in, with upstream gradients of all states.
    #[derive(Debug, Clone)]
    struct Case {
        dims: Dims,
        groups: usize,
        forget_bias: f64,
        mask: Vec<f64>,
        hidden_grad: Vec<f64>,
        cell_grad: Vec<f64>,
        /// What has a gradient: gates, bias, recurrent weight, hidden and cell state at the start.
        inputs: [Vec<f64>; 5],
    }

    /// Numbers in `[−1, 1)`.
    fn noise(seed: u64) -> impl FnMut(usize) -> Vec<f64> {
        let mut state = seed;
        move |len| {
            let next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as f64 / f64::from(1 << 30) - 1.0
            };
            std::iter::repeat_with(next).take(len).collect()
        }
    }

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    impl Case {
        fn new([seq_length, batch_size, d_hidden]: [usize; 3], groups: usize, seed: u64) -> Self {
            let dims = Dims { seq_length, batch_size, d_hidden };
            let mut noise = noise(seed);
            let states = seq_length * dims.state();
            let scale = 2.0 / (d_hidden as f64).sqrt();
            let weight = noise(d_hidden * GATES * d_hidden).iter().map(|w| w * scale).collect();
            Self {
                dims,
                groups,
                forget_bias: 0.7,
                mask: noise(groups * dims.state())
                    .iter()
                    .map(|m| if *m < 0.0 { 0.0 } else { 1.6 })
                    .collect(),
                hidden_grad: noise(states),
                cell_grad: noise(states),
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
            let Dims { seq_length, batch_size, d_hidden } = self.dims;
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
                            before(&hidden, hidden0, k)
                                * mask
                                * weight[k * GATES * d_hidden + column]
                        });
                        gates[row * GATES * d_hidden + column] + bias[column] + product.sum::<f64>()
                    });
                    let [i, f, g, o] = [
                        sigmoid(a[0]),
                        sigmoid(a[1] + self.forget_bias),
                        a[2].tanh(),
                        sigmoid(a[3]),
                    ];
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
            dot(&hidden, &self.hidden_grad) + dot(&cell, &self.cell_grad)
        }

        fn mask(&self) -> Option<&[f64]> {
            (self.groups > 0).then_some(&self.mask)
        }

        /// Activated gates, hidden and cell states, and the gradients of the inputs.
        fn run<E: Scalar>(&self, threads: usize) -> ([Vec<f64>; 3], [Vec<f64>; 5]) {
            fn cast<E: Scalar>(values: &[f64]) -> Vec<E> {
                values.iter().map(|&value| E::from_f64(value)).collect()
            }
            let back = |values: Vec<E>| values.into_iter().map(E::to_f64).collect::<Vec<f64>>();
            let [mut gates, bias, weight, hidden0, cell0] =
                self.inputs.each_ref().map(|input| cast::<E>(input));
            let mask = self.mask().map(cast::<E>);
            let mut hidden = vec![E::ZERO; self.hidden_grad.len()];
            let mut cell = hidden.clone();
            forward(
                self.dims,
                &mut gates,
                Some(&bias),
                &weight,
                mask.as_deref(),
                &hidden0,
                &cell0,
                E::from_f64(self.forget_bias),
                &mut hidden,
                &mut cell,
                threads,
            );
            let states = [&gates, &hidden, &cell].map(|states| back(states.clone()));
            let mut grads = [&bias, &hidden0, &cell0].map(|input| vec![E::ONE; input.len()]);
            let [bias_grad, hidden0_grad, cell0_grad] = &mut grads;
            backward(
                self.dims,
                &mut gates,
                &weight,
                mask.as_deref(),
                &hidden0,
                &cell0,
                &hidden,
                &cell,
                Some(&cast(&self.hidden_grad)),
                Some(&cast(&self.cell_grad)),
                Some(bias_grad),
                Some(hidden0_grad),
                Some(cell0_grad),
                threads,
            );
            let mask = mask.as_deref();
            let weight = weight_gradient(self.dims, &gates, mask, &hidden0, &hidden, threads);
            let ([bias, hidden0, cell0], weight) = (grads.map(back), back(weight));
            (states, [back(gates), bias, weight, hidden0, cell0])
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

    #[track_caller]
    fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len());
        for (n, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "{a} instead of {e} at {n}");
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
                assert_close(&[grad], &[case.slope(input, &direction)], 1e-8);
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
            assert_close(&[dot(grad, &direction)], &[case.slope(input, &direction)], 1e-7);
        }
    }

    fn groups() -> impl Strategy<Value = usize> {
        prop::sample::select(vec![0, 1, GATES])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn states_and_gradients_of_small_shapes(
            shape in [1_usize..5, 1_usize..4, 1_usize..6],
            groups in groups(),
            seed: u64,
        ) {
            let case = Case::new(shape, groups, seed);
            for (actual, expected) in case.run::<f64>(1).0.iter().zip(&case.reference()) {
                assert_close(actual, expected, 1e-13);
            }
            check_every_gradient(&case);
        }

        #[test]
        fn states_and_gradients_of_odd_shapes(
            shape in [1_usize..7, 1_usize..15, 1_usize..80],
            groups in groups(),
            seed: u64,
        ) {
            let case = Case::new(shape, groups, seed);
            for (actual, expected) in case.run::<f64>(2).0.iter().zip(&case.reference()) {
                assert_close(actual, expected, 1e-12);
            }
            check_gradients(&case);
        }
    }

    #[test]
    fn states_and_gradients_where_threads_share_the_work() {
        for groups in [0, 1, GATES] {
            let case = Case::new([9, 20, 133], groups, 5);
            assert_eq!(case.dims.threads(2), 2);
            for (actual, expected) in case.run::<f64>(2).0.iter().zip(&case.reference()) {
                assert_close(actual, expected, 1e-12);
            }
            check_gradients(&case);
        }
    }

    /// A few dozen roundings of 6e-8 follow each other.
    #[test]
    fn f32_agrees_with_f64() {
        for (shape, groups) in
            [([9, 20, 133], 0), ([6, 7, 300], 4), ([1, 1, 33], 1), ([20, 1, 64], 0)]
        {
            let case = Case::new(shape, groups, 11);
            let (states, grads) = case.run::<f32>(2);
            let (exact_states, exact_grads) = case.run::<f64>(2);
            for (actual, expected) in states.iter().zip(&exact_states) {
                assert_close(actual, expected, 3e-6);
            }
            for (actual, expected) in grads.iter().zip(&exact_grads) {
                assert_close(actual, expected, 2e-5);
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        for groups in [0, 1, GATES] {
            let case = Case::new([16, 20, 150], groups, 3);
            assert_eq!(case.dims.threads(3), 3);
            let one = case.run::<f32>(1);
            assert!(one == case.run::<f32>(2));
            assert!(one == case.run::<f32>(3));
        }
    }

    /// Absent upstream gradients and an absent bias are zeros; what is not asked for changes nothing else.
    #[test]
    fn what_is_absent() {
        for shape in [[5, 3, 9], [1, 2, 9]] {
            let mut case = Case::new(shape, 1, 7);
            case.inputs[1].fill(0.0);
            case.hidden_grad.fill(0.0);
            let (states, grads) = case.run::<f64>(1);
            case.cell_grad.fill(0.0);
            let (_, no_grads) = case.run::<f64>(1);
            assert!(no_grads.iter().flatten().all(|&grad| grad == 0.0));

            let case = Case::new(shape, 1, 7);
            let [mut gates, _, weight, hidden0, cell0] = case.inputs.clone();
            let (mut hidden, mut cell) = (case.hidden_grad.clone(), case.cell_grad.clone());
            let (mask, dims) = (case.mask(), case.dims);
            forward(
                dims,
                &mut gates,
                None,
                &weight,
                mask,
                &hidden0,
                &cell0,
                0.7,
                &mut hidden,
                &mut cell,
                1,
            );
            assert!(states == [gates.clone(), hidden.clone(), cell.clone()]);
            let backward = |hidden_grad, cell_grad| {
                let mut gates = gates.clone();
                backward(
                    dims,
                    &mut gates,
                    &weight,
                    mask,
                    &hidden0,
                    &cell0,
                    &hidden,
                    &cell,
                    hidden_grad,
                    cell_grad,
                    None,
                    None,
                    None,
                    1,
                );
                gates
            };
            assert!(backward(None, Some(&case.cell_grad)) == grads[0]);
            assert!(backward(None, None).iter().all(|&grad| grad == 0.0));
        }
    }

    #[test]
    #[should_panic(expected = "`hidden0` of Dims { seq_length: 2, batch_size: 3, d_hidden: 4 }")]
    fn lengths_are_checked() {
        let mut case = Case::new([2, 3, 4], 0, 1);
        case.inputs[3].pop();
        case.run::<f64>(1);
    }
}

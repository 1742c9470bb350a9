use std::ops::Range;

use pulp::Simd;

use super::{GATES, place};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matmul::{Destination, Matrix};
use crate::cpu::products::{Chunk, Lhs};
use crate::cpu::recurrent::{
    Dims, Direction, Recurrence, RoundedGates, add, add_product, nth, run,
};
use crate::cpu::scalar::Scalar;
use crate::cpu::tasks;

/// States of all steps and micro-steps, as [`forward`](super::forward::forward) writes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct States<'a, E> {
    pub(super) inner: &'a [E],
    pub(super) hidden: &'a [E],
}

/// What [`backward`] returns.
#[derive(Debug)]
pub(super) struct Gradients<E> {
    /// `[depth, 2 · d_hidden]`.
    pub(super) bias: Vec<E>,
    /// `[depth, d_hidden, 2 · d_hidden]`.
    pub(super) weight_hidden: Vec<E>,
    /// `[batch_size, d_hidden]`.
    pub(super) hidden0: Vec<E>,
}

/// Gradients of all inputs of [`forward`](super::forward::forward) except the mask, from those of
/// the hidden states.
///
/// `gates` holds the activated gates before, and the gradient of `h, u` afterwards, whose first
/// `[seq_length, batch_size, 2 · d_hidden]` is that of the gates' inputs.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn backward<E: Scalar>(
    recurrence: Recurrence<'_, E>,
    states: States<'_, E>,
    hidden_grad: &[E],
    gates: &mut [E],
    threads: usize,
) -> Gradients<E> {
    let Recurrence { dims, mask, .. } = recurrence;
    let Dims { depth, d_hidden, .. } = dims;
    dims.check("activated gates", gates, depth * GATES * dims.sequence());
    dims.check("inner states", states.inner, (depth - 1) * dims.sequence());
    dims.check("hidden states", states.hidden, dims.sequence());
    dims.check("hidden states' gradient", hidden_grad, dims.sequence());
    let mut hidden0 = vec![E::ZERO; dims.state()];
    let mut input_grad = vec![E::ZERO; mask.values.len()];
    let mut rounded = RoundedGates::storage(&recurrence);
    let backward = Backward {
        recurrence,
        states,
        hidden_grad,
        gates: DisjointSlice::new(gates),
        rounded: RoundedGates::new(&recurrence, &mut rounded),
        state_grad: DisjointSlice::new(&mut hidden0),
        input_grad: DisjointSlice::new(&mut input_grad),
    };
    run(&backward, threads);

    let mut bias = vec![E::ZERO; depth * GATES * d_hidden];
    let mut weight_hidden = vec![E::ZERO; depth * d_hidden * GATES * d_hidden];
    let first = recurrence.previous(states.hidden);
    let layers = bias
        .chunks_exact_mut(GATES * d_hidden)
        .zip(weight_hidden.chunks_exact_mut(d_hidden * GATES * d_hidden))
        .zip(gates.chunks_exact(GATES * dims.sequence()));
    for (layer, ((bias, weight), gates_grad)) in layers.enumerate() {
        sum_rows(bias, gates_grad, threads);
        let previous = match layer {
            0 => &first,
            _ => nth(states.inner, layer - 1, dims.sequence()),
        };
        recurrence.weight_gradient(weight, previous, gates_grad, threads);
    }
    Gradients { bias, weight_hidden, hidden0 }
}

/// A micro-step writes its rows of the shared slices, each thread only its own units, and reads the
/// rows of `gates` that the previous one wrote, which is the next in time.
struct Backward<'a, E> {
    recurrence: Recurrence<'a, E>,
    states: States<'a, E>,
    hidden_grad: &'a [E],
    gates: DisjointSlice<'a, E>,
    rounded: RoundedGates<'a, E>,
    /// Gradient of the current state: `[batch_size, d_hidden]`.
    state_grad: DisjointSlice<'a, E>,
    /// Gradients of the inputs of the product, before they are masked: `[groups, batch_size,
    /// d_hidden]`; empty without a mask.
    input_grad: DisjointSlice<'a, E>,
}

impl<E: Scalar> Backward<'_, E> {
    /// The state before a micro-step.
    fn previous(&self, layer: usize, t: usize) -> &[E] {
        let Recurrence { dims, state0, .. } = self.recurrence;
        match (layer, t) {
            (0, 0) => state0,
            (0, _) => nth(self.states.hidden, t - 1, dims.state()),
            _ => nth(self.states.inner, (layer - 1) * dims.seq_length + t, dims.state()),
        }
    }

    /// The gates' gradient of the previous micro-step, the next in time: `[batch_size, 2 ·
    /// d_hidden]`.
    #[allow(unsafe_code)]
    fn gates_grad(&self, step: usize) -> &[E] {
        let dims = self.recurrence.dims;
        let (layer, t) = place(dims, dims.steps() - step);
        let len = GATES * dims.state();
        let start = (layer * dims.seq_length + t) * len;
        // SAFETY: the previous micro-step wrote it, and no other does.
        unsafe { self.gates.get(start..start + len) }
    }

    /// Some units of [`state_grad`](Self#structfield.state_grad).
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may call this, and only for one
    /// row at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn state_grad(&self, row: usize, units: &Range<usize>) -> &mut [E] {
        // SAFETY: no other chunk has these units; the rest is the caller's promise.
        unsafe { self.state_grad.get_mut(self.recurrence.dims.units(row, units)) }
    }

    /// Some units of [`input_grad`](Self#structfield.input_grad).
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may call this, and only for one
    /// row at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn input_grad(&self, row: usize, units: &Range<usize>) -> &mut [E] {
        // SAFETY: as above.
        unsafe { self.input_grad.get_mut(self.recurrence.dims.units(row, units)) }
    }

    /// Add the masked gradients of the inputs to the gradient of the state.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn add_input_gradients(&self, units: &Range<usize>) {
        let Recurrence { dims, mask, .. } = self.recurrence;
        for row in 0..mask.groups * dims.batch_size {
            // SAFETY: this thread has claimed the chunk.
            let (sums, input_grad) = unsafe {
                (self.state_grad(row % dims.batch_size, units), self.input_grad(row, units))
            };
            add_product(sums, input_grad, &mask.values[dims.units(row, units)]);
        }
    }
}

impl<E: Scalar> Direction for Backward<'_, E> {
    type Scalar = E;

    const IS_BACKWARD: bool = true;

    fn recurrence(&self) -> &Recurrence<'_, E> {
        &self.recurrence
    }

    #[allow(unsafe_code)]
    fn whole_product(&self, step: usize, layer: usize, threads: usize) {
        let Recurrence { dims, mask, .. } = self.recurrence;
        let (state, gates_grad) = (dims.state(), self.gates_grad(step));
        for group in 0..mask.inputs() {
            // SAFETY: no other thread is at work.
            let out = unsafe {
                match mask.groups {
                    0 => (self.state_grad.get_mut(0..state), Destination::Accumulate),
                    _ => {
                        let part = group * state..(group + 1) * state;
                        (self.input_grad.get_mut(part), Destination::Overwrite)
                    }
                }
            };
            self.recurrence.input_gradient(layer, group, gates_grad, out, threads);
        }
        self.add_input_gradients(&(0..dims.d_hidden));
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(&self, simd: S, step: usize, chunk: &Chunk<'_, E>) {
        let Recurrence { dims, mask, .. } = self.recurrence;
        let Dims { batch_size, d_hidden, .. } = dims;
        let units = chunk.columns();
        for row in 0..mask.groups * batch_size {
            // SAFETY: this thread has claimed the chunk.
            unsafe { self.input_grad(row, &units) }.fill(E::ZERO);
        }
        for gate in 0..GATES {
            // SAFETY: this thread has claimed the chunk, and a product borrows one row at a time.
            let out = |row, units: Range<usize>| unsafe {
                match mask.groups {
                    0 => self.state_grad(row, &units),
                    groups => self.input_grad(gate % groups * batch_size + row, &units),
                }
            };
            let grad = self.rounded.before(step, gate).unwrap_or_else(|| {
                let grad = &self.gates_grad(step)[gate * d_hidden..];
                let strides = [GATES * d_hidden, 1];
                Lhs::Scalars(Matrix::strided(grad, [batch_size, d_hidden], strides))
            });
            chunk.product(simd, gate, grad, out);
        }
        self.add_input_gradients(&units);
    }

    /// Each loop runs over few slices only: the compiler does not vectorise loops over many.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn elementwise(&self, step: usize, units: Range<usize>) {
        let dims @ Dims { seq_length, depth, batch_size, .. } = self.recurrence.dims;
        let Some(index) = (dims.steps() - 1).checked_sub(step) else { return };
        let (layer, t) = place(dims, index);
        let previous = self.previous(layer, t);
        for row in 0..batch_size {
            let previous = &previous[dims.units(row, &units)];
            let gates = dims.gates((layer * seq_length + t) * batch_size + row, &units);
            // SAFETY: only this chunk has these units at this micro-step.
            let ([h, u], state_grad) = unsafe {
                (gates.map(|place| self.gates.get_mut(place)), self.state_grad(row, &units))
            };
            if layer + 1 == depth {
                add(state_grad, &self.hidden_grad[dims.units(t * batch_size + row, &units)]);
            }
            let elements = h.iter_mut().zip(&mut *u).zip(state_grad).zip(previous);
            for (((h, u), gradient), &previous) in elements {
                let (candidate, transform) = (*h, *u);
                let carry = E::ONE - transform;
                *h = *gradient * transform * (E::ONE - candidate * candidate);
                *u = *gradient * (candidate - previous) * (transform * carry);
                *gradient *= carry;
            }
            // SAFETY: only this chunk has these units.
            unsafe { self.rounded.write(step, row, &units, [h, u]) };
        }
    }
}

/// Add the rows of a matrix to `sums`, each column in order, whatever the number of threads.
fn sum_rows<E: Scalar>(sums: &mut [E], matrix: &[E], threads: usize) {
    let width = sums.len();
    let chunk = width.div_ceil(threads.max(1));
    tasks::map(sums.chunks_mut(chunk).enumerate().collect(), threads, |(i, sums)| {
        for row in matrix.chunks_exact(width) {
            add(sums, &row[i * chunk..]);
        }
    });
}

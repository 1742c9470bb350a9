use std::ops::Range;

use pulp::Simd;

use super::{GATES, place};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matmul::Matrix;
use crate::cpu::products::{Chunk, Lhs};
use crate::cpu::recurrent::{Dims, Direction, ProductInputs, Recurrence, add, run};
use crate::cpu::scalar::Scalar;

/// What [`forward`] writes.
#[derive(Debug)]
pub(super) struct States<'a, E> {
    /// `tanh(h), σ(u)`: `[depth, seq_length, batch_size, 2 · d_hidden]`.
    pub(super) activated: &'a mut [E],
    /// `s` after all micro-steps but the last: `[depth − 1, seq_length, batch_size, d_hidden]`.
    pub(super) inner: &'a mut [E],
    /// `y`: `[seq_length, batch_size, d_hidden]`.
    pub(super) hidden: &'a mut [E],
}

/// States of all steps and micro-steps.
///
/// # Shapes
///
/// - `gates`: `x_t W`, `[seq_length, batch_size, 2 · d_hidden]`, the columns of `h` before those of
///   `u`
/// - `bias`: `[depth, 2 · d_hidden]`
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn forward<E: Scalar>(
    recurrence: Recurrence<'_, E>,
    gates: &[E],
    bias: &[E],
    states: States<'_, E>,
    threads: usize,
) {
    let dims @ Dims { depth, d_hidden, .. } = recurrence.dims;
    let States { activated, inner, hidden } = states;
    dims.check("gates' inputs", gates, GATES * dims.sequence());
    dims.check("bias", bias, depth * GATES * d_hidden);
    dims.check("activated gates", activated, depth * GATES * dims.sequence());
    dims.check("inner states", inner, (depth - 1) * dims.sequence());
    dims.check("hidden states", hidden, dims.sequence());
    let mut inputs = ProductInputs::storage(&recurrence);
    let forward = Forward {
        recurrence,
        gates,
        bias,
        activated: DisjointSlice::new(activated),
        inner: DisjointSlice::new(inner),
        hidden: DisjointSlice::new(hidden),
        inputs: ProductInputs::new(&recurrence, &mut inputs),
    };
    run(&forward, threads);
}

/// A micro-step writes its rows of the shared slices, each thread only its own units, and reads the
/// rows of the previous micro-step.
struct Forward<'a, E> {
    recurrence: Recurrence<'a, E>,
    gates: &'a [E],
    bias: &'a [E],
    activated: DisjointSlice<'a, E>,
    inner: DisjointSlice<'a, E>,
    hidden: DisjointSlice<'a, E>,
    inputs: ProductInputs<'a, E>,
}

impl<E: Scalar> Forward<'_, E> {
    /// The slice and the range of the states after micro-step `index`.
    fn states(&self, index: usize) -> (&DisjointSlice<'_, E>, Range<usize>) {
        let dims @ Dims { seq_length, depth, .. } = self.recurrence.dims;
        let (layer, t) = place(dims, index);
        let is_last = layer + 1 == depth;
        let at = if is_last { t } else { layer * seq_length + t };
        let states = if is_last { &self.hidden } else { &self.inner };
        (states, at * dims.state()..(at + 1) * dims.state())
    }

    /// The states before micro-step `index`: `[batch_size, d_hidden]`.
    #[allow(unsafe_code)]
    fn previous(&self, index: usize) -> &[E] {
        let Some(before) = index.checked_sub(1) else {
            return self.recurrence.state0;
        };
        let (states, part) = self.states(before);
        // SAFETY: the previous micro-step wrote it, and no other does.
        unsafe { states.get(part) }
    }

    /// The input of a gate's product at micro-step `index`.
    #[inline(always)]
    fn multiplied(&self, index: usize, gate: usize) -> Lhs<'_, E> {
        let Dims { batch_size, d_hidden, .. } = self.recurrence.dims;
        self.inputs.before(index, gate).unwrap_or_else(|| {
            Lhs::Scalars(Matrix::new(self.previous(index), batch_size, d_hidden))
        })
    }

    /// The row of `activated` that holds the gates of a sequence after micro-step `index`.
    #[inline(always)]
    fn row(&self, index: usize, row: usize) -> usize {
        let dims @ Dims { seq_length, batch_size, .. } = self.recurrence.dims;
        let (layer, t) = place(dims, index);
        (layer * seq_length + t) * batch_size + row
    }

    /// Pre-activations of some units of a sequence's gate.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may call this, and only for one
    /// row at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn sums(&self, index: usize, row: usize, gate: usize, units: &Range<usize>) -> &mut [E] {
        let row = self.row(index, row) * GATES + gate;
        // SAFETY: no one else reads them at this micro-step; the rest is the caller's promise.
        unsafe { self.activated.get_mut(self.recurrence.dims.units(row, units)) }
    }

    /// Initialise the pre-activations of micro-step `index` with the bias and, in the first
    /// micro-step of a step, the gates' input.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn start(&self, index: usize, gate: usize, units: &Range<usize>) {
        let dims = self.recurrence.dims;
        let (layer, _) = place(dims, index);
        let bias = &self.bias[dims.units(layer * GATES + gate, units)];
        for row in 0..dims.batch_size {
            // SAFETY: this thread has claimed the chunk.
            let sums = unsafe { self.sums(index, row, gate, units) };
            sums.copy_from_slice(bias);
            if layer == 0 {
                let row = self.row(index, row) * GATES + gate;
                add(sums, &self.gates[dims.units(row, units)]);
            }
        }
    }
}

impl<E: Scalar> Direction for Forward<'_, E> {
    type Scalar = E;

    const IS_BACKWARD: bool = false;

    fn recurrence(&self) -> &Recurrence<'_, E> {
        &self.recurrence
    }

    #[allow(unsafe_code)]
    fn whole_product(&self, index: usize, layer: usize, threads: usize) {
        let dims = self.recurrence.dims;
        for gate in 0..GATES {
            self.start(index, gate, &(0..dims.d_hidden));
        }
        let (start, len) = (self.row(index, 0) * GATES * dims.d_hidden, GATES * dims.state());
        // SAFETY: no other thread is at work.
        let sums = unsafe { self.activated.get_mut(start..start + len) };
        let multiplied = |group| self.multiplied(index, group);
        self.recurrence.add_products(layer, sums, multiplied, threads);
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(&self, simd: S, index: usize, chunk: &Chunk<'_, E>) {
        for gate in 0..GATES {
            self.start(index, gate, &chunk.columns());
            let multiplied = self.multiplied(index, gate);
            // SAFETY: this thread has claimed the chunk, and a product borrows one row at a time.
            let out = |row, units: Range<usize>| unsafe { self.sums(index, row, gate, &units) };
            chunk.product(simd, gate, multiplied, out);
        }
    }

    /// Each loop runs over few slices only: the compiler does not vectorise loops over many.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn elementwise(&self, index: usize, units: Range<usize>) {
        let dims = self.recurrence.dims;
        let (states, part) = self.states(index);
        for row in 0..dims.batch_size {
            let place = dims.units(row, &units);
            let previous = &self.previous(index)[place.clone()];
            // SAFETY: only this chunk has these units at this micro-step.
            let ([h, u], state) = unsafe {
                (
                    dims.gates(self.row(index, row), &units)
                        .map(|place| self.activated.get_mut(place)),
                    states.get_mut(part.start + place.start..part.start + place.end),
                )
            };
            h.iter_mut().for_each(|h| *h = h.tanh());
            u.iter_mut().for_each(|u| *u = u.sigmoid());
            for ((state, &previous), (&h, &u)) in
                state.iter_mut().zip(previous).zip(h.iter().zip(&*u))
            {
                *state = u * (h - previous) + previous;
            }
            // SAFETY: as above.
            unsafe { self.inputs.write(index, row, &units, state) };
        }
    }
}

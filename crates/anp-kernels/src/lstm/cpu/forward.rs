use std::ops::Range;

use pulp::Simd;

use super::{GATES, Lstm};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matmul::Matrix;
use crate::cpu::products::{Chunk, Lhs};
use crate::cpu::recurrent::{Direction, ProductInputs, Recurrence, run};
use crate::cpu::scalar::Scalar;

/// What [`forward`] writes.
#[derive(Debug)]
pub(super) struct States<'a, E> {
    /// `[seq_length, batch_size, 4 · d_hidden]`: `x_t W_x` before, the activated gates afterwards.
    pub(super) gates: &'a mut [E],
    /// `[seq_length, batch_size, d_hidden]`.
    pub(super) hidden: &'a mut [E],
    /// `[seq_length, batch_size, d_hidden]`.
    pub(super) cell: &'a mut [E],
}

/// Hidden and cell states of all steps; `bias` is `[4 · d_hidden]`.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn forward<E: Scalar>(
    lstm: Lstm<'_, E>,
    bias: &[E],
    forget_bias: E,
    states: States<'_, E>,
    threads: usize,
) {
    let dims = lstm.recurrence.dims;
    let States { gates, hidden, cell } = states;
    dims.check("bias", bias, GATES * dims.d_hidden);
    dims.check("gates", gates, GATES * dims.sequence());
    dims.check("hidden states", hidden, dims.sequence());
    dims.check("cell states", cell, dims.sequence());
    let mut bias = bias.to_vec();
    bias[dims.d_hidden..2 * dims.d_hidden].iter_mut().for_each(|bias| *bias += forget_bias);
    let mut inputs = ProductInputs::storage(&lstm.recurrence);
    let forward = Forward {
        lstm,
        bias: &bias,
        gates: DisjointSlice::new(gates),
        hidden: DisjointSlice::new(hidden),
        cell: DisjointSlice::new(cell),
        inputs: ProductInputs::new(&lstm.recurrence, &mut inputs),
    };
    run(&forward, threads);
}

/// A step writes its rows of the shared slices, each thread only its own units, and reads the rows
/// of the previous step.
struct Forward<'a, E> {
    lstm: Lstm<'a, E>,
    /// With the constant of the forget gate.
    bias: &'a [E],
    gates: DisjointSlice<'a, E>,
    hidden: DisjointSlice<'a, E>,
    cell: DisjointSlice<'a, E>,
    inputs: ProductInputs<'a, E>,
}

impl<E: Scalar> Forward<'_, E> {
    /// `h_{t−1} ⊙ m` for a gate, rounded if products are: `[batch_size, d_hidden]`.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn previous(&self, step: usize, gate: usize) -> Lhs<'_, E> {
        let Recurrence { dims, state0, .. } = self.lstm.recurrence;
        self.inputs.before(step, gate).unwrap_or_else(|| {
            let state = match step.checked_sub(1) {
                None => state0,
                // SAFETY: the previous step wrote it, and no other does.
                Some(before) => unsafe {
                    self.hidden.get(before * dims.state()..step * dims.state())
                },
            };
            Lhs::Scalars(Matrix::new(state, dims.batch_size, dims.d_hidden))
        })
    }
}

impl<E: Scalar> Direction for Forward<'_, E> {
    type Scalar = E;

    const IS_BACKWARD: bool = false;

    fn recurrence(&self) -> &Recurrence<'_, E> {
        &self.lstm.recurrence
    }

    #[allow(unsafe_code)]
    fn whole_product(&self, step: usize, layer: usize, threads: usize) {
        let len = GATES * self.lstm.recurrence.dims.state();
        // SAFETY: no other thread is at work.
        let gates = unsafe { self.gates.get_mut(step * len..(step + 1) * len) };
        let previous = |group| self.previous(step, group);
        self.lstm.recurrence.add_products(layer, gates, previous, threads);
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(&self, simd: S, step: usize, chunk: &Chunk<'_, E>) {
        let dims = self.lstm.recurrence.dims;
        for gate in 0..GATES {
            let previous = self.previous(step, gate);
            let out = |row, units: Range<usize>| {
                let place = dims.units((step * dims.batch_size + row) * GATES + gate, &units);
                // SAFETY: only this chunk has these units at this step.
                unsafe { self.gates.get_mut(place) }
            };
            chunk.product(simd, gate, previous, out);
        }
    }

    /// Each loop runs over few slices only: the compiler does not vectorise loops over many.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn elementwise(&self, step: usize, units: Range<usize>) {
        let dims = self.lstm.recurrence.dims;
        let [bias_i, bias_f, bias_g, bias_o] = dims.gates(0, &units).map(|part| &self.bias[part]);
        for row in 0..dims.batch_size {
            let now = step * dims.batch_size + row;
            // SAFETY: only this chunk has these units at this step.
            let ([i, f, g, o], c, h) = unsafe {
                (
                    dims.gates(now, &units).map(|part| self.gates.get_mut(part)),
                    self.cell.get_mut(dims.units(now, &units)),
                    self.hidden.get_mut(dims.units(now, &units)),
                )
            };
            let c_before = if step == 0 {
                &self.lstm.cell0[dims.units(row, &units)]
            } else {
                // SAFETY: the previous step wrote it, and no other does.
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
            // SAFETY: only this chunk has these units.
            unsafe { self.inputs.write(step, row, &units, h) };
        }
    }
}

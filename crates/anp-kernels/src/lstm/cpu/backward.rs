use std::ops::Range;

use pulp::Simd;

use super::{GATES, Lstm};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matmul::{Destination, Matrix, matmul};
use crate::cpu::products::{Chunk, Lhs};
use crate::cpu::recurrent::{Direction, Recurrence, RoundedGates, add, add_product, run};
use crate::cpu::scalar::Scalar;

/// Gradients of the states of all steps: `[seq_length, batch_size, d_hidden]` each.
#[derive(Debug, Clone, Copy)]
pub(super) struct StateGradients<'a, E> {
    pub(super) hidden: &'a [E],
    /// Zeros if absent.
    pub(super) cell: Option<&'a [E]>,
}

/// What [`backward`] returns. `bias` is `[4 · d_hidden]`; the others are `[batch_size, d_hidden]`.
#[derive(Debug)]
pub(super) struct Gradients<E> {
    pub(super) bias: Vec<E>,
    pub(super) hidden0: Vec<E>,
    pub(super) cell0: Vec<E>,
}

/// Gradients of the inputs of [`forward`](super::forward::forward), except for the weight's, which
/// [`weight_gradient`] computes.
///
/// `gates` holds the activated gates before, and the gradient of `x_t W_x` afterwards, which is
/// also that of the pre-activations.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn backward<E: Scalar>(
    lstm: Lstm<'_, E>,
    cell: &[E],
    state_grads: StateGradients<'_, E>,
    gates: &mut [E],
    threads: usize,
) -> Gradients<E> {
    let Recurrence { dims, mask, .. } = lstm.recurrence;
    dims.check("gates", gates, GATES * dims.sequence());
    dims.check("cell states", cell, dims.sequence());
    for gradient in [Some(state_grads.hidden), state_grads.cell].into_iter().flatten() {
        dims.check("gradient of the states", gradient, dims.sequence());
    }
    let mut bias = vec![E::ZERO; GATES * dims.d_hidden];
    let mut cell0 = vec![E::ZERO; dims.state()];
    let mut recurrent = vec![E::ZERO; mask.inputs() * dims.state()];
    let mut rounded = RoundedGates::storage(&lstm.recurrence);
    let backward = Backward {
        lstm,
        cell,
        state_grads,
        gates: DisjointSlice::new(gates),
        rounded: RoundedGates::new(&lstm.recurrence, &mut rounded),
        bias: DisjointSlice::new(&mut bias),
        recurrent: DisjointSlice::new(&mut recurrent),
        carry: DisjointSlice::new(&mut cell0),
    };
    run(&backward, threads);
    recurrent.truncate(dims.state());
    Gradients { bias, hidden0: recurrent, cell0 }
}

/// Gradient of the recurrent weight: `[d_hidden, 4 · d_hidden]`.
///
/// `hidden` holds the hidden states of all steps, `gates_grad` what [`backward`] leaves in `gates`.
pub(super) fn weight_gradient<E: Scalar>(
    lstm: Lstm<'_, E>,
    hidden: &[E],
    gates_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Recurrence { dims, mask, .. } = lstm.recurrence;
    let previous = lstm.recurrence.previous(hidden);
    let (rows, width) = (dims.seq_length * dims.batch_size, GATES * dims.d_hidden);
    if mask.groups == 0 {
        let previous = Matrix::new(&previous, rows, dims.d_hidden);
        let gates_grad = Matrix::new(gates_grad, rows, width);
        return matmul(E::ONE, previous.t(), gates_grad, lstm.recurrence.precision, threads);
    }
    let mut gradient = vec![E::ZERO; dims.d_hidden * width];
    lstm.recurrence.weight_gradient(&mut gradient, &previous, gates_grad, threads);
    gradient
}

/// A step writes its rows of the shared slices, each thread only its own units, and reads the rows
/// of `gates` that the previous step wrote.
struct Backward<'a, E> {
    lstm: Lstm<'a, E>,
    cell: &'a [E],
    state_grads: StateGradients<'a, E>,
    gates: DisjointSlice<'a, E>,
    rounded: RoundedGates<'a, E>,
    /// `[4 · d_hidden]`.
    bias: DisjointSlice<'a, E>,
    /// Gradients of the inputs of the product, from the gates of the next step in time: `[groups,
    /// batch_size, d_hidden]`. Once masked, their sum is in the first.
    recurrent: DisjointSlice<'a, E>,
    /// Gradient of `c_t` from the next step in time: `[batch_size, d_hidden]`.
    carry: DisjointSlice<'a, E>,
}

impl<E: Scalar> Backward<'_, E> {
    /// `∂a` of the previous step: `[batch_size, 4 · d_hidden]`.
    #[allow(unsafe_code)]
    fn gates_grad(&self, step: usize) -> &[E] {
        let dims = self.lstm.recurrence.dims;
        let (t, len) = (dims.seq_length - step, dims.state() * GATES);
        // SAFETY: the previous step wrote it, and no other does.
        unsafe { self.gates.get(t * len..(t + 1) * len) }
    }
}

impl<E: Scalar> Direction for Backward<'_, E> {
    type Scalar = E;

    const IS_BACKWARD: bool = true;

    fn recurrence(&self) -> &Recurrence<'_, E> {
        &self.lstm.recurrence
    }

    #[allow(unsafe_code)]
    fn whole_product(&self, step: usize, layer: usize, threads: usize) {
        let Recurrence { dims, mask, .. } = self.lstm.recurrence;
        let gates_grad = self.gates_grad(step);
        for group in 0..mask.inputs() {
            // SAFETY: no other thread is at work.
            let out =
                unsafe { self.recurrent.get_mut(group * dims.state()..(group + 1) * dims.state()) };
            let out = (out, Destination::Overwrite);
            self.lstm.recurrence.input_gradient(layer, group, gates_grad, out, threads);
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(&self, simd: S, step: usize, chunk: &Chunk<'_, E>) {
        let Recurrence { dims, mask, .. } = self.lstm.recurrence;
        let recurrent = |row, units: Range<usize>| {
            // SAFETY: only this chunk has these units.
            unsafe { self.recurrent.get_mut(dims.units(row, &units)) }
        };
        for row in 0..mask.inputs() * dims.batch_size {
            recurrent(row, chunk.columns()).fill(E::ZERO);
        }
        for gate in 0..GATES {
            let first = gate % mask.inputs() * dims.batch_size;
            let grad = self.rounded.before(step, gate).unwrap_or_else(|| {
                let grad = &self.gates_grad(step)[gate * dims.d_hidden..];
                let shape = [dims.batch_size, dims.d_hidden];
                Lhs::Scalars(Matrix::strided(grad, shape, [GATES * dims.d_hidden, 1]))
            });
            chunk.product(simd, gate, grad, |row, units| recurrent(first + row, units));
        }
    }

    /// Each loop runs over few slices only: the compiler does not vectorise loops over many.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn elementwise(&self, step: usize, units: Range<usize>) {
        let Recurrence { dims, mask, .. } = self.lstm.recurrence;
        // SAFETY: only this chunk has these units.
        let bias = dims.gates(0, &units).map(|part| unsafe { self.bias.get_mut(part) });
        let [bias_i, bias_f, bias_g, bias_o] = bias;
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
                    add_product(dh, unsafe { self.recurrent.get(place) }, mask);
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
                0 => &self.lstm.cell0[dims.units(row, &units)],
                _ => &self.cell[dims.units(now - dims.batch_size, &units)],
            };
            add(dh, &self.state_grads.hidden[dims.units(now, &units)]);
            if let Some(cell_grad) = self.state_grads.cell {
                add(dc, &cell_grad[dims.units(now, &units)]);
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
            let grads = [&*i, &*f, &*g, &*o];
            let sums = [&mut *bias_i, &mut *bias_f, &mut *bias_g, &mut *bias_o];
            for (sum, grad) in sums.into_iter().zip(grads) {
                add(sum, grad);
            }
            // SAFETY: only this chunk has these units.
            unsafe { self.rounded.write(step, row, &units, grads) };
        }
    }
}

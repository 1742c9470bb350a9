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
//!
//! In both directions a thread owns some hidden units for the whole sequence. A micro-step is its part of one product with few
//! rows, whose weight is packed once for all steps ([`panels`](crate::cpu::panels)), and the element-wise rest, and ends when all
//! threads meet ([`lockstep`](crate::cpu::lockstep)).

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::cpu::lockstep::lockstep;
use crate::cpu::matmul::{Destination, Matrix, matmul};
use crate::cpu::panels::Panels;
use crate::cpu::scalar::Scalar;
use crate::cpu::shared::Shared;
use crate::cpu::simd::{dispatch, vectorized_for};
use crate::cpu::tasks;

/// Candidate `h` and transform gate `u`, in this order.
const GATES: usize = 2;

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

    /// Micro-steps of all steps.
    fn micro_steps(self) -> usize {
        self.seq_length * self.depth
    }

    /// Which of a step's micro-steps is micro-step `index` of all, and which step it is in.
    fn place(self, index: usize) -> (usize, usize) {
        (index % self.depth, index / self.depth)
    }

    /// Where `[rows, d_hidden]` holds some units of a row.
    #[inline(always)]
    fn units(self, row: usize, units: &Range<usize>) -> Range<usize> {
        let start = row * self.d_hidden;
        start + units.start..start + units.end
    }

    /// Whether there are too few products to pack the weights for.
    fn few(self) -> bool {
        self.seq_length * self.batch_size < 8 || self.seq_length == 1
    }

    /// Of `threads`, how many pay.
    fn threads(self, threads: usize) -> usize {
        /// Multiply-adds in some times as long as it takes threads to meet.
        const STEP: usize = 1 << 15;
        /// In some times as long as it takes to call a thread.
        const SEQUENCE: usize = 1 << 21;

        let work = self.state() * GATES * self.d_hidden;
        threads.min(work / STEP).min(self.micro_steps() * work / SEQUENCE).max(1)
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

impl<'a, E: Scalar> Inputs<'a, E> {
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

    /// The weights of a micro-step: `[d_hidden, 2 · d_hidden]`.
    fn weight(&self, layer: usize) -> &'a [E] {
        nth(self.weight_hidden, layer, self.dims.d_hidden * GATES * self.dims.d_hidden)
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
pub(crate) fn forward<E: Scalar>(
    inputs: &Inputs<'_, E>,
    gates: &[E],
    bias: &[E],
    activated: &mut [E],
    inner: &mut [E],
    hidden: &mut [E],
    threads: usize,
) {
    inputs.check();
    let dims @ Dims { depth, d_hidden, .. } = inputs.dims;
    assert_eq!(gates.len(), 2 * dims.sequence(), "size of the gates' inputs");
    assert_eq!(bias.len(), depth * 2 * d_hidden, "size of the bias");
    assert_eq!(activated.len(), depth * 2 * dims.sequence(), "size of the activated gates");
    assert_eq!(inner.len(), (depth - 1) * dims.sequence(), "size of the inner states");
    assert_eq!(hidden.len(), dims.sequence(), "size of the hidden states");

    let mut masked = vec![E::ZERO; inputs.mask.map_or(0, |mask| 2 * mask.len())];
    if let Some(mask) = inputs.mask {
        for (masked, mask) in masked.chunks_exact_mut(dims.state()).zip(mask.chunks(dims.state())) {
            multiply(masked, inputs.state0, mask);
        }
    }
    dispatch(Forward {
        inputs,
        gates,
        bias,
        activated: Shared::new(activated),
        inner: Shared::new(inner),
        hidden: Shared::new(hidden),
        masked: Shared::new(&mut masked),
        threads,
    });
}

/// A micro-step writes its rows of the shared slices, of these each thread only its units, and reads those of the one before.
struct Forward<'a, E> {
    inputs: &'a Inputs<'a, E>,
    gates: &'a [E],
    bias: &'a [E],
    activated: Shared<'a, E>,
    inner: Shared<'a, E>,
    hidden: Shared<'a, E>,
    /// `s ⊙ m` before even and before odd micro-steps: `[2, groups, batch_size, d_hidden]`; empty without a mask.
    masked: Shared<'a, E>,
    threads: usize,
}

impl<E: Scalar> WithSimd for Forward<'_, E> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let dims @ Dims { depth, batch_size, d_hidden, .. } = self.inputs.dims;
        if dims.few() {
            for index in 0..dims.micro_steps() {
                self.few_products(index);
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || self.activate(index, 0..d_hidden),
                );
            }
            return;
        }
        let threads = dims.threads(self.threads);
        let panels = Panels::new::<E, S>(d_hidden, GATES, batch_size, threads);
        let mut storage: Vec<_> = (0..depth).map(|_| panels.storage()).collect();
        let packed: Vec<_> = storage.iter_mut().map(|storage| panels.share(storage)).collect();
        lockstep(dims.micro_steps(), panels.shares(), |index, chunk| {
            vectorized_for(
                simd,
                #[inline(always)]
                || {
                    self.product(simd, &panels, &packed, index, chunk);
                    self.activate(index, panels.columns(chunk));
                },
            );
        });
    }
}

impl<E: Scalar> Forward<'_, E> {
    /// Where the states after micro-step `index` are, and in which of the slices.
    fn states(&self, index: usize) -> (&Shared<'_, E>, Range<usize>) {
        let Dims { seq_length, depth, .. } = self.inputs.dims;
        let (layer, t) = self.inputs.dims.place(index);
        let is_last = layer + 1 == depth;
        let at = if is_last { t } else { layer * seq_length + t };
        let state = self.inputs.dims.state();
        (if is_last { &self.hidden } else { &self.inner }, at * state..(at + 1) * state)
    }

    /// The states before micro-step `index`: `[batch_size, d_hidden]`.
    #[allow(unsafe_code)]
    fn previous(&self, index: usize) -> &[E] {
        let Some(before) = index.checked_sub(1) else {
            return self.inputs.state0;
        };
        let (states, part) = self.states(before);
        // SAFETY: the micro-step before wrote it, no other does.
        unsafe { states.get(part) }
    }

    /// What the product of micro-step `index` multiplies with the weight of a gate.
    #[allow(unsafe_code)]
    fn multiplied(&self, index: usize, gate: usize) -> &[E] {
        if self.inputs.mask.is_none() {
            return self.previous(index);
        }
        let (state, groups) = (self.inputs.dims.state(), self.inputs.groups());
        let part = (index % 2 * groups + gate % groups) * state;
        // SAFETY: the micro-step before wrote it, no other writes it before this one is done.
        unsafe { self.masked.get(part..part + state) }
    }

    /// Row of `activated`, as one of `d_hidden` elements, that has a sequence's gate after micro-step `index`.
    #[inline(always)]
    fn gate_row(&self, index: usize, row: usize, gate: usize) -> usize {
        let Dims { seq_length, batch_size, .. } = self.inputs.dims;
        let (layer, t) = self.inputs.dims.place(index);
        ((layer * seq_length + t) * batch_size + row) * GATES + gate
    }

    /// Where some units of a sequence's gate are summed up.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may ask, and for each row once at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn sums(&self, index: usize, row: usize, gate: usize, units: &Range<usize>) -> &mut [E] {
        let place = self.inputs.dims.units(self.gate_row(index, row, gate), units);
        // SAFETY: at this micro-step nobody reads them; the rest is the caller's promise.
        unsafe { self.activated.get_mut(place) }
    }

    /// What the product of micro-step `index` is added to: the bias, in the first micro-step of a step with the gates' input.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn start(&self, index: usize, gate: usize, units: &Range<usize>) {
        let dims = self.inputs.dims;
        let (layer, _) = dims.place(index);
        let bias = &self.bias[dims.units(layer * GATES + gate, units)];
        for row in 0..dims.batch_size {
            // SAFETY: this thread has claimed the chunk.
            let sums = unsafe { self.sums(index, row, gate, units) };
            sums.copy_from_slice(bias);
            if layer == 0 {
                add(sums, &self.gates[dims.units(self.gate_row(index, row, gate), units)]);
            }
        }
    }

    #[allow(unsafe_code)]
    fn few_products(&self, index: usize) {
        let dims @ Dims { seq_length, batch_size, d_hidden, .. } = self.inputs.dims;
        for gate in 0..GATES {
            self.start(index, gate, &(0..d_hidden));
        }
        let (layer, t) = dims.place(index);
        let len = GATES * dims.state();
        let start = (layer * seq_length + t) * len;
        // SAFETY: there is one thread.
        let sums = unsafe { self.activated.get_mut(start..start + len) };
        for group in 0..self.inputs.groups() {
            matmul(
                &mut sums[group * self.inputs.width()..],
                GATES * d_hidden,
                Destination::Accumulate,
                E::ONE,
                Matrix::new(self.multiplied(index, group), batch_size, d_hidden),
                self.inputs.columns(self.inputs.weight(layer), d_hidden, group),
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
        packed: &[Shared<'_, E>],
        index: usize,
        chunk: usize,
    ) {
        let dims @ Dims { batch_size, d_hidden, .. } = self.inputs.dims;
        let (layer, t) = dims.place(index);
        // SAFETY: only who has claimed the chunk uses this part.
        let packed = unsafe { packed[layer].get_mut(panels.packed(chunk)) };
        if t == 0 {
            panels.pack(self.inputs.weight(layer), chunk, packed);
        }
        for gate in 0..GATES {
            self.start(index, gate, &panels.columns(chunk));
            // SAFETY: this thread has claimed the chunk; a product asks for a place once at a time.
            let out = |row, units: Range<usize>| unsafe { self.sums(index, row, gate, &units) };
            let multiplied = self.multiplied(index, gate);
            panels.product(simd, packed, chunk, gate, multiplied, d_hidden, batch_size, out);
        }
    }

    /// The element-wise rest of a micro-step.
    ///
    /// Loops of few slices each: the compiler makes vector code only of those.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn activate(&self, index: usize, units: Range<usize>) {
        let dims = self.inputs.dims;
        let (states, part) = self.states(index);
        for row in 0..dims.batch_size {
            let place = dims.units(row, &units);
            let previous = &self.previous(index)[place.clone()];
            let gates = array::from_fn(|gate| dims.units(self.gate_row(index, row, gate), &units));
            // SAFETY: only this chunk has these units at this micro-step.
            let ([h, u], state) = unsafe {
                let gates: [_; GATES] = gates;
                (
                    gates.map(|place| self.activated.get_mut(place)),
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
            let Some(mask) = self.inputs.mask else { continue };
            for group in 0..self.inputs.groups() {
                let row = group * dims.batch_size + row;
                let next = (index + 1) % 2 * self.inputs.groups() * dims.batch_size + row;
                // SAFETY: as above.
                let masked = unsafe { self.masked.get_mut(dims.units(next, &units)) };
                multiply(masked, state, &mask[dims.units(row, &units)]);
            }
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
pub(crate) fn backward<E: Scalar>(
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

    state0.fill(E::ZERO);
    let mut returned = vec![E::ZERO; inputs.mask.map_or(0, <[E]>::len)];
    dispatch(Backward {
        inputs,
        inner,
        hidden,
        hidden_grad,
        activated: Shared::new(activated),
        state_grad: Shared::new(state0),
        returned: Shared::new(&mut returned),
        threads,
    });

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

/// A micro-step writes its rows of the shared slices, of these each thread only its units, and reads the rows of `activated` that
/// the one before wrote, which is the next in time.
struct Backward<'a, E> {
    inputs: &'a Inputs<'a, E>,
    inner: &'a [E],
    hidden: &'a [E],
    hidden_grad: &'a [E],
    activated: Shared<'a, E>,
    /// Gradient of the state that the micro-steps have come to: `[batch_size, d_hidden]`.
    state_grad: Shared<'a, E>,
    /// What comes back from the gates to each input of the product, before its mask: `[groups, batch_size, d_hidden]`; empty
    /// without a mask.
    returned: Shared<'a, E>,
    threads: usize,
}

impl<E: Scalar> WithSimd for Backward<'_, E> {
    type Output = ();

    fn with_simd<S: Simd>(self, simd: S) {
        let dims @ Dims { depth, batch_size, d_hidden, .. } = self.inputs.dims;
        if dims.few() {
            for step in 0..=dims.micro_steps() {
                if step > 0 {
                    self.few_products(step);
                }
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || self.differentiate(step, 0..d_hidden),
                );
            }
            return;
        }
        let threads = dims.threads(self.threads);
        let panels = Panels::new::<E, S>(d_hidden, GATES, batch_size, threads);
        let mut storage: Vec<_> = (0..depth).map(|_| panels.storage()).collect();
        let packed: Vec<_> = storage.iter_mut().map(|storage| panels.share(storage)).collect();
        // After the last comes the state before the first.
        lockstep(dims.micro_steps() + 1, panels.shares(), |step, chunk| {
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
    /// Masks that what comes back is multiplied with.
    fn groups(&self) -> usize {
        self.inputs.mask.map_or(0, |_| self.inputs.groups())
    }

    /// Which micro-step of a step the one before this one is, the next in time, and its gates' gradient, `[batch_size,
    /// 2 · d_hidden]`.
    #[allow(unsafe_code)]
    fn before(&self, step: usize) -> (usize, &[E]) {
        let dims = self.inputs.dims;
        let (layer, t) = dims.place(dims.micro_steps() - step);
        let len = GATES * dims.state();
        let start = (layer * dims.seq_length + t) * len;
        // SAFETY: the micro-step before wrote it, no other does.
        (layer, unsafe { self.activated.get(start..start + len) })
    }

    /// Some units of [`state_grad`](Self#structfield.state_grad).
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may ask, and for each row once at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn state_grad(&self, row: usize, units: &Range<usize>) -> &mut [E] {
        // SAFETY: no other chunk has these units; the rest is the caller's promise.
        unsafe { self.state_grad.get_mut(self.inputs.dims.units(row, units)) }
    }

    /// Some units of [`returned`](Self#structfield.returned).
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may ask, and for each row once at a time.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    unsafe fn returned(&self, row: usize, units: &Range<usize>) -> &mut [E] {
        // SAFETY: as above.
        unsafe { self.returned.get_mut(self.inputs.dims.units(row, units)) }
    }

    #[allow(unsafe_code)]
    fn few_products(&self, step: usize) {
        let Dims { batch_size, d_hidden, .. } = self.inputs.dims;
        let (layer, grad) = self.before(step);
        for group in 0..self.inputs.groups() {
            let state = self.inputs.dims.state();
            // SAFETY: there is one thread.
            let (out, destination) = unsafe {
                match self.groups() {
                    0 => (self.state_grad.get_mut(0..state), Destination::Accumulate),
                    _ => {
                        let part = group * state..(group + 1) * state;
                        (self.returned.get_mut(part), Destination::Overwrite)
                    }
                }
            };
            matmul(
                out,
                d_hidden,
                destination,
                E::ONE,
                self.inputs.columns(grad, batch_size, group),
                self.inputs.columns(self.inputs.weight(layer), d_hidden, group).t(),
                self.threads,
            );
        }
        self.add_returned(&(0..d_hidden));
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn product<S: Simd>(
        &self,
        simd: S,
        panels: &Panels,
        packed: &[Shared<'_, E>],
        step: usize,
        chunk: usize,
    ) {
        let Dims { depth, batch_size, d_hidden, .. } = self.inputs.dims;
        let (layer, grad) = self.before(step);
        // SAFETY: only who has claimed the chunk uses this part.
        let packed = unsafe { packed[layer].get_mut(panels.packed(chunk)) };
        if step <= depth {
            panels.pack_transposed(self.inputs.weight(layer), chunk, packed);
        }
        let units = panels.columns(chunk);
        for row in 0..self.groups() * batch_size {
            // SAFETY: this thread has claimed the chunk.
            unsafe { self.returned(row, &units) }.fill(E::ZERO);
        }
        for gate in 0..GATES {
            // SAFETY: this thread has claimed the chunk; a product asks for a place once at a time.
            let out = |row, units: Range<usize>| unsafe {
                match self.groups() {
                    0 => self.state_grad(row, &units),
                    groups => self.returned(gate % groups * batch_size + row, &units),
                }
            };
            let grad = &grad[gate * d_hidden..];
            panels.product(simd, packed, chunk, gate, grad, GATES * d_hidden, batch_size, out);
        }
        self.add_returned(&units);
    }

    /// Add what came back through the masks to the gradient of the state.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn add_returned(&self, units: &Range<usize>) {
        let Some(mask) = self.inputs.mask else { return };
        let dims = self.inputs.dims;
        for row in 0..self.groups() * dims.batch_size {
            // SAFETY: this thread has claimed the chunk.
            let (sums, returned) = unsafe {
                (self.state_grad(row % dims.batch_size, units), self.returned(row, units))
            };
            add_product(sums, returned, &mask[dims.units(row, units)]);
        }
    }

    /// The element-wise rest of a micro-step.
    ///
    /// Loops of few slices each: the compiler makes vector code only of those.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn differentiate(&self, step: usize, units: Range<usize>) {
        let dims @ Dims { seq_length, depth, batch_size, .. } = self.inputs.dims;
        let Some(index) = (dims.micro_steps() - 1).checked_sub(step) else { return };
        let (layer, t) = dims.place(index);
        let previous = self.inputs.previous(layer, t, self.inner, self.hidden);
        for row in 0..batch_size {
            let previous = &previous[dims.units(row, &units)];
            let gates: [_; GATES] = array::from_fn(|gate| {
                let row = (layer * seq_length + t) * batch_size + row;
                dims.units(row * GATES + gate, &units)
            });
            // SAFETY: only this chunk has these units at this micro-step.
            let ([h, u], state_grad) = unsafe {
                (
                    gates.map(|place| self.activated.get_mut(place)),
                    self.state_grad.get_mut(dims.units(row, &units)),
                )
            };
            if layer + 1 == depth {
                add(state_grad, &self.hidden_grad[dims.units(t * batch_size + row, &units)]);
            }
            for (((h, u), gradient), &previous) in h.iter_mut().zip(u).zip(state_grad).zip(previous)
            {
                let (candidate, transform) = (*h, *u);
                let carry = E::ONE - transform;
                *h = *gradient * transform * (E::ONE - candidate * candidate);
                *u = *gradient * (candidate - previous) * (transform * carry);
                *gradient *= carry;
            }
        }
    }
}

/// Part `index` of those of `len` elements each.
fn nth<E>(values: &[E], index: usize, len: usize) -> &[E] {
    &values[index * len..][..len]
}

fn nth_mut<E>(values: &mut [E], index: usize, len: usize) -> &mut [E] {
    &mut values[index * len..][..len]
}

#[inline(always)]
fn add<E: Scalar>(out: &mut [E], values: &[E]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out += value;
    }
}

#[inline(always)]
fn add_product<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out += a * b;
    }
}

#[inline(always)]
fn multiply<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
}

/// Sum of the rows of a matrix as wide as `sums`; each column in order, however many threads there are.
fn sum_rows<E: Scalar>(sums: &mut [E], matrix: &[E], threads: usize) {
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
        fn run<E: Scalar>(&self, threads: usize) -> Results<E> {
            fn real<E: Scalar>(values: &[f64]) -> Vec<E> {
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

    impl<E: Scalar> Results<E> {
        fn all(&self) -> [&[E]; 6] {
            let gradients = [&self.gates, &self.weight_hidden, &self.bias, &self.state0];
            let [gates, weight_hidden, bias, state0] = gradients;
            [&self.inner, &self.hidden, gates, weight_hidden, bias, state0]
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
        // The last has too few rows for a packed weight.
        for (seq_length, batch_size, d_hidden) in
            [(2, 20, 821), (9, 3, 300), (9, 1, 301), (2, 3, 300)]
        {
            let dims = Dims { seq_length, depth: 2, batch_size, d_hidden };
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

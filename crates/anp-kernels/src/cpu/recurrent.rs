//! What the recurrent kernels have in common, above all the LSTM and the Recurrent Highway Network.
//!
//! In both directions, a thread owns some hidden units for the whole sequence. At each step, it
//! computes its part of one product with few rows, whose weight is packed once for all steps
//! ([`products`](super::products)), and the element-wise rest. A barrier follows
//! ([`lockstep`](super::lockstep)). No result depends on the number of threads.

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::bf16::{Bf16Matrices, Kernel};
use super::disjoint_slice::DisjointSlice;
use super::lockstep::lockstep;
use super::matmul::{Destination, Matrix, matmul_into};
use super::products::{Chunk, Lhs, Plan};
use super::scalar::Scalar;
use super::simd::{dispatch, vectorized_for};
use crate::precision::MatmulPrecision;

/// Sizes of a recurrence over a sequence; none is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) seq_length: usize,
    /// Micro-steps per step of the sequence, each with a weight of its own.
    pub(crate) depth: usize,
    pub(crate) batch_size: usize,
    pub(crate) d_hidden: usize,
    /// Gates per hidden unit.
    pub(crate) gates: usize,
}

impl Dims {
    /// Scalars in the state of all sequences at one step.
    pub(crate) fn state(self) -> usize {
        self.batch_size * self.d_hidden
    }

    /// Scalars in the states of all steps.
    pub(crate) fn sequence(self) -> usize {
        self.seq_length * self.state()
    }

    /// Micro-steps of the whole sequence; with a depth of 1, its steps.
    pub(crate) fn steps(self) -> usize {
        self.seq_length * self.depth
    }

    /// The range of some units of a row in `[rows, d_hidden]`.
    #[inline(always)]
    pub(crate) fn units(self, row: usize, units: &Range<usize>) -> Range<usize> {
        let start = row * self.d_hidden;
        start + units.start..start + units.end
    }

    /// The ranges of some units of a row in `[rows, gates · d_hidden]`, one per gate.
    #[inline(always)]
    pub(crate) fn gates<const GATES: usize>(
        self,
        row: usize,
        units: &Range<usize>,
    ) -> [Range<usize>; GATES] {
        array::from_fn(|gate| self.units(row * GATES + gate, units))
    }

    /// Panic unless the slice called `name` has the expected length.
    #[track_caller]
    pub(crate) fn check<E>(self, name: &str, values: &[E], expected: usize) {
        assert_eq!(values.len(), expected, "size of the {name} of {self:?}");
    }

    /// How many of `threads` are worth using.
    pub(crate) fn threads(self, threads: usize) -> usize {
        /// Multiply-adds that take several times as long as a barrier.
        const STEP: usize = 1 << 15;
        /// Multiply-adds that take several times as long as waking a thread.
        const SEQUENCE: usize = 1 << 21;

        let work = self.state() * self.gates * self.d_hidden;
        threads.min(work / STEP).min(self.steps() * work / SEQUENCE).max(1)
    }

    /// Whether there are too few products to make packing the weights worthwhile.
    fn has_few_products(self) -> bool {
        self.seq_length * self.batch_size < 8 || self.seq_length == 1
    }
}

/// What both directions of a recurrence read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recurrence<'a, E> {
    pub(crate) dims: Dims,
    /// `[depth, d_hidden, gates · d_hidden]`.
    weight: &'a [E],
    pub(crate) mask: Mask<'a, E>,
    /// The state before the first step: `[batch_size, d_hidden]`.
    pub(crate) state0: &'a [E],
    pub(crate) precision: MatmulPrecision,
}

impl<'a, E: Scalar> Recurrence<'a, E> {
    /// `mask` is one mask for all gates or one per gate: `[groups, batch_size, d_hidden]`.
    ///
    /// # Panics
    ///
    /// If a size is zero or a slice has the wrong length.
    pub(crate) fn new(dims: Dims, weight: &'a [E], mask: Option<&'a [E]>, state0: &'a [E]) -> Self {
        assert!(dims.depth * dims.sequence() > 0, "no size may be zero: {dims:?}");
        dims.check("weight", weight, dims.depth * dims.d_hidden * dims.gates * dims.d_hidden);
        dims.check("state", state0, dims.state());
        let values = mask.unwrap_or_default();
        let groups = values.len() / dims.state();
        dims.check("mask", values, groups * dims.state());
        assert!([0, 1, dims.gates].contains(&groups), "size of the mask of {dims:?}");
        let mask = Mask { values, groups };
        Self { dims, weight, mask, state0, precision: MatmulPrecision::Full }
    }

    /// The same with products of another precision.
    pub(crate) fn with_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, ..self }
    }

    fn is_rounded(&self) -> bool {
        self.precision == MatmulPrecision::Bf16
    }

    /// What multiplies within the sequence, if products are of bfloat16 and something is faster at
    /// that than at scalars.
    fn kernel(&self) -> Option<Kernel> {
        Kernel::of::<E>().filter(|_| self.is_rounded() && !self.dims.has_few_products())
    }

    /// The state before each step, from the states after each: `[seq_length, batch_size,
    /// d_hidden]`.
    pub(crate) fn previous(&self, states: &[E]) -> Vec<E> {
        [self.state0, &states[..states.len() - self.dims.state()]].concat()
    }

    /// The weight of a micro-step: `[d_hidden, gates · d_hidden]`.
    fn weight(&self, layer: usize) -> &'a [E] {
        nth(self.weight, layer, self.weight.len() / self.dims.depth)
    }

    /// Of a matrix of `rows` rows with the columns of all gates, the columns of a group of gates.
    fn columns<'m>(&self, matrix: &'m [E], rows: usize, group: usize) -> Matrix<'m, E> {
        let width = self.dims.gates * self.dims.d_hidden;
        let columns = width / self.mask.inputs();
        Matrix::strided(&matrix[group * columns..], [rows, columns], [width, 1])
    }

    /// Add the product of a micro-step to all gates, `[batch_size, gates · d_hidden]`.
    ///
    /// `input(group)` is what the weight of a group of gates is multiplied with.
    pub(crate) fn add_products<'i>(
        &self,
        layer: usize,
        gates: &mut [E],
        input: impl Fn(usize) -> Lhs<'i, E>,
        threads: usize,
    ) {
        let Dims { d_hidden, gates: num_gates, .. } = self.dims;
        let width = num_gates * d_hidden;
        for group in 0..self.mask.inputs() {
            let Lhs::Scalars(input) = input(group) else {
                unreachable!("few products have scalars")
            };
            matmul_into(
                &mut gates[group * (width / self.mask.inputs())..],
                width,
                Destination::Accumulate,
                input,
                self.columns(self.weight(layer), d_hidden, group),
                self.precision,
                threads,
            );
        }
    }

    /// Gradient of the input of a group of gates, from that of all gates: `[batch_size, gates ·
    /// d_hidden]`.
    pub(crate) fn input_gradient(
        &self,
        layer: usize,
        group: usize,
        gates_grad: &[E],
        (out, destination): (&mut [E], Destination),
        threads: usize,
    ) {
        let Dims { batch_size, d_hidden, .. } = self.dims;
        let gates_grad = self.columns(gates_grad, batch_size, group);
        let weight = self.columns(self.weight(layer), d_hidden, group);
        let precision = self.precision;
        matmul_into(out, d_hidden, destination, gates_grad, weight.t(), precision, threads);
    }

    /// Write the gradient of the weight of a micro-step, `Σ_t (h_{t−1} ⊙ m)ᵀ ∂a_t`, to `out`.
    ///
    /// `previous` is `h_{t−1}` and `gates_grad` is `∂a_t` of all steps: `[seq_length, batch_size,
    /// d_hidden]` and `[seq_length, batch_size, gates · d_hidden]`.
    pub(crate) fn weight_gradient(
        &self,
        out: &mut [E],
        previous: &[E],
        gates_grad: &[E],
        threads: usize,
    ) {
        let Dims { seq_length, batch_size, d_hidden, gates, .. } = self.dims;
        let (rows, width) = (seq_length * batch_size, gates * d_hidden);
        let mut masked = vec![E::ZERO; if self.mask.groups > 0 { previous.len() } else { 0 }];
        for group in 0..self.mask.inputs() {
            let input = if self.mask.groups > 0 {
                self.mask.apply(group, previous, &mut masked);
                &masked
            } else {
                previous
            };
            matmul_into(
                &mut out[group * (width / self.mask.inputs())..],
                width,
                Destination::Overwrite,
                Matrix::new(input, rows, d_hidden).t(),
                self.columns(gates_grad, rows, group),
                self.precision,
                threads,
            );
        }
    }
}

/// The mask on the recurrent input: none, one for all gates or one per gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask<'a, E> {
    /// `[groups, batch_size, d_hidden]`.
    pub(crate) values: &'a [E],
    /// 0 if there is no mask.
    pub(crate) groups: usize,
}

impl<E: Scalar> Mask<'_, E> {
    /// Groups of gates with the same input; each takes an equal share of the weight's columns.
    pub(crate) fn inputs(self) -> usize {
        self.groups.max(1)
    }

    /// `out ← h ⊙ m` for `[n, batch_size, d_hidden]` of `h`.
    fn apply(self, group: usize, h: &[E], out: &mut [E]) {
        let len = self.values.len() / self.groups;
        let mask = nth(self.values, group, len);
        for (out, h) in out.chunks_exact_mut(len).zip(h.chunks_exact(len)) {
            multiply(out, h, mask);
        }
    }
}

/// Memory for operands of products that a recurrence rounds or masks.
#[derive(Debug)]
pub(crate) enum OperandStorage<E> {
    Scalars(Vec<E>),
    Bf16(Vec<u16>),
}

/// Operands of products that a recurrence rounds or masks: matrices of `[batch_size, d_hidden]`.
#[derive(Debug)]
struct Operands<'a, E> {
    dims: Dims,
    is_rounded: bool,
    numbers: Numbers<'a, E>,
}

#[derive(Debug)]
enum Numbers<'a, E> {
    /// In row-major order, one matrix after the other.
    Scalars(DisjointSlice<'a, E>),
    Bf16(Bf16Matrices<'a>),
}

impl<'a, E: Scalar> Operands<'a, E> {
    /// Memory for so many matrices, filled with zeros.
    fn storage(recurrence: &Recurrence<'_, E>, matrices: usize) -> OperandStorage<E> {
        let dims = recurrence.dims;
        match recurrence.kernel() {
            None => OperandStorage::Scalars(vec![E::ZERO; matrices * dims.state()]),
            Some(_) => {
                let shape = [dims.batch_size, dims.d_hidden];
                OperandStorage::Bf16(Bf16Matrices::storage(matrices, shape))
            }
        }
    }

    fn new(recurrence: &Recurrence<'_, E>, storage: &'a mut OperandStorage<E>) -> Self {
        let dims = recurrence.dims;
        let numbers = match storage {
            OperandStorage::Scalars(storage) => Numbers::Scalars(DisjointSlice::new(storage)),
            OperandStorage::Bf16(storage) => {
                Numbers::Bf16(Bf16Matrices::new(storage, [dims.batch_size, dims.d_hidden]))
            }
        };
        Self { dims, is_rounded: recurrence.is_rounded(), numbers }
    }

    /// A matrix to multiply.
    ///
    /// # Safety
    ///
    /// While it is borrowed, no one writes to it.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn get(&self, index: usize) -> Lhs<'_, E> {
        let Dims { batch_size, d_hidden, .. } = self.dims;
        let state = self.dims.state();
        // SAFETY: the caller's promise.
        unsafe {
            match &self.numbers {
                Numbers::Scalars(numbers) => {
                    let matrix = numbers.get(index * state..(index + 1) * state);
                    Lhs::Scalars(Matrix::new(matrix, batch_size, d_hidden))
                }
                Numbers::Bf16(matrices) => Lhs::Bf16(matrices.get(index)),
            }
        }
    }

    /// Write some units of a row of a matrix, times the mask if there is one.
    ///
    /// # Safety
    ///
    /// No one else reads or writes them meanwhile.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn write(
        &self,
        index: usize,
        row: usize,
        units: &Range<usize>,
        values: &[E],
        mask: Option<&[E]>,
    ) {
        match &self.numbers {
            Numbers::Scalars(numbers) => {
                let place = self.dims.units(index * self.dims.batch_size + row, units);
                // SAFETY: the caller's promise.
                let out = unsafe { numbers.get_mut(place) };
                match mask {
                    None => out.copy_from_slice(values),
                    Some(mask) => multiply(out, values, mask),
                }
                if self.is_rounded {
                    out.iter_mut().for_each(|value| *value = value.to_bf16());
                }
            }
            Numbers::Bf16(matrices) => {
                // SAFETY: the caller's promise.
                let out = unsafe { matrices.get_mut(index, row, units) };
                match mask {
                    None => {
                        for (out, &value) in out.iter_mut().zip(values) {
                            *out = value.to_bf16_bits();
                        }
                    }
                    Some(mask) => {
                        for ((out, &value), &mask) in out.iter_mut().zip(values).zip(mask) {
                            *out = (value * mask).to_bf16_bits();
                        }
                    }
                }
            }
        }
    }
}

/// The inputs of the products of a forward recurrence where they are not the states themselves:
/// masked, rounded or both. Those before even and before odd steps, `[2, groups, batch_size,
/// d_hidden]`, where `groups` is 1 without a mask.
pub(crate) struct ProductInputs<'a, E> {
    recurrence: Recurrence<'a, E>,
    /// 0 if the inputs are the states.
    groups: usize,
    operands: Operands<'a, E>,
}

impl<'a, E: Scalar> ProductInputs<'a, E> {
    fn groups(recurrence: &Recurrence<'_, E>) -> usize {
        if recurrence.is_rounded() { recurrence.mask.inputs() } else { recurrence.mask.groups }
    }

    /// Memory for the inputs.
    pub(crate) fn storage(recurrence: &Recurrence<'_, E>) -> OperandStorage<E> {
        Operands::storage(recurrence, 2 * Self::groups(recurrence))
    }

    /// The inputs, with those of the first step.
    #[allow(unsafe_code)]
    pub(crate) fn new(recurrence: &Recurrence<'a, E>, storage: &'a mut OperandStorage<E>) -> Self {
        let (groups, operands) = (Self::groups(recurrence), Operands::new(recurrence, storage));
        let inputs = Self { recurrence: *recurrence, groups, operands };
        let units = 0..recurrence.dims.d_hidden;
        for row in 0..recurrence.dims.batch_size {
            let state = &recurrence.state0[recurrence.dims.units(row, &units)];
            // SAFETY: no other thread is at work. What is written behind step 1 is read before 0.
            unsafe { inputs.write(1, row, &units, state) };
        }
        inputs
    }

    /// The input of a gate's product at `step`, or `None` if it is the state.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) fn before(&self, step: usize, gate: usize) -> Option<Lhs<'_, E>> {
        let index = step % 2 * self.groups + gate.checked_rem(self.groups)?;
        // SAFETY: the step before wrote it, and no other writes it until this step is done.
        Some(unsafe { self.operands.get(index) })
    }

    /// Write the input of the next step: some units of a sequence, whose state after `step` is
    /// given.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may call this.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write(&self, step: usize, row: usize, units: &Range<usize>, state: &[E]) {
        let Recurrence { dims, mask, .. } = self.recurrence;
        for group in 0..self.groups {
            let mask = (mask.groups > 0)
                .then(|| &mask.values[dims.units(group * dims.batch_size + row, units)]);
            let index = (step + 1) % 2 * self.groups + group;
            // SAFETY: only this chunk has these units at this step.
            unsafe { self.operands.write(index, row, units, state, mask) };
        }
    }
}

/// The gates' gradients that the products of a backward recurrence read, where they are rounded:
/// those that even and odd steps write, `[2, gates, batch_size, d_hidden]`. Empty otherwise.
pub(crate) struct RoundedGates<'a, E> {
    is_rounded: bool,
    gates: usize,
    operands: Operands<'a, E>,
}

impl<'a, E: Scalar> RoundedGates<'a, E> {
    pub(crate) fn storage(recurrence: &Recurrence<'_, E>) -> OperandStorage<E> {
        let gates = if recurrence.is_rounded() { recurrence.dims.gates } else { 0 };
        Operands::storage(recurrence, 2 * gates)
    }

    pub(crate) fn new(recurrence: &Recurrence<'_, E>, storage: &'a mut OperandStorage<E>) -> Self {
        let operands = Operands::new(recurrence, storage);
        Self { is_rounded: recurrence.is_rounded(), gates: recurrence.dims.gates, operands }
    }

    /// What the step before `step` wrote of a gate, or `None` if nothing is rounded.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) fn before(&self, step: usize, gate: usize) -> Option<Lhs<'_, E>> {
        let index = (step + 1) % 2 * self.gates + gate;
        // SAFETY: the step before wrote it, and no other writes it until this step is done.
        self.is_rounded.then(|| unsafe { self.operands.get(index) })
    }

    /// Write some units of a sequence's gates.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk of these units may call this.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn write<const GATES: usize>(
        &self,
        step: usize,
        row: usize,
        units: &Range<usize>,
        gates: [&[E]; GATES],
    ) {
        if !self.is_rounded {
            return;
        }
        for (gate, values) in gates.into_iter().enumerate() {
            // SAFETY: only this chunk has these units at this step.
            unsafe { self.operands.write(step % 2 * GATES + gate, row, units, values, None) };
        }
    }
}

/// One direction of a recurrence.
pub(crate) trait Direction: Sync {
    type Scalar: Scalar;

    /// Whether steps go backward in time. They end with the state before the first step, so there
    /// is one more of them, and the first of them has no product.
    const IS_BACKWARD: bool;

    fn recurrence(&self) -> &Recurrence<'_, Self::Scalar>;

    /// The product of a step for all units, when no other thread is at work.
    fn whole_product(&self, step: usize, layer: usize, threads: usize);

    /// The product of a step for the units of a chunk. Backward, the blocks of the weight are
    /// transposed.
    fn product<S: Simd>(&self, simd: S, step: usize, chunk: &Chunk<'_, Self::Scalar>);

    /// The element-wise rest of a step.
    fn elementwise(&self, step: usize, units: Range<usize>);
}

/// Run all steps.
pub(crate) fn run(direction: &impl Direction, threads: usize) {
    dispatch(Run { direction, threads });
}

struct Run<'d, D> {
    direction: &'d D,
    threads: usize,
}

impl<D: Direction> WithSimd for Run<'_, D> {
    type Output = ();

    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { direction, threads } = self;
        let recurrence = direction.recurrence();
        let dims @ Dims { depth, batch_size, d_hidden, gates, .. } = recurrence.dims;
        let without_product = usize::from(D::IS_BACKWARD);
        let steps = dims.steps() + without_product;
        // The layer whose weight a step multiplies with. Backward, it is that of the next
        // micro-step in time.
        let layer = |step: usize| match D::IS_BACKWARD {
            true => (step > 0).then(|| (dims.steps() - step) % depth),
            false => Some(step % depth),
        };
        if dims.has_few_products() {
            for step in 0..steps {
                if let Some(layer) = layer(step) {
                    direction.whole_product(step, layer, threads);
                }
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || direction.elementwise(step, 0..d_hidden),
                );
            }
            return;
        }
        let threads = dims.threads(threads);
        let kernel = recurrence.kernel();
        let plan = Plan::new::<D::Scalar, S>(kernel, d_hidden, gates, batch_size, threads);
        let mut storage: Vec<_> = (0..depth).map(|_| plan.storage()).collect();
        let packed: Vec<_> = storage.iter_mut().map(|storage| plan.share(storage)).collect();
        lockstep(steps, plan.shares(), |step, chunk| {
            vectorized_for(
                simd,
                #[inline(always)]
                || {
                    if let Some(layer) = layer(step) {
                        // SAFETY: this thread has claimed the chunk.
                        unsafe {
                            if step < depth + without_product {
                                let weight = recurrence.weight(layer);
                                let is_rounded = recurrence.is_rounded();
                                packed[layer].pack(weight, D::IS_BACKWARD, is_rounded, chunk);
                            }
                            direction.product(simd, step, &packed[layer].chunk(chunk));
                        }
                    }
                    direction.elementwise(step, plan.columns(chunk));
                },
            );
        });
    }
}

/// The part number `index` of parts of `len` elements each.
#[inline(always)]
pub(crate) fn nth<E>(values: &[E], index: usize, len: usize) -> &[E] {
    &values[index * len..][..len]
}

/// `out ← out + values`.
#[inline(always)]
pub(crate) fn add<E: Scalar>(out: &mut [E], values: &[E]) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out += value;
    }
}

/// `out ← a ⊙ b`.
#[inline(always)]
fn multiply<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a * b;
    }
}

/// `out ← out + a ⊙ b`.
#[inline(always)]
pub(crate) fn add_product<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out += a * b;
    }
}

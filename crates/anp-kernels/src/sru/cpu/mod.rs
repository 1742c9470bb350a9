//! After the product, nothing is left but a scan: it is bound by memory, so each value is read once, and the gates are
//! computed again in the backward half, which costs less than to write and read them.
//!
//! A row of the product holds its parts one after the other, each `d_hidden` wide, so that every loop runs over consecutive
//! units.

mod activate;
mod backward;
mod forward;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{Activation, SruBackend, SruBackward, SruForward, SruGradients, SruOutputs, SruSaved};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use crate::cpu::recurrent::{Dims, nth};
use crate::cpu::scalar::Scalar;
use crate::cpu::tasks;

/// What both halves of the scan read beside the product, `[seq_length, batch_size, k · d_hidden]`, with its parts in the order
/// candidate, forget, reset, highway; `k` is 3 if the highway is an input of its own, or else 4.
#[derive(Debug, Clone, Copy)]
struct Scan<'a, E> {
    dims: Dims,
    activation: Activation,
    /// `b_f, b_r`: `[2 · d_hidden]`.
    bias: &'a [E],
    /// `x'`: `[seq_length, batch_size, d_hidden]`.
    highway: Option<&'a [E]>,
    /// `m`: `[batch_size, d_hidden]`, constant over the sequence.
    mask: Option<&'a [E]>,
    /// `c_0`: `[batch_size, d_hidden]`.
    cell0: &'a [E],
}

impl<E: Scalar> Scan<'_, E> {
    /// Panic unless all slices fit.
    fn check(&self, product: &[E]) {
        let Self { dims, bias, highway, mask, cell0, .. } = *self;
        assert!(dims.sequence() > 0, "no size may be zero: {dims:?}");
        dims.check("product", product, dims.gates * dims.sequence());
        dims.check("bias", bias, 2 * dims.d_hidden);
        dims.check("initial state", cell0, dims.state());
        for (name, values, len) in
            [("highway", highway, dims.sequence()), ("mask", mask, dims.state())]
        {
            dims.check(name, values.unwrap_or(&[]), values.map_or(0, |_| len));
        }
    }
}

/// What a step of one sequence reads, `[d_hidden]` each but for the bias.
#[derive(Debug, Clone, Copy)]
struct Row<'a, E> {
    bias: &'a [E],
    highway: &'a [E],
    mask: &'a [E],
    /// The cell state before the step.
    previous: &'a [E],
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

/// The values of [`SruForward`], but for the product.
struct Values<B: CpuBackend, E: CpuScalar> {
    dims: Dims,
    activation: Activation,
    bias: B::Values<E>,
    highway: Option<B::Values<E>>,
    mask: Option<B::Values<E>>,
    cell0: B::Values<E>,
}

impl<B: CpuBackend, E: CpuScalar> Values<B, E> {
    /// With the product.
    fn new(inputs: SruForward<B>) -> (Self, FloatTensor<B>) {
        let SruForward { product, highway, bias, mask, cell0, activation } = inputs;
        let [seq_length, batch_size, width] = product.shape().dims();
        let [_, d_hidden] = cell0.shape().dims();
        let dims = Dims { seq_length, depth: 1, batch_size, d_hidden, gates: width / d_hidden };
        let values = Self {
            dims,
            activation,
            bias: B::values(bias),
            highway: B::optional(highway),
            mask: B::optional(mask),
            cell0: B::values(cell0),
        };
        (values, product)
    }

    fn scan(&self) -> Scan<'_, E> {
        Scan {
            dims: self.dims,
            activation: self.activation,
            bias: &self.bias,
            highway: self.highway.as_deref(),
            mask: self.mask.as_deref(),
            cell0: &self.cell0,
        }
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: SruForward<B>) -> SruOutputs<B> {
    let like = Like::<B>::new(&inputs.product);
    let (values, product) = Values::<B, E>::new(inputs);
    let Dims { seq_length, batch_size, d_hidden, .. } = values.dims;
    let states = forward::forward(&values.scan(), &B::values(product), threads());
    let [hidden, cell] = [states.hidden, states.cell]
        .map(|states| like.tensor(states, [seq_length, batch_size, d_hidden]));
    SruOutputs { hidden, cell }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: SruSaved<B>,
    hidden_grad: FloatTensor<B>,
    cell_grad: Optional<B>,
) -> SruGradients<B> {
    let SruSaved { inputs, cell } = saved;
    let like = Like::<B>::new(&inputs.product);
    let (values, product) = Values::<B, E>::new(inputs);
    let Dims { seq_length, batch_size, d_hidden, .. } = values.dims;
    let (shape, cell_grad) = (product.shape(), B::optional::<E>(cell_grad));
    let mut product = B::owned::<E>(product);
    let states = backward::States {
        cell: &B::values(cell),
        hidden_grad: &B::values(hidden_grad),
        cell_grad: cell_grad.as_deref(),
    };
    let gradients = backward::backward(&values.scan(), &mut product, states, threads());
    let highway =
        gradients.highway.map(|highway| like.tensor(highway, [seq_length, batch_size, d_hidden]));
    SruGradients {
        product: like.tensor(product, shape),
        highway: highway.into(),
        bias: like.tensor(gradients.bias, [2 * d_hidden]),
        cell0: like.tensor(gradients.cell0, [batch_size, d_hidden]),
    }
}

impl<B: CpuBackend> SruBackend for B {
    fn sru_forward(inputs: SruForward<Self>) -> SruOutputs<Self> {
        with_scalar!(inputs.product.dtype(), forward::<Self>(inputs))
    }
}

impl<B: CpuBackend> SruBackward for B {
    fn sru_backward(
        saved: SruSaved<Self>,
        hidden_grad: FloatTensor<Self>,
        cell_grad: Optional<Self>,
    ) -> SruGradients<Self> {
        with_scalar!(hidden_grad.dtype(), backward::<Self>(saved, hidden_grad, cell_grad))
    }
}

#[cfg(test)]
mod tests;

//! A thread owns some hidden units for the whole sequence: see [`recurrent`](crate::cpu::recurrent).

mod backward;
mod forward;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{LstmBackend, LstmBackward, LstmForward, LstmGradients, LstmOutputs, LstmSaved};
use crate::backend::Optional;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, RecurrenceValues, threads, with_scalar};
use crate::cpu::recurrent::{Dims, Recurrence};
use crate::cpu::scalar::Scalar;

/// Input, forget, cell and output gate, in this order.
const GATES: usize = 4;

fn dims([seq_length, batch_size, d_gates]: [usize; 3]) -> Dims {
    Dims { seq_length, depth: 1, batch_size, d_hidden: d_gates / GATES, gates: GATES }
}

/// What both halves read.
#[derive(Debug, Clone, Copy)]
struct Lstm<'a, E> {
    recurrence: Recurrence<'a, E>,
    /// `[batch_size, d_hidden]`.
    cell0: &'a [E],
}

impl<'a, E: Scalar> Lstm<'a, E> {
    fn new(recurrence: Recurrence<'a, E>, cell0: &'a [E]) -> Self {
        recurrence.dims.check("first cell state", cell0, recurrence.dims.state());
        Self { recurrence, cell0 }
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: LstmForward<B>) -> LstmOutputs<B> {
    let LstmForward { gates, bias, recurrence, cell0, forget_bias } = inputs;
    let (like, shape) = (Like::<B>::new(&gates), gates.shape());
    let dims = dims(shape.dims());
    let recurrence = RecurrenceValues::<B, E>::new(recurrence);
    let (bias, cell0) = (B::values::<E>(bias), B::values(cell0));
    let mut activated = B::owned::<E>(gates);
    let mut hidden = vec![E::ZERO; dims.sequence()];
    let mut cell = hidden.clone();
    forward::forward(
        Lstm::new(recurrence.slices(dims), &cell0),
        &bias,
        E::from_f64(forget_bias),
        forward::States { gates: &mut activated, hidden: &mut hidden, cell: &mut cell },
        threads(),
    );
    let states = [dims.seq_length, dims.batch_size, dims.d_hidden];
    LstmOutputs {
        hidden: like.tensor(hidden, states),
        cell: like.tensor(cell, states),
        activated: like.tensor(activated, shape),
    }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: LstmSaved<B>,
    hidden_grad: FloatTensor<B>,
    cell_grad: Optional<B>,
) -> LstmGradients<B> {
    let LstmSaved { recurrence, cell0, outputs: LstmOutputs { hidden, cell, activated } } = saved;
    let (like, shape) = (Like::<B>::new(&activated), activated.shape());
    let dims @ Dims { batch_size, d_hidden, .. } = dims(shape.dims());
    let recurrence = RecurrenceValues::<B, E>::new(recurrence);
    let (cell0, hidden, cell_grad) =
        (B::values::<E>(cell0), B::values::<E>(hidden), B::optional::<E>(cell_grad));
    let lstm = Lstm::new(recurrence.slices(dims), &cell0);
    let mut gates = B::owned::<E>(activated);
    let gradients = backward::backward(
        lstm,
        &B::values(cell),
        backward::StateGradients { hidden: &B::values(hidden_grad), cell: cell_grad.as_deref() },
        &mut gates,
        threads(),
    );
    let weight_hidden = backward::weight_gradient(lstm, &hidden, &gates, threads());
    LstmGradients {
        gates: like.tensor(gates, shape),
        bias: like.tensor(gradients.bias, [GATES * d_hidden]),
        weight_hidden: like.tensor(weight_hidden, [d_hidden, GATES * d_hidden]),
        hidden0: like.tensor(gradients.hidden0, [batch_size, d_hidden]),
        cell0: like.tensor(gradients.cell0, [batch_size, d_hidden]),
    }
}

impl<B: CpuBackend> LstmBackend for B {
    fn lstm_forward(inputs: LstmForward<Self>) -> LstmOutputs<Self> {
        with_scalar!(inputs.gates.dtype(), forward::<Self>(inputs))
    }
}

impl<B: CpuBackend> LstmBackward for B {
    fn lstm_backward(
        saved: LstmSaved<Self>,
        hidden_grad: FloatTensor<Self>,
        cell_grad: Optional<Self>,
    ) -> LstmGradients<Self> {
        with_scalar!(hidden_grad.dtype(), backward::<Self>(saved, hidden_grad, cell_grad))
    }
}

#[cfg(test)]
mod tests;

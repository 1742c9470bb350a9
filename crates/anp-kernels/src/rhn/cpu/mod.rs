//! A thread owns some hidden units for the whole sequence: see [`recurrent`](crate::cpu::recurrent).

mod backward;
mod forward;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{RhnBackend, RhnBackward, RhnForward, RhnGradients, RhnOutputs, RhnSaved};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, RecurrenceValues, threads, with_scalar};
use crate::cpu::recurrent::Dims;

/// Candidate `h` and transform gate `u`, in this order.
const GATES: usize = 2;

/// Which of a step's micro-steps is micro-step `index` of all, and which step it is in.
fn place(dims: Dims, index: usize) -> (usize, usize) {
    (index % dims.depth, index / dims.depth)
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: RhnForward<B>) -> RhnOutputs<B> {
    let RhnForward { gates, bias, recurrence } = inputs;
    let like = Like::<B>::new(&gates);
    let [seq_length, batch_size, d_gates] = gates.shape().dims();
    let [depth, _] = bias.shape().dims();
    let d_hidden = d_gates / GATES;
    let dims = Dims { seq_length, depth, batch_size, d_hidden, gates: GATES };
    let recurrence = RecurrenceValues::<B, E>::new(recurrence);
    let mut activated = vec![E::ZERO; GATES * depth * dims.sequence()];
    let mut inner = vec![E::ZERO; (depth - 1) * dims.sequence()];
    let mut hidden = vec![E::ZERO; dims.sequence()];
    forward::forward(
        recurrence.slices(dims),
        &B::values(gates),
        &B::values(bias),
        forward::States { activated: &mut activated, inner: &mut inner, hidden: &mut hidden },
        threads(),
    );
    let inner_shape = [depth - 1, seq_length, batch_size, d_hidden];
    RhnOutputs {
        hidden: like.tensor(hidden, [seq_length, batch_size, d_hidden]),
        activated: like.tensor(activated, [depth, seq_length, batch_size, d_gates]),
        inner: (depth > 1).then(|| like.tensor(inner, inner_shape)).into(),
    }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: RhnSaved<B>,
    hidden_grad: FloatTensor<B>,
) -> RhnGradients<B> {
    let RhnSaved { recurrence, outputs: RhnOutputs { hidden, activated, inner } } = saved;
    let like = Like::<B>::new(&activated);
    let [depth, seq_length, batch_size, d_gates] = activated.shape().dims();
    let d_hidden = d_gates / GATES;
    let dims = Dims { seq_length, depth, batch_size, d_hidden, gates: GATES };
    let recurrence = RecurrenceValues::<B, E>::new(recurrence);
    let inner = B::optional::<E>(inner);
    let mut gates = B::owned::<E>(activated);
    let gradients = backward::backward(
        recurrence.slices(dims),
        backward::States {
            inner: inner.as_deref().unwrap_or_default(),
            hidden: &B::values(hidden),
        },
        &B::values(hidden_grad),
        &mut gates,
        threads(),
    );
    // The first micro-step of each step has the input's gates.
    gates.truncate(GATES * dims.sequence());
    RhnGradients {
        gates: like.tensor(gates, [seq_length, batch_size, d_gates]),
        bias: like.tensor(gradients.bias, [depth, d_gates]),
        weight_hidden: like.tensor(gradients.weight_hidden, [depth, d_hidden, d_gates]),
        hidden0: like.tensor(gradients.hidden0, [batch_size, d_hidden]),
    }
}

impl<B: CpuBackend> RhnBackend for B {
    fn rhn_forward(inputs: RhnForward<Self>) -> RhnOutputs<Self> {
        with_scalar!(inputs.gates.dtype(), forward::<Self>(inputs))
    }
}

impl<B: CpuBackend> RhnBackward for B {
    fn rhn_backward(saved: RhnSaved<Self>, hidden_grad: FloatTensor<Self>) -> RhnGradients<Self> {
        with_scalar!(hidden_grad.dtype(), backward::<Self>(saved, hidden_grad))
    }
}

#[cfg(test)]
mod tests;

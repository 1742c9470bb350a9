use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, tanh};

use super::inputs::{LstmInputs, LstmSequence, LstmState};
use crate::recurrence::recurrent_product;

/// [`lstm_sequence`](super::lstm_sequence) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not match, or the sequence is empty.
pub fn lstm_sequence(inputs: LstmInputs) -> LstmSequence {
    let LstmInputs { gates, bias, weight_hidden, mask, state, forget_bias, precision } = inputs;
    let LstmState { hidden: mut h, cell: mut c } = state;
    let weight_hidden = precision.prepare(weight_hidden);
    let mut hidden = Vec::new();
    let mut cell = Vec::new();

    for gates_t in unstack(gates + bias.unsqueeze()) {
        let product = recurrent_product(h, &weight_hidden, mask.as_ref(), precision);
        let [i, f, g, o] = (gates_t + product)
            .chunk(4, 1)
            .try_into()
            .expect("the gates' width is a multiple of four");
        let f = if forget_bias == 0.0 { f } else { f + forget_bias };
        c = sigmoid(f) * c + sigmoid(i) * tanh(g);
        h = sigmoid(o) * tanh(c.clone());
        cell.push(c.clone());
        hidden.push(h.clone());
    }

    LstmSequence {
        hidden: Tensor::stack(hidden, 0),
        cell: Tensor::stack(cell, 0),
        state: LstmState { hidden: h, cell: c },
    }
}

/// Split `[seq_length, a, b]` into its `seq_length` steps of `[a, b]`.
///
/// By halves, because the gradient of a slice is a zeroed copy of the *whole* tensor: slicing each
/// step from the whole would move `seq_length` times its size in the backward pass, halving only
/// `log₂ seq_length` times.
fn unstack(sequence: Tensor<3>) -> Vec<Tensor<2>> {
    let [seq_length, rows, columns] = sequence.dims();
    if seq_length == 1 {
        return vec![sequence.reshape([rows, columns])];
    }
    let first = seq_length / 2;
    let mut steps = unstack(sequence.clone().narrow(0, 0, first));
    steps.extend(unstack(sequence.narrow(0, first, seq_length - first)));
    steps
}

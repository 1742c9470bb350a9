use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid, tanh};

use super::inputs::{Activation, SruInputs, SruSequence};

/// [`sru_sequence`](super::sru_sequence) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not match, or the sequence is empty.
pub fn sru_sequence(inputs: SruInputs) -> SruSequence {
    let SruInputs { product, highway, bias, mask, cell: mut c, activation } = inputs;
    let [seq_length, batch_size, _] = product.dims();
    let [_, d_hidden] = c.dims();
    let part = |index| product.clone().narrow(2, index * d_hidden, d_hidden);
    let bias_part = |index| bias.clone().narrow(0, index * d_hidden, d_hidden).unsqueeze();
    let candidate = part(0);
    let forget = sigmoid(part(1) + bias_part(0));
    let reset = sigmoid(part(2) + bias_part(1));
    let highway = highway.unwrap_or_else(|| part(3));

    let mut cell = Vec::new();
    for t in 0..seq_length {
        let step =
            |tensor: &Tensor<3>| tensor.clone().narrow(0, t, 1).reshape([batch_size, d_hidden]);
        let candidate = step(&candidate);
        c = step(&forget) * (c - candidate.clone()) + candidate;
        cell.push(c.clone());
    }
    let cell: Tensor<3> = Tensor::stack(cell, 0);
    let activated = match activation {
        Activation::Identity => cell.clone(),
        Activation::Tanh => tanh(cell.clone()),
        Activation::Relu => relu(cell.clone()),
    };
    let activated = match mask {
        Some(mask) => activated * mask.unsqueeze(),
        None => activated,
    };
    let hidden = reset * (activated - highway.clone()) + highway;
    SruSequence { hidden, cell, last: c }
}

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, tanh};

use super::inputs::RhnInputs;
use crate::recurrence::recurrent_product;

/// [`rhn_sequence`](super::rhn_sequence) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not match, or the sequence is empty.
pub fn rhn_sequence(inputs: RhnInputs) -> Tensor<3> {
    let RhnInputs { gates, weight_hidden, bias, mask, state: mut s, precision } = inputs;
    let [seq_length, batch_size, d_gates] = gates.dims();
    let [depth, d_hidden, _] = weight_hidden.dims();
    let weight = |layer| {
        let weight = weight_hidden.clone().narrow(0, layer, 1).reshape([d_hidden, d_gates]);
        precision.prepare(weight)
    };
    let weights: Vec<_> = (0..depth).map(weight).collect();
    let mut hidden = Vec::new();
    for t in 0..seq_length {
        for (layer, weight) in weights.iter().enumerate() {
            let bias = bias.clone().narrow(0, layer, 1);
            let product = recurrent_product(s.clone(), weight, mask.as_ref(), precision);
            let mut preactivation = product + bias;
            if layer == 0 {
                let gates = gates.clone().narrow(0, t, 1).reshape([batch_size, d_gates]);
                preactivation = preactivation + gates;
            }
            let h = tanh(preactivation.clone().narrow(1, 0, d_hidden));
            let u = sigmoid(preactivation.narrow(1, d_hidden, d_hidden));
            s = (h - s.clone()) * u + s;
        }
        hidden.push(s.clone());
    }
    Tensor::stack(hidden, 0)
}

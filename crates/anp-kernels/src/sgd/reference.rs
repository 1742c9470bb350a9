use burn::tensor::Tensor;

use super::inputs::{Momentum, SgdInputs, SgdOptions};

/// [`sgd_step`](super::sgd_step) in Burn's operations: its specification.
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn sgd_step<const D: usize>(inputs: SgdInputs<D>) -> (Tensor<D>, Option<Tensor<1>>) {
    let SgdInputs { tensor, gradient, scale, velocity, options } = inputs;
    let SgdOptions { learning_rate, coupled_decay, decoupled_decay, momentum } = options;
    let gradient = gradient * scale.unsqueeze() + tensor.clone() * coupled_decay;
    let (direction, velocity) = match momentum {
        None => (gradient, None),
        Some(Momentum { factor, dampening, nesterov }) => {
            let gradient = gradient.reshape([-1]);
            let velocity = match velocity {
                None => gradient.clone(),
                Some(velocity) => velocity * factor + gradient.clone() * (1.0 - dampening),
            };
            let direction =
                if nesterov { gradient + velocity.clone() * factor } else { velocity.clone() };
            (direction.reshape(tensor.dims()), Some(velocity))
        }
    };
    (tensor * (1.0 - decoupled_decay) - direction * learning_rate, velocity)
}

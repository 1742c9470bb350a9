//! The operation.

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use super::inputs::SgdInputs;
use super::ops::{SgdBackend, SgdStep, SgdUpdated};
use super::reference;
use crate::backend::{Optional, is_cpu_or_cube};

/// The step of one parameter, as one operation.
///
/// Returns the parameter and, with momentum, its velocity, flat. Both are updated in place if they
/// have no other owner. On a device without a kernel, this is
/// [`sgd_step_reference`](super::sgd_step_reference).
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn sgd_step<const D: usize>(inputs: SgdInputs<D>) -> (Tensor<D>, Option<Tensor<1>>) {
    if !is_cpu_or_cube(&inputs.tensor.device()) {
        return reference::sgd_step(inputs);
    }
    let SgdInputs { tensor, gradient, scale, velocity, options } = inputs;
    let velocity = velocity.filter(|_| options.momentum.is_some());
    let SgdUpdated { tensor, velocity } = Dispatch::sgd_step(SgdStep {
        tensor: tensor.into_dispatch(),
        gradient: gradient.into_dispatch(),
        scale: scale.into_dispatch(),
        velocity: Optional::from(velocity.map(Tensor::into_dispatch)),
        options,
    });
    (Tensor::from_dispatch(tensor), velocity.into_option().map(Tensor::from_dispatch))
}

//! A step of stochastic gradient descent whose gradients are clipped by their common norm.
//!
//! ```text
//! ‖g‖₂² = Σ over all parameters and elements of g²
//! g ← g · min(1, max_norm / ‖g‖₂) + coupled · p
//! v ← μ v + (1 − dampening) g,   g ← v, or g + μ v with Nesterov's momentum
//! p ← p · (1 − decoupled) − learning_rate · g
//! ```

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod ops;
mod optimizer;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use ops::{SgdBackend, SgdRows, SgdStep, SgdUpdated};
pub use optimizer::{ClippedSgd, RowGradient, WeightDecay};
pub use reference::sgd_step as sgd_step_reference;

use crate::backend::{Optional, is_cpu_or_cube};

/// What a step does to one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdOptions {
    /// Factor of the gradient.
    pub learning_rate: f64,
    /// Factor of the parameter in its gradient.
    pub coupled_decay: f64,
    /// Share of the parameter that the step removes.
    pub decoupled_decay: f64,
    /// Momentum, if any.
    pub momentum: Option<Momentum>,
}

/// Momentum of the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Momentum {
    /// `μ`, in `[0, 1)`.
    pub factor: f64,
    /// What is taken off the gradient, except in the first step; PyTorch's default is 0, Burn's
    /// 0.1.
    pub dampening: f64,
    /// Whether to look ahead.
    pub nesterov: bool,
}

/// What the step of one parameter reads.
#[derive(Debug, Clone)]
pub struct SgdInputs<const D: usize> {
    /// The parameter.
    pub tensor: Tensor<D>,
    /// Its gradient, in the same shape.
    pub gradient: Tensor<D>,
    /// Factor of the gradient, as the clip gives it: `[1]`.
    pub scale: Tensor<1>,
    /// The velocity after the last step, flat; `None` in the first step. Ignored without momentum.
    pub velocity: Option<Tensor<1>>,
    /// What the step does.
    pub options: SgdOptions,
}

/// The step of one parameter, as one operation.
///
/// Returns the parameter and, with momentum, its velocity, flat. Both are updated in place if they
/// have no other owner. On a device without a kernel, this is [`sgd_step_reference`].
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn sgd_step<const D: usize>(inputs: SgdInputs<D>) -> (Tensor<D>, Option<Tensor<1>>) {
    if !is_cpu_or_cube(&inputs.tensor.device()) {
        return sgd_step_reference(inputs);
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

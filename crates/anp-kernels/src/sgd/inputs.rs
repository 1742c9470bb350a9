//! What the operation reads and returns.

use burn::tensor::Tensor;

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
    /// Share of the gradient that is left out, except in the first step; the default is 0 in
    /// PyTorch and 0.1 in Burn.
    pub dampening: f64,
    /// Whether it is Nesterov's momentum.
    pub nesterov: bool,
}

/// What the step of one parameter reads.
#[derive(Debug, Clone)]
pub struct SgdInputs<const D: usize> {
    /// The parameter.
    pub tensor: Tensor<D>,
    /// Its gradient, in the same shape.
    pub gradient: Tensor<D>,
    /// Factor of the gradient from the clip: `[1]`.
    pub scale: Tensor<1>,
    /// The velocity after the last step, flat; `None` in the first step. Ignored without momentum.
    pub velocity: Option<Tensor<1>>,
    /// What the step does.
    pub options: SgdOptions,
}

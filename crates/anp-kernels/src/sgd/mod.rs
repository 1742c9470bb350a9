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
pub(crate) mod inputs;
mod ops;
mod optimizer;
pub(crate) mod reference;
pub(crate) mod step;

pub use inputs::{Momentum, SgdInputs, SgdOptions};
pub use ops::{SgdBackend, SgdRows, SgdStep, SgdUpdated};
pub use optimizer::{ClippedSgd, RowGradient, WeightDecay};
pub use reference::sgd_step as sgd_step_reference;
pub use step::sgd_step;

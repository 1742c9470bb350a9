//! Fused recurrent layers, losses and optimiser steps for Burn.

pub(crate) mod cpu;

mod backend;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
mod kernels;
pub mod lstm;
pub mod nn;
pub mod sgd;
pub mod square_norm;

pub use kernels::{Kernels, ParseKernelsError};

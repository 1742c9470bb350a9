//! Fused recurrent layers, losses and optimiser steps for Burn.

pub(crate) mod cpu;

mod backend;
mod cell_states;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
mod kernels;
pub mod lstm;
pub mod nn;
pub mod rhn;
pub mod sgd;
pub mod square_norm;
pub mod sru;

pub use kernels::{Kernels, ParseKernelsError};

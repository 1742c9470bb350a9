//! Fused recurrent and convolutional layers, losses and optimiser steps for Burn.
//!
//! | module | operation |
//! | --- | --- |
//! | [`lstm`] | Long Short-Term Memory over a sequence, with a mask on the recurrence |
//! | [`sru`] | Simple Recurrent Unit over a sequence |
//! | [`rhn`] | Recurrent Highway Network over a sequence |
//! | [`conv2d`] | convolution of images |
//! | [`batch_norm`] | batch normalisation of images, optionally followed by ReLU |
//! | [`cross_entropy`] | linear layer, softmax and cross-entropy; norm and entropy of the logits |
//! | [`matmul`] | matrix product whose result a recurrence can overwrite |
//! | [`square_norm`] | `Σ x²` |
//! | [`sgd`] | SGD step with clipping by global norm, weight decay, momentum, sparse rows |
//! | [`random`] | dropout masks and normal numbers from a counter-based generator |
//! | [`sampled_weight`] | weights sampled from their posterior, and the divergence from a prior |
//! | [`nn`] | layers with Burn's conventions on top of these, and weights from other frameworks |
//!
//! Each operation is one node of the autodiff graph with one backward step. It has kernels for the
//! CPU backends Flex and NdArray (features `flex`, `ndarray`). All operations except [`conv2d`],
//! [`batch_norm`], [`matmul`], [`random`] and [`sampled_weight`] also have kernels for CubeCL's
//! backends, that is, for GPUs. Next to each operation stands its reference in Burn's operations:
//! it is the specification, and what every other device computes. [`Kernels`] selects one of the
//! two.
//!
//! # Threads
//!
//! On a CPU, the kernels and Burn's own operations share rayon's global thread pool. A thread
//! outside the pool, such as `main`, hands each operation over and sleeps until it is done. A
//! program with one training loop runs some 7 % faster if its thread belongs to the pool: add
//! `rayon` to the dependencies and call
//! `rayon::ThreadPoolBuilder::new().use_current_thread().build_global()` first in `main`. Do not do
//! this if the pool has only one thread (one core, or `RAYON_NUM_THREADS=1`): work that other
//! threads submit to the pool would wait for this thread, which may be waiting for them.

// Burn deprecates NdArray; this crate supports it for as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]
// Without a backend, Burn's macro leaves arguments that are no tensors unused.
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray", feature = "cube")),
    allow(unused_variables)
)]

mod autodiff;
mod auxiliary_output;
mod backend;
pub mod batch_norm;
pub mod conv2d;
// Without a CPU backend, only the names that `random` mentions are used.
#[cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]
mod cpu;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod kernels;
pub mod lstm;
pub mod matmul;
pub mod nn;
mod precision;
pub mod random;
mod recurrence;
pub mod rhn;
pub mod sampled_weight;
pub mod sgd;
pub mod square_norm;
pub mod sru;

pub use cpu::instructions;
pub use kernels::{Kernels, ParseKernelsError};
pub use precision::MatmulPrecision;

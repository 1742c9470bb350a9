//! Fused recurrent and convolutional layers, losses and optimiser steps for Burn.
//!
//! | module | what it computes as one operation, with one backward step |
//! | --- | --- |
//! | [`lstm`] | a Long Short-Term Memory over a sequence, with a mask on the recurrence |
//! | [`sru`] | a Simple Recurrent Unit over a sequence |
//! | [`rhn`] | a Recurrent Highway Network over a sequence |
//! | [`conv2d`] | a convolution of images |
//! | [`batch_norm`] | batch normalisation of images, with the ReLU behind it |
//! | [`cross_entropy`] | linear layer, softmax and cross-entropy, with the logits' norm and entropy |
//! | [`matmul`] | a product of matrices, to be written over |
//! | [`square_norm`] | `Σ x²` |
//! | [`sgd`] | clip by one norm over all gradients, decay, step; gradients of a few rows |
//! | [`random`] | dropout masks and normal numbers, each number a function of a key and its place |
//! | [`sampled_weight`] | weights drawn from their posterior, with its divergence from a prior |
//! | [`nn`] | layers with Burn's conventions over these, and weights from elsewhere |
//!
//! Each operation has kernels for the CPU backends Flex and NdArray (features `flex`, `ndarray`), all but [`conv2d`],
//! [`batch_norm`], [`matmul`], [`random`] and [`sampled_weight`] have them for GPUs (CubeCL's backends), and each stands next to a composition of Burn's
//! operations, which is its specification and what every other device computes. [`Kernels`] chooses between the two.
//!
//! # Threads
//!
//! On a CPU, kernels and Burn's own operations share rayon's pool. A thread outside it, as `main` is, hands each of them over
//! and sleeps. A program with one training loop is some 7 % faster if its thread is one of the pool's: with `rayon` among
//! its dependencies, `rayon::ThreadPoolBuilder::new().use_current_thread().build_global()` first of all in `main`.
//! Not where the pool has but one thread (a single core, or `RAYON_NUM_THREADS=1`): what other threads ask of the pool would
//! then wait for this one, and it may be waiting for them.

// Burn deprecates NdArray; those who pin it are served as long as it is there.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod autodiff;
mod auxiliary_output;
mod backend;
pub mod batch_norm;
pub mod conv2d;
// Without a CPU backend only the keys of `random` are used.
#[cfg_attr(not(any(feature = "flex", feature = "ndarray")), allow(dead_code))]
mod cpu;
pub mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod kernels;
pub mod lstm;
pub mod matmul;
pub mod nn;
pub mod random;
mod recurrence;
pub mod rhn;
pub mod sampled_weight;
pub mod sgd;
pub mod square_norm;
pub mod sru;

pub use kernels::{Kernels, ParseKernelsError};

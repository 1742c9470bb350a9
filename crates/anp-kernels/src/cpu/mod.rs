//! Tools of the CPU kernels. All of them work on slices; only [`backend`] knows tensors.
//!
//! Inner loops are ordinary Rust, compiled for several instruction sets and selected at run time
//! ([`simd`]). Large matrix products come from the `gemm` crate ([`matmul`]), and
//! those of bfloat16 from [`bf16`]. Results do not depend
//! on the number of threads unless a function says so.

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) mod backend;
mod bf16;
pub(crate) mod disjoint_slice;
pub(crate) mod lockstep;
pub(crate) mod matmul;
mod matrix;
pub(crate) mod panels;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod scalar;
pub(crate) mod simd;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;

//! Tools of the CPU kernels: slices in, slices out, no graph.
//!
//! Inner loops are ordinary Rust, compiled several times and chosen at run time ([`simd`]); products are those of
//! the `gemm` crate ([`matmul`]). Results do not depend on the number of threads unless a function says so.

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) mod backend;
pub(crate) mod disjoint_slice;
pub(crate) mod lockstep;
pub(crate) mod matmul;
pub(crate) mod panels;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod scalar;

pub(crate) mod simd;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;

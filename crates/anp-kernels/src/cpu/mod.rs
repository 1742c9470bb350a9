//! The kernels on plain slices: no tensors, no graph.
//!
//! Inner loops are ordinary Rust, compiled several times and chosen at run time ([`simd`]); products are those of
//! the `gemm` crate ([`matmul`]). Results do not depend on the number of threads unless a function says so.

pub(crate) mod batch_norm;
pub(crate) mod conv2d;
pub(crate) mod cross_entropy;
pub(crate) mod lockstep;
pub(crate) mod lstm;
pub(crate) mod matmul;
pub(crate) mod panels;
pub(crate) mod random;
pub(crate) mod real;
pub(crate) mod reduce;
pub(crate) mod rhn;
pub(crate) mod sgd;
pub(crate) mod shared;
pub(crate) mod simd;
pub(crate) mod square_norm;
pub(crate) mod sru;
pub(crate) mod tasks;
pub(crate) mod weight_draw;
pub(crate) mod winograd;

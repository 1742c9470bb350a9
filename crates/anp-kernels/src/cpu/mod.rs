//! Tools of the CPU kernels. All of them work on slices; only [`backend`] knows tensors.
//!
//! Inner loops are ordinary Rust, compiled for several instruction sets and selected at run time
//! ([`simd`]). Large matrix products come from the `gemm` crate ([`matmul`]), and
//! those of bfloat16 from [`bf16`]. Results do not depend
//! on the number of threads unless a function says so.

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) mod backend;
pub(crate) mod bf16;
pub(crate) mod disjoint_slice;
pub(crate) mod lockstep;
pub(crate) mod matmul;
mod matrix;
pub(crate) mod panels;
pub(crate) mod products;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod scalar;
pub(crate) mod simd;
pub(crate) mod single;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;

/// The instruction sets that the CPU kernels use on this machine: the vectors (`avx512`, `avx2`,
/// `neon` or `baseline`), and behind a plus sign what multiplies bfloat16 faster than they do
/// (`amx-bf16` or `avx512-bf16`), if anything does.
///
/// Runs on different instruction sets differ by rounding: sums are added up in another order.
pub fn instructions() -> String {
    let vectors = simd::name();
    match bf16::Kernel::best() {
        Some(kernel) => format!("{vectors}+{}", kernel.name()),
        None => vectors.to_owned(),
    }
}

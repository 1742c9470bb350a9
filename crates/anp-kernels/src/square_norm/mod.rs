//! The squared norm of a tensor, `Σ x²`, with its gradient `2 x`.
//!
//! CPU kernels sum in double precision, GPU kernels in single precision over a tree.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub(crate) mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod ops;
pub(crate) mod sum;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use ops::SquareNormBackend;
#[cfg(feature = "cube")]
pub use ops::SquareSumsBackend;

use crate::backend::is_cpu_or_cube;

/// `Σ x²` over all elements, as one operation: `[1]`.
///
/// On a device without a fused kernel, this is [`square_norm_reference`].
pub fn square_norm<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    if !is_cpu_or_cube(&tensor.device()) {
        return square_norm_reference(tensor);
    }
    Tensor::from_dispatch(Dispatch::square_norm(tensor.into_dispatch()))
}

/// [`square_norm`] in Burn's operations: its specification.
pub fn square_norm_reference<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.square().sum()
}

//! The product of two matrices, whose result a recurrence may write over.
//!
//! Flex fills the result of a product with zeros and copies it before it computes it, and a kernel that writes over it copies it
//! once more. For the gates of an LSTM this is as long as the element-wise rest of the layer.

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
mod ops;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use ops::{MatmulBackend, MatmulBackward};

use crate::backend::{check_alike, check_shape, is_cpu};

/// `lhs · rhs`.
///
/// On a device without a kernel this is [`matmul_reference`].
///
/// # Shapes
///
/// - `lhs`: `[rows, inner]`
/// - `rhs`: `[inner, columns]`
/// - returns: `[rows, columns]`
///
/// # Panics
///
/// If the inner sizes, the devices or the data types differ.
pub fn matmul(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    let ([_, inner], [_, columns]) = (lhs.dims(), rhs.dims());
    check_shape("matmul", "rhs", &rhs.shape(), &[inner, columns]);
    check_alike!("matmul", lhs, rhs);
    if !is_cpu(&lhs.device()) {
        return matmul_reference(lhs, rhs);
    }
    Tensor::from_dispatch(Dispatch::matmul(lhs.into_dispatch(), rhs.into_dispatch()))
}

/// [`matmul`] by Burn's operation: its specification.
pub fn matmul_reference(lhs: Tensor<2>, rhs: Tensor<2>) -> Tensor<2> {
    lhs.matmul(rhs)
}

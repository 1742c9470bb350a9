//! The product of two matrices, whose result a recurrence can overwrite.
//!
//! Burn's Flex backend fills the result of a product with zeros and copies it before it computes
//! it, and a kernel that overwrites the result must copy it once more. For the gates of an LSTM,
//! this takes as long as the element-wise part of the layer.

#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
mod ops;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use ops::{MatmulBackend, MatmulBackward};

use crate::backend::{check_alike, check_shape, is_cpu};
use crate::precision::MatmulPrecision;

/// `lhs · rhs` of operands rounded as `precision` says.
///
/// On a device without a kernel, this is [`matmul_reference`].
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
pub fn matmul(lhs: Tensor<2>, rhs: Tensor<2>, precision: MatmulPrecision) -> Tensor<2> {
    let ([_, inner], [_, columns]) = (lhs.dims(), rhs.dims());
    check_shape("matmul", "rhs", &rhs.shape(), &[inner, columns]);
    check_alike!("matmul", lhs, rhs);
    if !is_cpu(&lhs.device()) {
        return matmul_reference(lhs, rhs, precision);
    }
    Tensor::from_dispatch(Dispatch::matmul(lhs.into_dispatch(), rhs.into_dispatch(), precision))
}

/// [`matmul`] in Burn's operations: its specification.
pub fn matmul_reference(lhs: Tensor<2>, rhs: Tensor<2>, precision: MatmulPrecision) -> Tensor<2> {
    precision.matmul(lhs, rhs)
}

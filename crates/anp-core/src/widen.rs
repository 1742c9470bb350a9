//! Precision in which losses are summed.

use burn::tensor::{DType, Tensor};

/// The tensor in single precision at least. In half precision a sum of squares overflows at 65504,
/// and a mean of many elements vanishes.
pub(crate) fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    match tensor.dtype() {
        DType::F64 | DType::F32 => tensor,
        _ => tensor.cast(DType::F32),
    }
}

/// The value of a penalty on `tensor` that is turned off.
pub(crate) fn no_penalty<const D: usize>(tensor: &Tensor<D>) -> Tensor<1> {
    let dtype = if tensor.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Tensor::zeros([1], (&tensor.device(), dtype))
}

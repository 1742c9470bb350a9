//! The Euclidean norm, where it may be zero.

use burn::tensor::Tensor;

/// ‖h‖₂ of each token: `[.., d_hidden]` to `[.., 1]`. The gradient at h = 0 is 0.
pub(crate) fn l2_norm<const D: usize>(activation: Tensor<D>) -> Tensor<D> {
    sqrt_or_zero(activation.square().sum_dim(D - 1))
}

/// √x, with derivative 0 instead of ∞ at 0. An ε under the root would bias every other norm.
fn sqrt_or_zero<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let zero = x.clone().equal_elem(0.0);
    x.mask_fill(zero.clone(), 1.0).sqrt().mask_fill(zero, 0.0)
}

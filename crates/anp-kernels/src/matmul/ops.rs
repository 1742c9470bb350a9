use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

use crate::autodiff::Step;
use crate::precision::MatmulPrecision;

/// The product of two matrices as a backend's kernel; the caller has checked the shapes.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait MatmulBackend: Backend {
    /// `lhs · rhs`.
    fn matmul(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

/// The backward kernels, with which the operation becomes a step of the graph.
pub trait MatmulBackward: MatmulBackend {
    /// `lhs · rhsᵀ`.
    fn matmul_transposed_rhs(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self>;

    /// `lhsᵀ · rhs`.
    fn matmul_transposed_lhs(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self>;
}

impl<B: MatmulBackward, C: CheckpointStrategy> MatmulBackend for Autodiff<B, C> {
    fn matmul(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self> {
        let ((lhs, lhs_node), (rhs, rhs_node)) = (lhs.into_parts(), rhs.into_parts());
        let step = Step::<B, C, _, _>::prepare(
            [lhs_node, rhs_node],
            |saved, out_grad, [of_lhs, of_rhs]| {
                let (lhs, rhs, precision): (FloatTensor<B>, FloatTensor<B>, _) = saved;
                [
                    of_lhs.then(|| B::matmul_transposed_rhs(out_grad.clone(), rhs, precision)),
                    of_rhs.then(|| B::matmul_transposed_lhs(lhs, out_grad, precision)),
                ]
            },
        );
        step.finish(B::matmul(lhs.clone(), rhs.clone(), precision), || (lhs, rhs, precision))
    }
}

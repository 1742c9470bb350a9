use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, backend_extension};

/// The product of two matrices, as a backend's kernel.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Autodiff
)]
pub trait MatmulBackend: Backend {
    /// `lhs · rhs`, each transposed before if so said.
    fn matmul(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        transpose_lhs: bool,
        transpose_rhs: bool,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct Matmul;

impl<B: MatmulBackend> Backward<B, 2> for Matmul {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        let ((lhs, rhs), [lhs_parent, rhs_parent]) = (ops.state, ops.parents);
        if let Some(parent) = lhs_parent {
            grads.register::<B>(parent.id, B::matmul(upstream.clone(), rhs, false, true));
        }
        if let Some(parent) = rhs_parent {
            grads.register::<B>(parent.id, B::matmul(lhs, upstream, true, false));
        }
    }
}

impl<B: MatmulBackend, C: CheckpointStrategy> MatmulBackend for Autodiff<B, C> {
    fn matmul(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        transpose_lhs: bool,
        transpose_rhs: bool,
    ) -> FloatTensor<Self> {
        if transpose_lhs || transpose_rhs {
            // Where a gradient is differentiated again.
            let turned = |tensor, turn| if turn { Self::float_transpose(tensor) } else { tensor };
            return Self::float_matmul(turned(lhs, transpose_lhs), turned(rhs, transpose_rhs));
        }
        let ((lhs, lhs_node), (rhs, rhs_node)) = (lhs.into_parts(), rhs.into_parts());
        match Matmul.prepare::<C>([lhs_node, rhs_node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = B::matmul(lhs.clone(), rhs.clone(), false, false);
                prepared.finish((lhs, rhs), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::matmul(lhs, rhs, false, false)),
        }
    }
}

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};

/// The squared norm of a tensor, as a backend's kernels.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
    Autodiff
)]
pub trait SquareNormBackend: Backend {
    /// `Σ x²`: `[1]`.
    #[fusion(dtype = tensor, shape = [1].into())]
    fn square_norm(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `2 · upstream · x`, where `upstream` is `[1]`.
    #[fusion(dtype = tensor, shape = tensor)]
    fn square_norm_backward(
        tensor: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// The squared norm of several tensors together, as kernels of GPUs.
#[cfg(feature = "cube")]
#[backend_extension(Cube, Fusion: cfg(feature = "fusion"))]
pub trait SquareSumsBackend: Backend {
    /// `sums` with the squares of `tensor`, of another or the same type, added here and there, so that their total is what it
    /// was and `Σ x²`; in place where nobody else holds `sums`.
    #[fusion(dtype = sums, shape = sums)]
    fn add_squares(sums: FloatTensor<Self>, tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct SquareNorm;

impl<B: SquareNormBackend> Backward<B, 1> for SquareNorm {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node);
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::square_norm_backward(ops.state, upstream));
        }
    }
}

impl<B: SquareNormBackend, C: CheckpointStrategy> SquareNormBackend for Autodiff<B, C> {
    fn square_norm(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        let (tensor, node) = tensor.into_parts();
        match SquareNorm.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(tensor.clone(), B::square_norm(tensor)),
            OpsKind::UnTracked(prepared) => prepared.finish(B::square_norm(tensor)),
        }
    }

    /// In operations that are differentiated again.
    fn square_norm_backward(
        tensor: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ones = vec![1; tensor.shape().num_dims()];
        let upstream = Self::float_reshape(upstream, ones.into());
        Self::float_mul_scalar(Self::float_mul(tensor, upstream), 2.0.into())
    }
}

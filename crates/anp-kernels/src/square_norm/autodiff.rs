use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, TensorMetadata};

use super::SquareNormBackend;
use crate::autodiff::Step;

impl<B: SquareNormBackend, C: CheckpointStrategy> SquareNormBackend for Autodiff<B, C> {
    fn square_norm(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        let (tensor, node) = tensor.into_parts();
        let step = Step::<B, C, _, _>::prepare([node], |tensor, output_grad, _| {
            [Some(B::square_norm_backward(tensor, output_grad))]
        });
        step.finish(B::square_norm(tensor.clone()), || tensor)
    }

    /// In Burn's operations, so that the gradient can be differentiated again.
    fn square_norm_backward(
        tensor: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ones = vec![1; tensor.shape().num_dims()];
        let output_grad = Self::float_reshape(output_grad, ones.into());
        Self::float_mul_scalar(Self::float_mul(tensor, output_grad), 2.0.into())
    }
}

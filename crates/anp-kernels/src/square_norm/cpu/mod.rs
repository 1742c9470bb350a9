pub(crate) mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::SquareNormBackend;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};

impl<B: CpuBackend> SquareNormBackend for B {
    fn square_norm(tensor: FloatTensor<B>) -> FloatTensor<B> {
        with_scalar!(tensor.dtype(), forward::<B>(tensor))
    }

    fn square_norm_backward(tensor: FloatTensor<B>, output_grad: FloatTensor<B>) -> FloatTensor<B> {
        with_scalar!(tensor.dtype(), backward::<B>(tensor, output_grad))
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let like = Like::<B>::new(&tensor);
    let sum = kernel::square_norm(&B::values::<E>(tensor), threads());
    like.tensor(vec![E::from_f64(sum)], [1])
}

fn backward<B: CpuBackend, E: CpuScalar>(
    tensor: FloatTensor<B>,
    output_grad: FloatTensor<B>,
) -> FloatTensor<B> {
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let factor = E::from_f64(2.0) * B::values::<E>(output_grad)[0];
    like.tensor(kernel::scaled(&B::values::<E>(tensor), factor, threads()), shape)
}

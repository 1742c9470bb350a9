mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::SquareNormBackend;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use crate::cpu::matmul::Destination;

fn norm<B: CpuBackend, E: CpuScalar>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let like = Like::<B>::new(&tensor);
    let sum = kernel::square_norm(&B::values::<E>(tensor), threads());
    like.tensor(vec![E::from_f64(sum)], [1])
}

fn backward<B: CpuBackend, E: CpuScalar>(
    tensor: FloatTensor<B>,
    upstream: FloatTensor<B>,
) -> FloatTensor<B> {
    let (like, shape) = (Like::<B>::new(&tensor), tensor.shape());
    let factor = E::from_f64(2.0) * B::values::<E>(upstream)[0];
    let values = B::values::<E>(tensor);
    let mut gradient = vec![E::ZERO; values.len()];
    kernel::gradient(&values, factor, &mut gradient, Destination::Overwrite, threads());
    like.tensor(gradient, shape)
}

macro_rules! cpu_square_norm {
    ($backend:ty) => {
        impl SquareNormBackend for $backend {
            fn square_norm(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
                with_scalar!(tensor.dtype(), norm::<Self>(tensor))
            }

            fn square_norm_backward(
                tensor: FloatTensor<Self>,
                upstream: FloatTensor<Self>,
            ) -> FloatTensor<Self> {
                with_scalar!(tensor.dtype(), backward::<Self>(tensor, upstream))
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_square_norm!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_square_norm!(burn::backend::NdArray);

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::MatmulBackend;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use crate::cpu::matmul::{Matrix, product};

fn matmul<B: CpuBackend, E: CpuScalar>(
    lhs: FloatTensor<B>,
    rhs: FloatTensor<B>,
    transpose_lhs: bool,
    transpose_rhs: bool,
) -> FloatTensor<B> {
    let like = Like::<B>::new(&lhs);
    let sizes: [[usize; 2]; 2] = [lhs.shape().dims(), rhs.shape().dims()];
    let (lhs, rhs) = (B::values::<E>(lhs), B::values::<E>(rhs));
    let lhs = matrix(&lhs, sizes[0], transpose_lhs);
    let rhs = matrix(&rhs, sizes[1], transpose_rhs);
    let (rows, columns) = (lhs.rows(), rhs.columns());
    like.tensor(product(E::ONE, lhs, rhs, threads()), [rows, columns])
}

fn matrix<E>(values: &[E], [rows, columns]: [usize; 2], transpose: bool) -> Matrix<'_, E> {
    let matrix = Matrix::new(values, rows, columns);
    if transpose { matrix.t() } else { matrix }
}

macro_rules! cpu_matmul {
    ($backend:ty) => {
        impl MatmulBackend for $backend {
            fn matmul(
                lhs: FloatTensor<Self>,
                rhs: FloatTensor<Self>,
                transpose_lhs: bool,
                transpose_rhs: bool,
            ) -> FloatTensor<Self> {
                with_scalar!(lhs.dtype(), matmul::<Self>(lhs, rhs, transpose_lhs, transpose_rhs))
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_matmul!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_matmul!(burn::backend::NdArray);

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{MatmulBackend, MatmulBackward};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use crate::cpu::matmul::{self, Matrix};
use crate::precision::MatmulPrecision;

/// The product; `transpose` says which of the matrices to transpose first.
fn matmul<B: CpuBackend, E: CpuScalar>(
    lhs: FloatTensor<B>,
    rhs: FloatTensor<B>,
    transpose: [bool; 2],
    precision: MatmulPrecision,
) -> FloatTensor<B> {
    fn matrix<E>(values: &[E], [rows, columns]: [usize; 2], transpose: bool) -> Matrix<'_, E> {
        let matrix = Matrix::new(values, rows, columns);
        if transpose { matrix.t() } else { matrix }
    }

    let like = Like::<B>::new(&lhs);
    let (lhs_shape, rhs_shape) = (lhs.shape().dims(), rhs.shape().dims());
    let (lhs, rhs) = (B::values::<E>(lhs), B::values::<E>(rhs));
    let lhs = matrix(&lhs, lhs_shape, transpose[0]);
    let rhs = matrix(&rhs, rhs_shape, transpose[1]);
    let product = matmul::matmul(E::ONE, lhs, rhs, precision, threads());
    like.tensor(product, [lhs.rows(), rhs.columns()])
}

impl<B: CpuBackend> MatmulBackend for B {
    fn matmul(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self> {
        with_scalar!(lhs.dtype(), matmul::<Self>(lhs, rhs, [false, false], precision))
    }
}

impl<B: CpuBackend> MatmulBackward for B {
    fn matmul_transposed_rhs(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self> {
        with_scalar!(lhs.dtype(), matmul::<Self>(lhs, rhs, [false, true], precision))
    }

    fn matmul_transposed_lhs(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        precision: MatmulPrecision,
    ) -> FloatTensor<Self> {
        with_scalar!(lhs.dtype(), matmul::<Self>(lhs, rhs, [true, false], precision))
    }
}

use gemm::Parallelism;

use super::bf16;
use super::matrix::fits;
pub(crate) use super::matrix::{Destination, Matrix};
use super::scalar::Scalar;
use super::simd::vectorized;
use super::tasks::{filled, part_lens};
use crate::precision::MatmulPrecision;

impl<E: Scalar> Matrix<'_, E> {
    /// The elements rounded to bfloat16, without gaps: row by row, or column by column where it is
    /// a column's elements that lie together.
    ///
    /// # Panics
    ///
    /// If neither a row's nor a column's elements lie together.
    fn to_bf16(self, threads: usize) -> Rounded<E> {
        /// Fewer elements are not worth another thread.
        const TASK: usize = 1 << 15;

        let is_transposed = self.row_stride == 1 && self.column_stride != 1;
        let stored = if is_transposed { self.t() } else { self };
        let Self { rows, columns, column_stride, .. } = stored;
        assert!(column_stride == 1, "a matrix with gaps both ways");
        let rows_per_task = TASK.div_ceil(columns.max(1));
        let part_lens = part_lens(rows * columns, rows_per_task * columns);
        let values = filled(part_lens, threads, |task, out: &mut [E]| {
            for (row, out) in out.chunks_exact_mut(columns).enumerate() {
                let row = stored.row(task * rows_per_task + row);
                vectorized(
                    #[inline(always)]
                    || out.iter_mut().zip(row).for_each(|(out, value)| *out = value.to_bf16()),
                );
            }
        });
        Rounded { values, rows, columns, is_transposed }
    }
}

/// A matrix that [`Matrix::to_bf16`] has rounded.
struct Rounded<E> {
    /// `[rows, columns]`.
    values: Vec<E>,
    rows: usize,
    columns: usize,
    /// Whether it is the transpose of what is stored.
    is_transposed: bool,
}

impl<E> Rounded<E> {
    fn matrix(&self) -> Matrix<'_, E> {
        let stored = Matrix::new(&self.values, self.rows, self.columns);
        if self.is_transposed { stored.t() } else { stored }
    }
}

/// `alpha · lhs · rhs`, row-major without gaps, in memory that is written only once.
///
/// # Panics
///
/// If the shapes do not fit.
pub(crate) fn matmul<E: Scalar>(
    alpha: E,
    lhs: Matrix<'_, E>,
    rhs: Matrix<'_, E>,
    precision: MatmulPrecision,
    threads: usize,
) -> Vec<E> {
    assert_eq!(lhs.columns, rhs.rows, "inner sizes of a product differ");
    if precision == MatmulPrecision::Bf16 {
        if alpha == E::ONE && bf16::Kernel::of::<E>().is_some() {
            let mut out = vec![E::ZERO; lhs.rows * rhs.columns];
            let destination = Destination::Overwrite;
            matmul_into(&mut out, rhs.columns, destination, lhs, rhs, precision, threads);
            return out;
        }
        let (lhs, rhs) = (lhs.to_bf16(threads), rhs.to_bf16(threads));
        return matmul(alpha, lhs.matrix(), rhs.matrix(), MatmulPrecision::Full, threads);
    }
    let len = lhs.rows * rhs.columns;
    if lhs.columns == 0 {
        // `gemm` would not write the destination.
        return vec![E::ZERO; len];
    }
    let mut out = Vec::with_capacity(len);
    let pointer: *mut E = out.as_mut_ptr();
    // SAFETY: there is room for every element, and each is written, unread.
    #[allow(unsafe_code)]
    unsafe {
        write_product(pointer, rhs.columns, Destination::Overwrite, alpha, lhs, rhs, threads);
        out.set_len(len);
    }
    out
}

/// `out ← lhs · rhs`, or `out ← out + lhs · rhs`.
///
/// `out` is row-major with `row_stride` elements from one row to the next (at least `rhs`'s
/// columns).
///
/// # Panics
///
/// If the shapes do not fit.
pub(crate) fn matmul_into<E: Scalar>(
    out: &mut [E],
    row_stride: usize,
    destination: Destination,
    lhs: Matrix<'_, E>,
    rhs: Matrix<'_, E>,
    precision: MatmulPrecision,
    threads: usize,
) {
    assert_eq!(lhs.columns, rhs.rows, "inner sizes of a product differ");
    let (m, n) = (lhs.rows, rhs.columns);
    assert!(row_stride >= n || m <= 1, "rows of {n} overlap with a stride of {row_stride}");
    assert!(fits(out.len(), [m, n], [row_stride, 1]), "a product of {m} by {n} does not fit");
    if precision == MatmulPrecision::Bf16 {
        if let (Some(kernel), Some(lhs), Some(rhs)) =
            (bf16::Kernel::of::<E>(), lhs.single(), rhs.single())
            && lhs.columns > 0
        {
            let out = out.as_mut_ptr().cast();
            // SAFETY: the assertions above keep every element inside `out`, which is borrowed
            // exclusively and in single precision.
            #[allow(unsafe_code)]
            unsafe {
                bf16::matmul(kernel, out, row_stride, destination, lhs, rhs, threads);
            }
            return;
        }
        let (lhs, rhs) = (lhs.to_bf16(threads), rhs.to_bf16(threads));
        let (lhs, rhs, precision) = (lhs.matrix(), rhs.matrix(), MatmulPrecision::Full);
        return matmul_into(out, row_stride, destination, lhs, rhs, precision, threads);
    }
    // SAFETY: the assertions above keep every element inside `out`, which is borrowed exclusively.
    #[allow(unsafe_code)]
    unsafe {
        write_product(out.as_mut_ptr(), row_stride, destination, E::ONE, lhs, rhs, threads);
    }
}

/// # Safety
///
/// `out` is valid for writes, and with [`Destination::Accumulate`] for reads, of `lhs.rows` rows of
/// `rhs.columns` elements at a distance of `row_stride`. No one else uses them meanwhile.
#[allow(unsafe_code)]
unsafe fn write_product<E: Scalar>(
    out: *mut E,
    row_stride: usize,
    destination: Destination,
    alpha: E,
    lhs: Matrix<'_, E>,
    rhs: Matrix<'_, E>,
    threads: usize,
) {
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: `Matrix` keeps every element inside its slice; the caller guarantees `out`.
    unsafe {
        gemm::gemm(
            lhs.rows,
            rhs.columns,
            lhs.columns,
            out,
            1,
            row_stride as isize,
            destination == Destination::Accumulate,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            E::ONE,
            alpha,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::MatmulPrecision::{Bf16, Full};
    use super::*;

    #[test]
    fn strides_and_accumulation_give_the_right_product() {
        // [[1, 2, 3], [4, 5, 6]] · its transpose = [[14, 32], [32, 77]]
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0_f64];
        let a = Matrix::new(&a, 2, 3);
        let mut out = [100.0; 5];
        matmul_into(&mut out, 3, Destination::Accumulate, a, a.t(), Full, 1);
        assert_eq!(out, [114.0, 132.0, 100.0, 132.0, 177.0]);
        matmul_into(&mut out, 3, Destination::Overwrite, a, a.t(), Full, 2);
        assert_eq!(out, [14.0, 32.0, 100.0, 32.0, 77.0]);
        assert_eq!(matmul(0.5, a, a.t(), Full, 2), [7.0, 16.0, 16.0, 38.5]);
        let (lhs, rhs) = (Matrix::new(&a.data[..0], 2, 0), Matrix::new(&[], 0, 1));
        assert_eq!(matmul(1.0, lhs, rhs, Full, 1), [0.0; 2]);
    }

    #[test]
    fn operands_are_rounded_to_the_nearest_even_bfloat16() {
        // Below, at and above the middle of two neighbours, whose lower one is even or odd.
        let number = |bits: u32| f32::from_bits(bits);
        for (exact, rounded) in [
            (0x3F80_7FFF, 0x3F80_0000),
            (0x3F80_8000, 0x3F80_0000),
            (0x3F80_8001, 0x3F81_0000),
            (0x3F81_8000, 0x3F82_0000),
            (0xBF81_8000, 0xBF82_0000),
            (0x0000_8001, 0x0001_0000),
            (0x7F7F_FFFF, 0x7F80_0000),
            (0x7F80_0000, 0x7F80_0000),
            (0x8000_0000, 0x8000_0000),
        ] {
            assert_eq!(number(exact).to_bf16().to_bits(), rounded, "{exact:x}");
            assert_eq!(f64::from(number(exact)).to_bf16(), f64::from(number(rounded)), "{exact:x}");
        }
        for bits in [0x7F80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF] {
            assert!(number(bits).to_bf16().is_nan() && f64::from(number(bits)).to_bf16().is_nan());
        }
    }

    /// In double precision, which has no other way; `bf16/tests.rs` compares that of single
    /// precision.
    #[test]
    fn a_product_in_bf16_is_that_of_the_rounded_operands() {
        let noise = |len: usize, mut state: u32| -> Vec<f64> {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f64::from(state) / 2_f64.powi(32) - 0.5
            };
            (0..len).map(|_| next()).collect()
        };
        let rounded =
            |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value.to_bf16()).collect() };
        for (m, k, n) in [(1, 1, 1), (3, 5, 2), (17, 33, 40), (70, 129, 65)] {
            let (lhs, rhs) = (noise(m * k, 1), noise(k * n, 2));
            // The left one by columns, the right one by rows and by columns.
            let products = |lhs: &[f64], rhs: &[f64], precision, threads| {
                let lhs = Matrix::new(lhs, k, m).t();
                let by_rows = matmul(2.0, lhs, Matrix::new(rhs, k, n), precision, threads);
                let rhs = Matrix::new(rhs, n, k).t();
                let mut by_columns = vec![1.0; m * n];
                let destination = Destination::Accumulate;
                matmul_into(&mut by_columns, n, destination, lhs, rhs, precision, threads);
                [by_rows, by_columns]
            };
            let expected = products(&rounded(&lhs), &rounded(&rhs), Full, 1);
            for threads in [1, 2] {
                assert_eq!(products(&lhs, &rhs, Bf16, threads), expected, "{m} {k} {n}");
            }
            assert_ne!(products(&lhs, &rhs, Full, 1), expected, "{m} {k} {n}");
        }
    }

    #[test]
    #[should_panic(expected = "inner sizes")]
    fn inner_sizes_must_agree() {
        let a = Matrix::new(&[0.0_f32; 6], 2, 3);
        matmul_into(&mut [0.0; 4], 2, Destination::Overwrite, a, a, Full, 1);
    }

    #[test]
    #[should_panic(expected = "needs more than 5 elements")]
    fn a_matrix_lies_inside_its_slice() {
        Matrix::new(&[0.0_f32; 5], 2, 3);
    }
}

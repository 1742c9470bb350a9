use gemm::Parallelism;

use super::scalar::Scalar;

/// A matrix over a slice, with strides in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, E> {
    data: &'a [E],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Row-major `rows` by `columns`, without gaps.
    pub(crate) fn new(data: &'a [E], rows: usize, columns: usize) -> Self {
        Self::strided(data, [rows, columns], [columns, 1])
    }

    /// With any strides.
    ///
    /// # Panics
    ///
    /// If an element lies outside `data`.
    pub(crate) fn strided(data: &'a [E], shape: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(
            fits(data.len(), shape, strides),
            "a matrix of {shape:?} with strides {strides:?} needs more than {} elements",
            data.len()
        );
        Self {
            data,
            rows: shape[0],
            columns: shape[1],
            row_stride: strides[0],
            column_stride: strides[1],
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// A row of a matrix without gaps in its rows.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [E] {
        debug_assert_eq!(self.column_stride, 1, "a row is a slice");
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// The transpose, a view.
    pub(crate) fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

fn fits(len: usize, [rows, columns]: [usize; 2], [row_stride, column_stride]: [usize; 2]) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < len
}

/// What a product does with the values that are in its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// They are written over, unread.
    Overwrite,
    /// The product is added to them.
    Accumulate,
}

/// `alpha · lhs · rhs`, row-major without gaps, in memory that is written once.
///
/// # Panics
///
/// If the shapes do not fit.
pub(crate) fn matmul<E: Scalar>(
    alpha: E,
    lhs: Matrix<'_, E>,
    rhs: Matrix<'_, E>,
    threads: usize,
) -> Vec<E> {
    assert_eq!(lhs.columns, rhs.rows, "inner sizes of a product differ");
    let len = lhs.rows * rhs.columns;
    if lhs.columns == 0 {
        // The product then keeps what it finds.
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
/// `out` is row-major with `row_stride` elements from one row to the next (at least `rhs`'s columns).
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
    threads: usize,
) {
    assert_eq!(lhs.columns, rhs.rows, "inner sizes of a product differ");
    let (m, n) = (lhs.rows, rhs.columns);
    assert!(row_stride >= n || m <= 1, "rows of {n} overlap with a stride of {row_stride}");
    assert!(fits(out.len(), [m, n], [row_stride, 1]), "a product of {m} by {n} does not fit");
    // SAFETY: the assertions above keep every element inside `out`, which is borrowed exclusively.
    #[allow(unsafe_code)]
    unsafe {
        write_product(out.as_mut_ptr(), row_stride, destination, E::ONE, lhs, rhs, threads);
    }
}

/// # Safety
///
/// `out` is valid for writes, and with [`Destination::Accumulate`] for reads, of `lhs.rows` rows of `rhs.columns` elements at a
/// distance of `row_stride`; nobody else uses them meanwhile.
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
    // SAFETY: `Matrix` keeps every element inside its slice; the caller vouches for `out`.
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
    use super::*;

    #[test]
    fn products_with_strides_and_accumulation() {
        // [[1, 2, 3], [4, 5, 6]] · its transpose = [[14, 32], [32, 77]]
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0_f64];
        let a = Matrix::new(&a, 2, 3);
        let mut out = [100.0; 5];
        matmul_into(&mut out, 3, Destination::Accumulate, a, a.t(), 1);
        assert_eq!(out, [114.0, 132.0, 100.0, 132.0, 177.0]);
        matmul_into(&mut out, 3, Destination::Overwrite, a, a.t(), 2);
        assert_eq!(out, [14.0, 32.0, 100.0, 32.0, 77.0]);
        assert_eq!(matmul(0.5, a, a.t(), 2), [7.0, 16.0, 16.0, 38.5]);
        let (lhs, rhs) = (Matrix::new(&a.data[..0], 2, 0), Matrix::new(&[], 0, 1));
        assert_eq!(matmul(1.0, lhs, rhs, 1), [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "inner sizes")]
    fn inner_sizes_must_agree() {
        let a = Matrix::new(&[0.0_f32; 6], 2, 3);
        matmul_into(&mut [0.0; 4], 2, Destination::Overwrite, a, a, 1);
    }

    #[test]
    #[should_panic(expected = "needs more than 5 elements")]
    fn a_matrix_lies_inside_its_slice() {
        Matrix::new(&[0.0_f32; 5], 2, 3);
    }
}

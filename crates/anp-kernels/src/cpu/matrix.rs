use super::single::{is_single, single};

/// A matrix over a slice, with strides in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a, E> {
    pub(super) data: &'a [E],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// A row-major matrix of `rows` by `columns` without gaps.
    pub(crate) fn new(data: &'a [E], rows: usize, columns: usize) -> Self {
        Self::strided(data, [rows, columns], [columns, 1])
    }

    /// A matrix with any strides.
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

    /// A row of a matrix whose column stride is 1.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [E] {
        debug_assert_eq!(self.column_stride, 1, "a row is a slice");
        &self.data[row * self.row_stride..][..self.columns]
    }

    /// The same matrix, if its elements are in single precision.
    pub(crate) fn single(self) -> Option<Matrix<'a, f32>>
    where
        E: 'static,
    {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        is_single::<E>().then(|| {
            let data = single(data);
            Matrix { data, rows, columns, row_stride, column_stride }
        })
    }

    /// Whether the elements of each row lie together.
    pub(crate) fn has_rows(&self) -> bool {
        self.column_stride == 1
    }

    /// The transpose, as a view.
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

/// Whether a matrix of this shape and these strides lies inside `len` elements.
pub(super) fn fits(
    len: usize,
    [rows, columns]: [usize; 2],
    [row_stride, column_stride]: [usize; 2],
) -> bool {
    rows == 0 || columns == 0 || (rows - 1) * row_stride + (columns - 1) * column_stride < len
}

/// What a product does with the values in its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// It overwrites them without reading them.
    Overwrite,
    /// It adds to them.
    Accumulate,
}

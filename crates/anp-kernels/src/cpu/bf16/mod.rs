//! Products of matrices in single precision whose elements are rounded to bfloat16 first, with sums
//! in single precision.
//!
//! Both operands are [packed](pack): rounded and laid out in tiles, which are read many times. A
//! [kernel](Kernel) multiplies two rows of tiles with two columns of tiles; there is one for each
//! kind of instructions. Sums are taken in an order that depends on the sizes only, so results do
//! not depend on the number of threads. They do depend on the instructions: these add pairs, and
//! take subnormal numbers for zero.

mod kernel;
mod pack;
mod panels;
#[cfg(test)]
mod portable;
mod tile;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86;

use rayon::prelude::*;

use super::matrix::{Destination, Matrix};
pub(crate) use kernel::Kernel;
use pack::{Layout, Packed};
pub(crate) use pack::{pair, transpose};
pub(crate) use panels::{Bf16Matrices, Bf16Panels, Bf16Rows};
use tile::TILE_LEN;
pub(crate) use tile::{BLOCK, Operand, PackedTile, Product, Steps, Sums, TILE};

/// `out ← lhs · rhs`, or `out ← out + lhs · rhs`, row-major with `row_stride` elements from one row
/// to the next; the caller has checked the sizes.
///
/// # Safety
///
/// `out` is valid for writes, and with [`Destination::Accumulate`] for reads, of all rows. No one
/// else uses them meanwhile.
#[allow(unsafe_code)]
pub(super) unsafe fn matmul(
    kernel: Kernel,
    out: *mut f32,
    row_stride: usize,
    destination: Destination,
    lhs: Matrix<'_, f32>,
    rhs: Matrix<'_, f32>,
    threads: usize,
) {
    /// Rows of blocks in a task: as much of the left operand as fits into the L2 cache.
    const ROWS: usize = 4;
    /// Columns of blocks in a task.
    const COLUMNS: usize = 8;

    let (rows, columns) = (lhs.rows(), rhs.columns());
    let left = || Packed::new(lhs, Layout::Rows, threads);
    let right = || Packed::new(rhs.t(), Layout::Pairs, threads);
    let (left, right) = if threads > 1 { rayon::join(left, right) } else { (left(), right()) };
    let steps: Vec<_> =
        left.depths().map(|depth| Steps::regular(depth.len(), [2 * TILE_LEN; 2])).collect();
    let out = Rows { pointer: out, row_stride, rows, columns, destination };
    let (down, across) = (rows.div_ceil(BLOCK), columns.div_ceil(BLOCK));
    let tasks_across = across.div_ceil(COLUMNS);
    let num_tasks = down.div_ceil(ROWS) * tasks_across;
    let run = |task: usize| {
        let (first_row, first_column) = (task / tasks_across * ROWS, task % tasks_across * COLUMNS);
        kernel.run(BLOCK, |multiplier| {
            for (depth, steps) in left.depths().zip(&steps) {
                for row in first_row..down.min(first_row + ROWS) {
                    let left = left.operand(row, &depth);
                    for column in first_column..across.min(first_column + COLUMNS) {
                        let right = right.operand(column, &depth);
                        let product = Product { left, right, steps };
                        // SAFETY: no other task has this block; the rest is the caller's promise.
                        unsafe {
                            out.update(row, column, depth.start == 0, |sums| {
                                multiplier.multiply(product, sums);
                            });
                        }
                    }
                }
            }
        });
    };
    if threads > 1 {
        (0..num_tasks).into_par_iter().for_each(run);
    } else {
        (0..num_tasks).for_each(run);
    }
}

/// Where the product goes.
#[derive(Clone, Copy)]
struct Rows {
    pointer: *mut f32,
    row_stride: usize,
    rows: usize,
    columns: usize,
    destination: Destination,
}

// SAFETY: tasks update different blocks.
#[allow(unsafe_code)]
unsafe impl Sync for Rows {}

impl Rows {
    /// Let `update` add to a block; `is_first` says that nothing has been added to it yet.
    ///
    /// # Safety
    ///
    /// No one else uses this block.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn update(
        &self,
        row: usize,
        column: usize,
        is_first: bool,
        update: impl FnOnce(&mut Sums),
    ) {
        let (row, column) = (row * BLOCK, column * BLOCK);
        let width = BLOCK.min(self.columns - column);
        let rows = (row..self.rows.min(row + BLOCK)).map(|row| {
            // SAFETY: the row is inside, and so is this part of it; the rest is the caller's
            // promise.
            unsafe {
                let start = self.pointer.add(row * self.row_stride + column);
                std::slice::from_raw_parts_mut(start, width)
            }
        });
        let mut sums = [[0.0; BLOCK]; BLOCK];
        if !is_first || self.destination == Destination::Accumulate {
            for (sums, row) in sums.iter_mut().zip(rows.clone()) {
                sums[..width].copy_from_slice(row);
            }
        }
        update(&mut sums);
        for (sums, row) in sums.iter().zip(rows) {
            row.copy_from_slice(&sums[..width]);
        }
    }
}

#[cfg(test)]
mod tests;

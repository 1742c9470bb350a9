use std::array;
use std::ops::Range;

use super::tile::{TILE, TILE_LEN};
use crate::cpu::matrix::Matrix;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// How the pairs lie in a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// All pairs of a row side by side: the left operand.
    Rows,
    /// The same pair of all rows side by side: the right operand, whose rows are the product's
    /// columns.
    Pairs,
}

/// A matrix rounded to bfloat16. Two neighbours in a row are one number of 32 bits, the first of
/// them in the lower half.
///
/// `[rows / 16, pairs / 16]` tiles of 16 rows and 16 pairs, an even number of them along the rows,
/// filled up with zeros.
#[derive(Debug)]
pub(super) struct Packed {
    pairs: Vec<[u32; TILE_LEN]>,
    /// Tiles along a row.
    depth: usize,
}

impl Packed {
    /// Tiles along a row that are multiplied before the sums go back to memory: two rows of them
    /// fit into the L1 cache.
    const DEPTH: usize = 16;

    pub(super) fn new(matrix: Matrix<'_, f32>, layout: Layout, threads: usize) -> Self {
        let depth = matrix.columns().div_ceil(2 * TILE);
        let num_rows = matrix.rows().div_ceil(2 * TILE) * 2;
        let mut pairs = vec![[0; TILE_LEN]; num_rows * depth];
        let tasks = pairs.chunks_exact_mut(depth.max(1)).enumerate();
        let tasks = tasks.take(matrix.rows().div_ceil(TILE)).collect();
        map(tasks, threads, |(row, tiles): (usize, &mut [[u32; TILE_LEN]])| {
            vectorized(
                #[inline(always)]
                || {
                    for (index, tile) in tiles.iter_mut().enumerate() {
                        fill(tile, matrix, row * TILE, index * 2 * TILE, layout);
                    }
                },
            );
        });
        Self { pairs, depth }
    }

    /// The parts that the sum is cut into, as ranges of tiles.
    pub(super) fn depths(&self) -> impl Iterator<Item = Range<usize>> {
        let depth = self.depth;
        (0..depth).step_by(Self::DEPTH).map(move |start| start..depth.min(start + Self::DEPTH))
    }

    /// A part of two neighbouring rows of tiles.
    pub(super) fn pair(&self, index: usize, depth: &Range<usize>) -> [&[[u32; TILE_LEN]]; 2] {
        array::from_fn(|row| {
            let row = &self.pairs[(2 * index + row) * self.depth..][..self.depth];
            &row[depth.clone()]
        })
    }
}

/// Fill a tile that is zero with the elements from `row` and `column` on.
#[inline(always)]
fn fill(
    tile: &mut [u32; TILE_LEN],
    matrix: Matrix<'_, f32>,
    row: usize,
    column: usize,
    layout: Layout,
) {
    let rows = TILE.min(matrix.rows() - row);
    let columns = (2 * TILE).min(matrix.columns() - column);
    let mut other = [0; TILE_LEN];
    if matrix.has_rows() {
        let target = if layout == Layout::Rows { &mut *tile } else { &mut other };
        for (index, target) in target.chunks_exact_mut(TILE).take(rows).enumerate() {
            let elements = &matrix.row(row + index)[column..column + columns];
            let (both, last) = elements.as_chunks::<2>();
            for (target, &[first, second]) in target.iter_mut().zip(both) {
                *target = pair(first, second);
            }
            if let [last] = last {
                target[columns / 2] = pair(*last, 0.0);
            }
        }
        if layout == Layout::Pairs {
            transpose(&other, tile);
        }
    } else {
        let columns_of = matrix.t();
        let target = if layout == Layout::Pairs { &mut *tile } else { &mut other };
        for (index, target) in target.chunks_exact_mut(TILE).take(columns.div_ceil(2)).enumerate() {
            let first = &columns_of.row(column + 2 * index)[row..row + rows];
            if 2 * index + 1 < columns {
                let second = &columns_of.row(column + 2 * index + 1)[row..row + rows];
                for ((target, &first), &second) in target.iter_mut().zip(first).zip(second) {
                    *target = pair(first, second);
                }
            } else {
                for (target, &first) in target.iter_mut().zip(first) {
                    *target = pair(first, 0.0);
                }
            }
        }
        if layout == Layout::Rows {
            transpose(&other, tile);
        }
    }
}

#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    first.to_bf16().to_bits() >> 16 | second.to_bf16().to_bits()
}

// Compiled for the baseline: with wider vectors it would become gathers.
#[inline(never)]
fn transpose(from: &[u32; TILE_LEN], to: &mut [u32; TILE_LEN]) {
    for row in 0..TILE {
        for column in 0..TILE {
            to[column * TILE + row] = from[row * TILE + column];
        }
    }
}

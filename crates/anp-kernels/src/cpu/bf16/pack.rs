use std::array;
use std::ops::Range;

use super::tile::{Operand, PackedTile, TILE, TILE_LEN};
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
    pairs: Vec<PackedTile>,
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
        map(tasks, threads, |(row, tiles): (usize, &mut [PackedTile])| {
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
    pub(super) fn operand(&self, index: usize, depth: &Range<usize>) -> Operand<'_> {
        Operand::packed(array::from_fn(|row| {
            let row = &self.pairs[(2 * index + row) * self.depth..][..self.depth];
            &row[depth.clone()]
        }))
    }
}

/// Fill a tile that is zero with the elements from `row` and `column` on.
#[inline(always)]
pub(super) fn fill(
    tile: &mut PackedTile,
    matrix: Matrix<'_, f32>,
    row: usize,
    column: usize,
    layout: Layout,
) {
    let rows = TILE.min(matrix.rows() - row);
    let columns = (2 * TILE).min(matrix.columns() - column);
    let mut other: PackedTile = [0; TILE_LEN];
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

/// Two neighbours along the sum.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    u32::from(first.to_bf16_bits()) | u32::from(second.to_bf16_bits()) << 16
}

/// The transpose of a tile of 16 lines of 16 pairs: to take turns between both halves of a list is
/// to turn the bits of all positions by one, and four turns of eight bits exchange line and column.
/// Compilers have instructions for taking turns, but make single loads of a plain transpose.
#[inline(always)]
pub(crate) fn transpose(from: &PackedTile, to: &mut PackedTile) {
    let mut other = [0; TILE_LEN];
    take_turns(from, to);
    take_turns(to, &mut other);
    take_turns(&other, to);
    take_turns(to, &mut other);
    *to = other;
}

#[inline(always)]
fn take_turns(from: &PackedTile, to: &mut PackedTile) {
    let (first, second) = from.split_at(TILE_LEN / 2);
    for ((to, &first), &second) in to.as_chunks_mut().0.iter_mut().zip(first).zip(second) {
        *to = [first, second];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_is_transposed() {
        let from: PackedTile = array::from_fn(|index| index as u32);
        let mut to = [0; TILE_LEN];
        transpose(&from, &mut to);
        for (index, &value) in to.iter().enumerate() {
            assert_eq!(value as usize, index % TILE * TILE + index / TILE);
        }
    }
}

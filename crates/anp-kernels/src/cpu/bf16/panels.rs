//! Products of a few rows with the same weight at many steps, as [`panels`](crate::cpu::panels) has
//! them for other numbers.

use std::ops::Range;

use super::kernel::Kernel;
use super::pack::{Layout, fill};
use super::tile::{BLOCK, Operand, PackedTile, Product, Steps, TILE, TILE_LEN};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matrix::Matrix;
use crate::cpu::panels::{CHUNK, cut};

/// How a weight `[d_hidden, blocks · d_hidden]` is rounded, packed and divided among threads.
///
/// All of its square blocks (the gates) are cut into panels of [`BLOCK`] columns, and these into
/// chunks. A thread takes one chunk at a time. In the packed weight, a chunk is contiguous and
/// ordered by panel, then block, then column of tiles.
#[derive(Debug)]
pub(crate) struct Bf16Panels {
    kernel: Kernel,
    d_hidden: usize,
    blocks: usize,
    /// Rows of the left operand.
    rows: usize,
    /// Ranges of panels.
    chunks: Vec<Range<usize>>,
    shares: Vec<Range<usize>>,
    steps: Steps,
}

impl Bf16Panels {
    /// Plan products of `rows` rows with `threads` threads.
    pub(crate) fn new(
        kernel: Kernel,
        d_hidden: usize,
        blocks: usize,
        rows: usize,
        threads: usize,
    ) -> Self {
        let (chunks, shares) = cut(d_hidden.div_ceil(BLOCK), CHUNK / BLOCK, threads);
        let steps = Steps::regular(d_hidden.div_ceil(2 * TILE), [2 * TILE, 2 * TILE_LEN]);
        Self { kernel, d_hidden, blocks, rows, chunks, shares, steps }
    }

    /// The chunks that each thread takes first.
    pub(crate) fn shares(&self) -> &[Range<usize>] {
        &self.shares
    }

    /// The columns of a chunk; they are the same in every block.
    pub(crate) fn columns(&self, chunk: usize) -> Range<usize> {
        let Range { start, end } = self.chunks[chunk];
        start * BLOCK..self.d_hidden.min(end * BLOCK)
    }

    /// Memory for the packed weight.
    pub(crate) fn storage(&self) -> Vec<PackedTile> {
        vec![[0; TILE_LEN]; self.d_hidden.div_ceil(BLOCK) * self.panel_len()]
    }

    /// The range of the packed weight that holds a chunk.
    pub(crate) fn packed(&self, chunk: usize) -> Range<usize> {
        let Range { start, end } = self.chunks[chunk];
        start * self.panel_len()..end * self.panel_len()
    }

    /// Tiles along the sum.
    fn depth(&self) -> usize {
        self.d_hidden.div_ceil(2 * TILE)
    }

    /// Tiles of a panel in all blocks.
    fn panel_len(&self) -> usize {
        self.blocks * 2 * self.depth()
    }

    /// Pack a chunk of `weight`, or of the weight whose blocks are its transposed blocks.
    #[inline(always)]
    pub(crate) fn pack(
        &self,
        weight: &[f32],
        is_transposed: bool,
        chunk: usize,
        packed: &mut [PackedTile],
    ) {
        let (d_hidden, depth) = (self.d_hidden, self.depth());
        let panels = packed.chunks_exact_mut(self.panel_len()).zip(self.chunks[chunk].clone());
        for (packed, panel) in panels {
            for (index, tile) in packed.iter_mut().enumerate() {
                let [block, half, step] = [index / (2 * depth), index / depth % 2, index % depth];
                let column = panel * BLOCK + half * TILE;
                if column >= d_hidden {
                    continue;
                }
                let shape = [d_hidden, d_hidden];
                let strides = [self.blocks * d_hidden, 1];
                let block = Matrix::strided(&weight[block * d_hidden..], shape, strides);
                let columns = if is_transposed { block } else { block.t() };
                fill(tile, columns, column, step * 2 * TILE, Layout::Pairs);
            }
        }
    }

    /// Add to `out` the product of `lhs` with a chunk's columns in a block of the weight.
    ///
    /// `out(row, columns)` returns the destination of these columns of a row.
    #[inline(always)]
    pub(crate) fn product<'o>(
        &self,
        chunk: usize,
        packed: &[PackedTile],
        block: usize,
        lhs: Bf16Rows<'_>,
        out: impl Fn(usize, Range<usize>) -> &'o mut [f32],
    ) {
        let depth = self.depth();
        for first in (0..self.rows).step_by(BLOCK) {
            let rows = BLOCK.min(self.rows - first);
            self.kernel.run(rows, |multiplier| {
                let left = lhs.operand(first);
                for (packed, panel) in
                    packed.chunks_exact(self.panel_len()).zip(self.chunks[chunk].clone())
                {
                    let (left_half, right_half) =
                        packed[block * 2 * depth..][..2 * depth].split_at(depth);
                    let right = Operand::packed([left_half, right_half]);
                    let start = panel * BLOCK;
                    let columns = start..self.d_hidden.min(start + BLOCK);
                    let mut sums = [[0.0; BLOCK]; BLOCK];
                    for (row, sums) in sums.iter_mut().take(rows).enumerate() {
                        sums[..columns.len()].copy_from_slice(out(first + row, columns.clone()));
                    }
                    multiplier.multiply(Product { left, right, steps: &self.steps }, &mut sums);
                    for (row, sums) in sums.iter().take(rows).enumerate() {
                        out(first + row, columns.clone()).copy_from_slice(&sums[..columns.len()]);
                    }
                }
            });
        }
    }
}

/// Rows of bfloat16 that [`Bf16Panels`] multiply: rows and columns are filled up with zeros to
/// multiples of [`BLOCK`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bf16Rows<'a> {
    numbers: &'a [u16],
    width: usize,
}

impl<'a> Bf16Rows<'a> {
    fn operand(self, first: usize) -> Operand<'a> {
        let numbers = [first, first + TILE].map(|row| &self.numbers[row * self.width..]);
        Operand { numbers, line: self.width }
    }
}

/// Memory for matrices of `rows` by `columns` numbers of bfloat16 that threads write, each to parts
/// of its own.
#[derive(Debug)]
pub(crate) struct Bf16Matrices<'a> {
    numbers: DisjointSlice<'a, u16>,
    /// Rows and columns of a matrix, filled up to multiples of [`BLOCK`].
    shape: [usize; 2],
}

impl<'a> Bf16Matrices<'a> {
    fn padded(shape: [usize; 2]) -> [usize; 2] {
        shape.map(|len| len.next_multiple_of(BLOCK))
    }

    /// Memory for so many matrices, filled with zeros.
    pub(crate) fn storage(matrices: usize, shape: [usize; 2]) -> Vec<u16> {
        let [rows, columns] = Self::padded(shape);
        vec![0; matrices * rows * columns]
    }

    /// The matrices in their [`storage`](Self::storage).
    pub(crate) fn new(storage: &'a mut [u16], shape: [usize; 2]) -> Self {
        Self { numbers: DisjointSlice::new(storage), shape: Self::padded(shape) }
    }

    /// A matrix to multiply.
    ///
    /// # Safety
    ///
    /// While it is borrowed, no one writes to it.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn get(&self, index: usize) -> Bf16Rows<'_> {
        let [rows, columns] = self.shape;
        let len = rows * columns;
        // SAFETY: the caller's promise.
        let numbers = unsafe { self.numbers.get(index * len..(index + 1) * len) };
        Bf16Rows { numbers, width: columns }
    }

    /// Some columns of a row of a matrix, to write.
    ///
    /// # Safety
    ///
    /// While it is borrowed, no one else reads it or writes to it.
    #[inline(always)]
    #[allow(unsafe_code, clippy::mut_from_ref)]
    pub(crate) unsafe fn get_mut(
        &self,
        index: usize,
        row: usize,
        columns: &Range<usize>,
    ) -> &mut [u16] {
        let [rows, width] = self.shape;
        let start = (index * rows + row) * width;
        // SAFETY: the caller's promise.
        unsafe { self.numbers.get_mut(start + columns.start..start + columns.end) }
    }
}

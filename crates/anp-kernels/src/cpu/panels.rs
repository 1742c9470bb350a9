//! Products of a few rows with the same weight at many steps.
//!
//! A general matrix product packs its operands into panels each time; for twenty rows, this takes
//! as long as the arithmetic. Here, the weight is packed once for all steps.

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::disjoint_slice::DisjointSlice;
use super::matmul::Matrix;
use super::scalar::Scalar;

/// Most rows of a tile, whose sums are kept in registers.
const ROWS: usize = 6;
/// Most vectors in a row of a tile.
pub(crate) const VECTORS: usize = 4;
/// Most scalars in a vector.
pub(crate) const LANES: usize = 16;
/// Approximate number of columns in a chunk.
pub(super) const CHUNK: usize = 128;
/// Bytes in a cache line.
const LINE: usize = 64;

/// How a weight `[d_hidden, blocks · d_hidden]` is packed and divided among threads.
///
/// All of its square blocks (the gates) are cut into the same chunks of columns, and these into
/// panels as wide as the registers allow. A thread takes one chunk at a time. In the packed weight,
/// a chunk is contiguous and ordered by panel, then block, then row.
#[derive(Debug)]
pub(crate) struct Panels {
    d_hidden: usize,
    blocks: usize,
    lanes: usize,
    panel_vectors: usize,
    /// Ranges of columns, in vectors.
    chunks: Vec<Range<usize>>,
    shares: Vec<Range<usize>>,
}

impl Panels {
    /// Plan products of `rows` rows with `threads` threads.
    pub(crate) fn new<E: Scalar, S: Simd>(
        d_hidden: usize,
        blocks: usize,
        rows: usize,
        threads: usize,
    ) -> Self {
        let lanes = E::lanes::<S>();
        // The sums, a row of the panel and one broadcast number must fit into the registers. But
        // with few sums, each addition would wait for the previous one.
        let panel_vectors = if S::REGISTER_COUNT > 16 || rows <= 3 { VECTORS } else { 2 };
        let chunk_vectors = panel_vectors.max(CHUNK / lanes);
        let (chunks, shares) = cut(d_hidden.div_ceil(lanes), chunk_vectors, threads);
        Self { d_hidden, blocks, lanes, panel_vectors, chunks, shares }
    }

    /// The chunks that each thread takes first.
    pub(crate) fn shares(&self) -> &[Range<usize>] {
        &self.shares
    }

    /// The columns of a chunk; they are the same in every block.
    pub(crate) fn columns(&self, chunk: usize) -> Range<usize> {
        self.columns_of(&self.chunks[chunk])
    }

    /// Memory for the packed weight.
    pub(crate) fn storage<E: Scalar>(&self) -> Vec<E> {
        let len = self.d_hidden.div_ceil(self.lanes) * self.vector_len();
        vec![E::ZERO; len + LINE / size_of::<E>()]
    }

    /// The packed weight in its [`storage`](Self::storage). Each thread packs its own chunks.
    pub(crate) fn share<'a, E: Scalar>(&self, storage: &'a mut [E]) -> DisjointSlice<'a, E> {
        // A vector that straddles two cache lines costs two loads.
        let start = storage.as_ptr().align_offset(LINE).min(LINE / size_of::<E>());
        DisjointSlice::new(&mut storage[start..])
    }

    /// The range of the packed weight that holds a chunk.
    pub(crate) fn packed(&self, chunk: usize) -> Range<usize> {
        let Range { start, end } = self.chunks[chunk];
        start * self.vector_len()..end * self.vector_len()
    }

    /// Scalars of all blocks and rows in one vector of columns.
    fn vector_len(&self) -> usize {
        self.lanes * self.blocks * self.d_hidden
    }

    fn columns_of(&self, vectors: &Range<usize>) -> Range<usize> {
        vectors.start * self.lanes..self.d_hidden.min(vectors.end * self.lanes)
    }

    /// For each panel of a chunk: its width in vectors, its columns, and its range in the packed
    /// chunk.
    fn panels(&self, chunk: usize) -> impl Iterator<Item = (usize, Range<usize>, Range<usize>)> {
        let Range { start, end } = self.chunks[chunk];
        (start..end).step_by(self.panel_vectors).map(move |first| {
            let vectors = first..end.min(first + self.panel_vectors);
            let place = (vectors.start - start) * self.vector_len();
            let place = place..place + vectors.len() * self.vector_len();
            (vectors.len(), self.columns_of(&vectors), place)
        })
    }

    /// Pack a chunk of `weight`.
    pub(crate) fn pack<E: Scalar>(&self, weight: &[E], chunk: usize, packed: &mut [E]) {
        let d_hidden = self.d_hidden;
        for (vectors, columns, place) in self.panels(chunk) {
            let width = vectors * self.lanes;
            let blocks = packed[place].chunks_exact_mut(width * d_hidden);
            for (block, panel) in blocks.enumerate() {
                let rows = weight[block * d_hidden..].chunks(self.blocks * d_hidden);
                for (panel, row) in panel.chunks_exact_mut(width).zip(rows) {
                    panel[..columns.len()].copy_from_slice(&row[columns.clone()]);
                }
            }
        }
    }

    /// Pack a chunk of the weight whose blocks are the transposed blocks of `weight`.
    pub(crate) fn pack_transposed<E: Scalar>(&self, weight: &[E], chunk: usize, packed: &mut [E]) {
        /// Rows of a panel that are filled at once, so that they stay in the L1 cache.
        const STRIP: usize = 64;

        let d_hidden = self.d_hidden;
        for (vectors, columns, place) in self.panels(chunk) {
            let width = vectors * self.lanes;
            let blocks = packed[place].chunks_exact_mut(width * d_hidden);
            for (block, panel) in blocks.enumerate() {
                for (strip, panel) in panel.chunks_mut(STRIP * width).enumerate() {
                    for (n, column) in columns.clone().enumerate() {
                        let row = &weight[(column * self.blocks + block) * d_hidden..][..d_hidden];
                        let strip = &row[strip * STRIP..];
                        let panel = panel.iter_mut().skip(n).step_by(width);
                        panel.zip(strip).for_each(|(packed, &weight)| *packed = weight);
                    }
                }
            }
        }
    }

    /// The chunk whose [range](Self::packed) of the packed weight is `packed`.
    pub(crate) fn chunk<'p, E>(&'p self, index: usize, packed: &'p [E]) -> Chunk<'p, E> {
        Chunk { panels: self, index, packed }
    }
}

/// Cut `len` of something into chunks of at most `chunk_len`, and share these out among threads.
pub(super) fn cut(
    len: usize,
    chunk_len: usize,
    threads: usize,
) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let mut chunks = Vec::new();
    let mut shares = Vec::new();
    for thread in 0..threads {
        let first = chunks.len();
        let end = (thread + 1) * len / threads;
        let starts = (thread * len / threads..end).step_by(chunk_len);
        chunks.extend(starts.map(|start| start..end.min(start + chunk_len)));
        shares.push(first..chunks.len());
    }
    (chunks, shares)
}

/// A chunk of a packed weight.
#[derive(Debug)]
pub(crate) struct Chunk<'p, E> {
    panels: &'p Panels,
    index: usize,
    packed: &'p [E],
}

impl<E: Scalar> Chunk<'_, E> {
    /// Its columns; they are the same in every block.
    pub(crate) fn columns(&self) -> Range<usize> {
        self.panels.columns(self.index)
    }

    /// Add to `out` the product of `lhs` with the chunk's columns in a block of the weight.
    ///
    /// `out(row, columns)` returns the destination of these columns of a row. Terms are added in
    /// the same order whatever the sizes of chunks and vectors.
    #[inline(always)]
    pub(crate) fn product<'o, S: Simd>(
        &self,
        simd: S,
        block: usize,
        lhs: Matrix<'_, E>,
        out: impl Fn(usize, Range<usize>) -> &'o mut [E],
    ) {
        let Panels { d_hidden, lanes, .. } = *self.panels;
        for (vectors, columns, place) in self.panels.panels(self.index) {
            let width = vectors * lanes;
            let panel = &self.packed[place][block * width * d_hidden..][..width * d_hidden];
            let out = (0..lhs.rows()).map(|row| out(row, columns.clone()));
            product_with_panel(simd, panel, width, lhs, out, true);
        }
    }
}

/// Multiply `lhs` with a panel, and write the rows of the product to `out`, or add them to it.
///
/// A row of the panel has `width` scalars, a multiple of the vector length.
#[inline(always)]
pub(crate) fn product_with_panel<'o, E: Scalar, S: Simd>(
    simd: S,
    panel: &[E],
    width: usize,
    lhs: Matrix<'_, E>,
    mut out: impl Iterator<Item = &'o mut [E]>,
    accumulate: bool,
) {
    let vectors = width / E::lanes::<S>();
    let rows_at_once = lhs.rows().div_ceil(lhs.rows().div_ceil(ROWS));
    for first in (0..lhs.rows()).step_by(rows_at_once) {
        let rows = rows_at_once.min(lhs.rows() - first);
        let lhs = array::from_fn(|row| if row < rows { lhs.row(first + row) } else { &[] });
        let out = array::from_fn(|row| {
            if row < rows { out.next().expect("a row for each of `lhs`") } else { &mut [] }
        });
        Tile { rows, vectors, lhs, panel, out, accumulate }.run(simd);
    }
}

/// A product of `rows` rows with a panel of `vectors` vectors.
struct Tile<'l, 'o, E> {
    rows: usize,
    vectors: usize,
    lhs: [&'l [E]; ROWS],
    panel: &'l [E],
    out: [&'o mut [E]; ROWS],
    /// Whether to add to `out` instead of overwriting it.
    accumulate: bool,
}

impl<E: Scalar> Tile<'_, '_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.vectors * E::lanes::<S>();
        if self.out[0].len() == width { simd.vectorize(self) } else { self.run_padded(simd) }
    }

    /// For the last panel of a block, which may extend beyond the block.
    fn run_padded<S: Simd>(self, simd: S) {
        let width = self.vectors * E::lanes::<S>();
        let mut whole = [[E::ZERO; VECTORS * LANES]; ROWS];
        for (whole, out) in whole.iter_mut().zip(&self.out) {
            whole[..out.len()].copy_from_slice(out);
        }
        let rows = whole.each_mut().map(|row| &mut row[..width]);
        simd.vectorize(Tile { out: rows, ..self });
        for (whole, out) in whole.iter().zip(self.out) {
            out.copy_from_slice(&whole[..out.len()]);
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const R: usize>(self, simd: S) {
        match self.vectors {
            1 => self.rows_of_vectors::<S, R, 1>(simd),
            2 => self.rows_of_vectors::<S, R, 2>(simd),
            3 => self.rows_of_vectors::<S, R, 3>(simd),
            VECTORS => self.rows_of_vectors::<S, R, VECTORS>(simd),
            vectors => unreachable!("a panel of {vectors} vectors"),
        }
    }

    /// The sums stay in registers.
    #[inline(always)]
    fn rows_of_vectors<S: Simd, const R: usize, const N: usize>(mut self, simd: S) {
        let (panel, _) = E::vectors::<S>(self.panel).as_chunks::<N>();
        let lhs: [&[E]; R] = array::from_fn(|row| self.lhs[row]);
        // Not filled through a reference: an array whose address escapes is kept in memory.
        let mut sums: [[E::Vector<S>; N]; R] = array::from_fn(|row| {
            let (out, rest) = E::vectors::<S>(self.out[row]).as_chunks::<N>();
            assert!(out.len() == 1 && rest.is_empty(), "a row of sums is as wide as its panel");
            if self.accumulate { out[0] } else { [E::splat(simd, E::ZERO); N] }
        });
        for row in lhs {
            assert_eq!(row.len(), panel.len(), "a row is as long as its panel");
        }
        for (k, weights) in panel.iter().enumerate() {
            for (sums, row) in sums.iter_mut().zip(lhs) {
                let x = E::splat(simd, row[k]);
                for (sum, &weight) in sums.iter_mut().zip(weights) {
                    *sum = E::mul_add(simd, x, weight, *sum);
                }
            }
        }
        for (sums, out) in sums.into_iter().zip(&mut self.out) {
            let (out, _) = E::vectors_mut::<S>(out).as_chunks_mut::<N>();
            out[0] = sums;
        }
    }
}

impl<E: Scalar> WithSimd for Tile<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rows {
            1 => self.rows::<S, 1>(simd),
            2 => self.rows::<S, 2>(simd),
            3 => self.rows::<S, 3>(simd),
            4 => self.rows::<S, 4>(simd),
            5 => self.rows::<S, 5>(simd),
            ROWS => self.rows::<S, ROWS>(simd),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::dispatch;
    use super::*;

    /// Products with `weight` and with its transposed blocks, against plain sums.
    struct Check {
        d_hidden: usize,
        blocks: usize,
        rows: usize,
        threads: usize,
    }

    impl WithSimd for Check {
        type Output = ();

        #[allow(unsafe_code)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { d_hidden, blocks, rows, threads } = self;
            let width = blocks * d_hidden;
            // Small whole numbers, whose sums are exact.
            let weight: Vec<f32> =
                (0..d_hidden * width).map(|n| (n * 7 % 13) as f32 - 6.0).collect();
            let stride = d_hidden + 3;
            let lhs: Vec<f32> = (0..rows * stride).map(|n| (n * 5 % 11) as f32 - 5.0).collect();
            let panels = Panels::new::<f32, S>(d_hidden, blocks, rows, threads);
            assert_eq!(panels.shares().len(), threads);
            let chunks = panels.shares().last().unwrap().end;
            let mut storage = panels.storage();
            let packed = panels.share(&mut storage);
            for transposed in [false, true] {
                let mut out = vec![1.0_f32; rows * width];
                let shared = DisjointSlice::new(&mut out);
                for chunk in 0..chunks {
                    // SAFETY: there is one thread, and nothing else is borrowed.
                    let packed = unsafe { packed.get_mut(panels.packed(chunk)) };
                    if transposed {
                        panels.pack_transposed(&weight, chunk, packed);
                    } else {
                        panels.pack(&weight, chunk, packed);
                    }
                    let chunk = panels.chunk(chunk, packed);
                    for block in 0..blocks {
                        let lhs = Matrix::strided(&lhs, [rows, d_hidden], [stride, 1]);
                        chunk.product(simd, block, lhs, |row, columns| {
                            let start = row * width + block * d_hidden;
                            // SAFETY: a product borrows one row at a time.
                            unsafe { shared.get_mut(start + columns.start..start + columns.end) }
                        });
                    }
                }
                for (n, &out) in out.iter().enumerate() {
                    let (row, block, column) = (n / width, n % width / d_hidden, n % d_hidden);
                    let weight = |k: usize| {
                        let (k, column) = if transposed { (column, k) } else { (k, column) };
                        weight[k * width + block * d_hidden + column]
                    };
                    let sum: f32 = (0..d_hidden).map(|k| lhs[row * stride + k] * weight(k)).sum();
                    assert_eq!(out, 1.0 + sum, "at {row}, {block}, {column}");
                }
            }
        }
    }

    #[test]
    fn products_of_odd_shapes_equal_plain_sums() {
        for (d_hidden, blocks, rows, threads) in [
            (1, 1, 1, 1),
            (1, 4, 3, 2),
            (33, 4, 1, 2),
            (64, 2, 2, 1),
            (70, 3, 7, 3),
            (96, 4, 20, 2),
            (129, 1, 13, 1),
            (301, 2, 5, 2),
        ] {
            dispatch(Check { d_hidden, blocks, rows, threads });
        }
    }
}

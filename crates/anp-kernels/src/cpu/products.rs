//! Products of a few rows with the same weights at many steps: of the scalars themselves
//! ([`panels`](super::panels)), or of bfloat16 where the machine multiplies it faster.

use std::ops::Range;

use pulp::Simd;

use super::bf16::{Bf16Panels, Bf16Rows, Kernel, PackedTile};
use super::disjoint_slice::DisjointSlice;
use super::matmul::Matrix;
use super::panels::{self, Panels};
use super::scalar::Scalar;
use super::single::{single, single_mut};

/// How the weights of all layers, `[d_hidden, blocks · d_hidden]` each, are packed and divided
/// among threads.
#[derive(Debug)]
pub(crate) enum Plan {
    Scalars(Panels),
    Bf16(Bf16Panels),
}

impl Plan {
    /// Plan products of `rows` rows with `threads` threads.
    pub(crate) fn new<E: Scalar, S: Simd>(
        kernel: Option<Kernel>,
        d_hidden: usize,
        blocks: usize,
        rows: usize,
        threads: usize,
    ) -> Self {
        match kernel {
            Some(kernel) => Self::Bf16(Bf16Panels::new(kernel, d_hidden, blocks, rows, threads)),
            None => Self::Scalars(Panels::new::<E, S>(d_hidden, blocks, rows, threads)),
        }
    }

    /// The chunks that each thread takes first.
    pub(crate) fn shares(&self) -> &[Range<usize>] {
        match self {
            Self::Scalars(panels) => panels.shares(),
            Self::Bf16(panels) => panels.shares(),
        }
    }

    /// The columns of a chunk; they are the same in every block.
    pub(crate) fn columns(&self, chunk: usize) -> Range<usize> {
        match self {
            Self::Scalars(panels) => panels.columns(chunk),
            Self::Bf16(panels) => panels.columns(chunk),
        }
    }

    /// Memory for a packed weight.
    pub(crate) fn storage<E: Scalar>(&self) -> Storage<E> {
        match self {
            Self::Scalars(panels) => Storage::Scalars(panels.storage()),
            Self::Bf16(panels) => Storage::Bf16(panels.storage()),
        }
    }

    /// The packed weight in its storage. Each thread packs its own chunks.
    pub(crate) fn share<'s, E: Scalar>(&'s self, storage: &'s mut Storage<E>) -> Packed<'s, E> {
        match (self, storage) {
            (Self::Scalars(panels), Storage::Scalars(storage)) => {
                Packed::Scalars(panels, panels.share(storage))
            }
            (Self::Bf16(panels), Storage::Bf16(storage)) => {
                Packed::Bf16(panels, DisjointSlice::new(storage))
            }
            _ => unreachable!("a plan makes its own storage"),
        }
    }
}

/// Memory for a packed weight.
#[derive(Debug)]
pub(crate) enum Storage<E> {
    Scalars(Vec<E>),
    Bf16(Vec<PackedTile>),
}

/// A weight that threads pack and multiply, each its own chunks.
#[derive(Debug)]
pub(crate) enum Packed<'s, E> {
    Scalars(&'s Panels, DisjointSlice<'s, E>),
    Bf16(&'s Bf16Panels, DisjointSlice<'s, PackedTile>),
}

impl<E: Scalar> Packed<'_, E> {
    /// Pack a chunk of `weight`, or of the weight whose blocks are its transposed blocks. Scalars
    /// are rounded to bfloat16 if `is_rounded`.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk may call this.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn pack(
        &self,
        weight: &[E],
        is_transposed: bool,
        is_rounded: bool,
        chunk: usize,
    ) {
        match self {
            Self::Scalars(panels, packed) => {
                // SAFETY: the caller's promise.
                let packed = unsafe { packed.get_mut(panels.packed(chunk)) };
                match is_transposed {
                    true => panels.pack_transposed(weight, chunk, packed),
                    false => panels.pack(weight, chunk, packed),
                }
                if is_rounded {
                    packed.iter_mut().for_each(|weight| *weight = weight.to_bf16());
                }
            }
            Self::Bf16(panels, packed) => {
                // SAFETY: the caller's promise.
                let packed = unsafe { packed.get_mut(panels.packed(chunk)) };
                panels.pack(single(weight), is_transposed, chunk, packed);
            }
        }
    }

    /// A chunk that has been packed.
    ///
    /// # Safety
    ///
    /// Only the thread that has claimed the chunk may call this.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn chunk(&self, index: usize) -> Chunk<'_, E> {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Scalars(panels, packed) => {
                    Chunk::Scalars(panels.chunk(index, packed.get(panels.packed(index))))
                }
                Self::Bf16(panels, packed) => {
                    Chunk::Bf16 { panels, index, packed: packed.get(panels.packed(index)) }
                }
            }
        }
    }
}

/// A chunk of a packed weight.
#[derive(Debug)]
pub(crate) enum Chunk<'p, E> {
    Scalars(panels::Chunk<'p, E>),
    Bf16 { panels: &'p Bf16Panels, index: usize, packed: &'p [PackedTile] },
}

impl<E: Scalar> Chunk<'_, E> {
    /// Its columns; they are the same in every block.
    pub(crate) fn columns(&self) -> Range<usize> {
        match self {
            Self::Scalars(chunk) => chunk.columns(),
            Self::Bf16 { panels, index, .. } => panels.columns(*index),
        }
    }

    /// Add to `out` the product of `lhs` with the chunk's columns in a block of the weight.
    ///
    /// `out(row, columns)` returns the destination of these columns of a row. Terms are added in
    /// the same order whatever the sizes of chunks.
    ///
    /// # Panics
    ///
    /// If `lhs` is not what the plan multiplies.
    #[inline(always)]
    pub(crate) fn product<'o, S: Simd>(
        &self,
        simd: S,
        block: usize,
        lhs: Lhs<'_, E>,
        out: impl Fn(usize, Range<usize>) -> &'o mut [E],
    ) {
        match (self, lhs) {
            (Self::Scalars(chunk), Lhs::Scalars(lhs)) => chunk.product(simd, block, lhs, out),
            (Self::Bf16 { panels, index, packed }, Lhs::Bf16(lhs)) => {
                let out = |row, columns| single_mut(out(row, columns));
                panels.product(*index, packed, block, lhs, out);
            }
            _ => unreachable!("a plan multiplies one kind of rows"),
        }
    }
}

/// What a chunk is multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lhs<'a, E> {
    Scalars(Matrix<'a, E>),
    Bf16(Bf16Rows<'a>),
}

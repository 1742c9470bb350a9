//! Blocks of channels, and tiles of the output whose sums the registers hold.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use crate::cpu::scalar::Scalar;
use crate::cpu::simd::dispatch;

/// Approximate number of taps of all channels in a block: what the L1 cache holds for a tile.
const DEPTH: usize = 144;
/// Vectors of a row of a tile.
pub(super) const VECTORS: usize = 2;
/// Most rows of a tile.
pub(super) const MOST_ROWS: usize = 8;

/// Channels in a block.
pub(super) fn block_channels(taps: usize) -> usize {
    (DEPTH / taps).max(1)
}

/// Rows of a tile: the registers hold their sums.
pub(super) fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT > 16 { MOST_ROWS } else { MOST_ROWS / 2 }
}

/// Rows of a tile, and numbers in a vector, on this machine.
pub(super) fn tile_here<E: Scalar>() -> (usize, usize) {
    struct Tile<E>(PhantomData<E>);

    impl<E: Scalar> WithSimd for Tile<E> {
        type Output = (usize, usize);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> (usize, usize) {
            (tile_rows::<S>(), E::lanes::<S>())
        }
    }

    dispatch(Tile::<E>(PhantomData))
}

//! Convolutions as sums over the taps of the kernel, which never see a whole im2col matrix.
//!
//! A tap `(dy, dx)` of the kernel multiplies the image shifted by it. In a *plane*, the image of a
//! channel shifted by `dx` and written without padding between its rows, a shift by `dy` is one by
//! whole rows, so that for each tap all places of the output read consecutive numbers, however
//! small the map is. Planes are `kernel width` copies of the image, where im2col makes
//! `kernel height · kernel width`; they are made for a few channels at a time and stay in the
//! second cache.

mod correlation;
mod input_gradient;
mod planes;
mod weight_gradient;

use std::marker::PhantomData;

pub(super) use correlation::correlation;
pub(super) use input_gradient::strided_input_gradient;
use pulp::{Simd, WithSimd};
pub(super) use weight_gradient::weight_gradient;

use crate::cpu::scalar::Scalar;
use crate::cpu::simd::dispatch;

/// Taps of all channels in a block, about: what the first cache holds for a tile.
const DEPTH: usize = 144;
/// Vectors of a row of a tile.
const VECTORS: usize = 2;
/// Most rows of a tile.
const MOST_ROWS: usize = 8;

/// Channels in a block.
fn block_channels(taps: usize) -> usize {
    (DEPTH / taps).max(1)
}

/// Rows of a tile: as many as the registers hold sums for.
fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT > 16 { MOST_ROWS } else { MOST_ROWS / 2 }
}

/// Rows of a tile, and numbers in a vector, on this machine.
fn tile_here<E: Scalar>() -> (usize, usize) {
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

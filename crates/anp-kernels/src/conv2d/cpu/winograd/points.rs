//! Sizes of tiles, points and panels.

use pulp::Simd;

use crate::cpu::panels::VECTORS;
use crate::cpu::scalar::Scalar;

/// Products of a tile.
pub(super) const POINTS: usize = 16;
/// Side of a tile's input.
pub(super) const SIDE: usize = 4;
/// Fewest tiles per pass over the transformed weight, or over the sums of its gradient.
pub(super) const TILES: usize = 64;
/// Padding between the points, in elements: without it, the values of a channel at all points would
/// fall into the same sets of a cache.
pub(super) const GAP: usize = 64;

/// Largest width of a panel.
#[inline(always)]
pub(super) fn panel_width<E: Scalar, S: Simd>() -> usize {
    E::lanes::<S>() * if S::REGISTER_COUNT > 16 { VECTORS } else { 2 }
}

//! Sizes of what is multiplied at once.

/// Rows, columns, and pairs along the sum in a tile.
pub(super) const TILE: usize = 16;
/// Pairs of bfloat16 in a tile.
pub(super) const TILE_LEN: usize = TILE * TILE;
/// Rows and columns of what a kernel computes at once.
pub(super) const BLOCK: usize = 2 * TILE;

/// `[BLOCK, BLOCK]` sums.
pub(super) type Sums = [[f32; BLOCK]; BLOCK];

/// Two rows, or two columns, of tiles.
pub(super) type Pair<'a> = [&'a [[u32; TILE_LEN]]; 2];

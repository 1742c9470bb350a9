//! What is multiplied at once, and how it lies in memory.

/// Rows, columns, and pairs along the sum in a tile.
pub(crate) const TILE: usize = 16;
/// Pairs of bfloat16 in a tile.
pub(super) const TILE_LEN: usize = TILE * TILE;
/// Rows and columns of what a kernel computes at once.
pub(crate) const BLOCK: usize = 2 * TILE;

/// A tile without gaps: lines of pairs, of which the first is in the lower half.
pub(crate) type PackedTile = [u32; TILE_LEN];

/// `[BLOCK, BLOCK]` sums.
pub(crate) type Sums = [[f32; BLOCK]; BLOCK];

/// Two rows of tiles of the left operand, or two columns of tiles of the right one, as numbers of
/// bfloat16.
///
/// A tile is [`TILE`] lines of [`TILE`] pairs. A line of the left operand is a part of a row; a
/// line of the right operand is the same pair of 16 columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand<'a> {
    /// From the first line of the first tile on.
    pub(crate) numbers: [&'a [u16]; 2],
    /// Numbers from one line of a tile to the next.
    pub(crate) line: usize,
}

impl<'a> Operand<'a> {
    /// Two sequences of tiles without gaps.
    #[inline(always)]
    pub(crate) fn packed(tiles: [&'a [PackedTile]; 2]) -> Self {
        Self { numbers: tiles.map(bytemuck::cast_slice), line: 2 * TILE }
    }
}

/// Where the tiles along a sum begin.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    /// Of the left and of the right operand, in numbers from the beginning of their slices.
    offsets: Vec<[usize; 2]>,
    largest: [usize; 2],
}

impl Steps {
    pub(crate) fn new(offsets: impl IntoIterator<Item = [usize; 2]>) -> Self {
        let offsets: Vec<_> = offsets.into_iter().collect();
        let largest = offsets
            .iter()
            .fold([0; 2], |largest, offset| [largest[0].max(offset[0]), largest[1].max(offset[1])]);
        Self { offsets, largest }
    }

    /// So many tiles at regular distances.
    pub(crate) fn regular(depth: usize, [left, right]: [usize; 2]) -> Self {
        Self::new((0..depth).map(|step| [step * left, step * right]))
    }

    pub(super) fn offsets(&self) -> &[[usize; 2]] {
        &self.offsets
    }
}

/// A block of a product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) left: Operand<'a>,
    pub(crate) right: Operand<'a>,
    pub(crate) steps: &'a Steps,
}

impl Product<'_> {
    /// Panic if a tile does not lie inside its slice.
    #[inline(always)]
    pub(super) fn check(&self) {
        for (operand, largest) in [self.left, self.right].into_iter().zip(self.steps.largest) {
            let len = largest + (TILE - 1) * operand.line + 2 * TILE;
            let [first, second] = operand.numbers;
            assert!(first.len() >= len && second.len() >= len, "a tile outside of its slice");
        }
    }
}

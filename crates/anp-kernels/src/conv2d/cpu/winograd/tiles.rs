use std::ops::Range;

use super::super::sizes::Sizes;
use super::{GAP, POINTS};

impl Sizes {
    #[inline]
    pub(super) fn tile_rows(&self) -> usize {
        self.axes[0].output.div_ceil(2)
    }

    #[inline]
    pub(super) fn tile_columns(&self) -> usize {
        self.axes[1].output.div_ceil(2)
    }

    pub(super) fn tiles(&self) -> usize {
        self.tile_rows() * self.tile_columns()
    }

    /// The tiles of some images in blocks of about `most`, a strip in whole vectors of `lanes`. The
    /// cuts do not depend on the number of threads.
    pub(super) fn blocks(&self, images: Range<usize>, most: usize, lanes: usize) -> Vec<Block> {
        let rows = (most / self.tile_columns()).clamp(1, self.tile_rows());
        let mut blocks = vec![Block { strips: Vec::new(), len: 0 }];
        for image in images {
            for first in (0..self.tile_rows()).step_by(rows) {
                let rows = first..self.tile_rows().min(first + rows);
                let len = (rows.len() * self.tile_columns()).next_multiple_of(lanes);
                if blocks.last().is_some_and(|block| block.len > 0 && block.len + len > most) {
                    blocks.push(Block { strips: Vec::new(), len: 0 });
                }
                let block = blocks.last_mut().expect("there is one");
                block.strips.push(Strip { image, rows, start: block.len });
                block.len += len;
            }
        }
        blocks
    }
}

/// Tiles that are transformed at once, side by side.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) strips: Vec<Strip>,
    /// Tiles, including those between strips that nobody reads.
    pub(super) len: usize,
}

/// Rows of tiles of an image, and where in the block they start: at the start of a vector.
#[derive(Debug)]
pub(super) struct Strip {
    pub(super) image: usize,
    pub(super) rows: Range<usize>,
    pub(super) start: usize,
}

/// Where numbers of some channels of a block's tiles lie: `[POINTS, panels, channels, width]`, with
/// [`GAP`]s between points.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) channels: usize,
    /// Tiles of the block.
    pub(super) len: usize,
    /// Tiles of a panel; the last one is as wide as what is left.
    pub(super) width: usize,
}

impl Layout {
    pub(super) fn numbers(self) -> usize {
        POINTS * self.point_len()
    }

    /// From a point to the next.
    #[inline(always)]
    pub(super) fn point_len(self) -> usize {
        self.len * self.channels + GAP
    }

    #[inline(always)]
    pub(super) fn place(self, point: usize, channel: usize, tile: usize) -> usize {
        let first = tile / self.width * self.width;
        let width = self.width.min(self.len - first);
        point * self.point_len() + first * self.channels + channel * width + (tile - first)
    }
}

/// Tiles of a row that are transformed at once: the rows consist of them, and so do the panels.
#[inline(always)]
pub(super) fn tiles_at_once(columns: usize, panel_width: usize) -> usize {
    let fits = |n: usize| columns.is_multiple_of(n) && panel_width.is_multiple_of(n);
    if fits(16) {
        16
    } else if fits(8) {
        8
    } else if fits(4) {
        4
    } else {
        2
    }
}

/// `0..len` in parts of about `size`.
pub(super) fn split(len: usize, size: usize) -> Vec<Range<usize>> {
    let size = size.max(1);
    (0..len).step_by(size).map(|start| start..len.min(start + size)).collect()
}

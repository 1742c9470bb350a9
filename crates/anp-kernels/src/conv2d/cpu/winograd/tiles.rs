use std::ops::Range;

use super::points::{GAP, POINTS};
use crate::conv2d::cpu::sizes::Sizes;

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

    /// The tiles of some images in blocks of about `most` tiles, with strips of whole vectors of
    /// `lanes`. The blocks do not depend on the number of threads.
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

/// Tiles that are transformed together.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) strips: Vec<Strip>,
    /// Tiles, including the unused ones between strips.
    pub(super) len: usize,
}

/// Rows of tiles of an image, and where in the block they start, at a vector boundary.
#[derive(Debug)]
pub(super) struct Strip {
    pub(super) image: usize,
    pub(super) rows: Range<usize>,
    pub(super) start: usize,
}

/// How the values of some channels of the tiles of a block lie in memory:
/// `[POINTS, panels, channels, width]`, with a [`GAP`] after each point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) channels: usize,
    /// Tiles of the block.
    pub(super) tiles: usize,
    /// Tiles of a panel; the last one holds the rest.
    pub(super) width: usize,
}

impl Layout {
    pub(super) fn len(self) -> usize {
        POINTS * self.point_len()
    }

    /// Distance between two points.
    #[inline(always)]
    pub(super) fn point_len(self) -> usize {
        self.tiles * self.channels + GAP
    }

    #[inline(always)]
    pub(super) fn index(self, point: usize, channel: usize, tile: usize) -> usize {
        let first = tile / self.width * self.width;
        let width = self.width.min(self.tiles - first);
        point * self.point_len() + first * self.channels + channel * width + (tile - first)
    }
}

/// Tiles of a row that are transformed together; both rows and panels are multiples of it.
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

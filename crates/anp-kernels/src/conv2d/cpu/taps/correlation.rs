use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::planes::Planes;
use super::tile::{MOST_ROWS, VECTORS, block_channels, tile_here, tile_rows};
use crate::conv2d::cpu::sizes::Sizes;
use crate::cpu::panels::LANES;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::dispatch;
use crate::cpu::tasks::{filled, part_lens};

/// Fewest positions per task, if there are enough images, for which the weight is loaded.
const TASK_POSITIONS: usize = 512;

/// `out[n, o, p] ← bias[o] + Σ over c and taps of weight(o, c, tap) · input[n, c, p at the tap]`.
pub(crate) fn correlation<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    bias: Option<&[E]>,
    input: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let packed = &Packed::new(sizes, weight, threads);
    let (image_len, positions) = (channels_in * sizes.positions_in(), sizes.positions_out());
    let (images, channels) = shares(sizes, packed.rows, threads);
    let parts = channels_out.div_ceil(channels);
    // A task has whole images, or a part of one image.
    let part_lens = (0..batch_size.div_ceil(images) * parts).map(|task| {
        let (group, part) = (task / parts, task % parts);
        let images = images.min(batch_size - group * images);
        images * channels.min(channels_out - part * channels) * positions
    });
    filled(part_lens, threads, |task, out| {
        let (group, part) = (task / parts, task % parts);
        let images = group * images..batch_size.min((group + 1) * images);
        dispatch(Correlation {
            packed,
            bias,
            input: &input[images.start * image_len..images.end * image_len],
            channels: part * channels..channels_out.min((part + 1) * channels),
            out,
        });
    })
}

/// Images per task, and output channels per task if that is one image: enough tasks for all
/// threads, as large as possible. Each output value is computed in one task, so this does not
/// change it.
fn shares(sizes: &Sizes, rows: usize, threads: usize) -> (usize, usize) {
    let Sizes { batch_size, channels_out, .. } = *sizes;
    if batch_size >= 2 * threads {
        let images = TASK_POSITIONS / sizes.positions_out();
        return (images.clamp(1, batch_size / (2 * threads)), channels_out);
    }
    let parts = (4 * threads).div_ceil(batch_size);
    (1, channels_out.div_ceil(rows).div_ceil(parts) * rows)
}

/// The weight of a correlation in the order in which tiles read it: blocks of input channels; in a
/// block, tiles of output channels; in a tile, the taps of all channels of the block.
pub(super) struct Packed<E> {
    pub(super) sizes: Sizes,
    /// Rows of a tile.
    rows: usize,
    weight: Vec<E>,
}

impl<E: Scalar> Packed<E> {
    /// Pack `weight(output channel, input channel, tap)`.
    pub(super) fn new(
        sizes: &Sizes,
        weight: impl Fn(usize, usize, usize) -> E + Sync,
        threads: usize,
    ) -> Self {
        let Sizes { channels_in, channels_out, .. } = *sizes;
        let (taps, (rows, _)) = (sizes.taps(), tile_here::<E>());
        let tiles = channels_out.div_ceil(rows);
        let block = block_channels(taps);
        let block_len = tiles * rows * block * taps;
        let len = tiles * rows * channels_in * taps;
        let packed = filled(part_lens(len, block_len), threads, |index, packed: &mut [E]| {
            let first = index * block;
            let depth = packed.len() / (tiles * rows);
            for (tile, packed) in packed.chunks_exact_mut(rows * depth).enumerate() {
                let present = rows.min(channels_out - tile * rows);
                for (k, packed) in packed.chunks_exact_mut(rows).enumerate() {
                    for (row, packed) in packed[..present].iter_mut().enumerate() {
                        *packed = weight(tile * rows + row, first + k / taps, k % taps);
                    }
                }
            }
        });
        Self { sizes: *sizes, rows, weight: packed }
    }

    /// Input channels and weights of each block.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, &[E])> {
        let Sizes { channels_in, channels_out, .. } = self.sizes;
        let block = block_channels(self.sizes.taps());
        let channel_len = channels_out.div_ceil(self.rows) * self.rows * self.sizes.taps();
        let starts = (0..channels_in).step_by(block);
        starts
            .zip(self.weight.chunks(block * channel_len))
            .map(move |(start, weight)| (start..channels_in.min(start + block), weight))
    }
}

/// The same for some images and output channels, with a packed weight.
pub(super) struct Correlation<'a, E> {
    pub(super) packed: &'a Packed<E>,
    pub(super) bias: Option<&'a [E]>,
    /// `[images, channels_in, height, width]`.
    pub(super) input: &'a [E],
    /// Output channels, from the first one of a tile.
    pub(super) channels: Range<usize>,
    /// `[images, channels, height, width]`.
    pub(super) out: &'a mut [E],
}

impl<E: Scalar> WithSimd for Correlation<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if tile_rows::<S>() == MOST_ROWS {
            self.run::<S, MOST_ROWS>(simd);
        } else {
            self.run::<S, { MOST_ROWS / 2 }>(simd);
        }
    }
}

impl<E: Scalar> Correlation<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Self { packed, bias, input, channels, out } = self;
        assert_eq!(packed.rows, R, "the weight is packed for these vectors");
        let sizes = packed.sizes;
        let planes = Planes::new(sizes.axes);
        let (positions_in, positions) = (sizes.positions_in(), sizes.positions_out());
        let image_len = sizes.channels_in * positions_in;
        let images = input.len() / image_len;
        let lanes = E::lanes::<S>();
        let tile_positions = VECTORS * lanes;

        let block = block_channels(sizes.taps()).min(sizes.channels_in);
        let starts = planes.starts(block);
        // The last tile may read past the last plane.
        let block_len = block * planes.channel_len();
        let mut storage = vec![E::ZERO; images * block_len + tile_positions];

        for (block_channels, weight) in packed.blocks() {
            for image in 0..images {
                let block_in =
                    block_channels.start * positions_in..block_channels.end * positions_in;
                let image_in = &input[image * image_len..][block_in];
                planes.fill(image_in, &mut storage[image * block_len..][..block_len]);
            }
            let depth = block_channels.len() * sizes.taps();
            let starts = Starts::new(&starts[..depth]);
            for (image, out) in out.chunks_exact_mut(channels.len() * positions).enumerate() {
                let storage = &storage[image * block_len..];
                for position in (0..positions).step_by(tile_positions) {
                    let width = tile_positions.min(positions - position);
                    let storage = &storage[position..];
                    for first in channels.clone().step_by(R) {
                        let weight = &weight[first * depth..][..R * depth];
                        let rows = R.min(channels.end - first);
                        let mut out = OutTile {
                            rows: &mut out[(first - channels.start) * positions..]
                                [..rows * positions],
                            positions,
                            range: position..position + width,
                        };
                        let initial = if block_channels.start > 0 {
                            Initial::Stored
                        } else {
                            Initial::Bias(bias.map(|bias| &bias[first..][..rows]))
                        };
                        if width == tile_positions {
                            correlate::<E, S, R, VECTORS>(
                                simd, storage, starts, weight, initial, &mut out,
                            );
                        } else {
                            correlate_padded::<E, S, R>(
                                simd, storage, starts, weight, initial, &mut out,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Where taps start in the planes.
#[derive(Clone, Copy)]
struct Starts<'a> {
    starts: &'a [usize],
    /// The largest one.
    last: usize,
}

impl<'a> Starts<'a> {
    fn new(starts: &'a [usize]) -> Self {
        Self { starts, last: starts.iter().copied().max().unwrap_or(0) }
    }
}

/// What a sum begins with.
#[derive(Clone, Copy)]
enum Initial<'a, E> {
    Bias(Option<&'a [E]>),
    /// The number that is already in its place.
    Stored,
}

/// Positions of a few channels of an output.
struct OutTile<'a, E> {
    /// The channels, one after another.
    rows: &'a mut [E],
    positions: usize,
    range: Range<usize>,
}

/// A tile whose sums stay in registers.
#[inline(always)]
fn correlate<E: Scalar, S: Simd, const R: usize, const V: usize>(
    simd: S,
    planes: &[E],
    starts: Starts<'_>,
    weight: &[E],
    initial: Initial<'_, E>,
    out: &mut OutTile<'_, E>,
) {
    let width = V * E::lanes::<S>();
    let mut sums = [[E::splat(simd, E::ZERO); V]; R];
    match initial {
        Initial::Bias(None) => {}
        Initial::Bias(Some(bias)) => {
            for (sums, bias) in sums.iter_mut().zip(bias) {
                sums.fill(E::splat(simd, *bias));
            }
        }
        Initial::Stored => {
            for (sums, row) in sums.iter_mut().zip(out.rows.chunks_exact(out.positions)) {
                let row = &row[out.range.clone()][..width];
                sums.copy_from_slice(E::vectors::<S>(row));
            }
        }
    }
    let (weights, _) = weight.as_chunks::<R>();
    assert!(starts.last + width <= planes.len(), "a tap reads past the planes");
    for (start, weights) in starts.starts.iter().zip(weights) {
        // A check here, at every tap, would cost a tenth of the time.
        // SAFETY: the assertion has checked the largest start.
        #[allow(unsafe_code)]
        let numbers = unsafe { planes.get_unchecked(*start..*start + width) };
        let numbers = E::vectors::<S>(numbers);
        let numbers: [E::Vector<S>; V] = array::from_fn(|n| numbers[n]);
        for (sums, weight) in sums.iter_mut().zip(weights) {
            let weight = E::splat(simd, *weight);
            for (sum, number) in sums.iter_mut().zip(numbers) {
                *sum = E::mul_add(simd, weight, number, *sum);
            }
        }
    }
    for (sums, row) in sums.iter().zip(out.rows.chunks_exact_mut(out.positions)) {
        let row = &mut row[out.range.clone()][..width];
        E::vectors_mut::<S>(row).copy_from_slice(sums);
    }
}

/// [`correlate`] where the output ends inside the tile.
#[inline(always)]
fn correlate_padded<E: Scalar, S: Simd, const R: usize>(
    simd: S,
    planes: &[E],
    starts: Starts<'_>,
    weight: &[E],
    initial: Initial<'_, E>,
    out: &mut OutTile<'_, E>,
) {
    let lanes = E::lanes::<S>();
    let width = out.range.len();
    let positions = width.div_ceil(lanes) * lanes;
    let mut whole = [E::ZERO; MOST_ROWS * VECTORS * LANES];
    let rows = out.rows.len() / out.positions;
    let whole = &mut whole[..rows * positions];
    for (whole, row) in whole.chunks_exact_mut(positions).zip(out.rows.chunks_exact(out.positions))
    {
        whole[..width].copy_from_slice(&row[out.range.clone()]);
    }
    let mut tile = OutTile { rows: &mut *whole, positions, range: 0..positions };
    if positions == lanes {
        correlate::<E, S, R, 1>(simd, planes, starts, weight, initial, &mut tile);
    } else {
        correlate::<E, S, R, VECTORS>(simd, planes, starts, weight, initial, &mut tile);
    }
    for (whole, row) in whole.chunks_exact(positions).zip(out.rows.chunks_exact_mut(out.positions))
    {
        row[out.range.clone()].copy_from_slice(&whole[..width]);
    }
}

//! Convolutions with a stride of 1 as products of tiles of bfloat16, without a copy of the input
//! for each tap.
//!
//! Positions are numbered along the rows of the output, each filled up to the width of the padded
//! input. So a tap is a shift of the input by a fixed number of positions, and what is computed for
//! the filled up positions is left out.
//!
//! In a gradient of the weight these positions count as zeros. So an infinite number may make NaN
//! of taps that do not see it, as it does in Winograd's transforms.

use super::sizes::Sizes;
use crate::cpu::bf16::{
    BLOCK, Kernel, Operand, PackedTile, Product, Steps, Sums, TILE, pair, transpose,
};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::{filled, map};

/// Whether tiles are faster than rounding and another algorithm: most of a tile's channels must be
/// there.
pub(super) fn is_faster(sizes: &Sizes) -> bool {
    sizes.axes.iter().all(|axis| axis.stride == 1)
        && sizes.channels_in.min(sizes.channels_out) >= TILE
}

/// How positions are numbered.
#[derive(Debug, Clone, Copy)]
struct Positions {
    /// From one row to the next.
    width: usize,
    /// All, filled up to whole blocks.
    len: usize,
    /// Those of the padded input that any tap sees.
    plane: usize,
}

impl Positions {
    fn new(sizes: &Sizes) -> Self {
        let [y, x] = sizes.axes;
        let width = x.output + x.taps - 1;
        let len = (y.output * width).next_multiple_of(BLOCK);
        let plane = len + (y.taps - 1) * width + x.taps - 1;
        Self { width, len, plane }
    }

    /// How far each tap shifts the input.
    fn shifts(self, sizes: &Sizes) -> impl Iterator<Item = usize> {
        let [y, x] = sizes.axes.map(|axis| axis.taps);
        (0..y).flat_map(move |row| (0..x).map(move |column| row * self.width + column))
    }

    /// For each row of the padded input with something of the input in it: its first such position,
    /// and where that part of the row begins in a plane of the input.
    fn rows(self, sizes: &Sizes) -> impl Iterator<Item = (usize, usize)> {
        let [y, x] = sizes.axes;
        let first = x.offset.min(0).unsigned_abs().min(self.width);
        let skipped = x.offset.max(0) as usize;
        (0..y.output + y.taps - 1).filter_map(move |row| {
            let input = row.checked_add_signed(y.offset).filter(|&input| input < y.input)?;
            Some((row * self.width + first, input * x.input + skipped))
        })
    }

    /// Length of each of these parts.
    fn row_len(self, sizes: &Sizes) -> usize {
        let x = sizes.axes[1];
        let room = self.width.saturating_sub(x.offset.min(0).unsigned_abs());
        room.min(x.input.saturating_sub(x.offset.max(0) as usize))
    }
}

/// `out[n, o, p] ← bias[o] + Σ over c and taps of weight(o, c, tap) · input[n, c, p at the tap]`.
pub(super) fn correlation(
    kernel: Kernel,
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    bias: Option<&[f32]>,
    input: &[f32],
    threads: usize,
) -> Vec<f32> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let positions = Positions::new(sizes);
    let depth = channels_in.div_ceil(2 * TILE);
    let tiles_of_row = sizes.taps() * depth;
    let weight = packed_weight(sizes, depth, weight, threads);
    let shifts = positions.shifts(sizes).enumerate();
    let steps = Steps::new(shifts.flat_map(|(tap, shift)| {
        (0..depth).map(move |step| {
            let tile = (tap * depth + step) * size_of::<PackedTile>() / 2;
            [tile, 2 * (step * TILE * positions.plane + shift)]
        })
    }));
    let image_len = channels_in * sizes.positions_in();
    let part_lens = (0..batch_size).map(|_| channels_out * sizes.positions_out());
    filled(part_lens, threads, |image, out: &mut [f32]| {
        let input = &input[image * image_len..][..image_len];
        let planes = paired_planes(sizes, positions, depth * TILE, input);
        let planes: &[u16] = bytemuck::cast_slice(&planes);
        let blocks = weight.chunks_exact(2 * tiles_of_row).enumerate();
        kernel.run(BLOCK, |multiplier| {
            for (block, weight) in blocks {
                let (first, second) = weight.split_at(tiles_of_row);
                let left = Operand::packed([first, second]);
                let channels = block * BLOCK..channels_out.min((block + 1) * BLOCK);
                for start in (0..positions.len).step_by(BLOCK) {
                    let numbers = [start, start + TILE].map(|start| &planes[2 * start..]);
                    let right = Operand { numbers, line: 2 * positions.plane };
                    let mut sums = [[0.0; BLOCK]; BLOCK];
                    if let Some(bias) = bias {
                        for (sums, &bias) in sums.iter_mut().zip(&bias[channels.clone()]) {
                            *sums = [bias; BLOCK];
                        }
                    }
                    multiplier.multiply(Product { left, right, steps: &steps }, &mut sums);
                    for (channel, sums) in channels.clone().zip(&sums) {
                        let out = &mut out[channel * sizes.positions_out()..];
                        write(sizes, positions, start, sums, out);
                    }
                }
            }
        });
    })
}

/// The tiles `[channels_out / 16, taps, channels_in / 32]`, an even number along the first.
fn packed_weight(
    sizes: &Sizes,
    depth: usize,
    weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    threads: usize,
) -> Vec<PackedTile> {
    let Sizes { channels_in, channels_out, .. } = *sizes;
    let tiles_of_row = sizes.taps() * depth;
    let mut tiles = vec![[0; TILE * TILE]; channels_out.div_ceil(BLOCK) * 2 * tiles_of_row];
    let rows = tiles.chunks_exact_mut(tiles_of_row).enumerate().collect();
    map(rows, threads, |(row, tiles): (usize, &mut [PackedTile])| {
        let channels = (row * TILE).min(channels_out)..((row + 1) * TILE).min(channels_out);
        vectorized(
            #[inline(always)]
            || {
                for (index, tile) in tiles.iter_mut().enumerate() {
                    let (tap, first) = (index / depth, index % depth * 2 * TILE);
                    for (o, line) in channels.clone().zip(tile.chunks_exact_mut(TILE)) {
                        let channel =
                            |c: usize| if c < channels_in { weight(o, c, tap) } else { 0.0 };
                        for (index, both) in line.iter_mut().enumerate() {
                            let c = first + 2 * index;
                            *both = pair(channel(c), channel(c + 1));
                        }
                    }
                }
            },
        );
    });
    tiles
}

/// An image as `count` padded planes, each of two channels: `[count, plane]` pairs.
fn paired_planes(sizes: &Sizes, positions: Positions, count: usize, input: &[f32]) -> Vec<u32> {
    let mut planes = vec![0; count * positions.plane];
    let row_len = positions.row_len(sizes);
    let channel_len = sizes.positions_in();
    let channels = input.chunks(2 * channel_len);
    vectorized(
        #[inline(always)]
        || {
            for (plane, channels) in planes.chunks_exact_mut(positions.plane).zip(channels) {
                let (first, second) = channels.split_at(channel_len);
                for (place, start) in positions.rows(sizes) {
                    let plane = &mut plane[place..place + row_len];
                    let first = &first[start..start + row_len];
                    match second.get(start..start + row_len) {
                        Some(second) => {
                            for ((both, &first), &second) in plane.iter_mut().zip(first).zip(second)
                            {
                                *both = pair(first, second);
                            }
                        }
                        None => {
                            for (both, &first) in plane.iter_mut().zip(first) {
                                *both = pair(first, 0.0);
                            }
                        }
                    }
                }
            }
        },
    );
    planes
}

/// Write the sums for the positions from `start` on, without those that rows are filled up with.
#[inline(always)]
fn write(sizes: &Sizes, positions: Positions, start: usize, sums: &[f32; BLOCK], out: &mut [f32]) {
    let [rows, columns] = sizes.axes.map(|axis| axis.output);
    let mut at = 0;
    while at < BLOCK {
        let (row, column) = ((start + at) / positions.width, (start + at) % positions.width);
        if row >= rows {
            return;
        }
        let len = (positions.width - column).min(BLOCK - at);
        let wanted = columns.saturating_sub(column).min(len);
        out[row * columns + column.min(columns)..][..wanted]
            .copy_from_slice(&sums[at..at + wanted]);
        at += len;
    }
}

/// Gradient of the weight from that of the output.
pub(super) fn weight_gradient(
    kernel: Kernel,
    sizes: &Sizes,
    input: &[f32],
    output_grad: &[f32],
    threads: usize,
) -> Vec<f32> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let positions = Positions::new(sizes);
    let depth = positions.len / (2 * TILE);
    let [blocks_in, blocks_out] = [channels_in, channels_out].map(|count| count.div_ceil(BLOCK));
    let planes_of_image = blocks_in * BLOCK * positions.plane;
    let tiles_of_image = blocks_out * 2 * depth;
    let images = (0..batch_size).collect();
    let packed = map(images, threads, |image: usize| {
        let input = &input[image * channels_in * sizes.positions_in()..];
        let grad = &output_grad[image * channels_out * sizes.positions_out()..];
        let planes = planes(sizes, positions, planes_of_image, input);
        (planes, transposed_tiles(sizes, positions, tiles_of_image, grad))
    });
    let steps = Steps::regular(depth, [2 * TILE, size_of::<PackedTile>() / 2]);
    let shifts: Vec<_> = positions.shifts(sizes).collect();
    let blocks: Vec<[usize; 2]> =
        (0..blocks_in).flat_map(|i| (0..blocks_out).map(move |o| [i, o])).collect();
    // `[taps]` blocks of the gradient, input channels by output channels.
    let sums = map(blocks.clone(), threads, |[block_in, block_out]: [usize; 2]| {
        let mut sums: Vec<Sums> = vec![[[0.0; BLOCK]; BLOCK]; shifts.len()];
        kernel.run(BLOCK, |multiplier| {
            for (planes, tiles) in &packed {
                let planes = &planes[block_in * BLOCK * positions.plane..];
                let tiles = &tiles[block_out * 2 * depth..][..2 * depth];
                let (first, second) = tiles.split_at(depth);
                let right = Operand::packed([first, second]);
                for (&shift, sums) in shifts.iter().zip(&mut sums) {
                    let numbers =
                        [0, TILE].map(|channel| &planes[channel * positions.plane + shift..]);
                    let left = Operand { numbers, line: positions.plane };
                    multiplier.multiply(Product { left, right, steps: &steps }, sums);
                }
            }
        });
        sums
    });
    let taps = sizes.taps();
    let mut gradient = vec![0.0; sizes.weight_len()];
    for ([block_in, block_out], sums) in blocks.into_iter().zip(sums) {
        for o in block_out * BLOCK..channels_out.min((block_out + 1) * BLOCK) {
            for c in block_in * BLOCK..channels_in.min((block_in + 1) * BLOCK) {
                let gradient = &mut gradient[(o * channels_in + c) * taps..][..taps];
                for (gradient, sums) in gradient.iter_mut().zip(&sums) {
                    *gradient = sums[c % BLOCK][o % BLOCK];
                }
            }
        }
    }
    gradient
}

/// An image as padded planes, one per channel: `len` numbers.
fn planes(sizes: &Sizes, positions: Positions, len: usize, input: &[f32]) -> Vec<u16> {
    let mut planes = vec![0; len];
    let row_len = positions.row_len(sizes);
    let channels = input.chunks_exact(sizes.positions_in()).take(sizes.channels_in);
    vectorized(
        #[inline(always)]
        || {
            for (plane, channel) in planes.chunks_exact_mut(positions.plane).zip(channels) {
                for (place, start) in positions.rows(sizes) {
                    let plane = &mut plane[place..place + row_len];
                    for (number, &value) in plane.iter_mut().zip(&channel[start..]) {
                        *number = value.to_bf16_bits();
                    }
                }
            }
        },
    );
    planes
}

/// The gradient of an image's output as `count` tiles, `[channels_out / 16, positions / 32]`, whose
/// lines are pairs of positions.
fn transposed_tiles(
    sizes: &Sizes,
    positions: Positions,
    count: usize,
    output_grad: &[f32],
) -> Vec<PackedTile> {
    let [rows, columns] = sizes.axes.map(|axis| axis.output);
    let depth = positions.len / (2 * TILE);
    let mut tiles = vec![[0; TILE * TILE]; count];
    let mut lines = vec![0_u16; TILE * positions.len];
    vectorized(
        #[inline(always)]
        || {
            for (row, tiles) in tiles.chunks_exact_mut(depth).enumerate() {
                let first = (row * TILE).min(sizes.channels_out);
                let present = TILE.min(sizes.channels_out - first);
                lines[present * positions.len..].fill(0);
                for (channel, line) in
                    lines.chunks_exact_mut(positions.len).take(present).enumerate()
                {
                    let grad = &output_grad[(first + channel) * rows * columns..];
                    for (row, grad) in grad.chunks_exact(columns).take(rows).enumerate() {
                        let line = &mut line[row * positions.width..];
                        for (number, &value) in line.iter_mut().zip(grad) {
                            *number = value.to_bf16_bits();
                        }
                    }
                }
                for (step, tile) in tiles.iter_mut().enumerate() {
                    let mut stored: PackedTile = [0; TILE * TILE];
                    for (channel, line) in stored.chunks_exact_mut(TILE).enumerate() {
                        let start = channel * positions.len + step * 2 * TILE;
                        let numbers = lines[start..start + 2 * TILE].as_chunks().0;
                        for (both, numbers) in line.iter_mut().zip(numbers) {
                            let [low, high]: [u16; 2] = *numbers;
                            *both = u32::from(low) | u32::from(high) << 16;
                        }
                    }
                    transpose(&stored, tile);
                }
            }
        },
    );
    tiles
}

#[cfg(test)]
mod tests {
    use std::array;

    use super::*;
    use crate::conv2d::Conv2dOptions;
    use crate::cpu::tests::wave;

    /// Rows and columns that are cut, taps outside, padding larger than the kernel.
    #[test]
    fn positions_lie_where_taps_see_them() {
        for (input, kernel, padding) in
            [([5, 6], [3, 3], [1, 1]), ([4, 3], [2, 1], [0, 0]), ([3, 2], [1, 2], [2, 3])]
        {
            let options = Conv2dOptions { stride: [1, 1], padding };
            let [height, width] = input;
            let sizes = [[1, 1, height, width], [1, 1, kernel[0], kernel[1]]];
            let sizes = Sizes::new(sizes[0], sizes[1], options).unwrap();
            let positions = Positions::new(&sizes);
            let image: Vec<f32> = wave(sizes.positions_in(), 1);
            let planes = planes(&sizes, positions, positions.plane, &image);
            let [y, x] = sizes.axes;
            for (row, column) in (0..y.output).flat_map(|i| (0..x.output).map(move |j| (i, j))) {
                for (tap, shift) in positions.shifts(&sizes).enumerate() {
                    let seen: [Option<usize>; 2] = array::from_fn(|axis| {
                        let at = [row + tap / x.taps, column + tap % x.taps][axis];
                        at.checked_sub(padding[axis]).filter(|&at| at < input[axis])
                    });
                    let expected = match seen {
                        [Some(i), Some(j)] => image[i * width + j].to_bf16_bits(),
                        _ => 0,
                    };
                    assert_eq!(planes[row * positions.width + column + shift], expected);
                }
            }
        }
    }
}

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::planes::Planes;
use super::tile::{MOST_ROWS, VECTORS, block_channels, tile_here, tile_rows};
use crate::conv2d::cpu::sizes::Sizes;
use crate::conv2d::cpu::transpose::transpose_into_panels;
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::{dispatch, vectorized};
use crate::cpu::tasks::{filled, map, part_lens};

/// Positions of the output in a block.
const POSITIONS: usize = 256;
/// Approximate number of tasks: more than threads, but independent of them, as the order of the
/// sums depends on it.
const TASKS: usize = 32;

/// Gradient of the weight from that of the output.
pub(crate) fn weight_gradient<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    output_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let (taps, positions) = (sizes.taps(), sizes.positions_out());
    let (image_len, out_len) = (channels_in * sizes.positions_in(), channels_out * positions);
    let (_, lanes) = tile_here::<E>();
    // Two vectors, or one if it holds all channels.
    let width = if channels_out <= lanes { lanes } else { VECTORS * lanes };
    let panels = channels_out.div_ceil(width);
    let panels_len = panels * width * positions;
    let transposed =
        filled(part_lens(batch_size * panels_len, panels_len), threads, |image, panels| {
            let output_grad = &output_grad[image * out_len..][..out_len];
            vectorized(
                #[inline(always)]
                || transpose_into_panels(output_grad, positions, width, panels),
            );
        });

    let block = block_channels(taps);
    let blocks = channels_in.div_ceil(block);
    let groups = (TASKS / blocks).clamp(1, batch_size);
    let group_images = batch_size.div_ceil(groups);
    let tasks: Vec<_> = (0..blocks)
        .flat_map(|block| (0..batch_size).step_by(group_images).map(move |first| (block, first)))
        .collect();
    let groups = tasks.len() / blocks;
    let row_len = channels_in * taps;
    let mut weight_grad = vec![E::ZERO; channels_out * row_len];
    let shared = DisjointSlice::new(&mut weight_grad);
    // Write the sums of a block of channels, `[panels, depth, width]`, to the rows of the weight.
    let write = |index: usize, sums: &[E]| {
        let depth = sums.len() / (panels * width);
        for (panel, sums) in sums.chunks_exact(depth * width).enumerate() {
            for column in 0..width.min(channels_out - panel * width) {
                let start = (panel * width + column) * row_len + index * block * taps;
                // SAFETY: no other task accesses this block.
                #[allow(unsafe_code)]
                let row = unsafe { shared.get_mut(start..start + depth) };
                let column = sums[column..].iter().step_by(width);
                row.iter_mut().zip(column).for_each(|(grad, sum)| *grad = *sum);
            }
        }
    };
    let sums = map(tasks, threads, |(index, first)| {
        let channels = index * block..channels_in.min((index + 1) * block);
        let images = first..batch_size.min(first + group_images);
        let mut sums = vec![E::ZERO; panels * channels.len() * taps * width];
        dispatch(WeightGradient {
            sizes,
            input: &input[images.start * image_len..images.end * image_len],
            channels,
            transposed: &transposed[images.start * panels_len..images.end * panels_len],
            width,
            sums: &mut sums,
        });
        if groups > 1 {
            return sums;
        }
        write(index, &sums);
        Vec::new()
    });
    if groups > 1 {
        map(sums.chunks_exact(groups).enumerate().collect(), threads, |(index, groups)| {
            let (first, others) = groups.split_first().expect("there are several");
            let mut total: Vec<E> = first.clone();
            for sums in others {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
            }
            write(index, &total);
        });
    }
    weight_grad
}

/// `sums[panel][c, tap][o] ← sums + Σ over n and p of input[n, c, p at the tap] ·
/// transposed[n][panel][p][o]`.
struct WeightGradient<'a, E> {
    sizes: &'a Sizes,
    /// `[images, channels_in, height, width]`.
    input: &'a [E],
    channels: Range<usize>,
    /// The output's gradient, `[images, panels, positions, width]`.
    transposed: &'a [E],
    width: usize,
    sums: &'a mut [E],
}

impl<E: Scalar> WithSimd for WeightGradient<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let one = self.width == E::lanes::<S>();
        match (tile_rows::<S>() == MOST_ROWS, one) {
            (true, true) => self.run::<S, MOST_ROWS, 1>(simd),
            (true, false) => self.run::<S, MOST_ROWS, VECTORS>(simd),
            (false, true) => self.run::<S, { MOST_ROWS / 2 }, 1>(simd),
            (false, false) => self.run::<S, { MOST_ROWS / 2 }, VECTORS>(simd),
        }
    }
}

impl<E: Scalar> WeightGradient<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let Self { sizes, input, channels, transposed, width, sums } = self;
        let planes = Planes::new(sizes.axes);
        let starts = planes.starts(channels.len());
        let (positions_in, positions) = (sizes.positions_in(), sizes.positions_out());
        let panels_len = sizes.channels_out.div_ceil(width) * width * positions;

        let image_len = sizes.channels_in * positions_in;
        let storage_len = channels.len() * planes.channel_len();
        // Several small images at a time: the sums stay in registers for longer.
        let together = (POSITIONS / positions).clamp(1, input.len() / image_len);
        let mut storage = vec![E::ZERO; together * storage_len];
        let images = input.chunks(together * image_len);
        for (images, transposed) in images.zip(transposed.chunks(together * panels_len)) {
            let images = images.chunks_exact(image_len);
            for (image, storage) in images.zip(storage.chunks_exact_mut(storage_len)) {
                let image = &image[channels.start * positions_in..channels.end * positions_in];
                planes.fill(image, storage);
            }
            for position in (0..positions).step_by(POSITIONS) {
                let len = POSITIONS.min(positions - position);
                let panel_sums = sums.chunks_exact_mut(width * starts.len());
                for (panel, sums) in panel_sums.enumerate() {
                    for (starts, sums) in starts.chunks(R).zip(sums.chunks_mut(R * width)) {
                        let mut registers = [[E::splat(simd, E::ZERO); V]; R];
                        let panels = transposed.chunks_exact(panels_len);
                        for (storage, panels) in storage.chunks_exact(storage_len).zip(panels) {
                            let rows = array::from_fn(|row| {
                                // Rows that do not exist repeat the last one; their sums are not
                                // used.
                                let start = starts[row.min(starts.len() - 1)];
                                &storage[start + position..][..len]
                            });
                            let panel =
                                &panels[(panel * positions + position) * width..][..len * width];
                            add_outer::<E, S, R, V>(simd, rows, panel, &mut registers);
                        }
                        let (sums, _) = E::vectors_mut::<S>(sums).as_chunks_mut::<V>();
                        let one = E::splat(simd, E::ONE);
                        for (sums, registers) in sums.iter_mut().zip(registers) {
                            for (sum, register) in sums.iter_mut().zip(registers) {
                                *sum = E::mul_add(simd, one, register, *sum);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Add to row `r` of `sums` the sum over `p` of `rows[r][p] · panel[p]`.
#[inline(always)]
fn add_outer<E: Scalar, S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: [&[E]; R],
    panel: &[E],
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let (panel, _) = E::vectors::<S>(panel).as_chunks::<V>();
    for row in rows {
        assert_eq!(row.len(), panel.len(), "a row is as long as its panel");
    }
    for (position, vectors) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = E::splat(simd, row[position]);
            for (sum, &vector) in sums.iter_mut().zip(vectors) {
                *sum = E::mul_add(simd, x, vector, *sum);
            }
        }
    }
}

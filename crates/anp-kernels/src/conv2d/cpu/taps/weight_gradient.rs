use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::sizes::Sizes;
use super::super::transpose::transpose_into_panels;
use super::planes::Planes;
use super::{MOST_ROWS, VECTORS, block_channels, tile_here, tile_rows};
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::{dispatch, vectorized};
use crate::cpu::tasks::{filled, map, part_lens};

/// Places of the output in a block.
const PLACES: usize = 256;
/// Tasks to cut the work into, about: more than threads, and not dependent on them, as the order of
/// the sums is.
const TASKS: usize = 32;

/// Gradient of the weight from that of the output.
pub(in super::super) fn weight_gradient<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    output_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let (taps, places) = (sizes.taps(), sizes.places_out());
    let (image_len, out_len) = (channels_in * sizes.places_in(), channels_out * places);
    let (_, lanes) = tile_here::<E>();
    // Two vectors, or one if it holds all channels.
    let width = if channels_out <= lanes { lanes } else { VECTORS * lanes };
    let panels = channels_out.div_ceil(width);
    let panels_len = panels * width * places;
    let transposed =
        filled(part_lens(batch_size * panels_len, panels_len), threads, |image, panels| {
            let output_grad = &output_grad[image * out_len..][..out_len];
            vectorized(
                #[inline(always)]
                || transpose_into_panels(output_grad, places, width, panels),
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
    // Write the sums of a block of channels, `[panels, depth, width]`, to their place in the rows
    // of the weight.
    let write = |index: usize, sums: &[E]| {
        let depth = sums.len() / (panels * width);
        for (panel, sums) in sums.chunks_exact(depth * width).enumerate() {
            for column in 0..width.min(channels_out - panel * width) {
                let start = (panel * width + column) * row_len + index * block * taps;
                // SAFETY: nobody else writes this block, and nobody reads.
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
    /// The output's gradient, `[images, panels, places, width]`.
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
        let (places_in, places) = (sizes.places_in(), sizes.places_out());
        let panels_len = sizes.channels_out.div_ceil(width) * width * places;

        let image_len = sizes.channels_in * places_in;
        let storage_len = channels.len() * planes.channel_len();
        // Small maps several at a time: sums stay in registers for longer.
        let together = (PLACES / places).clamp(1, input.len() / image_len);
        let mut storage = vec![E::ZERO; together * storage_len];
        let images = input.chunks(together * image_len);
        for (images, transposed) in images.zip(transposed.chunks(together * panels_len)) {
            let images = images.chunks_exact(image_len);
            for (image, storage) in images.zip(storage.chunks_exact_mut(storage_len)) {
                let image = &image[channels.start * places_in..channels.end * places_in];
                planes.fill(image, storage);
            }
            for place in (0..places).step_by(PLACES) {
                let len = PLACES.min(places - place);
                let panel_sums = sums.chunks_exact_mut(width * starts.len());
                for (panel, sums) in panel_sums.enumerate() {
                    for (starts, sums) in starts.chunks(R).zip(sums.chunks_mut(R * width)) {
                        let mut registers = [[E::splat(simd, E::ZERO); V]; R];
                        let panels = transposed.chunks_exact(panels_len);
                        for (storage, panels) in storage.chunks_exact(storage_len).zip(panels) {
                            let rows = array::from_fn(|row| {
                                // Rows that do not exist are the last one again; nobody reads
                                // their sums.
                                let start = starts[row.min(starts.len() - 1)];
                                &storage[start + place..][..len]
                            });
                            let panel = &panels[(panel * places + place) * width..][..len * width];
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
    for (place, vectors) in panel.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = E::splat(simd, row[place]);
            for (sum, &vector) in sums.iter_mut().zip(vectors) {
                *sum = E::mul_add(simd, x, vector, *sum);
            }
        }
    }
}

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::points::{GAP, POINTS, SIDE, TILES, panel_width};
use super::tiles::{Layout, Strip, split, tiles_at_once};
use super::transform::{points_of_positions, taps_of_points, vectors_of_points};
use crate::conv2d::cpu::sizes::Sizes;
use crate::conv2d::cpu::transpose::transpose_into_panels;
use crate::cpu::matmul::Matrix;
use crate::cpu::panels::product_with_panel;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::{dispatch, vectorized_for};
use crate::cpu::tasks::{filled, map, part_lens};

/// Most output channels per task.
const CHANNELS: usize = 64;
/// Approximate number of tasks: more than threads, but independent of them, as the order of the
/// sums depends on it.
const TASKS: usize = 16;

/// Gradient of the weight, `[channels_out, channels_in, 3, 3]`, from that of the output.
pub(crate) fn weight_gradient<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    output_grad: &[E],
    threads: usize,
) -> Vec<E> {
    dispatch(WeightGradient { sizes, input, output_grad, threads })
}

/// The gradient of a weight.
pub(super) struct WeightGradient<'a, E> {
    pub(super) sizes: &'a Sizes,
    /// `[batch_size, channels_in, height, width]`.
    pub(super) input: &'a [E],
    /// `[batch_size, channels_out, height, width]`.
    pub(super) output_grad: &'a [E],
    pub(super) threads: usize,
}

impl<E: Scalar> WithSimd for WeightGradient<'_, E> {
    type Output = Vec<E>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
        let Self { sizes, input, output_grad, threads } = self;
        let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
        let image_len = channels_in * sizes.positions_in();
        // The largest width that leaves no vector empty, or the largest one.
        let vectors = channels_in.div_ceil(E::lanes::<S>());
        let most = panel_width::<E, S>() / E::lanes::<S>();
        let fitting = (2..=most).rev().find(|width| vectors.is_multiple_of(*width));
        let width = fitting.unwrap_or(most) * E::lanes::<S>();
        let padded = channels_in.next_multiple_of(width);
        let transposed_len = padded * sizes.positions_in();
        let transposed = filled(
            part_lens(batch_size * transposed_len, transposed_len),
            threads,
            |image, panels| {
                let image = &input[image * image_len..][..image_len];
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || transpose_into_panels(image, sizes.positions_in(), width, panels),
                );
            },
        );

        let parts = channels_out.div_ceil(CHANNELS);
        let parts = split(channels_out, channels_out.div_ceil(parts));
        let groups = (TASKS / parts.len()).clamp(1, batch_size);
        let groups: Vec<_> = split(batch_size, batch_size.div_ceil(groups));
        let tasks =
            parts.iter().flat_map(|channels| groups.iter().map(move |images| (channels, images)));
        let sums: Vec<Vec<E>> = map(tasks.collect(), threads, |(channels, images)| {
            let point_len = channels.len() * padded + GAP;
            let mut sums = vec![E::ZERO; POINTS * point_len];
            simd.vectorize(Sums {
                sizes,
                transposed: &transposed,
                padded,
                width,
                output_grad,
                channels: channels.clone(),
                images: images.clone(),
                sums: &mut sums,
                point_len,
            });
            sums
        });

        let mut weight_grad = vec![E::ZERO; channels_out * channels_in * 9];
        let mut rest = weight_grad.as_mut_slice();
        let mut tasks = Vec::new();
        for (channels, sums) in parts.iter().zip(sums.chunks(groups.len())) {
            let (grads, behind) = rest.split_at_mut(channels.len() * channels_in * 9);
            rest = behind;
            for (row, grads) in grads.chunks_mut(channels_in * 9).enumerate() {
                tasks.push((channels.len() * padded + GAP, row * padded, sums, grads));
            }
        }
        map(tasks, threads, |(point_len, start, sums, grads)| {
            vectorized_for(
                simd,
                #[inline(always)]
                || {
                    let (first, others) = sums.split_first().expect("there is a group");
                    let row = |sums: &[E], point| {
                        sums[point * point_len + start..][..channels_in].to_vec()
                    };
                    let mut points: [Vec<E>; POINTS] = array::from_fn(|point| row(first, point));
                    for sums in others {
                        for (point, total) in points.iter_mut().enumerate() {
                            let sums = &sums[point * point_len + start..][..channels_in];
                            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
                        }
                    }
                    taps_of_points(&points, grads);
                },
            );
        });
        weight_grad
    }
}

/// The sums of a few output channels over some images.
struct Sums<'a, E> {
    sizes: &'a Sizes,
    /// The input, `[batch_size, panels, positions, width]`.
    transposed: &'a [E],
    /// Input channels in all panels.
    padded: usize,
    width: usize,
    output_grad: &'a [E],
    channels: Range<usize>,
    images: Range<usize>,
    /// `[POINTS, channels · padded + GAP]`.
    sums: &'a mut [E],
    point_len: usize,
}

impl<E: Scalar> WithSimd for Sums<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.sizes.tile_columns();
        match tiles_at_once(columns, columns) {
            16 => self.run::<S, 16>(simd),
            8 => self.run::<S, 8>(simd),
            _ => self.run::<S, 4>(simd),
        }
    }
}

impl<E: Scalar> Sums<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(mut self, simd: S) {
        let Self { sizes, padded, width, point_len, .. } = self;
        let sums = std::mem::take(&mut self.sums);
        let rows = self.channels.len();
        let zeros = vec![E::ZERO; width];
        let blocks = sizes.blocks(self.images.clone(), TILES, 1);
        let longest = blocks.iter().map(|block| block.len).max().unwrap_or(0);
        let of_all = |channels| Layout { channels, tiles: longest, width: longest }.len();
        let mut grads = vec![E::ZERO; of_all(rows)];
        let mut inputs = vec![E::ZERO; of_all(width)];
        for block in &blocks {
            let layout = Layout { channels: rows, tiles: block.len, width: block.len };
            for strip in &block.strips {
                for (row, channel) in self.channels.clone().enumerate() {
                    let grads = &mut grads[layout.index(0, row, strip.start)..];
                    self.transform_gradient::<N>(strip, channel, layout, grads);
                }
            }
            let distance = block.len * width + GAP;
            for panel in 0..padded / width {
                for strip in &block.strips {
                    let inputs = &mut inputs[strip.start * width..];
                    self.transform_input(simd, strip, panel, &zeros, distance, inputs);
                }
                for point in 0..POINTS {
                    let grads = &grads[layout.index(point, 0, 0)..][..rows * block.len];
                    let inputs = &inputs[point * distance..][..block.len * width];
                    let sums = &mut sums[point * point_len..][..rows * padded];
                    let sums = sums.chunks_exact_mut(padded);
                    let sums = sums.map(|row| &mut row[panel * width..][..width]);
                    let grads = Matrix::new(grads, rows, block.len);
                    product_with_panel(simd, inputs, width, grads, sums, true);
                }
            }
        }
    }

    /// `A ∂y Aᵀ` for the tiles of a strip in an output channel, `N` tiles of a row at once.
    #[inline(always)]
    fn transform_gradient<const N: usize>(
        &self,
        strip: &Strip,
        channel: usize,
        layout: Layout,
        out: &mut [E],
    ) {
        let sizes = self.sizes;
        let [height, width] = [sizes.axes[0].output, sizes.axes[1].output];
        let image = (strip.image * sizes.channels_out + channel) * sizes.positions_out();
        let image = &self.output_grad[image..][..sizes.positions_out()];
        let columns = sizes.tile_columns();
        for (row, tile_row) in strip.rows.clone().enumerate() {
            for column in (0..columns).step_by(N) {
                let mut positions = [[[E::ZERO; 2]; N]; 2];
                for (positions, y) in positions.iter_mut().zip(2 * tile_row..height) {
                    let seen = &image[y * width..][..width][2 * column..];
                    let seen = &seen[..seen.len().min(2 * N)];
                    let positions = positions.as_flattened_mut();
                    positions.iter_mut().zip(seen).for_each(|(position, seen)| *position = *seen);
                }
                let points = points_of_positions(&positions);
                for (point, points) in points.as_flattened().iter().enumerate() {
                    let start = point * layout.point_len() + row * columns + column;
                    out[start..start + N].copy_from_slice(points);
                }
            }
        }
    }

    /// `Bᵀ d B` for the tiles of a strip in a panel of input channels: `[POINTS, tiles, width]`,
    /// points at a `distance`.
    #[inline(always)]
    fn transform_input<S: Simd>(
        &self,
        simd: S,
        strip: &Strip,
        panel: usize,
        zeros: &[E],
        distance: usize,
        out: &mut [E],
    ) {
        let Self { sizes, transposed, padded, width, .. } = *self;
        let start = (strip.image * padded + panel * width) * sizes.positions_in();
        let transposed = &transposed[start..][..sizes.positions_in() * width];
        let at = |n: usize, axis: usize| {
            let position = usize::try_from(n as isize + sizes.axes[axis].offset).ok();
            position.filter(|position| *position < sizes.axes[axis].input)
        };
        let lanes = E::lanes::<S>();
        let mut out_start = 0;
        for tile_row in strip.rows.clone() {
            for tile_column in 0..sizes.tile_columns() {
                let mut positions = [[zeros; SIDE]; SIDE];
                for (i, positions) in positions.iter_mut().enumerate() {
                    for (j, position) in positions.iter_mut().enumerate() {
                        let inside = (at(2 * tile_row + i, 0), at(2 * tile_column + j, 1));
                        if let (Some(y), Some(x)) = inside {
                            *position =
                                &transposed[(y * sizes.axes[1].input + x) * width..][..width];
                        }
                    }
                }
                for start in (0..width).step_by(lanes) {
                    let zero = E::splat(simd, E::ZERO);
                    let mut rows = [[zero; SIDE]; SIDE];
                    for (row, positions) in rows.iter_mut().zip(&positions) {
                        for (number, position) in row.iter_mut().zip(positions) {
                            *number = E::vectors::<S>(&position[start..start + lanes])[0];
                        }
                        *row = vectors_of_points::<E, S>(simd, *row);
                    }
                    // An iterator over the columns would be compiled for the baseline.
                    #[allow(clippy::needless_range_loop)]
                    for j in 0..SIDE {
                        let column = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
                        let points = vectors_of_points::<E, S>(simd, column);
                        for (i, value) in points.into_iter().enumerate() {
                            let start = (SIDE * i + j) * distance + out_start + start;
                            E::vectors_mut::<S>(&mut out[start..start + lanes])[0] = value;
                        }
                    }
                }
                out_start += width;
            }
        }
    }
}

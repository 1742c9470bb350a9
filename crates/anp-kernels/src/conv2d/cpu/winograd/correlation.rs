use std::array;
use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::points::{GAP, POINTS, SIDE, TILES, panel_width};
use super::tiles::{Block, Layout, Strip, split, tiles_at_once};
use super::transform::{points_of_taps, positions_of_tiles, row_of_points};
use crate::conv2d::cpu::sizes::Sizes;
use crate::cpu::disjoint_slice::DisjointSlice;
use crate::cpu::matmul::Matrix;
use crate::cpu::panels::product_with_panel;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::{dispatch, vectorized};
use crate::cpu::tasks::map;

/// Approximate number of bytes of the L2 cache for the transformed input.
const BYTES: usize = 1 << 19;
/// Output channels whose products are computed before they are transformed.
const OUTPUTS: usize = 48;
/// Most tasks per thread: each one allocates its scratch memory.
const TASKS_PER_THREAD: usize = 4;

/// The correlation of `input`, `[batch_size, channels_in, height, width]`, with
/// `weight(output channel, input channel, tap)`: `[batch_size, channels_out, height, width]`.
///
/// An infinite input turns the results of its tiles into NaN, where the sum over the taps would
/// keep them infinite.
pub(crate) fn correlation<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    bias: Option<&[E]>,
    input: &[E],
    threads: usize,
) -> Vec<E> {
    let weight = transformed_weight(sizes, weight, threads);
    dispatch(Correlation { sizes, weight: &weight, bias, input, threads })
}

/// `G g Gᵀ` for all pairs of channels: `[POINTS, channels_out · channels_in + GAP]`.
pub(super) fn transformed_weight<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    threads: usize,
) -> Vec<E> {
    let (rows, columns) = (sizes.channels_out, sizes.channels_in);
    let point_len = rows * columns + GAP;
    let mut points = Vec::with_capacity(POINTS * point_len);
    let shared = DisjointSlice::new(&mut points.spare_capacity_mut()[..POINTS * point_len]);
    map(split(rows, rows.div_ceil(TASKS_PER_THREAD * threads)), threads, |some| {
        let mut taps = vec![E::ZERO; 9 * columns];
        for row in some {
            for column in 0..columns {
                for tap in 0..9 {
                    taps[tap * columns + column] = weight(row, column, tap);
                }
            }
            let gap = if row + 1 == rows { GAP } else { 0 };
            // SAFETY: no other task accesses this row.
            #[allow(unsafe_code)]
            let points = array::from_fn(|point| unsafe {
                let start = point * point_len + row * columns;
                shared.get_mut(start..start + columns + gap)
            });
            vectorized(
                #[inline(always)]
                || points_of_taps(&taps, points),
            );
        }
    });
    // SAFETY: every row of every point has been written, and the gap after the last one.
    #[allow(unsafe_code)]
    unsafe {
        points.set_len(POINTS * point_len);
    }
    points
}

/// A correlation whose weight has been transformed.
pub(super) struct Correlation<'a, E> {
    pub(super) sizes: &'a Sizes,
    /// `[POINTS, channels_out · channels_in + GAP]`.
    pub(super) weight: &'a [E],
    pub(super) bias: Option<&'a [E]>,
    pub(super) input: &'a [E],
    pub(super) threads: usize,
}

impl<E: Scalar> WithSimd for Correlation<'_, E> {
    type Output = Vec<E>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
        let Self { sizes, weight, bias, input, threads } = self;
        let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
        let most = (BYTES / (size_of::<E>() * POINTS * channels_in)).max(TILES);
        let blocks = sizes.blocks(0..batch_size, most, E::lanes::<S>());
        let len = sizes.output_len();
        let mut out = Vec::with_capacity(len);
        let shared = DisjointSlice::new(&mut out.spare_capacity_mut()[..len]);
        // If there are too few blocks, several threads share one.
        let parts = split(channels_out, channels_out / threads.div_ceil(blocks.len()));
        let tasks = blocks
            .chunks(blocks.len().div_ceil(TASKS_PER_THREAD * threads))
            .flat_map(|blocks| parts.iter().map(move |channels| (blocks, channels.clone())));
        let zeros = vec![E::ZERO; sizes.axes[1].input];
        map(tasks.collect(), threads, |(blocks, channels)| {
            let zeros = &zeros;
            simd.vectorize(Blocks {
                sizes,
                blocks,
                weight,
                bias,
                input,
                channels,
                zeros,
                out: &shared,
            });
        });
        // SAFETY: the tiles cover the output, and each one writes its positions.
        #[allow(unsafe_code)]
        unsafe {
            out.set_len(len);
        }
        out
    }
}

/// Some output channels of some blocks.
struct Blocks<'a, E> {
    sizes: &'a Sizes,
    blocks: &'a [Block],
    weight: &'a [E],
    bias: Option<&'a [E]>,
    input: &'a [E],
    channels: Range<usize>,
    /// As long as a row of the input.
    zeros: &'a [E],
    out: &'a DisjointSlice<'a, MaybeUninit<E>>,
}

impl<E: Scalar> WithSimd for Blocks<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tiles_at_once(self.sizes.tile_columns(), panel_width::<E, S>()) {
            16 => self.run::<S, 16>(simd),
            8 => self.run::<S, 8>(simd),
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl<E: Scalar> Blocks<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const N: usize>(&self, simd: S) {
        let Self { sizes, blocks, weight, channels, .. } = self;
        let channels_in = sizes.channels_in;
        let width = panel_width::<E, S>();
        let longest = blocks.iter().map(|block| block.len).max().unwrap_or(0);
        let of_all = |channels| Layout { channels, tiles: longest, width }.len();
        let mut transformed = vec![E::ZERO; of_all(channels_in)];
        let mut products = vec![E::ZERO; of_all(OUTPUTS)];
        let mut rows = array::from_fn(|_| vec![E::ZERO; 2 * sizes.tile_columns() + 2]);
        for block in *blocks {
            let of_input = Layout { channels: channels_in, tiles: block.len, width };
            for strip in &block.strips {
                for channel in 0..channels_in {
                    self.transform::<N>(strip, channel, of_input, &mut rows, &mut transformed);
                }
            }
            for first in channels.clone().step_by(OUTPUTS) {
                let some = first..channels.end.min(first + OUTPUTS);
                let of_output = Layout { channels: some.len(), tiles: block.len, width: block.len };
                for point in 0..POINTS {
                    let weight = &weight[point * (sizes.channels_out * channels_in + GAP)..];
                    let weight = &weight[some.start * channels_in..some.end * channels_in];
                    let products = &mut products[point * of_output.point_len()..];
                    for tile in (0..block.len).step_by(width) {
                        let width = width.min(block.len - tile);
                        let start = of_input.index(point, 0, tile);
                        let panel = &transformed[start..start + width * channels_in];
                        let rows = products[tile..].chunks_mut(block.len);
                        let rows = rows.take(some.len()).map(|row| &mut row[..width]);
                        let weight = Matrix::new(weight, some.len(), channels_in);
                        product_with_panel(simd, panel, width, weight, rows, false);
                    }
                }
                for strip in &block.strips {
                    for channel in some.clone() {
                        let start = of_output.index(0, channel - first, strip.start);
                        self.output::<N>(strip, channel, &products[start..], of_output);
                    }
                }
            }
        }
    }

    /// `Bᵀ d B` for the tiles of a strip in an input channel, `N` tiles of a row at once.
    ///
    /// `rows` is scratch memory of zeros, in which the padding stays zero.
    #[inline(always)]
    fn transform<const N: usize>(
        &self,
        strip: &Strip,
        channel: usize,
        layout: Layout,
        rows: &mut [Vec<E>; SIDE],
        out: &mut [E],
    ) {
        let sizes = self.sizes;
        let [y, x] = sizes.axes;
        let image = (strip.image * sizes.channels_in + channel) * sizes.positions_in();
        let image = &self.input[image..][..sizes.positions_in()];
        let columns = sizes.tile_columns();
        // The tiles see the row from position `x.offset` on.
        let seen = x.offset.max(0) as usize;
        let first = (-x.offset).max(0) as usize;
        let len = x.input.saturating_sub(seen).min((2 * columns + 2).saturating_sub(first));
        let row_of_image = |row: usize| {
            let row = usize::try_from(row as isize + y.offset).ok().filter(|row| *row < y.input);
            row.map_or(&self.zeros[..len], |row| &image[row * x.input + seen..][..len])
        };
        for (row, tile_row) in strip.rows.clone().enumerate() {
            let d: [&[E]; SIDE] = array::from_fn(|i| row_of_image(2 * tile_row + i));
            let [v0, v1, v2, v3] = rows.each_mut().map(|row| &mut row[first..first + len]);
            subtract(v0, d[0], d[2]);
            add(v1, d[1], d[2]);
            subtract(v2, d[2], d[1]);
            subtract(v3, d[1], d[3]);
            for column in (0..columns).step_by(N) {
                let start = layout.index(0, channel, strip.start + row * columns + column);
                for (i, row) in rows.iter().enumerate() {
                    let points = row_of_points::<E, N>(&row[2 * column..][..2 * N + 2]);
                    for (j, points) in points.into_iter().enumerate() {
                        let start = start + (SIDE * i + j) * layout.point_len();
                        out[start..start + N].copy_from_slice(&points);
                    }
                }
            }
        }
    }

    /// `Aᵀ m A` of the products of a strip, with the bias, to its positions in an output channel,
    /// `N` tiles of a row at once.
    #[inline(always)]
    fn output<const N: usize>(
        &self,
        strip: &Strip,
        channel: usize,
        products: &[E],
        layout: Layout,
    ) {
        let sizes = self.sizes;
        let columns = sizes.tile_columns();
        let [height, width] = [sizes.axes[0].output, sizes.axes[1].output];
        let bias = self.bias.map_or(E::ZERO, |bias| bias[channel]);
        let image = (strip.image * sizes.channels_out + channel) * sizes.positions_out();
        for (row, tile_row) in strip.rows.clone().enumerate() {
            for column in (0..columns).step_by(N) {
                let start = row * columns + column;
                let products: [&[E]; POINTS] =
                    array::from_fn(|point| &products[point * layout.point_len() + start..][..N]);
                let positions = positions_of_tiles::<E, N>(products, bias);
                for (positions, y) in positions.iter().zip(2 * tile_row..height) {
                    let position = image + y * width + 2 * column;
                    let len = (2 * N).min(width - 2 * column);
                    // SAFETY: no other task has this channel of these tiles.
                    #[allow(unsafe_code)]
                    let out = unsafe { self.out.get_mut(position..position + len) };
                    let positions = positions.as_flattened();
                    for (out, position) in out.iter_mut().zip(positions) {
                        out.write(*position);
                    }
                }
            }
        }
    }
}

/// `out ← a + b`.
#[inline(always)]
fn add<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

/// `out ← a − b`.
#[inline(always)]
fn subtract<E: Scalar>(out: &mut [E], a: &[E], b: &[E]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = a - b;
    }
}

//! 3 × 3 correlations with stride 1, and the gradient of their weight, by Winograd's minimal filtering `F(2 × 2, 3 × 3)`.
//!
//! ```text
//! y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A
//! ∂g = Gᵀ [Σ over tiles of (A ∂y Aᵀ) ⊙ (Bᵀ d B)] G
//!
//!      1  0 −1  0        1  0  0
//! Bᵀ = 0  1  1  0    G = ½  ½  ½    Aᵀ = 1  1  1  0
//!      0 −1  1  0        ½ −½  ½         0  1 −1 −1
//!      0  1  0 −1        0  0  1
//! ```
//!
//! A tile of 2 × 2 places of the output, `y`, sees 4 × 4 places of the input, `d`, and takes 16 products for each pair of
//! channels, where the sum over the taps takes 36 (Lavin & Gray, 2016). Each of the 16 *points* is a product of matrices,
//! channels by channels by tiles; for the gradient, channels by tiles by channels. A task takes few tiles through all of it, in
//! its core's cache.

use std::array;
use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::kernel::turn;
use crate::cpu::panels::{LANES, VECTORS, product_with_panel};
use crate::cpu::scalar::Scalar;
use crate::cpu::shared::Shared;
use crate::cpu::simd::{dispatch, vectorized, vectorized_for};
use crate::cpu::tasks::{filled, map, part_lens};

/// Products of a tile.
const POINTS: usize = 16;
/// Side of a tile's input.
const SIDE: usize = 4;
/// Bytes of the second cache that transformed input takes, about.
const BYTES: usize = 1 << 19;
/// Fewest tiles for which a matrix that is not transformed with them is read: the weight, or the sums of its gradient.
const TILES: usize = 64;
/// Output channels whose products are made before they are transformed.
const OUTPUTS: usize = 48;
/// Numbers between the points: without them, those of a channel at all points would fall into the same sets of a cache.
const GAP: usize = 64;
/// Tasks for each thread, at most: memory to work in is asked for once a task.
const TASKS_PER_THREAD: usize = 4;

/// Sizes of a correlation with a kernel of 3 × 3: place `i` of the output sees the places `i + offset ..` of the input, three
/// on each axis, and zero outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) batch_size: usize,
    pub(crate) channels_in: usize,
    pub(crate) channels_out: usize,
    pub(crate) input: [usize; 2],
    pub(crate) output: [usize; 2],
    pub(crate) offset: [isize; 2],
}

impl Sizes {
    /// Whether this is faster than the sum over the taps.
    pub(crate) fn pays(&self) -> bool {
        /// Fewer channels, and the transforms cost more than the products save.
        const CHANNELS: usize = 32;
        let [height, width] = self.output;
        // No more than a fifth of the tiles' places may lie outside, those counted that fill up an image's last vector.
        let used = 4 * self.tiles().next_multiple_of(LANES) <= 5 * (height * width).div_ceil(4);
        used && self.tile_columns().is_multiple_of(4)
            && self.channels_in.min(self.channels_out) >= CHANNELS
            && self.batch_size * self.tiles() >= TILES
    }

    fn tile_rows(&self) -> usize {
        self.output[0].div_ceil(2)
    }

    fn tile_columns(&self) -> usize {
        self.output[1].div_ceil(2)
    }

    fn tiles(&self) -> usize {
        self.tile_rows() * self.tile_columns()
    }

    fn places_in(&self) -> usize {
        self.input.iter().product()
    }

    fn places_out(&self) -> usize {
        self.output.iter().product()
    }

    /// The tiles of some images in blocks of about `most`, a strip in whole vectors of `lanes`. The cuts do not depend on the
    /// number of threads.
    fn blocks(&self, images: Range<usize>, most: usize, lanes: usize) -> Vec<Block> {
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
struct Block {
    strips: Vec<Strip>,
    /// Tiles, with those between strips that nobody asks for.
    len: usize,
}

/// Rows of tiles of an image, and where in the block they start: with a vector.
#[derive(Debug)]
struct Strip {
    image: usize,
    rows: Range<usize>,
    start: usize,
}

/// Where numbers of some channels of a block's tiles lie: `[POINTS, panels, channels, width]`, with [`GAP`]s between points.
#[derive(Debug, Clone, Copy)]
struct Layout {
    channels: usize,
    /// Tiles of the block.
    len: usize,
    /// Tiles of a panel; the last one is as wide as what is left.
    width: usize,
}

impl Layout {
    fn numbers(self) -> usize {
        POINTS * self.point_len()
    }

    /// From a point to the next.
    #[inline(always)]
    fn point_len(self) -> usize {
        self.len * self.channels + GAP
    }

    #[inline(always)]
    fn place(self, point: usize, channel: usize, tile: usize) -> usize {
        let first = tile / self.width * self.width;
        let width = self.width.min(self.len - first);
        point * self.point_len() + first * self.channels + channel * width + (tile - first)
    }
}

/// The correlation of `input`, `[batch_size, channels_in, height, width]`, with `weight(output channel, input channel, tap)`,
/// `[batch_size, channels_out, height, width]`.
///
/// An infinite number in the input makes NaN of what is in a tile with it, where the sum over the taps would keep it infinite.
///
/// # Panics
///
/// If a slice is not as long as `sizes` says.
pub(crate) fn correlation<E: Scalar>(
    sizes: &Sizes,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    bias: Option<&[E]>,
    input: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    assert_eq!(input.len(), batch_size * channels_in * sizes.places_in(), "length of the input");
    let weight = transformed_weight(channels_out, channels_in, weight, threads);
    dispatch(Correlation { sizes, weight: &weight, bias, input, threads })
}

/// `0..len` in parts of about `size`.
fn split(len: usize, size: usize) -> Vec<Range<usize>> {
    let size = size.max(1);
    (0..len).step_by(size).map(|start| start..len.min(start + size)).collect()
}

/// Numbers side by side in a panel, at most.
#[inline(always)]
fn panel_width<E: Scalar, S: Simd>() -> usize {
    E::lanes::<S>() * if S::REGISTER_COUNT > 16 { VECTORS } else { 2 }
}

/// Tiles of a row that are transformed at once: the rows consist of them, and so do the panels.
#[inline(always)]
fn tiles_at_once(columns: usize, panel_width: usize) -> usize {
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

/// `G g Gᵀ` for all pairs of channels: `[POINTS, rows · columns + GAP]`.
fn transformed_weight<E: Scalar>(
    rows: usize,
    columns: usize,
    weight: impl Fn(usize, usize, usize) -> E + Sync,
    threads: usize,
) -> Vec<E> {
    let point_len = rows * columns + GAP;
    let mut points = Vec::with_capacity(POINTS * point_len);
    let shared = Shared::new(&mut points.spare_capacity_mut()[..POINTS * point_len]);
    map(split(rows, rows.div_ceil(TASKS_PER_THREAD * threads)), threads, |some| {
        let mut taps = vec![E::ZERO; 9 * columns];
        for row in some {
            for column in 0..columns {
                for tap in 0..9 {
                    taps[tap * columns + column] = weight(row, column, tap);
                }
            }
            let gap = if row + 1 == rows { GAP } else { 0 };
            // SAFETY: nobody else writes this row, and nobody reads.
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
    // SAFETY: every row of every point has been written, and the gap behind the last one.
    #[allow(unsafe_code)]
    unsafe {
        points.set_len(POINTS * point_len);
    }
    points
}

/// `G` times three numbers.
#[inline(always)]
fn spread_taps<E: Scalar>([a, b, c]: [E; 3]) -> [E; SIDE] {
    let half = E::from_f64(0.5);
    [a, half * (a + c + b), half * (a + c - b), c]
}

/// `Gᵀ` times four numbers.
#[inline(always)]
fn gather_taps<E: Scalar>([a, b, c, d]: [E; SIDE]) -> [E; 3] {
    let half = E::from_f64(0.5);
    let (sum, difference) = (half * (b + c), half * (b - c));
    [a + sum, difference, sum + d]
}

/// `G g Gᵀ` of taps `[9, columns]`, and zeros behind them.
#[inline(always)]
fn points_of_taps<E: Scalar>(taps: &[E], mut points: [&mut [MaybeUninit<E>]; POINTS]) {
    let columns = taps.len() / 9;
    let taps: [&[E]; 9] = array::from_fn(|tap| &taps[tap * columns..][..columns]);
    // A row of points at a time: the compiler makes vector code only of loops over few slices.
    let (points, _) = points.as_chunks_mut::<SIDE>();
    for (i, row) in points.iter_mut().enumerate() {
        let [p0, p1, p2, p3] = row.each_mut().map(|points| {
            let (points, gap) = points.split_at_mut(columns);
            gap.fill(MaybeUninit::new(E::ZERO));
            points
        });
        for column in 0..columns {
            let [a, b, c] = [
                spread_taps([taps[0][column], taps[3][column], taps[6][column]])[i],
                spread_taps([taps[1][column], taps[4][column], taps[7][column]])[i],
                spread_taps([taps[2][column], taps[5][column], taps[8][column]])[i],
            ];
            let [a, b, c, d] = spread_taps([a, b, c]);
            p0[column].write(a);
            p1[column].write(b);
            p2[column].write(c);
            p3[column].write(d);
        }
    }
}

/// A correlation whose weight has been transformed.
struct Correlation<'a, E> {
    sizes: &'a Sizes,
    /// `[POINTS, channels_out · channels_in + GAP]`.
    weight: &'a [E],
    bias: Option<&'a [E]>,
    input: &'a [E],
    threads: usize,
}

impl<E: Scalar> WithSimd for Correlation<'_, E> {
    type Output = Vec<E>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
        let Self { sizes, weight, bias, input, threads } = self;
        let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
        let most = (BYTES / (size_of::<E>() * POINTS * channels_in)).max(TILES);
        let blocks = sizes.blocks(0..batch_size, most, E::lanes::<S>());
        let len = batch_size * channels_out * sizes.places_out();
        let mut out = Vec::with_capacity(len);
        let shared = Shared::new(&mut out.spare_capacity_mut()[..len]);
        // Where there are too few blocks, several threads take the same one.
        let parts = split(channels_out, channels_out / threads.div_ceil(blocks.len()));
        let tasks = blocks
            .chunks(blocks.len().div_ceil(TASKS_PER_THREAD * threads))
            .flat_map(|blocks| parts.iter().map(move |channels| (blocks, channels.clone())));
        let zeros = vec![E::ZERO; sizes.input[1]];
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
        // SAFETY: the tiles cover the output, and each writes its places.
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
    /// As many as a row of the input has.
    zeros: &'a [E],
    out: &'a Shared<'a, MaybeUninit<E>>,
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
        let of_all = |channels| Layout { channels, len: longest, width }.numbers();
        let mut transformed = vec![E::ZERO; of_all(channels_in)];
        let mut products = vec![E::ZERO; of_all(OUTPUTS)];
        let mut rows = array::from_fn(|_| vec![E::ZERO; 2 * sizes.tile_columns() + 2]);
        for block in *blocks {
            let of_input = Layout { channels: channels_in, len: block.len, width };
            for strip in &block.strips {
                for channel in 0..channels_in {
                    self.transform::<N>(strip, channel, of_input, &mut rows, &mut transformed);
                }
            }
            for first in channels.clone().step_by(OUTPUTS) {
                let some = first..channels.end.min(first + OUTPUTS);
                let of_output = Layout { channels: some.len(), len: block.len, width: block.len };
                for point in 0..POINTS {
                    let weight = &weight[point * (sizes.channels_out * channels_in + GAP)..];
                    let weight = &weight[some.start * channels_in..some.end * channels_in];
                    let products = &mut products[point * of_output.point_len()..];
                    for tile in (0..block.len).step_by(width) {
                        let width = width.min(block.len - tile);
                        let start = of_input.place(point, 0, tile);
                        let panel = &transformed[start..start + width * channels_in];
                        let rows = products[tile..].chunks_mut(block.len);
                        let rows = rows.take(some.len()).map(|row| &mut row[..width]);
                        product_with_panel(simd, panel, width, weight, rows, false);
                    }
                }
                for strip in &block.strips {
                    for channel in some.clone() {
                        let place = of_output.place(0, channel - first, strip.start);
                        self.output::<N>(strip, channel, &products[place..], of_output);
                    }
                }
            }
        }
    }

    /// `Bᵀ d B` for the tiles of a strip in an input channel, `N` tiles of a row at once.
    ///
    /// `rows` is memory to work in, of zeros, in which the padding stays zero.
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
        let [height, width] = sizes.input;
        let image = (strip.image * sizes.channels_in + channel) * sizes.places_in();
        let image = &self.input[image..][..sizes.places_in()];
        let columns = sizes.tile_columns();
        let [offset_y, offset_x] = sizes.offset;
        // The tiles see the row from place `offset_x` on.
        let seen = offset_x.max(0) as usize;
        let first = (-offset_x).max(0) as usize;
        let len = width.saturating_sub(seen).min((2 * columns + 2).saturating_sub(first));
        let row_of_image = |y: usize| {
            let y = usize::try_from(y as isize + offset_y).ok().filter(|y| *y < height);
            y.map_or(&self.zeros[..len], |y| &image[y * width + seen..][..len])
        };
        for (row, tile_row) in strip.rows.clone().enumerate() {
            let d: [&[E]; SIDE] = array::from_fn(|y| row_of_image(2 * tile_row + y));
            let [v0, v1, v2, v3] = rows.each_mut().map(|row| &mut row[first..first + len]);
            combine(
                v0,
                d[0],
                d[2],
                #[inline(always)]
                |a, b| a - b,
            );
            combine(
                v1,
                d[1],
                d[2],
                #[inline(always)]
                |a, b| a + b,
            );
            combine(
                v2,
                d[2],
                d[1],
                #[inline(always)]
                |a, b| a - b,
            );
            combine(
                v3,
                d[1],
                d[3],
                #[inline(always)]
                |a, b| a - b,
            );
            for column in (0..columns).step_by(N) {
                let start = layout.place(0, channel, strip.start + row * columns + column);
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

    /// `Aᵀ m A` of the products of a strip, with the bias, to its places in an output channel, `N` tiles of a row at once.
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
        let [height, width] = sizes.output;
        let bias = self.bias.map_or(E::ZERO, |bias| bias[channel]);
        let image = (strip.image * sizes.channels_out + channel) * sizes.places_out();
        for (row, tile_row) in strip.rows.clone().enumerate() {
            for column in (0..columns).step_by(N) {
                let start = row * columns + column;
                let products: [&[E]; POINTS] =
                    array::from_fn(|point| &products[point * layout.point_len() + start..][..N]);
                let places = places_of_tiles::<E, N>(products, bias);
                for (places, y) in places.iter().zip(2 * tile_row..height) {
                    let place = image + y * width + 2 * column;
                    let len = (2 * N).min(width - 2 * column);
                    // SAFETY: only this task has this channel of these tiles.
                    #[allow(unsafe_code)]
                    let out = unsafe { self.out.get_mut(place..place + len) };
                    let places = places.as_flattened();
                    for (out, place) in out.iter_mut().zip(places) {
                        out.write(*place);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn combine<E: Scalar>(out: &mut [E], a: &[E], b: &[E], f: impl Fn(E, E) -> E) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

/// `Bᵀ` times `N` tiles of a row.
#[inline(always)]
fn row_of_points<E: Scalar, const N: usize>(row: &[E]) -> [[E; N]; SIDE] {
    assert_eq!(row.len(), 2 * N + 2, "a tile sees four places");
    let mut points = [[E::ZERO; N]; SIDE];
    for tile in 0..N {
        let [a, b, c, d] = [row[2 * tile], row[2 * tile + 1], row[2 * tile + 2], row[2 * tile + 3]];
        points[0][tile] = a - c;
        points[1][tile] = b + c;
        points[2][tile] = c - b;
        points[3][tile] = b - d;
    }
    points
}

/// `Aᵀ m A` of `N` tiles: two rows of places.
#[inline(always)]
fn places_of_tiles<E: Scalar, const N: usize>(
    products: [&[E]; POINTS],
    bias: E,
) -> [[[E; 2]; N]; 2] {
    for products in products {
        assert_eq!(products.len(), N, "as many tiles at each point");
    }
    let mut places = [[[E::ZERO; 2]; N]; 2];
    for tile in 0..N {
        let mut columns = [[E::ZERO; SIDE]; 2];
        for j in 0..SIDE {
            let (upper, lower) = (products[SIDE + j][tile], products[2 * SIDE + j][tile]);
            columns[0][j] = products[j][tile] + upper + lower;
            columns[1][j] = upper - lower - products[3 * SIDE + j][tile];
        }
        for (places, [a, b, c, d]) in places.iter_mut().zip(columns) {
            places[tile] = [a + bias + b + c, b + bias - c - d];
        }
    }
    places
}

/// Gradient of the weight, `[channels_out, channels_in, 3, 3]`, from that of the output, `[batch_size, channels_out, height, width]`.
///
/// # Panics
///
/// If a slice is not as long as `sizes` says.
pub(crate) fn weight_gradient<E: Scalar>(
    sizes: &Sizes,
    input: &[E],
    out_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
    let image_len = channels_in * sizes.places_in();
    assert_eq!(input.len(), batch_size * image_len, "length of the input");
    let out_len = batch_size * channels_out * sizes.places_out();
    assert_eq!(out_grad.len(), out_len, "length of the output's gradient");

    dispatch(WeightGradient { sizes, input, out_grad, threads })
}

/// A gradient of the weight.
struct WeightGradient<'a, E> {
    sizes: &'a Sizes,
    input: &'a [E],
    out_grad: &'a [E],
    threads: usize,
}

impl<E: Scalar> WithSimd for WeightGradient<'_, E> {
    type Output = Vec<E>;

    fn with_simd<S: Simd>(self, simd: S) -> Vec<E> {
        /// Output channels of a task, at most.
        const CHANNELS: usize = 64;
        /// Tasks to cut the work into, about: more than threads, and not dependent on them, as the order of the sums is.
        const TASKS: usize = 16;

        let Self { sizes, input, out_grad, threads } = self;
        let Sizes { batch_size, channels_in, channels_out, .. } = *sizes;
        let image_len = channels_in * sizes.places_in();
        // As wide as leaves no vector empty, or else as it can be.
        let vectors = channels_in.div_ceil(E::lanes::<S>());
        let most = panel_width::<E, S>() / E::lanes::<S>();
        let fitting = (2..=most).rev().find(|width| vectors.is_multiple_of(*width));
        let width = fitting.unwrap_or(most) * E::lanes::<S>();
        let padded = channels_in.next_multiple_of(width);
        let turned_len = padded * sizes.places_in();
        let turned =
            filled(part_lens(batch_size * turned_len, turned_len), threads, |image, panels| {
                let image = &input[image * image_len..][..image_len];
                vectorized_for(
                    simd,
                    #[inline(always)]
                    || turn(image, sizes.places_in(), width, panels),
                );
            });

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
                turned: &turned,
                padded,
                width,
                out_grad,
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
    /// The input, `[batch_size, panels, places, width]`.
    turned: &'a [E],
    /// Input channels in all panels.
    padded: usize,
    width: usize,
    out_grad: &'a [E],
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
        let of_all = |channels| Layout { channels, len: longest, width: longest }.numbers();
        let mut grads = vec![E::ZERO; of_all(rows)];
        let mut inputs = vec![E::ZERO; of_all(width)];
        for block in &blocks {
            let layout = Layout { channels: rows, len: block.len, width: block.len };
            for strip in &block.strips {
                for (row, channel) in self.channels.clone().enumerate() {
                    let grads = &mut grads[layout.place(0, row, strip.start)..];
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
                    let grads = &grads[layout.place(point, 0, 0)..][..rows * block.len];
                    let inputs = &inputs[point * distance..][..block.len * width];
                    let sums = &mut sums[point * point_len..][..rows * padded];
                    let sums = sums.chunks_exact_mut(padded);
                    let sums = sums.map(|row| &mut row[panel * width..][..width]);
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
        let [height, width] = sizes.output;
        let image = (strip.image * sizes.channels_out + channel) * sizes.places_out();
        let image = &self.out_grad[image..][..sizes.places_out()];
        let columns = sizes.tile_columns();
        for (row, tile_row) in strip.rows.clone().enumerate() {
            for column in (0..columns).step_by(N) {
                let mut places = [[[E::ZERO; 2]; N]; 2];
                for (places, y) in places.iter_mut().zip(2 * tile_row..height) {
                    let seen = &image[y * width..][..width][2 * column..];
                    let seen = &seen[..seen.len().min(2 * N)];
                    let places = places.as_flattened_mut();
                    places.iter_mut().zip(seen).for_each(|(place, seen)| *place = *seen);
                }
                let points = points_of_places(&places);
                for (point, points) in points.as_flattened().iter().enumerate() {
                    let start = point * layout.point_len() + row * columns + column;
                    out[start..start + N].copy_from_slice(points);
                }
            }
        }
    }

    /// `Bᵀ d B` for the tiles of a strip in a panel of input channels: `[POINTS, tiles, width]`, points at a `distance`.
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
        let Self { sizes, turned, padded, width, .. } = *self;
        let start = (strip.image * padded + panel * width) * sizes.places_in();
        let turned = &turned[start..][..sizes.places_in() * width];
        let at = |n: usize, axis: usize| {
            let place = usize::try_from(n as isize + sizes.offset[axis]).ok();
            place.filter(|place| *place < sizes.input[axis])
        };
        let lanes = E::lanes::<S>();
        let mut out_start = 0;
        for tile_row in strip.rows.clone() {
            for tile_column in 0..sizes.tile_columns() {
                let mut places = [[zeros; SIDE]; SIDE];
                for (i, places) in places.iter_mut().enumerate() {
                    for (j, place) in places.iter_mut().enumerate() {
                        let inside = (at(2 * tile_row + i, 0), at(2 * tile_column + j, 1));
                        if let (Some(y), Some(x)) = inside {
                            *place = &turned[(y * sizes.input[1] + x) * width..][..width];
                        }
                    }
                }
                for start in (0..width).step_by(lanes) {
                    let zero = E::splat(simd, E::ZERO);
                    let mut rows = [[zero; SIDE]; SIDE];
                    for (row, places) in rows.iter_mut().zip(&places) {
                        for (number, place) in row.iter_mut().zip(places) {
                            *number = E::vectors::<S>(&place[start..start + lanes])[0];
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

/// `Bᵀ` times four numbers, those of a vector at once.
// Neither `map` nor `from_fn`: they are compiled for the baseline.
#[inline(always)]
fn vectors_of_points<E: Scalar, S: Simd>(
    simd: S,
    [a, b, c, d]: [E::Vector<S>; SIDE],
) -> [E::Vector<S>; SIDE] {
    let one = E::splat(simd, E::ONE);
    let minus = E::splat(simd, -E::ONE);
    [
        E::mul_add(simd, minus, c, a),
        E::mul_add(simd, one, b, c),
        E::mul_add(simd, minus, b, c),
        E::mul_add(simd, minus, d, b),
    ]
}

/// `A ∂y Aᵀ` of `N` tiles.
#[inline(always)]
fn points_of_places<E: Scalar, const N: usize>(
    places: &[[[E; 2]; N]; 2],
) -> [[[E; N]; SIDE]; SIDE] {
    let mut points = [[[E::ZERO; N]; SIDE]; SIDE];
    for tile in 0..N {
        let [[a, b], [c, d]] = [places[0][tile], places[1][tile]];
        let columns = [[a, c], [a + b, c + d], [a - b, c - d], [-b, -d]];
        for (j, [upper, lower]) in columns.into_iter().enumerate() {
            points[0][j][tile] = upper;
            points[1][j][tile] = upper + lower;
            points[2][j][tile] = upper - lower;
            points[3][j][tile] = -lower;
        }
    }
    points
}

/// `Gᵀ s G`, a kernel for each input channel: `[columns, 9]`.
#[inline(always)]
fn taps_of_points<E: Scalar>(points: &[Vec<E>; POINTS], taps: &mut [E]) {
    let columns = taps.len() / 9;
    let points = points.each_ref().map(|points| &points[..columns]);
    for (column, taps) in taps.chunks_exact_mut(9).enumerate() {
        let mut rows = [[E::ZERO; 3]; SIDE];
        for (i, row) in rows.iter_mut().enumerate() {
            let at = SIDE * i;
            *row = gather_taps([
                points[at][column],
                points[at + 1][column],
                points[at + 2][column],
                points[at + 3][column],
            ]);
        }
        for x in 0..3 {
            let column = gather_taps([rows[0][x], rows[1][x], rows[2][x], rows[3][x]]);
            for (y, tap) in column.into_iter().enumerate() {
                taps[3 * y + x] = tap;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers<E: Scalar>(len: usize, seed: usize) -> Vec<E> {
        (0..len).map(|i| E::from_f64(((i * 37 + seed * 101) as f64 * 0.37).sin())).collect()
    }

    /// Both with the vectors of `simd` against those of this machine, which `conv2d` tests.
    ///
    /// They round differently where a product and a sum are one instruction: sums of some thousand numbers up to 1, each off by
    /// half a unit of its last place, which is 2⁻²⁴ or 2⁻⁵³ of up to a thousand.
    fn check<E: Scalar, S: Simd>(simd: S, tolerance: f64) {
        for (channels, columns) in [([33, 36], 8), ([40, 50], 24), ([32, 32], 16), ([35, 64], 31)] {
            let [channels_in, channels_out] = channels;
            let side = [16, columns];
            let sizes = Sizes {
                batch_size: 3,
                channels_in,
                channels_out,
                input: side,
                output: side,
                offset: [-1, -1],
            };
            assert!(sizes.pays(), "{sizes:?}");
            let places = sizes.places_in();
            let input = numbers::<E>(3 * channels_in * places, 1);
            let out_grad = numbers::<E>(3 * channels_out * places, 2);
            let weight = numbers::<E>(9 * channels_in * channels_out, 3);
            let bias = numbers::<E>(channels_out, 4);
            let weight = |o, c, tap| weight[(o * channels_in + c) * 9 + tap];
            let weight = transformed_weight(channels_out, channels_in, weight, 2);
            let correlation = || Correlation {
                sizes: &sizes,
                weight: &weight,
                bias: Some(&bias),
                input: &input,
                threads: 2,
            };
            let gradient =
                || WeightGradient { sizes: &sizes, input: &input, out_grad: &out_grad, threads: 2 };
            let results = [simd.vectorize(correlation()), simd.vectorize(gradient())];
            let expected = [dispatch(correlation()), dispatch(gradient())];
            for (results, expected) in results.iter().zip(&expected) {
                assert_eq!(results.len(), expected.len(), "{sizes:?}");
                for (x, y) in results.iter().zip(expected) {
                    let error = (x.to_f64() - y.to_f64()).abs();
                    assert!(error < tolerance, "{sizes:?}: {x:?}, not {y:?}");
                }
            }
        }
    }

    #[test]
    fn with_vectors_of_other_machines() {
        check::<f32, _>(pulp::Scalar, 1e-3);
        check::<f64, _>(pulp::Scalar, 1e-11);
        check::<f32, _>(pulp::Scalar128b, 1e-3);
        check::<f64, _>(pulp::Scalar128b, 1e-11);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            check::<f32, _>(simd, 1e-3);
            check::<f64, _>(simd, 1e-11);
        }
    }
}

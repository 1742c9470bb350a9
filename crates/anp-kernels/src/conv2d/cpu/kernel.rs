//! Convolution of images, and its gradients, as products that never see a whole im2col matrix.
//!
//! A tap `(dy, dx)` of the kernel multiplies the image shifted by it. In a *plane*, the image of a channel shifted by `dx` and
//! written without padding between its rows, a shift by `dy` is one by whole rows, so that for each tap all places of the
//! output read consecutive numbers, however small the map is. Planes are `kernel width` copies of the image, where im2col
//! makes `kernel height · kernel width`; they are made for a few channels at a time and stay in the second cache.
//!
//! Kernels of 3 × 3 with stride 1 between many channels are [`winograd`]'s.

use std::array;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::winograd;
use crate::cpu::reduce::{BLOCK, LaneSums};
use crate::cpu::scalar::Scalar;
use crate::cpu::shared::Shared;
use crate::cpu::simd::{dispatch, vectorized};
use crate::cpu::tasks::{filled, map, part_lens};

/// Taps of all channels in a block, about: what the first cache holds for a tile.
const DEPTH: usize = 144;
/// Vectors of places in a tile.
const VECTORS: usize = 2;
/// Most channels in a tile.
const MOST_ROWS: usize = 8;
/// Most numbers in a vector.
const LANES: usize = 16;
/// Places of the output in a block of the weight's gradient.
const PLACES: usize = 256;
/// Places that a task takes at least, where there are images enough: what one weight is loaded for.
const TASK_PLACES: usize = 512;

/// Sizes of a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) batch_size: usize,
    pub(crate) channels_in: usize,
    pub(crate) channels_out: usize,
    pub(crate) input: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl Dims {
    /// Height and width of the output, or `None` if the kernel is larger than the padded input.
    pub(crate) fn output(&self) -> Option<[usize; 2]> {
        let side = |axis: usize| {
            let room = self.input[axis] + 2 * self.padding[axis];
            Some(room.checked_sub(self.kernel[axis])? / self.stride[axis] + 1)
        };
        Some([side(0)?, side(1)?])
    }

    fn axes(&self) -> [Axis; 2] {
        let output = self.output().expect("the caller has checked the sizes");
        array::from_fn(|axis| Axis {
            input: self.input[axis],
            output: output[axis],
            stride: self.stride[axis],
            taps: self.kernel[axis],
            offset: -(self.padding[axis] as isize),
        })
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// These sizes for Winograd's algorithm, if that is for them.
    fn winograd(&self) -> Option<winograd::Sizes> {
        let Self { batch_size, channels_in, channels_out, input, kernel, stride, padding } = *self;
        let sizes = winograd::Sizes {
            batch_size,
            channels_in,
            channels_out,
            input,
            output: self.output().expect("the caller has checked the sizes"),
            offset: padding.map(|padding| -(padding as isize)),
        };
        (kernel == [3, 3] && stride == [1, 1]).then_some(sizes)
    }

    /// Those of the correlation of the output's gradient with the kernel turned round, which is the input's gradient.
    fn winograd_turned(&self) -> Option<winograd::Sizes> {
        self.winograd().map(|sizes| winograd::Sizes {
            channels_in: sizes.channels_out,
            channels_out: sizes.channels_in,
            input: sizes.output,
            output: sizes.input,
            offset: sizes.offset.map(|offset| -2 - offset),
            ..sizes
        })
    }

    fn places_in(&self) -> usize {
        self.input.iter().product()
    }

    fn places_out(&self) -> usize {
        self.axes().iter().map(|axis| axis.output).product()
    }
}

/// An axis of a correlation: place `i` of the output sees place `stride · i + tap + offset` of the input, or zero outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    input: usize,
    output: usize,
    stride: usize,
    taps: usize,
    offset: isize,
}

impl Axis {
    /// Places of the output that see the input at a shift, and the first place that they see.
    fn seen(&self, shift: isize, output: usize) -> (Range<usize>, usize) {
        let stride = self.stride as isize;
        let start = (-shift).max(0).div_ceil_signed(stride);
        let end = (self.input as isize - shift).max(0).div_ceil_signed(stride);
        let end = end.min(output as isize).max(start.min(output as isize)) as usize;
        let start = (start as usize).min(end);
        let first = if start < end { (stride * start as isize + shift) as usize } else { 0 };
        (start..end, first)
    }
}

trait DivCeil {
    fn div_ceil_signed(self, divisor: Self) -> Self;
}

impl DivCeil for isize {
    /// Of numbers that are not negative.
    fn div_ceil_signed(self, divisor: Self) -> Self {
        (self + divisor - 1) / divisor
    }
}

/// Where planes of a block of channels lie, and each tap in them.
struct Planes {
    axes: [Axis; 2],
    /// Kinds of rows: `tap mod stride`.
    kinds: usize,
    /// Rows of a plane.
    rows: usize,
}

impl Planes {
    fn new(axes: [Axis; 2]) -> Self {
        let [y, _] = axes;
        Self { axes, kinds: y.taps.min(y.stride), rows: y.output + (y.taps - 1) / y.stride }
    }

    fn plane_len(&self) -> usize {
        self.rows * self.axes[1].output
    }

    /// Numbers in the planes of a channel.
    fn channel_len(&self) -> usize {
        self.kinds * self.axes[1].taps * self.plane_len()
    }

    /// Where the numbers that the taps multiply start, in the order of a weight, for `channels` channels.
    fn starts(&self, channels: usize) -> Vec<usize> {
        let [y, x] = self.axes;
        let mut starts = Vec::with_capacity(channels * y.taps * x.taps);
        for channel in 0..channels {
            for dy in 0..y.taps {
                for dx in 0..x.taps {
                    let plane = dy % y.stride * x.taps + dx;
                    let start = plane * self.plane_len() + dy / y.stride * x.output;
                    starts.push(channel * self.channel_len() + start);
                }
            }
        }
        starts
    }

    /// Write the planes of the channels that lie in `image`.
    #[inline(always)]
    fn fill<E: Scalar>(&self, image: &[E], planes: &mut [E]) {
        let [y, x] = self.axes;
        let channels = image.chunks_exact(y.input * x.input);
        let planes = planes.chunks_exact_mut(self.channel_len());
        for (channel, planes) in channels.zip(planes) {
            for (index, plane) in planes.chunks_exact_mut(self.plane_len()).enumerate() {
                let (kind, dx) = (index / x.taps, index % x.taps);
                let (rows, first_row) = y.seen(kind as isize + y.offset, self.rows);
                let (columns, first) = x.seen(dx as isize + x.offset, x.output);
                plane[..rows.start * x.output].fill(E::ZERO);
                plane[rows.end * x.output..].fill(E::ZERO);
                let inside = &mut plane[rows.start * x.output..rows.end * x.output];
                let seen = &channel[first_row * x.input..];
                if x.stride == 1 && y.stride == 1 && x.input == x.output && !rows.is_empty() {
                    shifted(seen, columns, first, x.output, inside);
                    continue;
                }
                let seen = seen.chunks(y.stride * x.input);
                for (row, seen) in inside.chunks_exact_mut(x.output).zip(seen) {
                    row[..columns.start].fill(E::ZERO);
                    row[columns.end..].fill(E::ZERO);
                    let seen = seen[first..].iter().step_by(x.stride);
                    for (number, seen) in row[columns.clone()].iter_mut().zip(seen) {
                        *number = *seen;
                    }
                }
            }
        }
    }
}

/// Rows of `width` numbers, shifted against those of `seen`: all in one copy, after which the columns are zeroed that have
/// come from a neighbouring row.
#[inline(always)]
fn shifted<E: Scalar>(
    seen: &[E],
    columns: Range<usize>,
    first: usize,
    width: usize,
    rows: &mut [E],
) {
    let len = rows.len() - columns.start - (width - columns.end);
    rows[columns.start..][..len].copy_from_slice(&seen[first..][..len]);
    for row in rows.chunks_exact_mut(width) {
        row[..columns.start].fill(E::ZERO);
        row[columns.end..].fill(E::ZERO);
    }
}

/// Channels in a block.
fn block_channels(taps: usize) -> usize {
    (DEPTH / taps).max(1)
}

/// Channels in a tile: as many as the registers hold sums for.
fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT > 16 { MOST_ROWS } else { MOST_ROWS / 2 }
}

/// The weight of a correlation in the order in which tiles read it: blocks of input channels, in these tiles of output
/// channels, in these the taps of all channels of the block.
struct Packed<E> {
    channels_in: usize,
    channels_out: usize,
    taps: usize,
    rows: usize,
    weight: Vec<E>,
}

impl<E: Scalar> Packed<E> {
    /// Pack `weight(output channel, input channel, tap)`.
    fn new(
        channels_in: usize,
        channels_out: usize,
        taps: usize,
        rows: usize,
        threads: usize,
        weight: impl Fn(usize, usize, usize) -> E + Sync,
    ) -> Self {
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
        Self { channels_in, channels_out, taps, rows, weight: packed }
    }

    /// First input channel, number of input channels, and weights of each block.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, &[E])> {
        let block = block_channels(self.taps);
        let channel_len = self.channels_out.div_ceil(self.rows) * self.rows * self.taps;
        let starts = (0..self.channels_in).step_by(block);
        starts
            .zip(self.weight.chunks(block * channel_len))
            .map(move |(start, weight)| (start..self.channels_in.min(start + block), weight))
    }
}

/// `out[n, o, p] ← bias[o] + Σ over c and taps of weight[o, c, tap] · input[n, c, p shifted by the tap]` for some images.
struct Correlation<'a, E> {
    axes: [Axis; 2],
    packed: &'a Packed<E>,
    bias: Option<&'a [E]>,
    /// `[images, channels_in, height, width]`.
    input: &'a [E],
    /// Output channels; the first is that of a tile.
    channels: Range<usize>,
    /// `[images, channels, height, width]`.
    out: &'a mut [E],
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
        let Self { axes, packed, bias, input, channels, out } = self;
        assert_eq!(packed.rows, R, "the weight is packed for these vectors");
        let planes = Planes::new(axes);
        let places = axes[0].output * axes[1].output;
        let places_in = axes[0].input * axes[1].input;
        let image_len = packed.channels_in * places_in;
        let images = input.len() / image_len;
        let lanes = E::lanes::<S>();
        let tile_places = VECTORS * lanes;

        let block = block_channels(packed.taps).min(packed.channels_in);
        let starts = planes.starts(block);
        // The last tile may read past the last plane.
        let block_len = block * planes.channel_len();
        let mut storage = vec![E::ZERO; images * block_len + tile_places];

        for (block_channels, weight) in packed.blocks() {
            for image in 0..images {
                let block_in = block_channels.start * places_in..block_channels.end * places_in;
                let image_in = &input[image * image_len..][block_in];
                planes.fill(image_in, &mut storage[image * block_len..][..block_len]);
            }
            let depth = block_channels.len() * packed.taps;
            let starts = Starts::new(&starts[..depth]);
            for (image, out) in out.chunks_exact_mut(channels.len() * places).enumerate() {
                let storage = &storage[image * block_len..];
                for place in (0..places).step_by(tile_places) {
                    let width = tile_places.min(places - place);
                    let storage = &storage[place..];
                    for first in channels.clone().step_by(R) {
                        let weight = &weight[first * depth..][..R * depth];
                        let rows = R.min(channels.end - first);
                        let mut out = OutTile {
                            rows: &mut out[(first - channels.start) * places..][..rows * places],
                            places,
                            range: place..place + width,
                        };
                        let initial = if block_channels.start > 0 {
                            Initial::Stored
                        } else {
                            Initial::Bias(bias.map(|bias| &bias[first..][..rows]))
                        };
                        if width == tile_places {
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
    /// The number that is in its place already.
    Stored,
}

/// Places of a few channels of an output.
struct OutTile<'a, E> {
    /// The channels, one behind the other.
    rows: &'a mut [E],
    places: usize,
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
            for (sums, row) in sums.iter_mut().zip(out.rows.chunks_exact(out.places)) {
                let row = &row[out.range.clone()][..width];
                sums.copy_from_slice(E::vectors::<S>(row));
            }
        }
    }
    let (weights, _) = weight.as_chunks::<R>();
    assert!(starts.last + width <= planes.len(), "a tap reads past the planes");
    for (start, weights) in starts.starts.iter().zip(weights) {
        // A check here, at every tap, would cost a tenth of the time.
        // SAFETY: no start is behind the last one, for which it has been checked.
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
    for (sums, row) in sums.iter().zip(out.rows.chunks_exact_mut(out.places)) {
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
    let places = width.div_ceil(lanes) * lanes;
    let mut whole = [E::ZERO; MOST_ROWS * VECTORS * LANES];
    let rows = out.rows.len() / out.places;
    let whole = &mut whole[..rows * places];
    for (whole, row) in whole.chunks_exact_mut(places).zip(out.rows.chunks_exact(out.places)) {
        whole[..width].copy_from_slice(&row[out.range.clone()]);
    }
    let mut tile = OutTile { rows: &mut *whole, places, range: 0..places };
    if places == lanes {
        correlate::<E, S, R, 1>(simd, planes, starts, weight, initial, &mut tile);
    } else {
        correlate::<E, S, R, VECTORS>(simd, planes, starts, weight, initial, &mut tile);
    }
    for (whole, row) in whole.chunks_exact(places).zip(out.rows.chunks_exact_mut(out.places)) {
        row[out.range.clone()].copy_from_slice(&whole[..width]);
    }
}

/// Rows of a tile with the vectors of this machine.
fn rows_here() -> usize {
    struct Rows;

    impl WithSimd for Rows {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            tile_rows::<S>()
        }
    }

    dispatch(Rows)
}

/// Images that a task takes, and output channels if that is one image: enough tasks for all threads, no smaller than they
/// have to be. Each number of the output is computed in one task, so this changes none.
fn shares(dims: [usize; 3], rows: usize, threads: usize) -> (usize, usize) {
    let [batch_size, channels_out, places] = dims;
    if batch_size >= 2 * threads {
        return ((TASK_PLACES / places).clamp(1, batch_size / (2 * threads)), channels_out);
    }
    let parts = (4 * threads).div_ceil(batch_size);
    (1, channels_out.div_ceil(rows).div_ceil(parts) * rows)
}

/// The output, `[batch_size, channels_out, height, width]`, of `input`, `[batch_size, channels_in, height, width]`, and
/// `weight`, `[channels_out, channels_in, kernel height, kernel width]`.
///
/// # Panics
///
/// If a slice is not as long as `dims` says.
pub(crate) fn forward<E: Scalar>(
    dims: &Dims,
    input: &[E],
    weight: &[E],
    bias: Option<&[E]>,
    threads: usize,
) -> Vec<E> {
    let Dims { batch_size, channels_in, channels_out, .. } = *dims;
    let taps = dims.taps();
    assert_eq!(input.len(), batch_size * channels_in * dims.places_in(), "length of the input");
    assert_eq!(weight.len(), channels_out * channels_in * taps, "length of the weight");
    if let Some(sizes) = dims.winograd().filter(winograd::Sizes::pays) {
        let weight = |o, c, tap| weight[(o * channels_in + c) * taps + tap];
        return winograd::correlation(&sizes, weight, bias, input, threads);
    }
    let packed = Packed::new(channels_in, channels_out, taps, rows_here(), threads, |o, c, tap| {
        weight[(o * channels_in + c) * taps + tap]
    });
    correlation(dims.axes(), batch_size, &packed, bias, input, threads)
}

fn correlation<E: Scalar>(
    axes: [Axis; 2],
    batch_size: usize,
    packed: &Packed<E>,
    bias: Option<&[E]>,
    input: &[E],
    threads: usize,
) -> Vec<E> {
    let Packed { channels_in, channels_out, .. } = *packed;
    let places = axes[0].output * axes[1].output;
    let image_len = channels_in * axes[0].input * axes[1].input;
    let (images, channels) = shares([batch_size, channels_out, places], packed.rows, threads);
    let parts = channels_out.div_ceil(channels);
    // Where an image is one task, or several, tasks do not cross images.
    let part_lens = (0..batch_size.div_ceil(images) * parts).map(|task| {
        let (group, part) = (task / parts, task % parts);
        let images = images.min(batch_size - group * images);
        images * channels.min(channels_out - part * channels) * places
    });
    filled(part_lens, threads, |task, out| {
        let (group, part) = (task / parts, task % parts);
        let images = group * images..batch_size.min((group + 1) * images);
        dispatch(Correlation {
            axes,
            packed,
            bias,
            input: &input[images.start * image_len..images.end * image_len],
            channels: part * channels..channels_out.min((part + 1) * channels),
            out,
        });
    })
}

/// The places of the input's gradient along an axis that see the same taps of the kernel, those `r mod stride`: as the
/// output of a correlation with the output's gradient, and the first of these places.
fn phase(axis: &Axis, r: usize) -> (Axis, usize) {
    let Axis { input, output, stride, taps, offset } = *axis;
    let padding = offset.unsigned_abs();
    // Place `u` of the input meets tap `r + stride · a` in place `t − a` of the output, where `u + padding = stride · t + r`.
    let first_t = padding.saturating_sub(r).div_ceil(stride);
    let first = stride * first_t + r - padding;
    let taps = taps.saturating_sub(r).div_ceil(stride);
    let phase = Axis {
        input: output,
        output: input.saturating_sub(first).div_ceil(stride),
        stride: 1,
        taps,
        offset: first_t as isize + 1 - taps as isize,
    };
    (phase, first)
}

/// Gradient of the input from that of the output.
///
/// # Panics
///
/// If a slice is not as long as `dims` says.
pub(crate) fn input_gradient<E: Scalar>(
    dims: &Dims,
    weight: &[E],
    out_grad: &[E],
    threads: usize,
) -> Vec<E> {
    let Dims { batch_size, channels_in, channels_out, kernel, stride, .. } = *dims;
    let all_taps = dims.taps();
    let (places_in, out_len) = (dims.places_in(), channels_out * dims.places_out());
    assert_eq!(out_grad.len(), batch_size * out_len, "length of the output's gradient");
    assert_eq!(weight.len(), channels_out * channels_in * all_taps, "length of the weight");
    if let Some(sizes) = dims.winograd_turned().filter(winograd::Sizes::pays) {
        let weight = |c, o, tap: usize| weight[(o * channels_in + c) * all_taps + (8 - tap)];
        return winograd::correlation(&sizes, weight, None, out_grad, threads);
    }
    let rows = rows_here();
    let axes = dims.axes();
    let mut phases = Vec::new();
    for r in (0..stride[0]).flat_map(|y| (0..stride[1]).map(move |x| [y, x])) {
        let [(y, first_y), (x, first_x)] = [phase(&axes[0], r[0]), phase(&axes[1], r[1])];
        if y.taps * x.taps * y.output * x.output == 0 {
            continue;
        }
        let packed =
            Packed::new(channels_out, channels_in, y.taps * x.taps, rows, threads, |c, o, tap| {
                let dy = r[0] + stride[0] * (y.taps - 1 - tap / x.taps);
                let dx = r[1] + stride[1] * (x.taps - 1 - tap % x.taps);
                weight[(o * channels_in + c) * all_taps + dy * kernel[1] + dx]
            });
        phases.push(([y, x], [first_y, first_x], packed));
    }
    if let ([1, 1], [(axes, _, packed)]) = (stride, phases.as_slice()) {
        return correlation(*axes, batch_size, packed, None, out_grad, threads);
    }
    let image_len = channels_in * places_in;
    filled(part_lens(batch_size * image_len, image_len), threads, |image, grad: &mut [E]| {
        for ([y, x], [first_y, first_x], packed) in &phases {
            let places = y.output * x.output;
            let mut out = vec![E::ZERO; channels_in * places];
            dispatch(Correlation {
                axes: [*y, *x],
                packed,
                bias: None,
                input: &out_grad[image * out_len..][..out_len],
                channels: 0..channels_in,
                out: &mut out,
            });
            for (grad, out) in grad.chunks_exact_mut(places_in).zip(out.chunks_exact(places)) {
                let grad = grad.chunks_exact_mut(dims.input[1]).skip(*first_y).step_by(stride[0]);
                for (grad, out) in grad.zip(out.chunks_exact(x.output)) {
                    let grad = grad[*first_x..].iter_mut().step_by(stride[1]);
                    grad.zip(out).for_each(|(grad, out)| *grad = *out);
                }
            }
        }
    })
}

/// Gradient of the bias from `out_grad`, `[batch_size, channels, places]`: a sum over images and places.
pub(crate) fn bias_gradient<E: Scalar>(
    out_grad: &[E],
    channels: usize,
    places: usize,
    threads: usize,
) -> Vec<E> {
    let images = out_grad.chunks_exact(channels * places);
    map((0..channels).collect(), threads, |channel| {
        vectorized(
            #[inline(always)]
            || {
                let mut sum = LaneSums::<E, 1>::new();
                for image in images.clone() {
                    for part in image[channel * places..][..places].chunks(BLOCK) {
                        sum.add(
                            part,
                            part,
                            #[inline(always)]
                            |x, _| [x],
                        );
                    }
                }
                let [sum] = sum.finish();
                E::from_f64(sum)
            },
        )
    })
}

/// Gradient of the weight.
///
/// # Panics
///
/// If a slice is not as long as `dims` says.
pub(crate) fn weight_gradient<E: Scalar>(
    dims: &Dims,
    input: &[E],
    out_grad: &[E],
    threads: usize,
) -> Vec<E> {
    /// Tasks to cut the work into, about: more than threads, and not dependent on them, as the order of the sums is.
    const TASKS: usize = 32;

    let Dims { batch_size, channels_in, channels_out, .. } = *dims;
    let taps = dims.taps();
    let (image_len, out_len) = (channels_in * dims.places_in(), channels_out * dims.places_out());
    assert_eq!(input.len(), batch_size * image_len, "length of the input");
    assert_eq!(out_grad.len(), batch_size * out_len, "length of the output's gradient");
    if let Some(sizes) = dims.winograd().filter(winograd::Sizes::pays) {
        return winograd::weight_gradient(&sizes, input, out_grad, threads);
    }

    let width = dispatch(PanelWidth::<E>::of(channels_out));
    let panels = channels_out.div_ceil(width);
    let panels_len = panels * width * dims.places_out();
    let turned =
        filled(part_lens(batch_size * panels_len, panels_len), threads, |image, panels| {
            let out_grad = &out_grad[image * out_len..][..out_len];
            vectorized(
                #[inline(always)]
                || turn(out_grad, dims.places_out(), width, panels),
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
    let shared = Shared::new(&mut weight_grad);
    // Write the sums of a block of channels, `[panels, depth, width]`, to their place in the rows of the weight.
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
            dims,
            input: &input[images.start * image_len..images.end * image_len],
            channels,
            turned: &turned[images.start * panels_len..images.end * panels_len],
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

/// Output channels side by side in the weight's gradient: two vectors, or one if that holds all.
struct PanelWidth<E> {
    channels_out: usize,
    element: std::marker::PhantomData<E>,
}

impl<E> PanelWidth<E> {
    fn of(channels_out: usize) -> Self {
        Self { channels_out, element: std::marker::PhantomData }
    }
}

impl<E: Scalar> WithSimd for PanelWidth<E> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> usize {
        let lanes = E::lanes::<S>();
        if self.channels_out <= lanes { lanes } else { VECTORS * lanes }
    }
}

/// Write `image`, `[channels, places]`, as panels of `[places, width]`; the last one's columns beyond the channels stay.
#[inline(always)]
pub(super) fn turn<E: Scalar>(image: &[E], places: usize, width: usize, panels: &mut [E]) {
    /// Side of a square that is turned in registers.
    const SIDE: usize = 8;

    let panels = panels.chunks_exact_mut(width * places);
    for (rows, panel) in image.chunks(width * places).zip(panels) {
        for (strip, rows) in rows.chunks(SIDE * places).enumerate() {
            let column = strip * SIDE;
            let whole = if rows.len() == SIDE * places { places / SIDE * SIDE } else { 0 };
            for place in (0..whole).step_by(SIDE) {
                let square: [[E; SIDE]; SIDE] =
                    array::from_fn(|n| array::from_fn(|k| rows[n * places + place + k]));
                for k in 0..SIDE {
                    let turned: [E; SIDE] = array::from_fn(|n| square[n][k]);
                    panel[(place + k) * width + column..][..SIDE].copy_from_slice(&turned);
                }
            }
            for (n, row) in rows.chunks_exact(places).enumerate() {
                for place in whole..places {
                    panel[place * width + column + n] = row[place];
                }
            }
        }
    }
}

/// `sums[panel][c, tap][o] ← sums + Σ over n and p of input[n, c, p shifted by the tap] · turned[n][panel][p][o]`.
struct WeightGradient<'a, E> {
    dims: &'a Dims,
    /// `[images, channels_in, height, width]`.
    input: &'a [E],
    channels: Range<usize>,
    /// The output's gradient, `[images, panels, places, width]`.
    turned: &'a [E],
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
        let Self { dims, input, channels, turned, width, sums } = self;
        let planes = Planes::new(dims.axes());
        let starts = planes.starts(channels.len());
        let (places_in, places) = (dims.places_in(), dims.places_out());
        let panels_len = dims.channels_out.div_ceil(width) * width * places;

        let image_len = dims.channels_in * places_in;
        let storage_len = channels.len() * planes.channel_len();
        // Small maps several at a time: sums stay in registers for longer.
        let together = (PLACES / places).clamp(1, input.len() / image_len);
        let mut storage = vec![E::ZERO; together * storage_len];
        let images = input.chunks(together * image_len);
        for (images, turned) in images.zip(turned.chunks(together * panels_len)) {
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
                        let panels = turned.chunks_exact(panels_len);
                        for (storage, panels) in storage.chunks_exact(storage_len).zip(panels) {
                            let rows = array::from_fn(|row| {
                                // Rows that are not there are the last one again; nobody asks for their sums.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 37 + seed * 101) as f64 * 0.37).sin()).collect()
    }

    fn narrow(numbers: &[f64]) -> Vec<f32> {
        numbers.iter().map(|x| *x as f32).collect()
    }

    /// All products of an output, the number of the input and that of the weight, by their indices.
    fn products(dims: &Dims) -> Vec<[usize; 3]> {
        let Dims { batch_size, channels_in, channels_out, input, kernel, stride, padding } = *dims;
        let output = dims.output().unwrap();
        let mut products = Vec::new();
        let place = |i: usize, tap: usize, axis: usize| {
            let place = (i * stride[axis] + tap).checked_sub(padding[axis])?;
            (place < input[axis]).then_some(place)
        };
        for (n, o, c) in (0..batch_size)
            .flat_map(|n| (0..channels_out).map(move |o| (n, o)))
            .flat_map(|(n, o)| (0..channels_in).map(move |c| (n, o, c)))
        {
            for (i, j) in (0..output[0]).flat_map(|i| (0..output[1]).map(move |j| (i, j))) {
                for (y, x) in (0..kernel[0]).flat_map(|y| (0..kernel[1]).map(move |x| (y, x))) {
                    if let (Some(u), Some(v)) = (place(i, y, 0), place(j, x, 1)) {
                        products.push([
                            ((n * channels_out + o) * output[0] + i) * output[1] + j,
                            ((n * channels_in + c) * input[0] + u) * input[1] + v,
                            ((o * channels_in + c) * kernel[0] + y) * kernel[1] + x,
                        ]);
                    }
                }
            }
        }
        products
    }

    fn close<E: Scalar>(what: &str, actual: &[E], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len(), "{what}");
        let scale = expected.iter().fold(1.0_f64, |max, x| max.max(x.abs()));
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            let error = (actual.to_f64() - expected).abs() / scale;
            assert!(error < tolerance, "{what}[{index}] is {actual:?}, not {expected}");
        }
    }

    /// All results against sums written out, in both precisions; and the same bits with one and with two threads.
    fn check(dims: &Dims) {
        let output = dims.output().unwrap();
        let places = output[0] * output[1];
        let image_len = dims.channels_in * dims.places_in();
        let input = numbers(dims.batch_size * image_len, 1);
        let weight = numbers(dims.channels_out * dims.channels_in * dims.taps(), 2);
        let bias = numbers(dims.channels_out, 3);
        let upstream = numbers(dims.batch_size * dims.channels_out * places, 4);

        let mut out: Vec<f64> =
            (0..upstream.len()).map(|i| bias[i / places % dims.channels_out]).collect();
        let mut input_grad = vec![0.0; input.len()];
        let mut weight_grad = vec![0.0; weight.len()];
        let mut bias_grad = vec![0.0; bias.len()];
        for [o, i, w] in products(dims) {
            out[o] += input[i] * weight[w];
            input_grad[i] += upstream[o] * weight[w];
            weight_grad[w] += upstream[o] * input[i];
        }
        for (i, upstream) in upstream.iter().enumerate() {
            bias_grad[i / places % dims.channels_out] += upstream;
        }

        fn run<E: Scalar>(dims: &Dims, inputs: [&[E]; 4], threads: usize) -> [Vec<E>; 4] {
            let [input, weight, bias, upstream] = inputs;
            let places = dims.places_out();
            [
                forward(dims, input, weight, Some(bias), threads),
                input_gradient(dims, weight, upstream, threads),
                weight_gradient(dims, input, upstream, threads),
                bias_gradient(upstream, dims.channels_out, places, threads),
            ]
        }
        let expected = [out, input_grad, weight_grad, bias_grad];
        let inputs: [&[f64]; 4] = [&input, &weight, &bias, &upstream];
        let results = run(dims, inputs, 1);
        for threads in [2, 5] {
            assert_eq!(results, run(dims, inputs, threads), "{dims:?}: threads change bits");
        }
        let narrowed = inputs.map(narrow);
        let narrowed = narrowed.each_ref().map(Vec::as_slice);
        let narrow_results = run(dims, narrowed, 1);
        assert_eq!(narrow_results, run(dims, narrowed, 2), "{dims:?}: threads change bits");
        for (index, expected) in expected.iter().enumerate() {
            let what = format!("{dims:?}: result {index}");
            close(&what, &results[index], expected, 1e-12);
            close(&what, &narrow_results[index], expected, 1e-4);
        }
    }

    fn dims(batch_size: usize, channels: [usize; 2], input: [usize; 2]) -> Dims {
        let [channels_in, channels_out] = channels;
        let (kernel, stride, padding) = ([3, 3], [1, 1], [1, 1]);
        Dims { batch_size, channels_in, channels_out, input, kernel, stride, padding }
    }

    #[test]
    fn shapes_of_residual_networks() {
        check(&dims(3, [3, 16], [32, 32]));
        check(&dims(2, [40, 24], [16, 16]));
        check(&dims(9, [35, 70], [8, 8]));
        check(&Dims { stride: [2, 2], ..dims(2, [16, 32], [16, 16]) });
        let pointwise = Dims { kernel: [1, 1], padding: [0, 0], ..dims(2, [160, 33], [8, 8]) };
        check(&pointwise);
        check(&Dims { stride: [2, 2], ..pointwise });
    }

    /// With widths that vectors and tiles do not divide, images that are cut, and more threads than blocks.
    #[test]
    fn shapes_for_winograd() {
        for dims in [
            dims(1, [32, 49], [16, 16]),
            dims(5, [33, 32], [8, 8]),
            dims(2, [40, 32], [15, 31]),
            dims(1, [32, 32], [24, 64]),
            dims(4, [160, 32], [8, 8]),
            Dims { padding: [0, 0], ..dims(2, [32, 33], [18, 17]) },
            Dims { padding: [2, 1], ..dims(2, [32, 40], [16, 32]) },
            Dims { padding: [3, 4], ..dims(1, [32, 32], [12, 26]) },
        ] {
            assert!(dims.winograd().is_some_and(|sizes| sizes.pays()), "{dims:?}");
            check(&dims);
        }
        for padding in [[0, 0], [1, 2], [3, 3]] {
            let dims = Dims { padding, ..dims(1, [32, 32], [16, 16]) };
            assert!(dims.winograd_turned().is_some_and(|sizes| sizes.pays()), "{dims:?}");
            check(&dims);
        }
        for dims in [dims(64, [31, 64], [8, 8]), dims(64, [64, 64], [6, 6])] {
            assert!(!dims.winograd().is_some_and(|sizes| sizes.pays()), "{dims:?}");
        }
    }

    #[test]
    fn smallest_and_strangest() {
        check(&dims(1, [1, 1], [1, 1]));
        check(&Dims { kernel: [1, 1], padding: [0, 0], ..dims(1, [1, 1], [1, 1]) });
        check(&Dims { stride: [3, 2], ..dims(2, [2, 3], [7, 5]) });
        // Strides larger than the kernel, padding larger than the kernel, a kernel wider than the input.
        check(&Dims { kernel: [2, 1], stride: [3, 4], ..dims(2, [2, 3], [9, 11]) });
        check(&Dims { kernel: [1, 2], padding: [3, 3], ..dims(1, [2, 2], [4, 5]) });
        check(&Dims { kernel: [2, 5], padding: [1, 2], ..dims(1, [2, 2], [6, 2]) });
        assert_eq!(Dims { padding: [0, 0], ..dims(1, [1, 1], [2, 3]) }.output(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_shape(
            batch_size in 1..5_usize,
            channels in prop::array::uniform2(1..20_usize),
            input in prop::array::uniform2(1..12_usize),
            kernel in prop::array::uniform2(1..5_usize),
            stride in prop::array::uniform2(1..4_usize),
            padding in prop::array::uniform2(0..4_usize),
        ) {
            let dims = Dims { kernel, stride, padding, ..dims(batch_size, channels, input) };
            prop_assume!(dims.output().is_some());
            check(&dims);
        }
    }
}

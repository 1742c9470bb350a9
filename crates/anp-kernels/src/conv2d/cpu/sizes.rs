use std::ops::Range;

use crate::conv2d::Conv2dOptions;

/// Sizes of a correlation of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch_size: usize,
    pub(super) channels_in: usize,
    pub(super) channels_out: usize,
    /// The vertical and the horizontal one.
    pub(super) axes: [Axis; 2],
}

/// An axis of a correlation: place `i` of the output sees place `stride · i + tap + offset` of the
/// input, or zero outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) stride: usize,
    pub(super) taps: usize,
    pub(super) offset: isize,
}

impl Sizes {
    /// Those of a convolution of `input`, `[batch_size, channels_in, height, width]`, with
    /// `weight`, `[channels_out, channels_in, kernel height, kernel width]`; `None` if the kernel
    /// is larger than the padded input.
    pub(super) fn new(
        [batch_size, channels_in, height, width]: [usize; 4],
        [channels_out, _, kernel_height, kernel_width]: [usize; 4],
        Conv2dOptions { stride, padding }: Conv2dOptions,
    ) -> Option<Self> {
        let y = Axis::new(height, kernel_height, stride[0], padding[0])?;
        let x = Axis::new(width, kernel_width, stride[1], padding[1])?;
        Some(Self { batch_size, channels_in, channels_out, axes: [y, x] })
    }

    /// For a stride of 1: those of the correlation of the output's gradient with the kernel turned
    /// by half a turn, which is the input's gradient.
    pub(super) fn transposed(self) -> Self {
        let Self { batch_size, channels_in, channels_out, axes } = self;
        let axes = axes.map(|axis| axis.phase(0).0);
        Self { batch_size, channels_in: channels_out, channels_out: channels_in, axes }
    }

    #[inline]
    pub(super) fn taps(&self) -> usize {
        self.axes[0].taps * self.axes[1].taps
    }

    #[inline]
    pub(super) fn places_in(&self) -> usize {
        self.axes[0].input * self.axes[1].input
    }

    #[inline]
    pub(super) fn places_out(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }

    pub(super) fn input_len(&self) -> usize {
        self.batch_size * self.channels_in * self.places_in()
    }

    pub(super) fn weight_len(&self) -> usize {
        self.channels_out * self.channels_in * self.taps()
    }

    pub(super) fn output_len(&self) -> usize {
        self.batch_size * self.channels_out * self.places_out()
    }
}

impl Axis {
    fn new(input: usize, taps: usize, stride: usize, padding: usize) -> Option<Self> {
        let room = (input + 2 * padding).checked_sub(taps)?;
        let output = room / stride + 1;
        Some(Self { input, output, stride, taps, offset: -(padding as isize) })
    }

    /// Which of the first `output` places of the output see the input at a shift, and the first
    /// place that they see.
    pub(super) fn seen(&self, shift: isize, output: usize) -> (Range<usize>, usize) {
        let start = ((-shift).max(0) as usize).div_ceil(self.stride).min(output);
        let end = ((self.input as isize - shift).max(0) as usize).div_ceil(self.stride);
        let end = end.min(output).max(start);
        let first = if start < end { ((self.stride * start) as isize + shift) as usize } else { 0 };
        (start..end, first)
    }

    /// The places of the input's gradient that see the same taps of the kernel, those
    /// `r mod stride`: as the output of a correlation with the output's gradient, and the first of
    /// these places.
    pub(super) fn phase(&self, r: usize) -> (Self, usize) {
        let Self { input, output, stride, taps, offset } = *self;
        let padding = offset.unsigned_abs();
        // Place `u` of the input meets tap `r + stride · a` in place `t − a` of the output, where
        // `u + padding = stride · t + r`.
        let first_t = padding.saturating_sub(r).div_ceil(stride);
        let first = stride * first_t + r - padding;
        let taps = taps.saturating_sub(r).div_ceil(stride);
        let phase = Self {
            input: output,
            output: input.saturating_sub(first).div_ceil(stride),
            stride: 1,
            taps,
            offset: first_t as isize + 1 - taps as isize,
        };
        (phase, first)
    }
}

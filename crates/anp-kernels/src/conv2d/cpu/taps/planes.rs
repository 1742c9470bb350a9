use std::ops::Range;

use super::super::sizes::Axis;
use crate::cpu::scalar::Scalar;

/// The planes of a block of channels: where they lie, and each tap in them.
pub(super) struct Planes {
    axes: [Axis; 2],
    /// Kinds of rows: `tap mod stride`.
    kinds: usize,
    /// Rows of a plane.
    rows: usize,
}

impl Planes {
    pub(super) fn new(axes: [Axis; 2]) -> Self {
        let [y, _] = axes;
        Self { axes, kinds: y.taps.min(y.stride), rows: y.output + (y.taps - 1) / y.stride }
    }

    fn plane_len(&self) -> usize {
        self.rows * self.axes[1].output
    }

    /// Numbers in the planes of a channel.
    pub(super) fn channel_len(&self) -> usize {
        self.kinds * self.axes[1].taps * self.plane_len()
    }

    /// Where the numbers that the taps multiply start, in the order of a weight, for `channels`
    /// channels.
    pub(super) fn starts(&self, channels: usize) -> Vec<usize> {
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
    pub(super) fn fill<E: Scalar>(&self, image: &[E], planes: &mut [E]) {
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

/// Write rows of `width` numbers, shifted against those of `seen`, in one copy; then zero the
/// columns that come from a neighbouring row.
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

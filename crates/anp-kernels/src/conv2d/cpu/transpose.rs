use std::array;

use crate::cpu::scalar::Scalar;

/// Write the transpose of `image`, `[channels, positions]`, as panels of `[positions, width]`. The
/// columns of the last panel that have no channel are left unchanged.
#[inline(always)]
pub(super) fn transpose_into_panels<E: Scalar>(
    image: &[E],
    positions: usize,
    width: usize,
    panels: &mut [E],
) {
    /// Side of a square that is transposed in registers.
    const SIDE: usize = 8;

    let panels = panels.chunks_exact_mut(width * positions);
    for (rows, panel) in image.chunks(width * positions).zip(panels) {
        for (strip, rows) in rows.chunks(SIDE * positions).enumerate() {
            let column = strip * SIDE;
            let whole = if rows.len() == SIDE * positions { positions / SIDE * SIDE } else { 0 };
            for position in (0..whole).step_by(SIDE) {
                let square: [[E; SIDE]; SIDE] =
                    array::from_fn(|n| array::from_fn(|k| rows[n * positions + position + k]));
                for k in 0..SIDE {
                    let transposed: [E; SIDE] = array::from_fn(|n| square[n][k]);
                    panel[(position + k) * width + column..][..SIDE].copy_from_slice(&transposed);
                }
            }
            for (n, row) in rows.chunks_exact(positions).enumerate() {
                for position in whole..positions {
                    panel[position * width + column + n] = row[position];
                }
            }
        }
    }
}

use std::array;

use crate::cpu::scalar::Scalar;

/// Write the transpose of `image`, `[channels, places]`, as panels of `[places, width]`. The
/// columns of the last panel beyond the channels are left alone.
#[inline(always)]
pub(super) fn transpose_into_panels<E: Scalar>(
    image: &[E],
    places: usize,
    width: usize,
    panels: &mut [E],
) {
    /// Side of a square that is transposed in registers.
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
                    let transposed: [E; SIDE] = array::from_fn(|n| square[n][k]);
                    panel[(place + k) * width + column..][..SIDE].copy_from_slice(&transposed);
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

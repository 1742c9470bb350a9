//! 3 × 3 correlations with stride 1, and the gradient of their weight, by Winograd's minimal
//! filtering `F(2 × 2, 3 × 3)`.
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
//! A tile of 2 × 2 positions of the output, `y`, sees 4 × 4 positions of the input, `d`, and takes
//! 16 products for each pair of channels, where the sum over the taps takes 36 (Lavin & Gray,
//! 2016). Each of the 16 *points* is a product of matrices, channels by channels by tiles; for the
//! gradient, channels by tiles by channels. A task takes a few tiles through all steps, in the
//! cache of its core.

mod correlation;
mod points;
mod tiles;
mod transform;
mod weight_gradient;

pub(super) use correlation::correlation;
pub(super) use weight_gradient::weight_gradient;

use super::sizes::Sizes;
use crate::cpu::panels::LANES;
use points::TILES;

/// Whether the algorithm can compute this correlation and is faster than the sum over the taps.
pub(super) fn is_faster(sizes: &Sizes) -> bool {
    /// With fewer channels, the transforms cost more than the products save.
    const CHANNELS: usize = 32;

    let fits = sizes.axes.iter().all(|axis| axis.taps == 3 && axis.stride == 1);
    // At most a fifth of the tiles' positions may lie outside the output, including the tiles that
    // fill up the last vector of an image.
    let used = 4 * sizes.tiles().next_multiple_of(LANES) <= 5 * sizes.positions_out().div_ceil(4);
    fits && used
        && sizes.tile_columns().is_multiple_of(4)
        && sizes.channels_in.min(sizes.channels_out) >= CHANNELS
        && sizes.batch_size * sizes.tiles() >= TILES
}

#[cfg(test)]
mod tests {
    use super::correlation::{Correlation, transformed_weight};
    use super::weight_gradient::WeightGradient;
    use super::*;
    use crate::conv2d::Conv2dOptions;
    use crate::cpu::scalar::Scalar;
    use crate::cpu::simd::dispatch;
    use crate::cpu::tests::wave;
    use pulp::Simd;

    /// Both results with the vectors of `simd` match those with the vectors of this machine, which
    /// the tests of `kernel` check.
    ///
    /// They round differently where a product and a sum are one instruction: sums of some thousand
    /// numbers up to 1, each off by half a unit in the last place, which is 2⁻²⁴ or 2⁻⁵³ of up to a
    /// thousand.
    fn check<E: Scalar, S: Simd>(simd: S, tolerance: f64) {
        for (channels_in, channels_out, columns) in
            [(33, 36, 8), (40, 50, 24), (32, 32, 16), (35, 64, 31)]
        {
            let input = [3, channels_in, 16, columns];
            let options = Conv2dOptions { stride: [1, 1], padding: [1, 1] };
            let sizes = Sizes::new(input, [channels_out, channels_in, 3, 3], options).unwrap();
            assert!(is_faster(&sizes), "{sizes:?}");
            let input = wave::<E>(sizes.input_len(), 1);
            let output_grad = wave::<E>(sizes.output_len(), 2);
            let weight = wave::<E>(sizes.weight_len(), 3);
            let bias = wave::<E>(channels_out, 4);
            let weight = |o, c, tap| weight[(o * channels_in + c) * 9 + tap];
            let weight = transformed_weight(&sizes, weight, 2);
            let correlation = || Correlation {
                sizes: &sizes,
                weight: &weight,
                bias: Some(&bias),
                input: &input,
                threads: 2,
            };
            let gradient = || WeightGradient {
                sizes: &sizes,
                input: &input,
                output_grad: &output_grad,
                threads: 2,
            };
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
    fn vectors_of_other_machines_agree() {
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

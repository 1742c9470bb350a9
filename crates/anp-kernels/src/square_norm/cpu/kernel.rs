//! Sum of squares of a slice and its gradient.

use crate::cpu::matmul::Destination;
use crate::cpu::reduce::sum_of_squares;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// Elements that one task works on; fixed, so that the order of the sum is.
const TASK: usize = 1 << 16;

/// `Σ x²`, summed in `f64`.
pub(crate) fn square_norm<E: Scalar>(values: &[E], threads: usize) -> f64 {
    let sums = map(values.chunks(TASK).collect(), threads, |values| {
        vectorized(
            #[inline(always)]
            || sum_of_squares(values),
        )
    });
    sums.into_iter().sum()
}

/// `grad ← factor · x`, or `grad ← grad + factor · x`: the gradient of `c Σ x²` for `factor = 2 c g`, where `g` is the
/// gradient by that term.
///
/// # Panics
///
/// If the lengths differ.
pub(crate) fn gradient<E: Scalar>(
    values: &[E],
    factor: E,
    grad: &mut [E],
    destination: Destination,
    threads: usize,
) {
    assert_eq!(values.len(), grad.len(), "lengths of a tensor and its gradient");
    let tasks = grad.chunks_mut(TASK).zip(values.chunks(TASK)).collect();
    map(tasks, threads, |(grad, values)| {
        vectorized(
            #[inline(always)]
            || match destination {
                Destination::Overwrite => {
                    for (grad, value) in grad.iter_mut().zip(values) {
                        *grad = factor * *value;
                    }
                }
                Destination::Accumulate => {
                    for (grad, value) in grad.iter_mut().zip(values) {
                        *grad += factor * *value;
                    }
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_of_many_is_exact_in_double_precision() {
        // 1² + … + 1000², 300 times: all partial sums are whole and below 2⁵³.
        let values: Vec<f32> = (0..300_000).map(|i| (i % 1000 + 1) as f32).collect();
        let expected = 300.0 * (1000.0 * 1001.0 * 2001.0 / 6.0);
        assert_eq!(square_norm(&values, 1), expected);
        assert_eq!(square_norm(&values, 2), expected);
        assert_eq!(square_norm::<f32>(&[], 2), 0.0);
    }

    #[test]
    fn threads_change_no_bit() {
        let values: Vec<f32> = (0..200_000).map(|i| (i as f32 * 0.37).sin()).collect();
        assert_eq!(square_norm(&values, 1).to_bits(), square_norm(&values, 2).to_bits());
    }

    #[test]
    fn what_is_not_finite_is_passed_on() {
        let mut values = vec![1.0_f32; 100];
        values[70] = f32::INFINITY;
        assert_eq!(square_norm(&values, 1), f64::INFINITY);
        values[99] = f32::NAN;
        assert!(square_norm(&values, 1).is_nan());
    }

    proptest! {
        #[test]
        fn gradients_are_the_differences_of_the_values(
            values in prop::collection::vec(-2.0..2.0, 1..200),
            weight in -2.0..2.0_f64,
            place: prop::sample::Index,
        ) {
            let place = place.index(values.len());
            let at = |step: f64| {
                let mut values = values.clone();
                values[place] += step;
                weight * square_norm(&values, 1)
            };
            // A parabola's central difference is exact; rounding leaves 1e-13 / 1e-3.
            let expected = (at(1e-3) - at(-1e-3)) / 2e-3;

            let mut grad = vec![f64::NAN; values.len()];
            gradient(&values, 2.0 * weight, &mut grad, Destination::Overwrite, 1);
            prop_assert!((grad[place] - expected).abs() < 1e-9);
            gradient(&values, 2.0 * weight, &mut grad, Destination::Accumulate, 2);
            prop_assert!((grad[place] - 2.0 * expected).abs() < 2e-9);
        }
    }
}

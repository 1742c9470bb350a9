//! The sum of squares of a slice, and its gradient.

use std::ops::Deref;

use crate::cpu::reduce::sum_of_squares;
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::{filled_with, map};

/// Elements per task; fixed, so that the order of the sum is.
const TASK: usize = 1 << 16;

/// `Σ x²`, summed in `f64`.
pub(crate) fn square_norm<E: Scalar>(values: &[E], threads: usize) -> f64 {
    square_norm_of_parts(values.chunks(TASK).collect(), threads, |part| part)
}

/// `Σ x²` over the parts that the tasks give, summed in `f64` in the order of the tasks.
pub(crate) fn square_norm_of_parts<E: Scalar, T: Send, P: Deref<Target = [E]>>(
    tasks: Vec<T>,
    threads: usize,
    part: impl Fn(T) -> P + Send + Sync,
) -> f64 {
    let sums = map(tasks, threads, |task| {
        let part = part(task);
        vectorized(
            #[inline(always)]
            || sum_of_squares(&part),
        )
    });
    sums.into_iter().sum()
}

/// `factor · x`: the gradient of `c Σ x²` for `factor = 2 c g`, where `g` is the gradient of this
/// term.
pub(crate) fn scaled<E: Scalar>(values: &[E], factor: E, threads: usize) -> Vec<E> {
    let tasks = values.chunks(TASK).map(|values| (values.len(), values));
    let (scaled, _) = filled_with(tasks, threads, |values, scaled| {
        vectorized(
            #[inline(always)]
            || {
                for (scaled, value) in scaled.iter_mut().zip(values) {
                    *scaled = factor * *value;
                }
            },
        );
    });
    scaled
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_sums_are_exact_in_double_precision() {
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
    fn infinity_and_nan_propagate() {
        let mut values = vec![1.0_f32; 100];
        values[70] = f32::INFINITY;
        assert_eq!(square_norm(&values, 1), f64::INFINITY);
        values[99] = f32::NAN;
        assert!(square_norm(&values, 1).is_nan());
        // Squares that overflow in single precision do not overflow here.
        let expected = 6.0 * 1e60;
        assert!((square_norm(&[1e30_f32; 6], 1) / expected - 1.0).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn gradients_match_finite_differences(
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

            let gradient = scaled(&values, 2.0 * weight, 1);
            prop_assert!((gradient[place] - expected).abs() < 1e-9);
        }
    }
}

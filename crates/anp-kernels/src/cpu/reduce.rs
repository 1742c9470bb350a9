//! Sums and maxima, for use inside [`vectorized`](super::simd::vectorized).

use super::real::Real;

/// Length of a part that lies in the first cache with all that is computed from it.
pub(crate) const BLOCK: usize = 1024;

/// Accumulators side by side: a float's sum may not be reordered by the compiler, so that one alone would be no vector.
///
/// As many as hide an addition's latency and still fit into AVX2's 16 registers.
#[inline(always)]
fn fold<const LANES: usize, E: Copy, A: Copy>(
    values: &[E],
    start: A,
    f: impl Fn(A, E) -> A,
) -> [A; LANES] {
    let mut lanes = [start; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, *value);
    }
    lanes
}

/// Sum of at most [`BLOCK`] values: the error is that of 32 additions, whatever the length.
#[inline(always)]
pub(crate) fn sum_block<E: Real>(values: &[E]) -> f64 {
    let lanes: [E; 32] = fold(
        values,
        E::ZERO,
        #[inline(always)]
        |sum, value| sum + value,
    );
    lanes.into_iter().map(E::to_f64).sum()
}

/// Sum of squares, in `f64` throughout.
#[inline(always)]
pub(crate) fn sum_of_squares<E: Real>(values: &[E]) -> f64 {
    let lanes: [f64; 16] = fold(
        values,
        0.0,
        #[inline(always)]
        |sum, value| {
            let value = value.to_f64();
            sum + value * value
        },
    );
    lanes.into_iter().sum()
}

/// The largest value, or `−∞` if there is none; a NaN is passed over.
#[inline(always)]
pub(crate) fn maximum<E: Real>(values: &[E]) -> E {
    let lanes: [E; 32] = fold(values, E::from_f64(f64::NEG_INFINITY), larger);
    lanes.into_iter().fold(lanes[0], larger)
}

/// One instruction; [`Real::maximum`], which keeps NaN, is four.
#[inline(always)]
fn larger<E: Real>(a: E, b: E) -> E {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_add_up_exactly_at_every_length() {
        for len in 0..100 {
            let values: Vec<f32> = (1..=len).map(|i| i as f32).collect();
            let n = len as f64;
            assert_eq!(sum_block(&values), n * (n + 1.0) / 2.0);
            assert_eq!(sum_of_squares(&values), n * (n + 1.0) * (2.0 * n + 1.0) / 6.0);
        }
    }

    #[test]
    fn the_maximum_is_found_wherever_it_is() {
        assert_eq!(maximum::<f64>(&[]), f64::NEG_INFINITY);
        for len in 1..100 {
            for place in 0..len {
                let mut values = vec![-5.0_f32; len];
                values[place] = -2.0;
                values[(place + 1) % len] = if len > 1 { f32::NAN } else { -2.0 };
                assert_eq!(maximum(&values), -2.0);
            }
        }
    }

    #[test]
    fn squares_outside_of_single_precision_do_not_overflow() {
        assert_eq!(sum_of_squares(&[1e30_f32; 4]), 4.0 * f64::from(1e30_f32).powi(2));
    }
}

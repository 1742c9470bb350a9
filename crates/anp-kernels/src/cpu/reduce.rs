//! Sums and maxima, for use inside [`vectorized`](super::simd::vectorized).

use super::scalar::Scalar;

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
pub(crate) fn sum_block<E: Scalar>(values: &[E]) -> f64 {
    let lanes: [E; 32] = fold(
        values,
        E::ZERO,
        #[inline(always)]
        |sum, value| sum + value,
    );
    lanes.into_iter().map(E::to_f64).sum()
}

/// `K` sums over a sequence of parts of at most [`BLOCK`] numbers: as [`sum_block`], but the sums side by side become one only
/// after as many numbers as are in a block, however short the parts.
#[derive(Clone, Copy)]
pub(crate) struct LaneSums<E, const K: usize> {
    lanes: [[E; 32]; K],
    count: usize,
    totals: [f64; K],
}

impl<E: Scalar, const K: usize> LaneSums<E, K> {
    pub(crate) fn new() -> Self {
        Self { lanes: [[E::ZERO; 32]; K], count: 0, totals: [0.0; K] }
    }

    /// Add what `f` makes of each two numbers of `a` and `b`.
    #[inline(always)]
    pub(crate) fn add(&mut self, a: &[E], b: &[E], f: impl Fn(E, E) -> [E; K]) {
        assert_eq!(a.len(), b.len(), "two parts of the same length");
        // In registers, which a field is not.
        let mut lanes = self.lanes;
        let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<32>(), b.as_chunks::<32>());
        for (a, b) in a.iter().zip(b) {
            for lane in 0..32 {
                let terms = f(a[lane], b[lane]);
                for k in 0..K {
                    lanes[k][lane] += terms[k];
                }
            }
        }
        for (lane, (a, b)) in rest_a.iter().zip(rest_b).enumerate() {
            let terms = f(*a, *b);
            for k in 0..K {
                lanes[k][lane] += terms[k];
            }
        }
        self.lanes = lanes;
        self.count += 32 * a.len() + rest_a.len();
        if self.count >= BLOCK {
            self.gather();
        }
    }

    #[inline(always)]
    fn gather(&mut self) {
        for (total, lanes) in self.totals.iter_mut().zip(&mut self.lanes) {
            *total += lanes.iter().map(|lane| lane.to_f64()).sum::<f64>();
            lanes.fill(E::ZERO);
        }
        self.count = 0;
    }

    #[inline(always)]
    pub(crate) fn finish(mut self) -> [f64; K] {
        self.gather();
        self.totals
    }
}

/// Sum of squares, in `f64` throughout.
#[inline(always)]
pub(crate) fn sum_of_squares<E: Scalar>(values: &[E]) -> f64 {
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
pub(crate) fn maximum<E: Scalar>(values: &[E]) -> E {
    let lanes: [E; 32] = fold(values, E::from_f64(f64::NEG_INFINITY), larger);
    lanes.into_iter().fold(lanes[0], larger)
}

/// One instruction; [`Scalar::maximum`], which keeps NaN, is four.
#[inline(always)]
fn larger<E: Scalar>(a: E, b: E) -> E {
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
    fn sums_of_parts_are_those_of_the_whole() {
        for (part, parts) in [(1, 1), (5, 900), (64, 100), (BLOCK, 3), (33, 40)] {
            let values: Vec<f32> = (0..part * parts).map(|i| (i % 100) as f32).collect();
            let mut sums = LaneSums::<f32, 2>::new();
            for part in values.chunks(part) {
                sums.add(part, part, |a, b| [a, a * b]);
            }
            // Whole numbers: exact in double precision, and in the lanes.
            let wide = values.iter().map(|x| f64::from(*x));
            let expected: [f64; 2] = [wide.clone().sum(), wide.map(|x| x * x).sum()];
            assert_eq!(sums.finish(), expected);
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

//! What the tests of CPU kernels share.

pub(crate) use anp_testing::noise;

use super::scalar::Scalar;

pub(crate) fn narrow<E: Scalar>(values: &[f64]) -> Vec<E> {
    values.iter().map(|&value| E::from_f64(value)).collect()
}

pub(crate) fn widen<E: Scalar>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

/// Samples of a sine wave, other ones for each seed.
pub(crate) fn wave<E: Scalar>(len: usize, seed: usize) -> Vec<E> {
    (0..len).map(|i| E::from_f64(((i * 37 + seed * 101) as f64 * 0.37).sin())).collect()
}

/// Each number within `tolerance` of what is expected, plus this share of its magnitude.
#[track_caller]
pub(crate) fn assert_near(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "{what}[{i}]: {a}, not {e}");
    }
}

/// Each number within `tolerance` of what is expected.
#[track_caller]
pub(crate) fn assert_close<E: Scalar>(actual: &[E], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    for (i, (actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let error = (actual.to_f64() - expected).abs();
        assert!(error <= tolerance, "{actual:?} instead of {expected} at {i}");
    }
}

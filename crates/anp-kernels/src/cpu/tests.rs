//! What the tests of CPU kernels share.

use super::scalar::Scalar;

/// Repeatable numbers in `[−1, 1)` (SplitMix64), as many as are asked for at each call.
pub(crate) fn noise(seed: u64) -> impl FnMut(usize) -> Vec<f64> {
    let mut state = seed;
    let mut draw = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    move |len| (0..len).map(|_| draw()).collect()
}

pub(crate) fn narrow<E: Scalar>(values: &[f64]) -> Vec<E> {
    values.iter().map(|&value| E::from_f64(value)).collect()
}

pub(crate) fn widen<E: Scalar>(values: &[E]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
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

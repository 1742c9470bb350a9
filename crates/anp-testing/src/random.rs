//! Repeatable noise, and turns at the generator of a device.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers in `[−1, 1)`, as many as each call asks for (SplitMix64).
pub fn noise(seed: u64) -> impl FnMut(usize) -> Vec<f64> {
    let mut state = seed;
    let mut draw = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    move |len| (0..len).map(|_| draw()).collect()
}

/// Wait for the other tests of this process that draw from a device's generator, and let none draw
/// until the guard is dropped.
///
/// All threads share the generator of a device, so a test that seeds it and draws must be alone.
pub fn lock_generator() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    // A test that failed in its turn is no reason for the others to fail.
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_repeats_and_fills_its_range() {
        let mut first = noise(3);
        let drawn = [first(2), first(999)].concat();
        assert_eq!(drawn, noise(3)(1001));
        assert_ne!(drawn, noise(4)(1001));
        assert!(drawn.iter().all(|x| (-1.0..1.0).contains(x)));
        // 6 standard deviations.
        let mean = drawn.iter().sum::<f64>() / 1001.0;
        let square = drawn.iter().map(|x| x * x).sum::<f64>() / 1001.0;
        assert!(mean.abs() < 0.11 && (square - 1.0 / 3.0).abs() < 0.06, "{mean}, {square}");
    }
}

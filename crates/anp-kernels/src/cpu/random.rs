//! Counter-based random numbers: each is a function of a key and its index, so that the number of
//! threads cannot change them.
//!
//! Philox4x32-10 of [Salmon et al., 2011](https://doi.org/10.1145/2063384.2063405): a counter and a
//! key give four words of 32 bits. Numbers come in blocks of 64: the first words of sixteen
//! successive counters, then their second, third and fourth words.

use std::array;

use super::scalar::Scalar;
use super::simd::vectorized;
use super::tasks;

/// Counters processed side by side, as many as fill the widest vectors.
const LANES: usize = 16;
/// Numbers in a block.
const BLOCK: usize = 4 * LANES;
/// Numbers that one task draws: several blocks, enough to be worth a thread.
const TASK: usize = 1 << 15;

/// The key of one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u32; 2]);

/// The words of block `index`.
#[inline(always)]
fn words(Key([mut key0, mut key1]): Key, index: usize) -> [[u32; LANES]; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const INCREMENTS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    let high_product = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32;

    let first = (index * LANES) as u64;
    let mut a: [u32; LANES] = array::from_fn(|lane| first as u32 + lane as u32);
    let mut b = [(first >> 32) as u32; LANES];
    let [mut c, mut d] = [[0; LANES]; 2];
    for _ in 0..10 {
        for lane in 0..LANES {
            let (first, third) = (a[lane], c[lane]);
            a[lane] = high_product(MULTIPLIERS[1], third) ^ b[lane] ^ key0;
            b[lane] = MULTIPLIERS[1].wrapping_mul(third);
            c[lane] = high_product(MULTIPLIERS[0], first) ^ d[lane] ^ key1;
            d[lane] = MULTIPLIERS[0].wrapping_mul(first);
        }
        key0 = key0.wrapping_add(INCREMENTS[0]);
        key1 = key1.wrapping_add(INCREMENTS[1]);
    }
    [a, b, c, d]
}

/// `len` numbers; `block(index)` returns those of one block.
#[inline(always)]
fn draw<E: Scalar>(
    len: usize,
    threads: usize,
    block: impl Fn(usize) -> [E; BLOCK] + Send + Sync,
) -> Vec<E> {
    tasks::filled(tasks::part_lens(len, TASK), threads, |task, part| {
        vectorized(
            #[inline(always)]
            || {
                let first = task * (TASK / BLOCK);
                let (blocks, rest) = part.as_chunks_mut::<BLOCK>();
                for (index, numbers) in blocks.iter_mut().enumerate() {
                    *numbers = block(first + index);
                }
                if !rest.is_empty() {
                    rest.copy_from_slice(&block(first + blocks.len())[..rest.len()]);
                }
            },
        );
    })
}

/// `len` numbers that are 0 with probability `prob`, and `1 / (1 − prob)` otherwise.
///
/// `prob` is below 1; it is rounded to a multiple of 2⁻³².
pub(crate) fn mask<E: Scalar>(key: Key, prob: f64, len: usize, threads: usize) -> Vec<E> {
    let dropped = (prob * 2_f64.powi(32)).round() as u32;
    let kept = E::from_f64(1.0 / (1.0 - prob));
    draw(
        len,
        threads,
        #[inline(always)]
        |index| {
            let mut numbers = [E::ZERO; BLOCK];
            // Destructured: an array that is indexed by a variable is kept in memory.
            let [a, b, c, d] = words(key, index);
            let number = |word| if word < dropped { E::ZERO } else { kept };
            for lane in 0..LANES {
                numbers[lane] = number(a[lane]);
                numbers[LANES + lane] = number(b[lane]);
                numbers[2 * LANES + lane] = number(c[lane]);
                numbers[3 * LANES + lane] = number(d[lane]);
            }
            numbers
        },
    )
}

/// `len` numbers from the standard normal distribution, by the Box–Muller transform; none is beyond
/// ±6.77.
///
/// One word gives the square of a radius, `−2 ln u` with `u = (word + ½) · 2⁻³²`, another the
/// angle. Numbers in single precision differ from those in double precision by rounding only.
pub(crate) fn normal<E: Scalar>(key: Key, len: usize, threads: usize) -> Vec<E> {
    draw(
        len,
        threads,
        #[inline(always)]
        |index| {
            let mut numbers = [E::ZERO; BLOCK];
            let [a, b, c, d] = words(key, index);
            let halves = numbers.as_chunks_mut::<{ 2 * LANES }>().0;
            for (numbers, (radii, turns)) in halves.iter_mut().zip([(a, b), (c, d)]) {
                let (first, second) = numbers.split_at_mut(LANES);
                for lane in 0..LANES {
                    let u = (E::from_u32(radii[lane]) + E::from_f64(0.5))
                        * E::from_f64(2_f64.powi(-32));
                    let radius = (u.ln() * E::from_f64(-2.0)).sqrt();
                    let [cos, sin] = E::cos_sin(turns[lane]);
                    first[lane] = radius * cos;
                    second[lane] = radius * sin;
                }
            }
            numbers
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator as its paper writes it, for one counter.
    fn philox([mut a, mut b, mut c, mut d]: [u32; 4], [mut key0, mut key1]: [u32; 2]) -> [u32; 4] {
        for _ in 0..10 {
            let (p, q) = (u64::from(a) * 0xD251_1F53, u64::from(c) * 0xCD9E_8D57);
            [a, b, c, d] =
                [(q >> 32) as u32 ^ b ^ key0, q as u32, (p >> 32) as u32 ^ d ^ key1, p as u32];
            key0 = key0.wrapping_add(0x9E37_79B9);
            key1 = key1.wrapping_add(0xBB67_AE85);
        }
        [a, b, c, d]
    }

    /// `kat_vectors` of the Random123 library.
    #[test]
    fn the_generator_gives_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        let ones = philox([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        let pi = [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344];
        let pi = philox(pi, [0xA409_3822, 0x299F_31D0]);
        assert_eq!(pi, [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]);
    }

    #[test]
    fn blocks_are_words_of_successive_counters() {
        let key = Key([0xA409_3822, 0x299F_31D0]);
        for index in [0, 1, 77, (1 << 28) - 1, 1 << 28] {
            let words = vectorized(
                #[inline(always)]
                || words(key, index),
            );
            for lane in 0..LANES {
                let counter = (index * LANES + lane) as u64;
                let expected = philox([counter as u32, (counter >> 32) as u32, 0, 0], key.0);
                assert_eq!(words.map(|word| word[lane]), expected, "{index}, {lane}");
            }
        }
    }

    const KEY: Key = Key([7, 11]);
    const MANY: usize = 1 << 20;

    /// A shorter draw is the beginning of a longer one, whoever draws it.
    #[test]
    fn a_number_depends_on_its_key_and_place_only() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let long: (Vec<f32>, Vec<f32>) = (mask(KEY, 0.3, 100_001, 1), normal(KEY, 100_001, 1));
        for len in [0, 1, 15, 63, 64, 65, TASK - 1, TASK, TASK + 1, 100_001] {
            for threads in [1, 2] {
                let mask: Vec<f32> = pool.install(|| mask(KEY, 0.3, len, threads));
                let normal: Vec<f32> = pool.install(|| normal(KEY, len, threads));
                assert_eq!(mask, long.0[..len], "{len} in {threads} threads");
                assert_eq!(normal, long.1[..len], "{len} in {threads} threads");
            }
        }
        for other in [Key([8, 11]), Key([7, 12])] {
            assert_ne!(mask::<f32>(other, 0.3, 1000, 1), long.0[..1000]);
            assert_ne!(normal::<f32>(other, 1000, 1), long.1[..1000]);
        }
    }

    /// Panics unless `share` of `n` independent draws is within 6 standard deviations of `prob`.
    #[track_caller]
    fn assert_share(what: &str, share: f64, prob: f64, n: usize) {
        let deviation = (prob * (1.0 - prob) / n as f64).sqrt();
        assert!((share - prob).abs() <= 6.0 * deviation, "{what}: {share}, not {prob}");
    }

    fn share(numbers: impl ExactSizeIterator<Item = bool>) -> f64 {
        let len = numbers.len() as f64;
        numbers.filter(|&is_so| is_so).count() as f64 / len
    }

    #[test]
    fn masks_drop_their_share_and_scale_the_rest() {
        for prob in [0.0, 1e-4, 0.1, 0.25, 0.5, 0.65, 0.999] {
            let kept = (1.0 / (1.0 - prob)) as f32;
            let mask: Vec<f32> = mask(KEY, prob, MANY, 1);
            assert!(mask.iter().all(|&number| number == 0.0 || number == kept));
            assert_share("dropped", share(mask.iter().map(|&number| number == 0.0)), prob, MANY);
        }
        // The largest probability that is none.
        let almost: Vec<f64> = mask(KEY, 1.0 - f64::EPSILON / 2.0, 100, 1);
        assert!(almost.iter().all(|number| *number == 0.0));
        let double: Vec<f64> = mask(KEY, 0.3, 1000, 1);
        let single: Vec<f32> = mask(KEY, 0.3, 1000, 1);
        assert!(single.iter().zip(double).all(|(&single, double)| single == double as f32));
    }

    /// Neighbours in a row, in a column of a matrix, and in draws with neighbouring keys are
    /// dropped together by chance only.
    #[test]
    fn masks_of_neighbours_are_independent() {
        for prob in [0.2, 0.5] {
            let first: Vec<f32> = mask(KEY, prob, MANY, 1);
            let both = |a: &[f32], b: &[f32]| share(a.iter().zip(b).map(|(&a, &b)| a + b == 0.0));
            for distance in [1, 2, 4, 16, 32, 48, 64, 512, 650, 10_240] {
                let n = MANY - distance;
                let together = both(&first[..n], &first[distance..]);
                assert_share(&format!("at {distance}"), together, prob * prob, n);
            }
            for other in [Key([8, 11]), Key([7, 12]), Key([6, 10])] {
                let other: Vec<f32> = mask(other, prob, MANY, 1);
                assert_share("of two keys", both(&first, &other), prob * prob, MANY);
            }
        }
    }

    /// Shares beyond quantiles of the normal distribution, and moments.
    #[test]
    fn normal_numbers_are_distributed_normally() {
        let numbers: Vec<f64> = normal(KEY, MANY, 1);
        let n = MANY as f64;
        for (quantile, prob) in [
            (0.0, 0.5),
            (0.674_489_750_196_081_7, 0.25),
            (1.281_551_565_544_600_4, 0.1),
            (2.326_347_874_040_840_8, 0.01),
            (3.090_232_306_167_813_5, 0.001),
            (3.719_016_485_455_709, 1e-4),
        ] {
            let above = share(numbers.iter().map(|&number| number > quantile));
            let below = share(numbers.iter().map(|&number| number < -quantile));
            assert_share(&format!("above {quantile}"), above, prob, MANY);
            assert_share(&format!("below −{quantile}"), below, prob, MANY);
        }
        // The moments of a normal distribution, and the variances of their estimates.
        for (power, moment, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_170.0)]
        {
            let mean = numbers.iter().map(|number| number.powi(power)).sum::<f64>() / n;
            let bound = 6.0 * (variance / n).sqrt();
            assert!((mean - moment).abs() < bound, "{power}: {mean}, not {moment} ± {bound}");
        }
        // Products of independent numbers have the variance 1, products of their squares less 1
        // have the variance 4.
        for distance in [1, 16, 32, 64, 512] {
            let pairs = || numbers.iter().zip(&numbers[distance..]);
            let product = pairs().map(|(a, b)| a * b).sum::<f64>() / n;
            let squares = pairs().map(|(a, b)| (a * a - 1.0) * (b * b - 1.0)).sum::<f64>() / n;
            assert!(product.abs() < 6.0 / n.sqrt(), "{product} at {distance}");
            assert!(squares.abs() < 12.0 / n.sqrt(), "{squares} at {distance}");
        }
    }

    /// Rounding of `u` near 1 leaves an error of 2⁻²⁵ in the square of the radius, which is small
    /// there.
    #[test]
    fn normal_numbers_of_single_precision_are_those_of_double() {
        let single: Vec<f32> = normal(KEY, MANY, 1);
        let double: Vec<f64> = normal(KEY, MANY, 1);
        for (single, double) in single.into_iter().zip(double) {
            let single = f64::from(single);
            let error = (single - double).abs();
            let near_center = (single.powi(2) - double.powi(2)).abs() < 1e-7;
            assert!(error < 2e-6 || near_center, "{single} and {double}");
        }
    }

    #[test]
    fn the_largest_radius_is_finite() {
        for word in [0, 1, u32::MAX - 1, u32::MAX] {
            let u = (f32::from_u32(word) + 0.5) * 2_f32.powi(-32);
            let square = Scalar::ln(u) * -2.0;
            assert!((0.0..45.8).contains(&square), "{word}: {square}");
        }
    }
}

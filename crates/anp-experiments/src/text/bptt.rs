//! Lengths of the training windows drawn at random (Merity et al., 2017), so that not every epoch cuts the text at the same places.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// `[data.variable_bptt]`: how the lengths of the training windows are drawn.
///
/// ```text
/// mean = bptt / 2 with half_probability, else bptt
/// steps = max(shortest, ⌊N(mean, deviation²)⌋)
/// ```
///
/// The learning rate of a step is that of the epoch times steps / bptt. [Merity, Keskar & Socher,
/// 2017](https://arxiv.org/abs/1708.02182), section 4.1, in the form of their code (GitHub `salesforce/awd-lstm-lm`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableBptt {
    /// Probability of half the mean length.
    pub half_probability: f64,
    /// Standard deviation of the length, in steps.
    pub deviation: f64,
    /// Fewest steps that are drawn.
    pub shortest: usize,
}

impl VariableBptt {
    /// The length that `seed` gives, in steps.
    pub fn draw(&self, bptt: usize, seed: u64) -> usize {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let is_half = rng.random::<f64>() < self.half_probability;
        let mean = if is_half { bptt as f64 / 2.0 } else { bptt as f64 };
        // Box & Muller's transform; 1 − u is never zero.
        let (u, v) = (rng.random::<f64>(), rng.random::<f64>());
        let normal = (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        // The conversion cuts the fraction off, and makes what is negative 0.
        ((mean + self.deviation * normal) as usize).max(self.shortest)
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;

    const PUBLISHED: VariableBptt =
        VariableBptt { half_probability: 0.05, deviation: 5.0, shortest: 5 };

    /// Against the distribution function of the mixture, length by length.
    #[test]
    fn lengths_have_the_published_distribution() {
        const DRAWS: u64 = 100_000;
        let mut counts = [0_u32; 200];
        for seed in 0..DRAWS {
            counts[PUBLISHED.draw(70, seed)] += 1;
        }
        assert_eq!(counts[..5], [0; 5]);
        let [half, whole] = [35.0, 70.0].map(|mean| Normal::new(mean, 5.0).unwrap());
        let below = |x: f64| 0.05 * half.cdf(x) + 0.95 * whole.cdf(x);
        let mut seen = 0;
        for (length, &count) in counts.iter().enumerate().skip(5) {
            seen += count;
            let expected = below(length as f64 + 1.0);
            let found = f64::from(seen) / DRAWS as f64;
            // Five standard deviations of a share, and one draw.
            let allowed = 5.0 * (expected * (1.0 - expected) / DRAWS as f64).sqrt() + 1e-5;
            assert!((found - expected).abs() <= allowed, "≤ {length}: {found}, not {expected}");
        }
        assert_eq!(u64::from(seen), DRAWS);
    }

    #[test]
    fn a_seed_repeats_its_length_and_others_differ() {
        let draw = || (0..50).map(|seed| PUBLISHED.draw(70, seed)).collect::<Vec<_>>();
        assert_eq!(draw(), draw());
        assert!(draw().windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn short_draws_are_made_longer_and_fractions_are_cut_off() {
        let wild = VariableBptt { half_probability: 0.0, deviation: 50.0, shortest: 5 };
        let lengths: Vec<_> = (0..1000).map(|seed| wild.draw(10, seed)).collect();
        // Φ((6 − 10) / 50) = 46.8 %: all below 6.
        let shortest = lengths.iter().filter(|&&length| length == 5).count();
        assert!((400..540).contains(&shortest), "{shortest}");
        assert_eq!(lengths.iter().min(), Some(&5));
        let halves = VariableBptt { half_probability: 1.0, deviation: 0.0, shortest: 5 };
        assert_eq!(halves.draw(71, 0), 35);
    }
}

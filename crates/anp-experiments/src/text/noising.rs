//! Data noising (Xie et al., 2017): random replacement of words in the training text, the
//! counterpart of smoothing in n-gram models.
//!
//! With `w` the input word at a position, independently for each position of a training window:
//!
//! ```text
//! blank, unigram     with probability γ     the input becomes a blank, or a draw from the unigram
//!                                           frequencies
//! Kneser–Ney kinds   with probability γ(w)  the input and the target become independent draws from
//!                                           q(v) ∝ N₁₊(· v), the number of distinct words seen
//!                                           before v
//! bigram_kneser_ney:    γ(w) = γ N₁₊(w ·) / c(w ·)
//! modified_kneser_ney:  γ(w) = γ (D₁ N₁(w ·) + D₂ N₂(w ·) + D₃₊ N₃₊(w ·)) / c(w ·)
//! ```
//!
//! `c(w ·)` counts `w` before another word; `N_k(w ·)` are the distinct words that follow it k
//! times. A replaced target does not become the next input. This follows the authors' public code
//! (GitHub `stanfordmlgroup/nlm-noising`).

use std::collections::HashMap;

use rand::distr::{Distribution, weighted::WeightedIndex};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// `[data.noising]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoisingConfig {
    /// What words are replaced by, and how often each is.
    pub kind: NoisingKind,
    /// γ, in `[0, 1]`.
    pub gamma: f64,
}

/// What words are replaced by, and how often each is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoisingKind {
    /// A blank, an additional word of the vocabulary.
    Blank,
    /// A word drawn by its frequency in the text.
    Unigram,
    /// As in Kneser–Ney smoothing with one discount; inputs and targets.
    BigramKneserNey,
    /// As in modified Kneser–Ney smoothing, with three discounts; inputs and targets.
    ModifiedKneserNey,
}

impl NoisingConfig {
    /// Number of words that the vocabulary of the network has in addition to those of the text.
    pub fn extra_words(&self) -> usize {
        usize::from(self.kind == NoisingKind::Blank)
    }
}

/// The statistics of a training text, from which its windows are noised.
#[derive(Debug, Clone)]
pub struct Noising {
    /// Probability of replacing each word.
    gamma: Vec<f64>,
    replacement: Replacement,
}

#[derive(Debug, Clone)]
enum Replacement {
    Blank(i32),
    Input(WeightedIndex<f64>),
    Both(WeightedIndex<f64>),
}

impl Noising {
    /// Collect the counts that `config` needs from a training text with words below `vocab_size`.
    ///
    /// # Panics
    ///
    /// If the text is empty.
    pub fn new(config: &NoisingConfig, train: &[u32], vocab_size: usize) -> Self {
        let constant = vec![config.gamma; vocab_size];
        let (gamma, replacement) = match config.kind {
            NoisingKind::Blank => {
                let blank = i32::try_from(vocab_size).expect("a vocabulary fits 31 bits");
                (constant, Replacement::Blank(blank))
            }
            NoisingKind::Unigram => {
                let mut counts = vec![0.0; vocab_size];
                train.iter().for_each(|&word| counts[word as usize] += 1.0);
                (constant, Replacement::Input(weighted(&counts)))
            }
            NoisingKind::BigramKneserNey | NoisingKind::ModifiedKneserNey => {
                let bigrams = Bigrams::count(train, vocab_size);
                let discounts = match config.kind {
                    NoisingKind::ModifiedKneserNey => bigrams.discounts(),
                    _ => [1.0; 3],
                };
                let gamma = bigrams.escape(discounts).map(|escape| config.gamma * escape);
                (gamma.collect(), Replacement::Both(weighted(&bigrams.continuations)))
            }
        };
        Self { gamma, replacement }
    }

    /// Replace words of one training window; the same `seed` replaces the same words.
    ///
    /// # Panics
    ///
    /// If the two have different lengths, or an input is not in the vocabulary.
    pub fn apply(&self, inputs: &mut [i32], targets: &mut [i32], seed: u64) {
        assert_eq!(inputs.len(), targets.len(), "each input has a target");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for (input, target) in inputs.iter_mut().zip(targets) {
            let word = usize::try_from(*input).expect("a word of the vocabulary");
            if rng.random::<f64>() >= self.gamma[word] {
                continue;
            }
            match &self.replacement {
                Replacement::Blank(blank) => *input = *blank,
                Replacement::Input(words) => *input = draw(words, &mut rng),
                Replacement::Both(words) => {
                    *input = draw(words, &mut rng);
                    *target = draw(words, &mut rng);
                }
            }
        }
    }

    /// Probability of replacing each word of the vocabulary where it is the input.
    pub fn rates(&self) -> &[f64] {
        &self.gamma
    }
}

fn weighted(weights: &[f64]) -> WeightedIndex<f64> {
    WeightedIndex::new(weights).expect("the text has words")
}

fn draw(words: &WeightedIndex<f64>, rng: &mut ChaCha8Rng) -> i32 {
    i32::try_from(words.sample(rng)).expect("a vocabulary fits 31 bits")
}

/// Counts for the Kneser–Ney kinds.
struct Bigrams {
    /// `c(w ·)`.
    left: Vec<f64>,
    /// Distinct words that follow each word once, twice, and more often.
    followers: Vec<[f64; 3]>,
    /// `N₁₊(· v)`.
    continuations: Vec<f64>,
    /// Bigrams seen exactly 1, 2, 3 and 4 times.
    counts_of_counts: [f64; 4],
}

impl Bigrams {
    fn count(train: &[u32], vocab_size: usize) -> Self {
        let mut counts: HashMap<(u32, u32), usize> = HashMap::new();
        for pair in train.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += 1;
        }
        let mut bigrams = Self {
            left: vec![0.0; vocab_size],
            followers: vec![[0.0; 3]; vocab_size],
            continuations: vec![0.0; vocab_size],
            counts_of_counts: [0.0; 4],
        };
        for (&(first, second), &count) in &counts {
            bigrams.left[first as usize] += count as f64;
            bigrams.followers[first as usize][count.min(3) - 1] += 1.0;
            bigrams.continuations[second as usize] += 1.0;
            if count <= 4 {
                bigrams.counts_of_counts[count - 1] += 1.0;
            }
        }
        // The word that the text begins with may follow no other, and counts as seen once all the
        // same.
        if let Some(&first) = train.first() {
            let continuations = &mut bigrams.continuations[first as usize];
            *continuations = continuations.max(1.0);
        }
        bigrams
    }

    /// `D₁, D₂, D₃₊` of Chen & Goodman, 1999.
    fn discounts(&self) -> [f64; 3] {
        let [n1, n2, n3, n4] = self.counts_of_counts;
        let y = n1 / (n1 + 2.0 * n2);
        let ratio = |more: f64, fewer: f64| if fewer > 0.0 { more / fewer } else { 0.0 };
        [
            1.0 - 2.0 * y * ratio(n2, n1),
            2.0 - 3.0 * y * ratio(n3, n2),
            3.0 - 4.0 * y * ratio(n4, n3),
        ]
        .map(|discount| if discount.is_finite() { discount.max(0.0) } else { 0.0 })
    }

    /// Share of each word's mass that smoothing gives to unseen followers; zero for a word that
    /// none follows.
    fn escape(&self, discounts: [f64; 3]) -> impl Iterator<Item = f64> {
        self.left.iter().zip(&self.followers).map(move |(&left, followers)| {
            let mass: f64 = followers.iter().zip(discounts).map(|(n, d)| n * d).sum();
            if left > 0.0 { (mass / left).min(1.0) } else { 0.0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a b a b c a: bigrams ab 2, ba 1, bc 1, ca 1.
    const TEXT: [u32; 6] = [0, 1, 0, 1, 2, 0];

    fn noising(kind: NoisingKind, gamma: f64) -> Noising {
        Noising::new(&NoisingConfig { kind, gamma }, &TEXT, 3)
    }

    #[test]
    fn kneser_ney_rates_are_those_of_the_text() {
        // N1+(a .) / c(a .) = 1/2, N1+(b .) / c(b .) = 2/2, N1+(c .) / c(c .) = 1/1.
        assert_eq!(noising(NoisingKind::BigramKneserNey, 0.5).rates(), [0.25, 0.5, 0.5]);
        // n1 = 3, n2 = 1: Y = 3/5, D1 = 1 − 2·3/5·1/3 = 3/5, D2 = 2 − 0 = 2. γ(a) = γ·2·1/2, γ(b) =
        // γ·3/5·2/2.
        let modified = noising(NoisingKind::ModifiedKneserNey, 0.5);
        for (rate, expected) in modified.rates().iter().zip([0.5, 0.3, 0.3]) {
            assert!((rate - expected).abs() < 1e-12, "{:?}", modified.rates());
        }
    }

    #[test]
    fn words_without_a_left_or_right_neighbour_are_handled() {
        let config = NoisingConfig { kind: NoisingKind::BigramKneserNey, gamma: 1.0 };
        // 0 begins, 3 ends: N1+(. 0) would be 0.
        let noising = Noising::new(&config, &[0, 1, 2, 1, 3], 4);
        assert_eq!(noising.rates()[3], 0.0);
        let Replacement::Both(words) = &noising.replacement else { panic!("both are replaced") };
        let weights: Vec<f64> = words.weights().collect();
        assert_eq!(weights, [1.0, 2.0, 1.0, 1.0]);
    }

    /// Against NumPy: `tests/reference/noising.py`.
    #[test]
    fn rates_and_frequencies_agree_with_the_reference() {
        #[derive(Deserialize)]
        struct Fixture {
            cases: Vec<Case>,
        }
        #[derive(Deserialize)]
        struct Case {
            tokens: Vec<u32>,
            vocab_size: usize,
            gamma: f64,
            kinds: HashMap<NoisingKind, Expected>,
        }
        #[derive(Deserialize)]
        struct Expected {
            probabilities: Vec<f64>,
            frequencies: Option<Vec<f64>>,
        }
        let fixture: Fixture = anp_testing::fixture("noising.json");
        assert_eq!(fixture.cases.len(), 3);
        let close = |actual: &[f64], expected: &[f64]| {
            assert_eq!(actual.len(), expected.len());
            for (actual, expected) in actual.iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-12, "{actual} instead of {expected}");
            }
        };
        for case in &fixture.cases {
            assert_eq!(case.kinds.len(), 4);
            for (&kind, expected) in &case.kinds {
                let config = NoisingConfig { kind, gamma: case.gamma };
                let noising = Noising::new(&config, &case.tokens, case.vocab_size);
                close(noising.rates(), &expected.probabilities);
                match (&noising.replacement, &expected.frequencies) {
                    (Replacement::Blank(blank), None) => {
                        assert_eq!(*blank as usize, case.vocab_size);
                    }
                    (Replacement::Input(words) | Replacement::Both(words), Some(frequencies)) => {
                        let total = words.total_weight();
                        let weights = words.weights().map(|weight| weight / total);
                        close(&weights.collect::<Vec<_>>(), frequencies);
                    }
                    _ => panic!("{kind:?} draws from the wrong words"),
                }
            }
        }
    }

    /// Shares of inputs and of targets that change, and how often each word is drawn, over a long
    /// text.
    #[test]
    fn words_are_replaced_as_often_as_the_formula_says() {
        let length = 300_000_u32;
        let text: Vec<i32> = (0..length).map(|index| (index % 3) as i32).collect();
        for kind in [
            NoisingKind::Blank,
            NoisingKind::Unigram,
            NoisingKind::BigramKneserNey,
            NoisingKind::ModifiedKneserNey,
        ] {
            let noising = noising(kind, 0.3);
            let (mut inputs, mut targets) = (text.clone(), text.clone());
            noising.apply(&mut inputs, &mut targets, 7);
            // Probability of each word as a replacement: unigrams are 3 : 2 : 1, continuations 2 :
            // 1 : 1.
            let q = match kind {
                NoisingKind::Blank => [0.0; 3],
                NoisingKind::Unigram => [0.5, 1.0 / 3.0, 1.0 / 6.0],
                _ => [0.5, 0.25, 0.25],
            };
            let check = |changed: &[i32], expected: &dyn Fn(usize) -> f64| {
                for word in 0..3 {
                    let trials = f64::from(length) / 3.0;
                    let count = (0..length as usize)
                        .filter(|&at| text[at] == word as i32 && changed[at] != text[at])
                        .count() as f64;
                    let p = expected(word);
                    let four_errors = 4.0 * (p * (1.0 - p) * trials).sqrt();
                    let off = (count - p * trials).abs();
                    assert!(off <= four_errors, "{kind:?}: word {word} changed {count} times");
                }
            };
            // A replacement may be the word itself.
            check(&inputs, &|word| noising.rates()[word] * (1.0 - q[word]));
            match kind {
                NoisingKind::Blank | NoisingKind::Unigram => assert_eq!(targets, text),
                _ => {
                    check(&targets, &|word| noising.rates()[word] * (1.0 - q[word]));
                    // Two draws, not one.
                    assert!((0..text.len()).any(|at| inputs[at] != targets[at]));
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_noise() {
        let noising = noising(NoisingKind::BigramKneserNey, 1.0);
        let noised = |seed| {
            let (mut inputs, mut targets) = ([0, 1, 2].repeat(20), [1, 2, 0].repeat(20));
            noising.apply(&mut inputs, &mut targets, seed);
            (inputs, targets)
        };
        assert_eq!(noised(1), noised(1));
        assert_ne!(noised(1), noised(2));
    }
}

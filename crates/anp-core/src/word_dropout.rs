//! Dropout of whole words.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::{Int, Tensor};

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_dropout, validate_size};
use crate::mask::{apply_mask, look_up_word_mask, sample_in_training};

/// Configuration of [`WordDropout`].
#[derive(Config, Debug, PartialEq)]
pub struct WordDropoutConfig {
    /// Number of words that there are, the rows of the embedding.
    pub vocab_size: usize,
    /// Probability of dropping a word, in [0, 1).
    pub prob: f64,
    /// Whether each sequence of a minibatch draws its own words, as Gal & Ghahramani do, or all
    /// share one draw, as AWD-LSTM does.
    #[config(default = false)]
    pub per_sequence: bool,
    /// Whether tokens are `[batch_size, seq_length]` or `[seq_length, batch_size]`.
    #[config(default = true)]
    pub batch_first: bool,
}

impl WordDropoutConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `prob` is not in [0, 1) or the vocabulary is empty.
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_size("vocab_size", self.vocab_size)?;
        validate_dropout("prob", self.prob)
    }

    /// Build the layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> WordDropout {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        WordDropout {
            vocab_size: self.vocab_size,
            prob: self.prob,
            per_sequence: self.per_sequence,
            batch_first: self.batch_first,
            training: Param::from_bool(true),
        }
    }
}

/// Word dropout: a dropped word is missing wherever it stands in the window.
///
/// ```text
/// y[b, t, :] = x[b, t, :] · m[word at b, t],   m[v] = 0 with probability p, else 1/(1−p)
/// ```
///
/// Dropout of the rows of the embedding matrix:
/// [Gal & Ghahramani, 2016](https://arxiv.org/abs/1512.05287), section 4.2. The results of their
/// paper drew one element a *token* through an error in the code, which is
/// [`SkipInput`](crate::SkipInput); the corrected code ties equal words, and reports slightly
/// better perplexities.
///
/// A new mask is drawn at each call. Follows the rule of Burn's `Dropout`: it drops where the
/// embedding's device is an autodiff device and `training` is enabled.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct WordDropout {
    vocab_size: usize,
    prob: f64,
    per_sequence: bool,
    batch_first: bool,
    /// Whether this layer takes part in training; `freeze` disables it.
    pub training: Param<Flag>,
}

impl WordDropout {
    /// Drop words from `embedded`, every occurrence alike.
    ///
    /// # Shapes
    ///
    /// - `embedded`: `[.., .., d_embed]`, the embedding of `tokens`
    /// - `tokens`: `[batch_size, seq_length]` if `batch_first`, else `[seq_length, batch_size]`,
    ///   below `vocab_size`
    /// - returns: the shape of `embedded`
    ///
    /// # Panics
    ///
    /// If the first two dimensions of `embedded` are not those of `tokens`.
    pub fn forward(&self, embedded: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<3> {
        let mask = self.sample(&embedded, tokens);
        apply_mask(embedded, mask)
    }

    /// The mask that [`forward`](Self::forward) would multiply `embedded` by, drawn anew at each
    /// call; `None` where the layer passes its input through.
    ///
    /// # Shapes
    ///
    /// - `embedded`, `tokens`: as for [`forward`](Self::forward)
    /// - returns: `[.., .., 1]`
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward) does.
    pub fn sample(&self, embedded: &Tensor<3>, tokens: Tensor<2, Int>) -> Option<Tensor<3>> {
        let dims @ [first, second] = tokens.dims();
        assert_eq!(embedded.dims()[..2], dims, "the embedding is not that of the tokens");
        let num_masks = match (self.per_sequence, self.batch_first) {
            (false, _) => 1,
            (true, true) => first,
            (true, false) => second,
        };
        let shape = [num_masks, self.vocab_size];
        let words = sample_in_training(&self.training, self.prob, shape, embedded)?;
        Some(look_up_word_mask(words, tokens, self.batch_first))
    }

    /// Probability of dropping a word.
    pub fn prob(&self) -> f64 {
        self.prob
    }
}

display_on_one_line!(
    WordDropout, it: "vocab_size" = it.vocab_size, "prob" = it.prob,
    "per_sequence" = it.per_sequence, "batch_first" = it.batch_first; training
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::assert_is_mask;
    use burn::tensor::{Device, TensorData};

    const VOCAB_SIZE: usize = 500;

    /// Every word of the vocabulary twice in each of three sequences, `[3, 1000]`.
    fn tokens(device: &Device) -> Tensor<2, Int> {
        let ids: Vec<i32> = (0..3000).map(|i| i % VOCAB_SIZE as i32).collect();
        Tensor::from_data(TensorData::new(ids, [3, 2 * VOCAB_SIZE]), device)
    }

    fn halves(sequence: Tensor<3>) -> [TensorData; 2] {
        [0, VOCAB_SIZE].map(|start| sequence.clone().narrow(1, start, VOCAB_SIZE).into_data())
    }

    #[test]
    fn every_occurrence_of_a_word_is_hit_alike() {
        let device = Device::default().autodiff();
        for per_sequence in [true, false] {
            let layer =
                WordDropoutConfig::new(VOCAB_SIZE, 0.3).with_per_sequence(per_sequence).init();
            let embedded = Tensor::<3>::ones([3, 2 * VOCAB_SIZE, 4], &device);
            let dropped = layer.forward(embedded.clone(), tokens(&device));

            for d in 1..4 {
                let [feature, first] = [d, 0].map(|d| dropped.clone().narrow(2, d, 1).into_data());
                feature.assert_eq(&first, true);
            }
            let [first, second, third] = [0, 1, 2].map(|b| halves(dropped.clone().narrow(0, b, 1)));
            for [once, again] in [&first, &second, &third] {
                once.assert_eq(again, true);
            }
            assert_eq!(first == second && second == third, !per_sequence);
            assert_ne!(dropped.into_data(), layer.forward(embedded, tokens(&device)).into_data());
        }
    }

    #[test]
    fn time_first_is_the_transpose() {
        let device = Device::default().autodiff();
        let layer = WordDropoutConfig::new(VOCAB_SIZE, 0.3)
            .with_per_sequence(true)
            .with_batch_first(false)
            .init();
        let embedded = Tensor::<3>::ones([2 * VOCAB_SIZE, 3, 4], &device);
        let dropped = layer.forward(embedded, tokens(&device).swap_dims(0, 1)).swap_dims(0, 1);
        let [first, second] = [0, 1].map(|b| halves(dropped.clone().narrow(0, b, 1)));
        first[0].assert_eq(&first[1], true);
        assert_ne!(first, second);
    }

    #[test]
    fn words_are_dropped_with_their_probability() {
        let device = Device::default().autodiff();
        let layer = WordDropoutConfig::new(20_000, 0.1).init();
        let tokens = Tensor::<1, Int>::arange(0..20_000, &device).reshape([1, 20_000]);
        let embedded = Tensor::<3>::ones([1, 20_000, 1], &device);
        assert_is_mask(layer.forward(embedded, tokens), 0.1);
    }

    #[test]
    fn input_passes_in_evaluation_when_frozen_and_without_rate() {
        let [training, evaluation] = [Device::default().autodiff(), Device::default()];
        let layer = WordDropoutConfig::new(VOCAB_SIZE, 0.5).init();
        for (layer, device) in [
            (layer.valid(), &evaluation),
            (layer.freeze(), &training),
            (WordDropoutConfig::new(VOCAB_SIZE, 0.0).init(), &training),
        ] {
            let embedded = Tensor::<3>::ones([3, 2 * VOCAB_SIZE, 1], device);
            assert!(layer.sample(&embedded, tokens(device)).is_none());
            let passed = layer.forward(embedded.clone(), tokens(device));
            passed.into_data().assert_eq(&embedded.into_data(), true);
        }
    }

    #[test]
    #[should_panic(expected = "the embedding is not that of the tokens")]
    fn tokens_of_another_shape_are_refused() {
        let device = Device::default();
        let layer = WordDropoutConfig::new(VOCAB_SIZE, 0.5).init();
        layer.forward(Tensor::ones([2, 3, 4], &device), Tensor::zeros([3, 2], &device));
    }

    #[test]
    fn impossible_values_are_told() {
        let error = WordDropoutConfig::new(10, -0.5).validate().unwrap_err();
        assert_eq!(error.to_string(), "`prob` must be in [0, 1), but is -0.5");
        let error = WordDropoutConfig::new(0, 0.5).validate().unwrap_err();
        assert_eq!(error.to_string(), "`vocab_size` must be in [1, ∞), but is 0");
    }
}

//! Dropout of whole input tokens.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_dropout};
use crate::mask::{apply_mask, sample_in_training};

/// Configuration of [`SkipInput`].
#[derive(Config, Debug, PartialEq)]
pub struct SkipInputConfig {
    /// Probability of dropping a token, in [0, 1).
    pub prob: f64,
}

impl SkipInputConfig {
    /// Check the values, as a recipe does before any data is read.
    ///
    /// # Errors
    ///
    /// [`HyperParamError::OutOfRange`] if `prob` is not in [0, 1).
    pub fn validate(&self) -> Result<(), HyperParamError> {
        validate_dropout("prob", self.prob)
    }

    /// Build the layer.
    ///
    /// # Panics
    ///
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self) -> SkipInput {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        SkipInput { prob: self.prob, training: Param::from_bool(true) }
    }
}

/// Skip-input dropout: at a dropped time step the network sees no input.
///
/// ```text
/// y[b, t, :] = x[b, t, :] · m[b, t],   m = 0 with probability p, else 1/(1−p)
/// ```
///
/// Every token draws for itself. With equal words tied to one draw it is
/// [`WordDropout`](crate::WordDropout).
///
/// A new mask is drawn at each call. Follows the rule of Burn's `Dropout`: it drops where the
/// input's device is an autodiff device and `training` is enabled.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct SkipInput {
    prob: f64,
    /// Whether this layer takes part in training; `freeze` disables it.
    pub training: Param<Flag>,
}

impl SkipInput {
    /// Drop tokens of `input`.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_input]` or `[seq_length, batch_size, d_input]`
    /// - returns: the shape of `input`
    pub fn forward(&self, input: Tensor<3>) -> Tensor<3> {
        let mask = self.sample(&input);
        apply_mask(input, mask)
    }

    /// The mask that [`forward`](Self::forward) would multiply `input` by, drawn anew at each call;
    /// `None` where the layer passes its input through.
    ///
    /// # Shapes
    ///
    /// - `input`: as for [`forward`](Self::forward)
    /// - returns: `[.., .., 1]`, the first two dimensions as in `input`
    pub fn sample(&self, input: &Tensor<3>) -> Option<Tensor<3>> {
        let [first, second, _] = input.dims();
        sample_in_training(&self.training, self.prob, [first, second, 1], input)
    }

    /// Probability of dropping a token.
    pub fn prob(&self) -> f64 {
        self.prob
    }
}

display_on_one_line!(SkipInput, it: "prob" = it.prob; training);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::assert_is_mask;
    use burn::tensor::Device;

    #[test]
    fn a_token_vanishes_whole_and_for_itself() {
        let layer = SkipInputConfig::new(0.2).init();
        let input = Tensor::<3>::ones([100, 200, 3], &Device::default().autodiff());
        let dropped = layer.forward(input.clone());
        let [first, second, third] = [0, 1, 2].map(|d| dropped.clone().narrow(2, d, 1));
        first.clone().into_data().assert_eq(&second.into_data(), true);
        first.clone().into_data().assert_eq(&third.into_data(), true);
        assert_is_mask(first, 0.2);

        // 200 and 100 equal draws with p = 0.2 have a probability below 1e-16.
        let [row, next] = [0, 1].map(|b| dropped.clone().narrow(0, b, 1).into_data());
        assert_ne!(row, next);
        let [step, next] = [0, 1].map(|t| dropped.clone().narrow(1, t, 1).into_data());
        assert_ne!(step, next);
        assert_ne!(dropped.into_data(), layer.forward(input).into_data());
    }

    #[test]
    fn input_passes_in_evaluation_when_frozen_and_without_rate() {
        let [training, evaluation] = [Device::default().autodiff(), Device::default()];
        let layer = SkipInputConfig::new(0.5).init();
        for (layer, device) in [
            (layer.valid(), &evaluation),
            (layer.freeze(), &training),
            (SkipInputConfig::new(0.0).init(), &training),
        ] {
            let input = Tensor::<3>::ones([8, 9, 2], device);
            assert!(layer.sample(&input).is_none());
            layer.forward(input.clone()).into_data().assert_eq(&input.into_data(), true);
        }
    }

    #[test]
    fn an_impossible_probability_is_told() {
        let error = SkipInputConfig::new(f64::NAN).validate().unwrap_err();
        assert_eq!(error.to_string(), "`prob` must be in [0, 1), but is NaN");
    }
}

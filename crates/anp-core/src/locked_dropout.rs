//! Dropout whose mask does not change over time.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::Tensor;

use crate::display::display_on_one_line;
use crate::error::{HyperParamError, validate_dropout};
use crate::mask::{apply_mask, sample_in_training};

/// Configuration of [`LockedDropout`].
#[derive(Config, Debug, PartialEq)]
pub struct LockedDropoutConfig {
    /// Probability of dropping, in [0, 1).
    pub prob: f64,
    /// Whether inputs are `[batch_size, seq_length, d_hidden]` or
    /// `[seq_length, batch_size, d_hidden]`.
    #[config(default = true)]
    pub batch_first: bool,
}

impl LockedDropoutConfig {
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
    pub fn init(&self) -> LockedDropout {
        self.validate().unwrap_or_else(|err| panic!("{err}"));
        LockedDropout {
            prob: self.prob,
            batch_first: self.batch_first,
            training: Param::from_bool(true),
        }
    }
}

/// Per-sequence ("locked") dropout: one mask for all the steps of a sequence.
///
/// ```text
/// y[b, t, d] = x[b, t, d] · m[b, d],   m = 0 with probability p, else 1/(1−p)
/// ```
///
/// The mask on layer inputs and outputs in variational dropout for recurrent networks,
/// [Gal & Ghahramani, 2016](https://arxiv.org/abs/1512.05287); "locked" is AWD-LSTM's word. A new
/// mask is drawn at each call: call it once per window, with all of its steps.
///
/// Follows the rule of Burn's `Dropout`: it drops where the input's device is an autodiff device
/// and `training` is enabled, and passes its input through anywhere else.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct LockedDropout {
    prob: f64,
    batch_first: bool,
    /// Whether this layer takes part in training; `freeze` disables it.
    pub training: Param<Flag>,
}

impl LockedDropout {
    /// Drop features of `input`, the same ones at each step of a sequence.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch_size, seq_length, d_hidden]` if `batch_first`, else
    ///   `[seq_length, batch_size, d_hidden]`
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
    /// - returns: `[batch_size, 1, d_hidden]` if `batch_first`, else `[1, batch_size, d_hidden]`
    pub fn sample(&self, input: &Tensor<3>) -> Option<Tensor<3>> {
        let mut shape = input.dims();
        shape[if self.batch_first { 1 } else { 0 }] = 1;
        sample_in_training(&self.training, self.prob, shape, input)
    }

    /// Probability of dropping.
    pub fn prob(&self) -> f64 {
        self.prob
    }
}

display_on_one_line!(LockedDropout, it: "prob" = it.prob, "batch_first" = it.batch_first; training);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::assert_is_mask;
    use burn::tensor::Device;

    fn ones(shape: [usize; 3]) -> Tensor<3> {
        Tensor::ones(shape, &Device::default().autodiff())
    }

    #[test]
    fn the_mask_is_constant_over_time_only() {
        for batch_first in [true, false] {
            let layer = LockedDropoutConfig::new(0.5).with_batch_first(batch_first).init();
            let batch_dim = if batch_first { 0 } else { 1 };
            let mut shape = [7, 7, 400];
            shape[batch_dim] = 3;

            let dropped = layer.forward(ones(shape));
            let step = |t| dropped.clone().narrow(1 - batch_dim, t, 1).into_data();
            let sequence = |b| dropped.clone().narrow(batch_dim, b, 1).into_data();
            for t in 1..7 {
                step(t).assert_eq(&step(0), true);
            }
            // 400 equal draws in a row have the probability 2⁻⁴⁰⁰.
            assert_ne!(sequence(0), sequence(1));
            assert_ne!(sequence(1), sequence(2));
            assert_ne!(dropped.into_data(), layer.forward(ones(shape)).into_data());
        }
    }

    #[test]
    fn masks_have_the_shape_and_statistics_of_the_layer() {
        for prob in [0.2, 0.5] {
            let layer = LockedDropoutConfig::new(prob).init();
            let mask = layer.sample(&ones([50, 7, 300])).expect("training");
            assert_eq!(mask.dims(), [50, 1, 300]);
            assert_is_mask(mask, prob);

            let layer = LockedDropoutConfig::new(prob).with_batch_first(false).init();
            let mask = layer.sample(&ones([7, 50, 300])).expect("training");
            assert_eq!(mask.dims(), [1, 50, 300]);
            assert_is_mask(mask, prob);
        }
    }

    #[test]
    fn the_gradient_is_the_mask() {
        let layer = LockedDropoutConfig::new(0.5).init();
        let input = ones([4, 3, 50]).require_grad();
        let output = layer.forward(input.clone());
        let gradient = input.grad(&output.clone().sum().backward()).expect("the input is a leaf");
        gradient.into_data().assert_eq(&output.into_data(), true);
    }

    #[test]
    fn input_passes_in_evaluation_when_frozen_and_without_rate() {
        let [training, evaluation] = [Device::default().autodiff(), Device::default()];
        let layer = LockedDropoutConfig::new(0.5).init();
        for (layer, device) in [
            (layer.clone(), &evaluation),
            (layer.valid(), &evaluation),
            (layer.freeze(), &training),
            (LockedDropoutConfig::new(0.0).init(), &training),
        ] {
            let input = Tensor::<3>::ones([5, 4, 30], device);
            assert!(layer.sample(&input).is_none());
            layer.forward(input.clone()).into_data().assert_eq(&input.into_data(), true);
        }
    }

    #[test]
    fn an_impossible_probability_is_told() {
        let error = LockedDropoutConfig::new(1.0).validate().unwrap_err();
        assert_eq!(error.to_string(), "`prob` must be in [0, 1), but is 1");
    }

    #[test]
    fn display_shows_a_frozen_layer() {
        let layer = LockedDropoutConfig::new(0.5).init();
        assert_eq!(layer.to_string(), "LockedDropout {prob: 0.5, batch_first: true}");
        let frozen = layer.freeze().to_string();
        assert_eq!(frozen, "LockedDropout {prob: 0.5, batch_first: true, training: disabled}");
    }
}

//! Drawing dropout masks apart from applying them.
//!
//! A mask is 0 where something is dropped and 1/(1−p) where it is kept, so that its mean is 1 and
//! an evaluation needs no scale. Drawn here, it can be given to a network as an input: a test fixes
//! it, a window shares it between its steps, a fused operation multiplies by it.

use burn::module::{Flag, Param};
use burn::tensor::{Device, Distribution, Int, Tensor, TensorCreationOptions};

use crate::error::validate_dropout;

/// Draw a mask of independent elements.
///
/// ```
/// use anp_core::sample_mask;
/// use burn::tensor::Device;
///
/// // One for the steps of a window, constant over time: 20 streams of 512 features, time first.
/// let mask = sample_mask([1, 20, 512], 0.5, &Device::default());
/// ```
///
/// `options` is a `&Device` or a `(&Device, DType)`; the draw is from the device's generator.
///
/// # Shapes
///
/// - returns: `shape`; a dimension of size 1 is shared by everything that the mask multiplies along
///   it
///
/// # Panics
///
/// If `prob`, the probability of dropping, is not in [0, 1).
pub fn sample_mask<const D: usize>(
    shape: [usize; D],
    prob: f64,
    options: impl Into<TensorCreationOptions>,
) -> Tensor<D> {
    validate_dropout("prob", prob).unwrap_or_else(|err| panic!("{err}"));
    let keep = 1.0 - prob;
    Tensor::random(shape, Distribution::Bernoulli(keep), options).mul_scalar(1.0 / keep)
}

/// Draw word masks: one element per vocabulary entry.
///
/// # Shapes
///
/// - returns: `[num_masks, vocab_size]`: `num_masks` is 1 for one mask that the whole minibatch
///   shares (AWD-LSTM), or `batch_size` for one per sequence (Gal & Ghahramani)
///
/// # Panics
///
/// If `prob` is not in [0, 1).
pub fn sample_word_mask(
    num_masks: usize,
    vocab_size: usize,
    prob: f64,
    options: impl Into<TensorCreationOptions>,
) -> Tensor<2> {
    sample_mask([num_masks, vocab_size], prob, options)
}

/// The element of a word mask for each token: equal tokens get equal elements.
///
/// # Shapes
///
/// - `words`: `[1, vocab_size]`, or `[batch_size, vocab_size]` with a row for each sequence
/// - `tokens`: `[batch_size, seq_length]` if `batch_first`, else `[seq_length, batch_size]`
/// - returns: `[.., .., 1]`, the first two as in `tokens`, to multiply with their embedding
///
/// # Panics
///
/// If `words` has neither one row nor `batch_size` of them. A token that is not in the vocabulary
/// panics on some backends and reads something on others.
pub fn look_up_word_mask(words: Tensor<2>, tokens: Tensor<2, Int>, batch_first: bool) -> Tensor<3> {
    let [num_masks, vocab_size] = words.dims();
    let dims @ [first, second] = tokens.dims();
    if num_masks == 1 {
        let looked_up = words.reshape([vocab_size]).select(0, tokens.reshape([first * second]));
        return looked_up.reshape([first, second, 1]);
    }

    let batch_size = if batch_first { first } else { second };
    assert_eq!(
        num_masks, batch_size,
        "word masks need one row or one for each sequence of the tokens {dims:?}"
    );
    let looked_up = if batch_first {
        words.gather(1, tokens)
    } else {
        words.gather(1, tokens.swap_dims(0, 1)).swap_dims(0, 1)
    };
    looked_up.unsqueeze_dim(2)
}

/// Multiply an activation by a mask, if there is one.
///
/// # Shapes
///
/// - `mask`: that of `activation`, or 1 in dimensions along which one element is for all
/// - returns: the shape of `activation`
pub fn apply_mask<const D: usize>(activation: Tensor<D>, mask: Option<Tensor<D>>) -> Tensor<D> {
    match mask {
        Some(mask) => activation * mask,
        None => activation,
    }
}

/// Burn's rule for layers that draw noise: the device says that a backward pass is possible, the
/// flag that this layer takes part in it.
pub fn is_training(training: &Param<Flag>, device: &Device) -> bool {
    training.is_enabled() && device.is_autodiff()
}

/// [`sample_mask`] for `input`, where the layer drops something.
pub(crate) fn sample_in_training<const D: usize>(
    training: &Param<Flag>,
    prob: f64,
    shape: [usize; D],
    input: &Tensor<3>,
) -> Option<Tensor<D>> {
    let device = input.device();
    (prob > 0.0 && is_training(training, &device))
        .then(|| sample_mask(shape, prob, (&device, input.dtype())))
}

/// Panics unless every element of a mask is 0 or 1/(1−p), in proportions that 6 standard
/// deviations explain (one false alarm in 5e8).
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_is_mask<const D: usize>(mask: Tensor<D>, prob: f64) {
    let values: Vec<f32> = mask.into_data().try_to_vec().unwrap();
    let kept_value = 1.0 / (1.0 - prob) as f32;
    let dropped = values.iter().filter(|&&value| value == 0.0).count();
    let kept = values.iter().filter(|&&value| (value - kept_value).abs() < 1e-6).count();
    assert_eq!(dropped + kept, values.len(), "an element is neither 0 nor {kept_value}");
    let share = dropped as f64 / values.len() as f64;
    let deviation = (prob * (1.0 - prob) / values.len() as f64).sqrt();
    assert!((share - prob).abs() <= 6.0 * deviation, "{share} of the elements are 0, not {prob}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, TensorData};

    #[test]
    fn a_mask_drops_its_share_and_scales_the_rest() {
        let device = Device::default();
        for prob in [0.0, 0.1, 0.5, 0.65, 0.9] {
            assert_is_mask(sample_mask([40, 25, 20], prob, &device), prob);
            assert_is_mask(sample_word_mask(2, 10_000, prob, &device), prob);
        }
    }

    #[test]
    fn a_mask_has_the_type_that_is_asked_for() {
        let mask = sample_mask([8], 0.5, (&Device::default(), DType::F64));
        assert_eq!(mask.dtype(), DType::F64);
    }

    #[test]
    #[should_panic(expected = "`prob` must be in [0, 1), but is 1")]
    fn a_mask_that_keeps_nothing_is_refused() {
        sample_mask([2], 1.0, &Device::default());
    }

    #[test]
    fn one_word_mask_is_shared_by_the_minibatch() {
        let device = Device::default();
        let words = Tensor::from_data([[0.0_f32, 1.0, 2.0, 3.0]], &device);
        let tokens = Tensor::<2, Int>::from_data([[1, 3, 1], [2, 1, 0]], &device);
        for batch_first in [true, false] {
            let mask = look_up_word_mask(words.clone(), tokens.clone(), batch_first);
            let expected = TensorData::from([[[1.0_f32], [3.0], [1.0]], [[2.0], [1.0], [0.0]]]);
            mask.into_data().assert_eq(&expected, true);
        }
    }

    #[test]
    fn a_word_mask_per_sequence_is_looked_up_in_its_own_row() {
        let device = Device::default();
        let words = Tensor::from_data([[0.0_f32, 1.0, 2.0], [10.0, 11.0, 12.0]], &device);
        let tokens = Tensor::<2, Int>::from_data([[1, 0, 1], [2, 1, 0]], &device);
        let mask = look_up_word_mask(words.clone(), tokens.clone(), true);
        let expected = TensorData::from([[[1.0_f32], [0.0], [1.0]], [[12.0], [11.0], [10.0]]]);
        mask.into_data().assert_eq(&expected, true);

        let time_first = look_up_word_mask(words, tokens.swap_dims(0, 1), false);
        let expected = TensorData::from([[[1.0_f32], [12.0]], [[0.0], [11.0]], [[1.0], [10.0]]]);
        time_first.into_data().assert_eq(&expected, true);
    }

    #[test]
    #[should_panic(expected = "one row or one for each sequence of the tokens [2, 3]")]
    fn word_masks_of_another_batch_are_refused() {
        let device = Device::default();
        let words = Tensor::ones([3, 5], &device);
        look_up_word_mask(words, Tensor::<2, Int>::zeros([2, 3], &device), true);
    }
}

//! Dropout masks and normal numbers.
//!
//! Burn's CPU backends draw numbers one after another from the device's generator. Here, a draw
//! takes only a key from that generator, so the device's seed still determines the result. Each
//! number is a function of the key and its index (Philox4x32-10): it does not depend on vector
//! width or on the number of threads. Other devices use Burn's operations.

/// [`dropout_mask`] in Burn's operations: the same distribution, other draws.
pub use anp_core::sample_mask as dropout_mask_reference;
use anp_core::validate_dropout;
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorCreationOptions, TensorData};

use crate::backend::is_cpu;
use crate::cpu::random::{self, Key};

/// Draw a dropout mask: each element is 0 with probability `prob`, and `1 / (1 − prob)` otherwise.
///
/// `options` is a `&Device` or a `(&Device, DType)`. On a device without a kernel, this is
/// [`dropout_mask_reference`].
///
/// # Shapes
///
/// - returns: `shape`
///
/// # Panics
///
/// If `prob` is not in `[0, 1)`.
pub fn dropout_mask<const D: usize>(
    shape: [usize; D],
    prob: f64,
    options: impl Into<TensorCreationOptions>,
) -> Tensor<D> {
    let options = options.into();
    validate_dropout("prob", prob).unwrap_or_else(|err| panic!("{err}"));
    if !is_cpu(&options.device) {
        return dropout_mask_reference(shape, prob, options);
    }
    draw(shape, options, |key, len, dtype, threads| match dtype {
        DType::F64 => TensorData::new(random::mask::<f64>(key, prob, len, threads), shape),
        _ => TensorData::new(random::mask::<f32>(key, prob, len, threads), shape),
    })
}

/// Draw numbers from the standard normal distribution, truncated at ±6.77.
///
/// `options` is a `&Device` or a `(&Device, DType)`. On a device without a kernel, this is
/// [`standard_normal_reference`].
///
/// # Shapes
///
/// - returns: `shape`
pub fn standard_normal<const D: usize>(
    shape: [usize; D],
    options: impl Into<TensorCreationOptions>,
) -> Tensor<D> {
    let options = options.into();
    if !is_cpu(&options.device) {
        return standard_normal_reference(shape, options);
    }
    draw(shape, options, |key, len, dtype, threads| match dtype {
        DType::F64 => TensorData::new(random::normal::<f64>(key, len, threads), shape),
        _ => TensorData::new(random::normal::<f32>(key, len, threads), shape),
    })
}

/// [`standard_normal`] in Burn's operations: the same distribution, not truncated, and different
/// numbers.
pub fn standard_normal_reference<const D: usize>(
    shape: [usize; D],
    options: impl Into<TensorCreationOptions>,
) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), options)
}

fn draw<const D: usize>(
    shape: [usize; D],
    options: TensorCreationOptions,
    numbers: impl FnOnce(Key, usize, DType, usize) -> TensorData,
) -> Tensor<D> {
    let TensorCreationOptions { device, dtype } = options;
    let dtype = dtype.unwrap_or_else(|| device.settings().float_dtype.into());
    let key = draw_key(&device);
    let numbers = numbers(key, shape.iter().product(), dtype, rayon::current_num_threads());
    Tensor::from_data(numbers, (&device, dtype))
}

/// Two words from the generator of a CPU device.
fn draw_key(device: &Device) -> Key {
    let words = Distribution::Uniform(0.0, 2_f64.powi(32));
    let words: Tensor<1, Int> = Tensor::random([2], words, (device, DType::I64));
    let words: Vec<i64> = words.into_data().iter::<i64>().collect();
    Key([words[0] as u32, words[1] as u32])
}

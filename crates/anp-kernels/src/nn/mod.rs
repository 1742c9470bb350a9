//! Recurrent and convolutional layers with Burn's conventions, on top of the fused operations.
//!
//! [`Lstm`] takes the place of `burn::nn::Lstm`: configuration, input, output and state are its; the gates' eight
//! weights are two. [`LstmStack`] is several of them, as `torch.nn.LSTM` is. [`Sru`] and [`SruStack`] are those of the
//! authors' package. These load what PyTorch trained (feature `store`). [`Conv2d`] and [`BatchNorm2d`], with a ReLU if asked
//! for, are the layers of residual networks.
//!
//! ```
//! use anp_kernels::nn::{Lstm, LstmConfig, LstmStackConfig};
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::default();
//! let input = Tensor::<3>::random([20, 35, 64], Distribution::Default, &device);
//!
//! let layer = LstmConfig::new(64, 128, true);
//! let lstm: Lstm = layer.init(&device);
//! let (hidden, state) = lstm.forward(input.clone(), None);
//! assert_eq!(hidden.dims(), [20, 35, 128]);
//! let (_next_window, _) = lstm.forward(input.clone(), Some(state));
//!
//! let stack = LstmStackConfig::new(layer, 3).with_inter_layer_dropout(0.5).init(&device);
//! let (hidden, states) = stack.forward(input, None);
//! assert_eq!(hidden.dims(), [20, 35, 128]);
//! assert_eq!(states.len(), 3);
//! ```

mod batch_norm;
mod burn_nn;
mod conv2d;
#[cfg(feature = "store")]
mod load;
mod lstm;
mod lstm_stack;
mod sru;
mod sru_stack;

use burn::module::{Flag, Param};
use burn::tensor::Tensor;

use crate::random::dropout_mask;

pub use batch_norm::{BatchNorm2d, BatchNorm2dConfig};
pub use burn::nn::LstmState;
pub use burn_nn::UnsupportedLstm;
pub use conv2d::{Conv2d, Conv2dConfig};
#[cfg(feature = "store")]
pub use load::LoadError;
pub use lstm::{Lstm, LstmConfig, LstmStates};
pub use lstm_stack::{LstmStack, LstmStackConfig};
pub use sru::{Sru, SruConfig, SruState, SruStates};
pub use sru_stack::{SruStack, SruStackConfig};

/// A configuration that no layer can be built from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number outside of its range.
    #[error("`{name}` must be in {range}, but is {value}")]
    OutOfRange {
        /// The field of the configuration.
        name: &'static str,
        /// The numbers it may be.
        range: &'static str,
        /// The number it is.
        value: f64,
    },
}

/// `Ok` if `value` is in the range that `range` describes.
fn check_range(
    name: &'static str,
    value: f64,
    range: &'static str,
    is_in_range: bool,
) -> Result<(), ConfigError> {
    if is_in_range { Ok(()) } else { Err(ConfigError::OutOfRange { name, range, value }) }
}

fn check_size(name: &'static str, size: usize) -> Result<(), ConfigError> {
    check_range(name, size as f64, "[1, ∞)", size > 0)
}

fn check_dropout(name: &'static str, prob: f64) -> Result<(), ConfigError> {
    check_range(name, prob, "[0, 1)", (0.0..1.0).contains(&prob))
}

/// Change between `[batch_size, seq_length, ..]` and `[seq_length, batch_size, ..]` if `batch_first`.
fn swap_if(batch_first: bool, sequence: Tensor<3>) -> Tensor<3> {
    if batch_first { sequence.swap_dims(0, 1) } else { sequence }
}

/// Draw a dropout mask that all steps of a sequence share: `[1, batch_size, width]`, scaled by `1 / (1 − p)`.
///
/// By Burn's rule there is none unless `like` is on an autodiff device and the layer takes part in training.
fn sequence_mask(
    training: &Param<Flag>,
    prob: f64,
    [batch_size, width]: [usize; 2],
    like: &Tensor<3>,
) -> Option<Tensor<3>> {
    let device = like.device();
    if !training.is_enabled() || !device.is_autodiff() || prob == 0.0 {
        return None;
    }
    Some(dropout_mask([1, batch_size, width], prob, (&device, like.dtype())))
}

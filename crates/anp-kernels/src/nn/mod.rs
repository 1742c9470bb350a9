//! Recurrent and convolutional layers with Burn's conventions, on top of the fused operations.
//!
//! | layer | what it is | takes the place of |
//! | --- | --- | --- |
//! | [`Lstm`], [`LstmStack`] | Long Short-Term Memory | `burn::nn::Lstm`, `torch.nn.LSTM` |
//! | [`Sru`], [`SruStack`] | Simple Recurrent Unit, first version | `sru.SRU` of its authors |
//! | [`Rhn`] | Recurrent Highway Network | |
//! | [`Conv2d`] | convolution of images | `burn::nn::conv::Conv2d` |
//! | [`BatchNorm2d`] | batch normalisation, with a ReLU if asked for | `burn::nn::BatchNorm` |
//!
//! Recurrent layers draw the masks of their dropouts themselves, as Burn's `Dropout` does, or take
//! [`LayerMasks`] from outside. With the feature `store`, an LSTM and an SRU load what PyTorch
//! trained.
//!
//! ```
//! use anp_kernels::nn::{LayerMasks, Lstm, LstmConfig, LstmStackConfig};
//! use burn::tensor::{Device, Distribution, Tensor};
//!
//! let device = Device::default();
//! let input = Tensor::<3>::random([20, 35, 64], Distribution::Default, &device);
//!
//! let layer = LstmConfig::new(64, 128, true);
//! let lstm: Lstm = layer.init(&device);
//! let (hidden, state) = lstm.forward(input.clone(), None);
//! assert_eq!(hidden.dims(), [20, 35, 128]);
//!
//! // The next window, from where this one ended, and with a mask on the hidden states.
//! let recurrent = Some(Tensor::ones([1, 20, 128], &device));
//! let masks = Some(LayerMasks { recurrent, ..LayerMasks::default() });
//! let states = lstm.forward_states(input.clone(), Some(state.detach()), masks);
//! assert_eq!(states.cell.dims(), [20, 35, 128]);
//!
//! let stack = LstmStackConfig::new(layer, 3).with_inter_layer_dropout(0.5).init(&device);
//! let (hidden, states) = stack.forward(input, None);
//! assert_eq!(hidden.dims(), [20, 35, 128]);
//! assert_eq!(states.len(), 3);
//! ```

mod batch_norm;
mod burn_nn;
mod conv2d;
mod gates;
#[cfg(feature = "store")]
mod load;
mod lstm;
mod masks;
mod rhn;
mod sru;
mod stack;
mod states;

pub use anp_core::HyperParamError;
pub use batch_norm::{BatchNorm2d, BatchNorm2dConfig};
pub use burn_nn::UnsupportedLstm;
pub use conv2d::{Conv2d, Conv2dConfig};
#[cfg(feature = "store")]
pub use load::LoadError;
pub use lstm::{Lstm, LstmConfig};
pub use masks::LayerMasks;
pub use rhn::{Rhn, RhnConfig, RhnState};
pub use sru::{Sru, SruConfig, SruState};
pub use stack::{LstmStack, LstmStackConfig, SruStack, SruStackConfig, Stack, StackedLayer};
pub use states::LayerStates;

pub use crate::lstm::LstmState;

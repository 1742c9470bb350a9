//! Recurrent language models and wide residual networks for Burn whose activations can be penalised at any [`Site`] or
//! [`ImageSite`].
//!
//! | item | what it is |
//! | --- | --- |
//! | [`RecurrentLm`] | embedding, stacked recurrent layers, decoder; outputs by site; carried state |
//! | [`LstmLayer`], [`SruLayer`], [`RhnLayer`], [`NasLayer`] | the layers, with one product for all steps' inputs |
//! | [`Dropout`], [`LmMasks`] | where activations are dropped, and the masks of one window |
//! | [`StochasticOutput`] | noise of a learned size on the last hidden activation, and its divergence from a standard normal |
//! | [`WeightPosterior`] | a normal distribution for each weight, and its divergence from a prior: Bayes by Backprop |
//! | [`PointerSentinel`] | a pointer to the last words read, mixed with the softmax |
//! | [`WideResNet`] | wide residual network for small images, in the two published layouts; outputs by site |
//! | [`Kernels`] | fused operations or plain ones |
//!
//! No files and no data sets live here; the device is that of the tensors.

mod dropout;
mod layer;
mod lstm;
mod nas;
mod pointer;
mod posterior;
mod recurrent_lm;
mod rhn;
mod site;
mod sru;
mod stochastic;
mod wide_resnet;

pub use anp_kernels::Kernels;
pub use anp_kernels::lstm::{LstmSequence, LstmState};
pub use dropout::{Dropout, GateMasks, LmMasks, MaskSpan, WordTie};
pub use layer::{CellConfig, LayerMasks, LayerOutput, LayerState, RecurrentLayer};
pub use lstm::{BiasInit, LstmLayer, LstmLayerConfig};
pub use nas::{NasLayer, NasLayerConfig, NasSequence};
pub use pointer::{PointerConfig, PointerSentinel, PointerState, PointerTerms, Pointing};
pub use posterior::{MixtureOver, ScaleMixture, WeightDraw, WeightPosterior};
pub use recurrent_lm::{LayerInitRange, LmOutput, LmState, RecurrentLm, RecurrentLmConfig};
pub use rhn::{RhnLayer, RhnLayerConfig};
pub use site::{ParseSiteError, Site};
pub use sru::{SruLayer, SruLayerConfig};
pub use stochastic::{StochasticConfig, StochasticOutput};
pub use wide_resnet::{
    ImageOutput, ImageSite, ParseImageSiteError, ResidualBlock, ResidualLayout, WideResNet,
    WideResNetConfig,
};

/// The examples of `docs/embedding.md`, so that they are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;

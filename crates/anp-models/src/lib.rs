//! Recurrent language models and wide residual networks for Burn whose activations can be penalised
//! at any [`Site`] or [`ImageSite`].
//!
//! | item | what it is |
//! | --- | --- |
//! | [`RecurrentLm`] | embedding, recurrent layers, decoder; outputs by site; carried state |
//! | [`CellConfig`], [`RecurrentLayer`] | the kinds of recurrent layers, each a [`Cell`] |
//! | [`Dropout`], [`LmMasks`] | where activations are dropped, and the masks of one window |
//! | [`StochasticOutput`] | noise of a learned size on the last hidden activation |
//! | [`WeightPosterior`] | a normal distribution for each weight: Bayes by Backprop |
//! | [`PointerSentinel`] | a pointer to the last words read, mixed with the softmax |
//! | [`WideResNet`] | wide residual network in the two published layouts; outputs by site |
//! | [`VibClassifier`] | deep variational information bottleneck of Alemi et al. |
//! | [`Kernels`] | fused operations or plain ones |
//!
//! The layers are those of [`anp_kernels::nn`]. No files and no data sets live here; the device is
//! that of the tensors.

mod cell;
mod image;
mod init;
mod language;
mod site;

pub use anp_kernels::nn::LayerMasks;
pub use anp_kernels::{Kernels, MatmulPrecision};
pub use cell::{
    Cell, CellConfig, CellTraits, LayerInit, LayerOutput, LayerState, LstmCellConfig, Nas,
    NasCellConfig, ParamCount, RecurrentLayer, RhnCellConfig, SruCellConfig,
};
pub use image::{
    ImageOutput, ImageSite, ResidualBlock, ResidualLayout, VibClassifier, VibClassifierConfig,
    WideResNet, WideResNetConfig,
};
pub use init::BiasInit;
pub use language::{
    Dropout, GateMasks, LayerInitRange, LmMasks, LmOutput, LmState, MaskSpan, MixtureOver,
    PointerConfig, PointerSentinel, PointerState, PointerTerms, Pointing, RecurrentLm,
    RecurrentLmConfig, ScaleMixture, Site, StochasticConfig, StochasticOutput, WeightDraw,
    WeightPosterior, WordTie,
};

pub use site::ParseSiteError;

/// The examples of `docs/embedding.md`, so that they are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;

//! The activation norm penalty (ANP) and the masks of variational dropout, for any
//! [Burn](https://burn.dev) model: tensors in, tensors out.
//!
//! | to | use |
//! | --- | --- |
//! | penalise an activation | [`ActivationNorm`], a [`Norm`] with a [`Reduction`] |
//! | penalise its changes over time | [`TemporalActivationNorm`], [`NormStabilizer`] |
//! | draw its norm to a target | [`TargetNorm`] |
//! | penalise the logits' norm | [`ActivationNorm`] on the logits, or [`Darc1`] |
//! | penalise confident predictions | [`ConfidencePenalty`], [`LabelSmoothing`] |
//! | bound the information in an activation | [`VariationalBottleneck`], [`gaussian_kl`] |
//! | bound it by the whole divergence, with its determinant | [`InformationBound`] |
//! | measure or maximise a coding rate | [`coding_rate`], [`coding_rate_reduction`] |
//! | compare strengths with other papers | [`lambda`], [`awd_alpha`], [`LossReduction::scale`] |
//! | drop the same features at each step of a sequence | [`LockedDropout`] |
//! | drop a word wherever it stands in a window | [`WordDropout`] |
//! | drop single input tokens | [`SkipInput`] |
//! | draw masks to apply elsewhere | [`sample_mask`], [`sample_word_mask`], [`apply_mask`] |
//! | estimate mutual information | [`estimators`] |
//! | check a strength, any other number | [`validate_strength`], [`validate_range`] |
//! | check a size, a probability of dropping | [`validate_size`], [`validate_dropout`] |
//!
//! The penalty is one term of a training loss. Let the model return the activation that it is
//! about, the last hidden one in the paper, beside its logits:
//!
//! ```
//! use anp_core::ActivationNormConfig;
//! use burn::nn::loss::CrossEntropyLossConfig;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::prelude::*;
//! use burn::tensor::activation::tanh;
//!
//! #[derive(Module, Debug)]
//! struct Classifier {
//!     hidden: Linear,
//!     output: Linear,
//! }
//!
//! impl Classifier {
//!     fn forward(&self, images: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
//!         let hidden = tanh(self.hidden.forward(images));
//!         (self.output.forward(hidden.clone()), hidden)
//!     }
//! }
//!
//! let device = Device::default().autodiff();
//! let model = Classifier {
//!     hidden: LinearConfig::new(64, 32).init(&device),
//!     output: LinearConfig::new(32, 10).init(&device),
//! };
//! let images = Tensor::<2>::ones([8, 64], &device);
//! let labels = Tensor::<1, Int>::zeros([8], &device);
//!
//! let (logits, hidden) = model.forward(images);
//! let cross_entropy = CrossEntropyLossConfig::new().init(&device).forward(logits, labels);
//! let penalty = ActivationNormConfig::new(1e-3).init().forward(hidden); // log its value
//! let gradients = (cross_entropy + penalty).backward();
//! # assert!(model.hidden.weight.grad(&gradients).is_some());
//! ```
//!
//! A wrong value is a [`HyperParamError`] of `validate`; a wrong shape is a panic. Everything
//! follows the device of its input and names no backend. Nothing here prints, reads the environment
//! or opens a file.

mod activation_norm;
mod coding_rate;
mod confidence_penalty;
mod conversion;
mod darc1;
mod display;
mod error;
pub mod estimators;
mod gaussian_kl;
mod gram;
mod host_function;
mod information_bound;
mod information_options;
mod l2_norm;
mod label_smoothing;
mod locked_dropout;
mod mask;
mod norm;
mod norm_stabilizer;
mod skip_input;
mod target_norm;
mod temporal_activation_norm;
mod time;
mod variational_bottleneck;
mod widen;
mod word_dropout;

pub use activation_norm::{ActivationNorm, ActivationNormConfig};
pub use coding_rate::{class_coding_rate, coding_rate, coding_rate_reduction};
pub use confidence_penalty::{ConfidencePenalty, ConfidencePenaltyConfig};
pub use conversion::{
    BatchShape, LossReduction, awd_alpha, lambda, lambda_corrected_trace, lambda_eq11_per_step,
    lambda_frobenius,
};
pub use darc1::{Darc1, Darc1Config};
pub use error::{
    HyperParamError, validate_dropout, validate_range, validate_size, validate_strength,
};
pub use gaussian_kl::gaussian_kl;
pub use information_bound::{InformationBound, InformationBoundConfig};
pub use information_options::{ExampleGroup, InformationTerms, TraceFactor};
pub use label_smoothing::{LabelSmoothing, LabelSmoothingConfig};
pub use locked_dropout::{LockedDropout, LockedDropoutConfig};
pub use mask::{apply_mask, is_training, look_up_word_mask, sample_mask, sample_word_mask};
pub use norm::{Norm, Reduction};
pub use norm_stabilizer::{NormStabilizer, NormStabilizerConfig};
pub use skip_input::{SkipInput, SkipInputConfig};
pub use target_norm::{TargetNorm, TargetNormConfig};
pub use temporal_activation_norm::{TemporalActivationNorm, TemporalActivationNormConfig};
pub use variational_bottleneck::{
    GaussianEncoding, VariationalBottleneck, VariationalBottleneckConfig,
};
pub use word_dropout::{WordDropout, WordDropoutConfig};

/// The example of the project's README, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

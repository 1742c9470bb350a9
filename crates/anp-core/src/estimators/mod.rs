//! Estimators of mutual information, in nats.
//!
//! | to estimate | from | use | it is |
//! | --- | --- | --- | --- |
//! | I(X; T), I(T; Y) with Gaussian noise | activations | [`GaussianMixture`] | both bounds |
//! | I(X; T) by a trained critic | samples | [`NeuralEstimator`] | see [`CriticBound`] |
//! | I(X; T) in few dimensions | samples | [`Ksg`] | neither bound |
//! | I(X; T), I(T; Y) of few units, in bins | activations | [`Binning`] | neither bound |
//!
//! A deterministic network with continuous activations has an infinite I(X; T). An estimate of it
//! means something only with a noise model that makes it finite: Gaussian noise for
//! [`GaussianMixture`], bins for [`Binning`]. To compare two networks, give both the same noise
//! *relative to their activations*: half the activation at the same noise is less information,
//! but the next layer could double it again.
//!
//! Every estimator returns an [`Estimate`]: the value, a standard error, and what the value bounds.
//! The standard error covers the sampling of the examples, not an estimator's bias. Where an
//! estimator saturates, as InfoNCE does at ln N, the interval is narrow and wrong.
//!
//! - Critic scores: from independent batches of held-out samples.
//! - [`GaussianMixture`] and [`Binning`]: by the delete-one jackknife, as they are smooth in the
//!   weight of each example. A bootstrap would repeat examples, which continuous variables do not
//!   do: near ln N it would lose more than half a nat.
//! - [`Ksg`]: from disjoint parts of the samples. It is not smooth, and repeated points break it.
//!
//! Values and intervals assume that rows are independent draws. Shuffle a time series first, and
//! expect intervals that are too narrow.
//!
//! ```
//! use anp_core::estimators::GaussianMixture;
//! use burn::prelude::*;
//!
//! let device = Device::default();
//! // Four examples, two classes; the classes are 20 standard deviations of the noise apart.
//! let hidden = Tensor::<2>::from_data([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0], [2.1, 0.0]], &device);
//! let labels = Tensor::<1, Int>::from_data([0, 0, 1, 1], &device);
//!
//! let mixture = GaussianMixture::isotropic(hidden, 0.1).expect("a positive noise");
//! let about_the_labels = mixture.label_information(labels);
//! assert!(about_the_labels.lower.nats > 0.5 && about_the_labels.upper.nats < 0.9); // ln 2 = 0.693
//! ```

mod binning;
mod critic;
mod critic_bound;
mod estimate;
mod gaussian_mixture;
mod ksg;
mod neural;
mod rows;

pub use binning::{Binning, BinningConfig};
pub use critic::{ConcatCritic, Critic, CriticConfig, SeparableCritic};
pub use critic_bound::CriticBound;
pub use estimate::{Bound, Estimate, InformationBounds, Method};
pub use gaussian_mixture::GaussianMixture;
pub use ksg::{Ksg, KsgConfig};
pub use neural::{NeuralEstimator, NeuralEstimatorConfig};

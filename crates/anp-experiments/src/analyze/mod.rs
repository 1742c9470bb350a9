//! What a trained network's activations look like: their size, their spectrum, how much they
//! saturate, how much they tell about input and target, and how much of the gradient is the
//! penalty's. `docs/analyze.md` explains each number.
//!
//! Here is what all kinds of runs share. `text::analyze_checkpoint` and `image::analyze_checkpoint`
//! run the networks.

mod features;
mod figure;
mod gradient;
mod meter;
mod number;
mod options;
mod report;
mod spectrum;

pub use features::Features;
pub use figure::figure;
pub(crate) use gradient::GradientMeter;
pub use gradient::{Comparison, compare};
pub(crate) use meter::{Meter, Sample, Saturation};
pub use number::{Number, On};
pub use options::{Options, OptionsError};
pub(crate) use report::entropy;
pub use report::{
    Analysis, Bounded, Decoder, Divergence, GivenSigma, Gradient, Information, Noise, Range,
    SaturationReport, SiteReport, Size, SpectrumReport, Term,
};
pub use spectrum::{effective_rank, participation_ratio};

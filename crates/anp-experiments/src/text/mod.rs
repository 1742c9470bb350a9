//! Language models: recipe, windows of a text, training step, evaluation.

pub(crate) mod averaging;
pub mod batches;
pub mod bptt;
pub(crate) mod build;
pub(crate) mod clip;
pub mod evaluate;
pub(crate) mod learner;
pub mod noising;
mod ranges;
pub mod recipe;
pub(crate) mod schedule;

pub use averaging::Averaging;
pub use build::{Texts, build_learner, network};
pub use clip::clip_by_global_norm;
pub use learner::{LmLearner, Objective, SitePenalty, WindowOutput};
pub use schedule::{End, Schedule, Verdict};

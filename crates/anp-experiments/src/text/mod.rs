//! Language models: recipe, windows of a text, training step, evaluation.

mod analyze;
mod averaging;
pub mod batches;
pub mod bptt;
mod build;
mod clip;
pub mod evaluate;
mod learner;
pub mod noising;
mod ranges;
pub mod recipe;
pub(crate) mod record;
mod regularizer;
mod schedule;
mod score;
mod snapshot;
mod task;

pub use analyze::analyze_checkpoint;
pub use averaging::Averaging;
pub use build::{Texts, build_learner, network};
pub use clip::clip_by_global_norm;
pub use evaluate::TextScores;
pub use learner::{LmLearner, Objective, SitePenalty, WindowOutput};
pub use regularizer::LmRegularizer;
pub use schedule::{End, Schedule, Verdict};
pub use score::{CheckpointScores, MonteCarloScores, evaluate_checkpoint};
pub use snapshot::{TextState, TextTensors};
pub use task::{PERPLEXITY, TOKENS_PER_SECOND, TextData, TextTask};

//! Training a language model from a recipe to a record.

mod averaging;
mod checkpoint;
mod clip;
mod learner;
mod metrics;
mod run;
mod schedule;
mod state;
mod strategy;

pub use averaging::Averaging;
pub use checkpoint::{CheckpointError, CheckpointFolder, Snapshot, StoredCheckpoint};
pub use clip::clip_by_global_norm;
pub(crate) use learner::token_nll;
pub use learner::{LmLearner, Objective, SitePenalty, WindowOutput};
pub use metrics::{Quantity, StepReport, Summary, SummaryMetric};
pub use run::{Outcome, RunRequest, Texts, TrainError, build_learner, network, run, run_on};
pub use schedule::{End, Schedule, Verdict};
pub use state::{EpochSums, TrainerState};

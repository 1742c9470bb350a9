//! Training a language model or an image classifier from a recipe to a record.

mod averaging;
mod checkpoint;
mod clip;
mod image_learner;
mod image_run;
mod image_strategy;
mod learner;
mod metrics;
mod replicas;
mod run;
mod schedule;
mod state;
mod strategy;

pub use averaging::Averaging;
pub use checkpoint::{CheckpointError, CheckpointFolder, Manifest, Snapshot, StoredCheckpoint};
pub use clip::clip_by_global_norm;
pub use image_learner::{BatchOutput, ImageLearner, ImageReport};
pub use image_run::{
    CheckpointScore, evaluate_checkpoint, is_checkpoint_of_images, run_images, run_images_on,
};
pub use image_strategy::{ImageManifest, ImageTrainer};
pub(crate) use learner::token_nll;
pub use learner::{LmLearner, Objective, SitePenalty, WindowOutput};
pub use metrics::{Quantity, StepReport, Summary, SummaryMetric};
pub use replicas::Replicas;
pub use run::{
    Outcome, RunRequest, Texts, TrainError, build_learner, network, run, run_any, run_on,
};
pub use schedule::{End, Schedule, Verdict};
pub use state::{EpochSums, TrainerState};

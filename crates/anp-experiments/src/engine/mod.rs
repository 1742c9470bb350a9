//! One run, from a recipe to a record.

pub(crate) mod checkpoint;
pub(crate) mod metrics;
pub(crate) mod position;
pub(crate) mod run;
pub(crate) mod strategy;

pub use checkpoint::{CheckpointError, CheckpointFolder, Manifest, Snapshot, StoredCheckpoint};
pub use metrics::{Quantity, StepReport, Summary, SummaryMetric};
pub use position::{EpochSums, TrainerState};
pub use run::{Outcome, RunRequest, TrainError, run, run_any, run_on};

//! One run of any kind: lock, resume, training loop, checkpoints, record.
//!
//! The engine knows neither text nor images; each kind of run implements [`Task`].

mod checkpoint;
mod error;
mod metrics;
mod pilot;
mod position;
mod record;
mod run;
mod run_folder;
mod scalars;
mod strategy;
mod task;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointFolder, StoredCheckpoint};
pub use error::{CheckpointError, TrainError};
pub use metrics::{Quantity, Report, StepOutput, Summary, SummaryMetric};
pub use pilot::{Pilot, pilot};
pub use position::{Position, RunState};
pub use record::{PenaltyEquivalent, RunRecord, SCHEMA_VERSION};
pub use run::{Control, OnEvaluation, Outcome, Place, RecordOf, RunId, RunRequest, run, run_on};
pub use scalars::{EpochSums, NotFinite, StepScalars, finite};
pub use task::{
    Context, EpochEnd, EvaluationProgress, FinishedEpoch, GoOn, GoOnPart, Metrics, Snapshot,
    StepError, Task, Words,
};

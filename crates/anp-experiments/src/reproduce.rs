//! Making the runs that have no record yet.

mod cost;
mod plan;

use std::path::{Path, PathBuf};

pub use cost::{Cost, costs};
pub use plan::{Plan, PlannedRun, Selection, plan};

use crate::engine::{Outcome, TrainError};
use crate::record::{Record, RecordError};

/// How [`execute`] ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The runs that failed, in order; all others up to the interrupted one have their record.
    pub failed: Vec<FailedRun>,
    /// The run that was asked to stop, if any was.
    pub interrupted: Option<Interrupted>,
}

/// A run that failed, and so has no record.
#[derive(Debug, thiserror::Error)]
#[error("the run {} failed", .run.name())]
pub struct FailedRun {
    /// The run.
    pub run: PlannedRun,
    /// Why.
    pub source: TrainError,
}

/// A run that was asked to stop; it and those after it have no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// Where the run goes on from, if it got that far.
    pub checkpoint: Option<PathBuf>,
    /// Number of runs without a record, this one and those that failed included.
    pub remaining: usize,
}

/// Why the remaining runs are not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A run is done, but its record cannot be written, and neither could later ones.
    #[error(
        "the run {name} is done, but has no record yet; \
         run the same command again, it will not train again"
    )]
    Record {
        /// [`PlannedRun::name`].
        name: String,
        /// Why.
        source: RecordError,
    },
}

/// Make runs one after another; each has its record in the folder `records` before the next begins.
///
/// `run` makes one; it gets the position of the run, from 0. When a run fails, `on_failure` is
/// called at once and the next run begins. The first run that is interrupted is the last.
///
/// # Errors
///
/// [`ReproduceError`]. The records of the runs before are kept.
pub fn execute(
    runs: &[PlannedRun],
    records: &Path,
    mut run: impl FnMut(usize, &PlannedRun) -> Result<Outcome<Record>, TrainError>,
    mut on_failure: impl FnMut(&FailedRun),
) -> Result<Ended, ReproduceError> {
    let mut ended = Ended::default();
    for (index, planned) in runs.iter().enumerate() {
        match run(index, planned) {
            Ok(Outcome::Finished(record)) => {
                record
                    .save(records)
                    .map_err(|source| ReproduceError::Record { name: planned.name(), source })?;
            }
            Ok(Outcome::Interrupted { checkpoint }) => {
                let remaining = runs.len() - index + ended.failed.len();
                ended.interrupted = Some(Interrupted { checkpoint, remaining });
                break;
            }
            Err(source) => {
                let failed = FailedRun { run: planned.clone(), source };
                on_failure(&failed);
                ended.failed.push(failed);
            }
        }
    }
    Ok(ended)
}

#[cfg(test)]
mod tests;

//! Running what has no record yet.

mod cost;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use cost::{Basis, Cost, Machine};

use crate::engine::{Outcome, TrainError};
use crate::experiments::{ExperimentsError, Table};
use crate::recipe::{Recipe, Scale};
use crate::record::{AnyRecord, RecordError, StoredRecord, run_name};

/// Which runs of some tables are asked for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rows to run; all if empty.
    pub rows: Vec<String>,
    /// Seeds of each row; those of its recipe if `None`.
    pub num_seeds: Option<usize>,
    /// `--set` overrides.
    pub overrides: Vec<String>,
    /// Whether to run again what has a record.
    pub force: bool,
}

/// A run that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Table of the row.
    pub table: String,
    /// Row.
    pub row: String,
    /// Scale of the recipe.
    pub scale: Scale,
    /// Seed.
    pub seed: u64,
    /// What to do.
    pub recipe: Recipe,
    /// [`Recipe::content_hash`] of it.
    pub recipe_hash: String,
}

/// What has to be run, and what not.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The runs to make, in this order.
    pub runs: Vec<PlannedRun>,
    /// Number of runs asked for that have a record already.
    pub recorded: usize,
}

/// How [`execute`] ended.
#[derive(Debug, Default)]
pub struct Ended {
    /// The runs that failed, in order; all others up to the interrupted one have their record.
    pub failed: Vec<FailedRun>,
    /// What was asked to stop, if anything was.
    pub interrupted: Option<Interrupted>,
}

/// A run that has no record because something went wrong.
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

/// Why no more runs are made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A run is done, but its record cannot be written; nor could those of the runs after it.
    #[error(
        "the run {name} is done, but has no record yet; run the same command again, it will not train again"
    )]
    Record {
        /// [`PlannedRun::name`].
        name: String,
        /// Why.
        source: RecordError,
    },
}

impl PlannedRun {
    /// Name of its record, without the ending, and of its run folder.
    pub fn name(&self) -> String {
        run_name(&self.table, &self.row, self.scale, self.seed, &self.recipe_hash)
    }
}

/// Find out what has to be run so that every row of `tables` that is selected, and has a recipe at `scale`,
/// has a record of that recipe for each of its seeds.
///
/// Rows that cannot be run at `scale` need nothing.
///
/// # Errors
///
/// [`ExperimentsError::UnknownRow`] if no table has a row that is selected; any other
/// [`ExperimentsError`] if the overrides do not fit a row.
pub fn plan(
    tables: &[Table],
    scale: Scale,
    selection: &Selection,
    records: &[StoredRecord],
) -> Result<Plan, ExperimentsError> {
    let known = || tables.iter().flat_map(|table| &table.rows).map(|row| row.id.clone());
    if let Some(id) = selection.rows.iter().find(|&id| known().all(|row| row != *id)) {
        let mut seen = HashSet::new();
        let known = known().filter(|row| seen.insert(row.clone())).collect();
        return Err(ExperimentsError::UnknownRow { id: id.clone(), known });
    }
    // The recipe decides a number, so a row has the records of any row with the same recipe.
    let recorded: HashSet<_> = records
        .iter()
        .map(|StoredRecord { record, .. }| {
            (record.recipe_hash().to_owned(), record.scale(), record.seed())
        })
        .collect();

    let mut plan = Plan { runs: Vec::new(), recorded: 0 };
    let mut planned = HashSet::new();
    for table in tables {
        for row in &table.rows {
            if !selection.rows.is_empty() && !selection.rows.contains(&row.id) {
                continue;
            }
            let Some(section) = row.section(scale, &selection.overrides)? else { continue };
            let seeds = match selection.num_seeds {
                Some(count) => section.first_seeds(count),
                None => section.seeds().to_vec(),
            };
            let recipe = section.recipe();
            let recipe_hash = recipe.content_hash();
            for seed in seeds {
                let run = PlannedRun {
                    table: table.id.clone(),
                    row: row.id.clone(),
                    scale,
                    seed,
                    recipe: recipe.clone(),
                    recipe_hash: recipe_hash.clone(),
                };
                let key = (run.recipe_hash.clone(), scale, seed);
                let has_record = recorded.contains(&key);
                plan.recorded += usize::from(has_record);
                if (selection.force || !has_record) && planned.insert(key) {
                    plan.runs.push(run);
                }
            }
        }
    }
    Ok(plan)
}

/// Make runs one after another; each has its record in the folder `records` before the next begins.
///
/// `run` makes one: it is told its position from 0. A run that fails does not keep the others from being made:
/// `on_failure` is told at once, and the next begins. The first run that is interrupted is the last.
///
/// # Errors
///
/// [`ReproduceError`]. The records of the runs before are kept.
pub fn execute(
    runs: &[PlannedRun],
    records: &Path,
    mut run: impl FnMut(usize, &PlannedRun) -> Result<Outcome<AnyRecord>, TrainError>,
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

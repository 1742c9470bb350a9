//! Running what has no record yet.

mod cost;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub use cost::{Basis, Cost, Machine};

use crate::experiments::{ExperimentsError, Table};
use crate::recipe::{Recipe, Scale};
use crate::record::{RecordError, StoredRecord, run_name};
use crate::train::{Outcome, TrainError};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// All runs are done and have their record.
    Finished,
    /// A run was asked to stop; it and those after it have no record.
    Interrupted {
        /// Where the run goes on from, if it got that far.
        checkpoint: Option<PathBuf>,
        /// Number of runs without a record, the interrupted one included.
        remaining: usize,
    },
}

/// Why the runs could not all be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReproduceError {
    /// A run failed; those before it have their record.
    #[error("the run {name} failed")]
    Run {
        /// [`PlannedRun::name`].
        name: String,
        /// Why.
        source: TrainError,
    },
    /// A run is done, but its record cannot be written.
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
    let recorded: HashSet<String> =
        records.iter().map(|stored| stored.record.file_name()).collect();

    let mut plan = Plan { runs: Vec::new(), recorded: 0 };
    for table in tables {
        for row in &table.rows {
            if !selection.rows.is_empty() && !selection.rows.contains(&row.id) {
                continue;
            }
            let Some(section) = row.section(scale, &selection.overrides)? else { continue };
            let seeds = match selection.num_seeds {
                Some(count) => section.first_seeds(count),
                None => section.seeds.clone(),
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
                let has_record = recorded.contains(&format!("{}.json", run.name()));
                plan.recorded += usize::from(has_record);
                if selection.force || !has_record {
                    plan.runs.push(run);
                }
            }
        }
    }
    Ok(plan)
}

/// Make runs one after another; each has its record in the folder `records` before the next begins.
///
/// `run` makes one: it is told its position from 0. It stops at the first run that fails or is interrupted.
///
/// # Errors
///
/// [`ReproduceError`]. The records of the runs before are kept.
pub fn execute(
    runs: &[PlannedRun],
    records: &Path,
    mut run: impl FnMut(usize, &PlannedRun) -> Result<Outcome, TrainError>,
) -> Result<Ended, ReproduceError> {
    for (index, planned) in runs.iter().enumerate() {
        let failed = |source| ReproduceError::Run { name: planned.name(), source };
        match run(index, planned).map_err(failed)? {
            Outcome::Finished(record) => {
                record
                    .save(records)
                    .map_err(|source| ReproduceError::Record { name: planned.name(), source })?;
            }
            Outcome::Interrupted { checkpoint } => {
                return Ok(Ended::Interrupted { checkpoint, remaining: runs.len() - index });
            }
        }
    }
    Ok(Ended::Finished)
}

#[cfg(test)]
mod tests;

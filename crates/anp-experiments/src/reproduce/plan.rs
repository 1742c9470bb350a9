//! Which runs have no record yet.

use std::collections::HashSet;

use crate::engine::RunId;
use crate::experiments::{ExperimentsError, Table};
use crate::recipe::{Recipe, Scale, content_hash};
use crate::record::{StoredRecord, run_name};
use crate::tuning::Tuning;

/// Which runs of some tables to make.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rows to run; all if empty.
    pub rows: Vec<String>,
    /// Seeds of each row; those of its recipe if `None`.
    pub num_seeds: Option<usize>,
    /// `--set` overrides.
    pub overrides: Vec<String>,
    /// Whether to make runs again that have a record.
    pub force: bool,
}

/// A run to make.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// Which run it is.
    pub id: RunId,
    /// What to run.
    pub recipe: Recipe,
    /// [`content_hash`] of it.
    pub recipe_hash: String,
}

/// The runs to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The runs to make, in this order.
    pub runs: Vec<PlannedRun>,
    /// Number of selected runs that have a record already.
    pub recorded: usize,
    /// Number of runs that follow: those of rows whose best candidate is not known before all
    /// candidates have run.
    pub later: usize,
}

impl PlannedRun {
    /// Name of its record, without the ending, and of its run folder.
    pub fn name(&self) -> String {
        let RunId { table, row, scale, seed } = &self.id;
        run_name(table, row, *scale, *seed, &self.recipe_hash)
    }
}

/// Find the runs that are needed so that every selected row of `tables` has a record of its recipe
/// at `scale` for each of its seeds. Rows without a recipe at `scale` need none.
///
/// A row with a sweep first needs a record of each candidate, for the first seed.
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
    // The recipe decides a number, so rows with the same recipe share their records.
    let recorded: HashSet<_> = records
        .iter()
        .map(|StoredRecord { record, .. }| {
            (record.head().recipe_hash.to_owned(), record.head().scale, record.head().seed)
        })
        .collect();

    let mut plan = Plan { runs: Vec::new(), recorded: 0, later: 0 };
    let mut planned = HashSet::new();
    for table in tables {
        for row in &table.rows {
            if !selection.rows.is_empty() && !selection.rows.contains(&row.id) {
                continue;
            }
            let Some(runs) = row.runs(scale, &selection.overrides)? else { continue };
            let seeds = match selection.num_seeds {
                Some(count) => runs.first_seeds(count),
                None => runs.seeds.clone(),
            };
            let needed: Vec<(Recipe, u64)> = match Tuning::of(&runs, scale, records) {
                None => seeds.into_iter().map(|seed| (runs.recipe.clone(), seed)).collect(),
                Some(tuning) => {
                    let first = runs.seeds[0];
                    let others = seeds.into_iter().filter(|&seed| seed != first);
                    let candidates = tuning.tried.iter().map(|it| (it.recipe.clone(), first));
                    match tuning.chosen() {
                        Some(chosen) => {
                            candidates.chain(others.map(|seed| (chosen.clone(), seed))).collect()
                        }
                        None => {
                            plan.later += others.count();
                            candidates.collect()
                        }
                    }
                }
            };
            for (recipe, seed) in needed {
                let recipe_hash = content_hash(&recipe);
                let key = (recipe_hash.clone(), scale, seed);
                let has_record = recorded.contains(&key);
                plan.recorded += usize::from(has_record);
                if (selection.force || !has_record) && planned.insert(key) {
                    let (table, row) = (table.id.clone(), row.id.clone());
                    plan.runs.push(PlannedRun {
                        id: RunId { table, row, scale, seed },
                        recipe,
                        recipe_hash,
                    });
                }
            }
        }
    }
    Ok(plan)
}

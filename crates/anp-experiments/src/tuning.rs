//! The choice among the recipes of a row with a sweep.

use serde::Serialize;

use crate::experiments::Runs;
use crate::recipe::{Recipe, Scale, content_hash};
use crate::record::{Record, StoredRecord};

/// What records say of the candidates of a sweep, in their order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// Path of the key that differs.
    pub key: String,
    /// The candidates.
    pub tried: Vec<Tried>,
    /// Position of the one with the lowest validation perplexity, once all have a record; the first
    /// of equals.
    pub best: Option<usize>,
}

/// One candidate of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// Value of the key.
    pub value: f64,
    /// The recipe with it.
    #[serde(skip)]
    pub recipe: Recipe,
    /// Validation perplexity of the row's first seed, if there is a record of it.
    pub valid: Option<f64>,
}

impl Tuning {
    /// Compare the candidates of `runs` by the records of the first seed; `None` if the row has no
    /// sweep.
    pub fn of(runs: &Runs, scale: Scale, records: &[StoredRecord]) -> Option<Self> {
        let sweep = runs.sweep.as_ref()?;
        let seed = runs.seeds[0];
        let valid = |recipe: &Recipe| {
            let hash = content_hash(recipe);
            let records = records.iter().map(|it| &it.record).filter(|record| {
                let head = record.head();
                head.recipe_hash == hash && head.scale == scale && head.seed == seed
            });
            // Of several the latest counts, as in a table.
            let latest = records.max_by_key(|it| it.head().provenance.finished_at.clone())?;
            match latest {
                Record::Text(record) => Some(record.result.valid.perplexity),
                Record::Image(_) | Record::Vib(_) => None,
            }
        };
        let tried: Vec<_> = sweep
            .candidates
            .iter()
            .map(|it| Tried {
                value: it.value,
                recipe: it.recipe.clone(),
                valid: valid(&it.recipe),
            })
            .collect();
        let all: Option<Vec<f64>> = tried.iter().map(|it| it.valid).collect();
        let best = all.and_then(|valid| {
            let lowest = valid.iter().copied().min_by(f64::total_cmp)?;
            valid.iter().position(|&it| it == lowest)
        });
        Some(Self { key: sweep.key.clone(), tried, best })
    }

    /// The recipe of the best candidate.
    pub fn chosen(&self) -> Option<&Recipe> {
        self.best.map(|best| &self.tried[best].recipe)
    }

    /// Number of candidates with a record.
    pub fn num_done(&self) -> usize {
        self.tried.iter().filter(|it| it.valid.is_some()).count()
    }

    /// Whether there is a choice.
    pub fn has_choice(&self) -> bool {
        self.tried.len() > 1
    }

    /// Whether the best of several values is the smallest or the largest, so that a better one may
    /// lie outside.
    pub fn is_at_an_end(&self) -> bool {
        let is_end = |best: usize| best == 0 || best + 1 == self.tried.len();
        self.has_choice() && self.best.is_some_and(is_end)
    }
}

//! One row of a table: its numbers, and the runs that it stands for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::Error as _;
use toml::Value;

use super::error::ExperimentsError;
use super::row_file::{Chain, Published};
use crate::recipe::{Recipe, Scale, apply_overrides};

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Stem of its file's name, for example `lstm_anp`.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// What the table calls it.
    pub name: String,
    /// Whether this project adds the row to the paper's.
    pub ours: bool,
    /// The published numbers; only a row of ours may have none.
    pub published: Option<Published>,
    /// Recipe and seeds at each scale, as TOML: `--set` changes them.
    pub(crate) sections: BTreeMap<Scale, Value>,
}

/// The runs of a row at one scale: a recipe, and one run per seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Runs {
    /// What to run; of a row with a sweep, at the first value.
    pub recipe: Recipe,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// Recipes to choose from, if the row is tuned.
    pub sweep: Option<Sweep>,
}

/// Recipes that differ in the value of one key. Each runs with the first seed; the one that is
/// best on validation is the row, and runs with all seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// Path of the key in the recipe, as `--set` takes it.
    pub key: String,
    /// The recipes, by ascending value.
    pub candidates: Vec<Candidate>,
}

/// One recipe of a [`Sweep`].
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Value of the key.
    pub value: f64,
    /// The recipe with it.
    pub recipe: Recipe,
}

impl Row {
    /// Read a row's file, and the files that it extends, and check every value at every scale.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file.
    pub fn load(path: &Path) -> Result<Self, ExperimentsError> {
        let chain = Chain::read(path)?;
        let file = chain.own();
        let invalid = |reason| ExperimentsError::Row { path: path.to_owned(), reason };
        let name = file.name.clone().ok_or_else(|| invalid("has no `name`"))?;
        match &file.published {
            None if !file.ours => {
                return Err(invalid("has no [published], though it is not `ours`"));
            }
            None => {}
            Some(Published { valid, test, norm, tolerance, .. }) => {
                if [valid, test, norm].into_iter().all(Option::is_none) {
                    return Err(invalid("has a [published] without `valid`, `test` and `norm`"));
                }
                let mut numbers = [*valid, *test, *norm, Some(*tolerance)].into_iter().flatten();
                if !numbers.all(|number| number.is_finite() && number >= 0.0) {
                    let reason = "has a number in [published] that is negative or not finite";
                    return Err(invalid(reason));
                }
            }
        }
        let section = |scale| (scale, Value::Table(chain.section(scale)));
        let row = Self {
            id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            name,
            ours: file.ours,
            published: file.published.clone(),
            sections: chain.scales().into_iter().map(section).collect(),
        };
        for (&scale, section) in &row.sections {
            Runs::read(section.clone()).map_err(|source| chain.recipe_error(scale, source))?;
            row.runs(scale, &[])?;
        }
        Ok(row)
    }

    /// Scales that the row can run at, the cheapest first; none if it is not built yet.
    pub fn scales(&self) -> impl Iterator<Item = Scale> {
        self.sections.keys().copied()
    }

    /// The runs at `scale` after overrides (see [`apply_overrides`]), with every value checked;
    /// `None` if the row cannot run at it.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file, the scale and the override.
    pub fn runs(
        &self,
        scale: Scale,
        overrides: &[String],
    ) -> Result<Option<Runs>, ExperimentsError> {
        let Some(section) = self.sections.get(&scale) else {
            return Ok(None);
        };
        let (path, mut section) = (self.path.clone(), section.clone());
        if let Err(source) = apply_overrides(&mut section, overrides) {
            return Err(ExperimentsError::Override { path, source });
        }
        let section = without_set_sweep(section, overrides);
        let runs = match Runs::read(section) {
            Ok(runs) => runs,
            Err(source) => {
                let (overrides, source) = (overrides.to_vec(), Box::new(source));
                return Err(ExperimentsError::OverriddenRecipe { path, overrides, source });
            }
        };
        if let Err(source) = runs.recipes().try_for_each(Recipe::validate) {
            return Err(ExperimentsError::InvalidRecipe { path, scale, source });
        }
        let seeds = &runs.seeds;
        let has_sweep = |is_wrong: fn(&Sweep) -> bool| runs.sweep.as_ref().is_some_and(is_wrong);
        let reason = if seeds.is_empty() {
            "has a scale without seeds"
        } else if seeds.iter().collect::<HashSet<_>>().len() < seeds.len() {
            "has a scale that repeats a seed"
        } else if seeds.iter().any(|&seed| seed >= i64::MAX as u64) {
            // TOML's integers end here, and a seed after the last one must be possible.
            "has a seed that TOML cannot hold"
        } else if has_sweep(|it| !it.candidates.is_sorted_by(|a, b| a.value < b.value)) {
            "has a sweep whose values do not ascend"
        } else if has_sweep(|it| !matches!(it.candidates[0].recipe, Recipe::Text(_))) {
            "has a sweep, but there are no validation images to choose its value on"
        } else {
            return Ok(Some(runs));
        };
        Err(ExperimentsError::Row { path, reason })
    }
}

/// The section without its sweep if `--set` gives the key, or a table that holds it, a value of its
/// own.
fn without_set_sweep(mut section: Value, overrides: &[String]) -> Value {
    let key = section.get("sweep").and_then(|it| it.get("key")).and_then(Value::as_str);
    let is_set = key.is_some_and(|key| {
        let set = overrides.iter().filter_map(|it| it.split_once('='));
        set.map(|(set, _)| set.trim()).any(|set| {
            key.strip_prefix(set).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    });
    if let Some(table) = section.as_table_mut().filter(|_| is_set) {
        table.remove("sweep");
    }
    section
}

impl Runs {
    /// Read a section: `seeds` and `sweep`, and beside them the keys of a recipe.
    fn read(mut section: Value) -> Result<Self, toml::de::Error> {
        #[derive(Deserialize)]
        struct Plan {
            seeds: Vec<u64>,
            sweep: Option<Values>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Values {
            key: String,
            values: Vec<f64>,
        }

        let Plan { seeds, sweep } = section.clone().try_into()?;
        if let Some(table) = section.as_table_mut() {
            table.remove("seeds");
            table.remove("sweep");
        }
        let Some(Values { key, values }) = sweep else {
            return Ok(Self { recipe: Recipe::from_toml(section)?, seeds, sweep: None });
        };
        let candidate = |&value: &f64| {
            let mut section = section.clone();
            apply_overrides(&mut section, &[format!("{key}={value:?}")])
                .map_err(|err| toml::de::Error::custom(format!("sweep.key: {err}")))?;
            Ok(Candidate { value, recipe: Recipe::from_toml(section)? })
        };
        let candidates = values.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = candidates.first() else {
            return Err(toml::de::Error::custom("sweep.values is empty"));
        };
        Ok(Self { recipe: first.recipe.clone(), seeds, sweep: Some(Sweep { key, candidates }) })
    }

    /// All recipes: of a sweep every one.
    pub fn recipes(&self) -> impl Iterator<Item = &Recipe> {
        let swept = self.sweep.iter().flat_map(|it| &it.candidates).map(|it| &it.recipe);
        let single = self.sweep.is_none().then_some(&self.recipe);
        single.into_iter().chain(swept)
    }

    /// The first `count` seeds; the row's own ones are followed by the numbers after the largest.
    pub fn first_seeds(&self, count: usize) -> Vec<u64> {
        let last = self.seeds.iter().max().copied().unwrap_or(0);
        self.seeds.iter().copied().chain(last + 1..).take(count).collect()
    }
}

//! One row of a table: its numbers, and the runs that it stands for.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
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
    /// What to run.
    pub recipe: Recipe,
    /// The seeds.
    pub seeds: Vec<u64>,
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
        let runs = match Runs::read(section) {
            Ok(runs) => runs,
            Err(source) => {
                let (overrides, source) = (overrides.to_vec(), Box::new(source));
                return Err(ExperimentsError::OverriddenRecipe { path, overrides, source });
            }
        };
        if let Err(source) = runs.recipe.validate() {
            return Err(ExperimentsError::InvalidRecipe { path, scale, source });
        }
        let seeds = &runs.seeds;
        let reason = if seeds.is_empty() {
            "has a scale without seeds"
        } else if seeds.iter().collect::<HashSet<_>>().len() < seeds.len() {
            "has a scale that repeats a seed"
        } else if seeds.iter().any(|&seed| seed >= i64::MAX as u64) {
            // TOML's integers end here, and a seed after the last one must be possible.
            "has a seed that TOML cannot hold"
        } else {
            return Ok(Some(runs));
        };
        Err(ExperimentsError::Row { path, reason })
    }
}

impl Runs {
    /// Read a section: `seeds`, and beside it the keys of a recipe.
    fn read(mut section: Value) -> Result<Self, toml::de::Error> {
        #[derive(Deserialize)]
        struct Seeds {
            seeds: Vec<u64>,
        }

        let Seeds { seeds } = section.clone().try_into()?;
        if let Some(table) = section.as_table_mut() {
            table.remove("seeds");
        }
        Ok(Self { recipe: Recipe::from_toml(section)?, seeds })
    }

    /// The first `count` seeds; the row's own ones are followed by the numbers after the largest.
    pub fn first_seeds(&self, count: usize) -> Vec<u64> {
        let last = self.seeds.iter().max().copied().unwrap_or(0);
        self.seeds.iter().copied().chain(last + 1..).take(count).collect()
    }
}

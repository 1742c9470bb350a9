//! The `experiments` folder: tables, their rows, and the recipes of each row.
//!
//! ```text
//! experiments/
//!   table2/
//!     table.toml        title, metric, and the rows in the paper's order
//!     lstm_anp.toml     one row: the paper's numbers, and a recipe for each scale it can be run at
//!   records/            one file a finished run; see [`crate::record`]
//! ```

mod error;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::ExperimentsError;

use crate::recipe::{
    BayesByBackpropConfig, DataConfig, ImageDataConfig, ImageModelConfig, ImageRecipe,
    ImageTrainingConfig, InformationPenaltyConfig, ModelConfig, PenaltyConfig,
    PointerSentinelConfig, Recipe, RecipeError, Scale, TextRecipe, TrainingConfig,
    VariationalConfig, WeightPenaltyConfig, is_of_images, with_overrides,
};

/// Name of the folder that [`Experiments::locate`] looks for.
const FOLDER: &str = "experiments";

/// Name of the file that makes a folder a table.
const TABLE_FILE: &str = "table.toml";

/// The folder that holds the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiments {
    root: PathBuf,
}

/// One table, with its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Name of its folder, for example `table2`.
    pub id: String,
    /// What `table.toml` says.
    pub file: TableFile,
    /// The rows, in the order of [`TableFile::rows`].
    pub rows: Vec<Row>,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Stem of its file's name, for example `lstm_anp`.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    /// What the file says.
    pub file: RowFile,
}

/// `table.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// What the table shows.
    pub title: String,
    /// What its numbers are.
    pub metric: Metric,
    /// The rows from top to bottom, each the stem of a file beside this one.
    pub rows: Vec<String>,
}

/// What the numbers of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Perplexity; lower is better.
    Perplexity,
    /// Share of the test images that are classified rightly, in percent; higher is better.
    Accuracy,
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Perplexity => "perplexity",
            Self::Accuracy => "accuracy",
        })
    }
}

/// A row's file.
///
/// With `extends = "row"` or `extends = "table/row"` it says only what differs from that row's file: keys are replaced,
/// tables are merged, but for `model` and `schedule`, which are replaced where they are of another kind. `[paper]`,
/// `ours` and the name are never taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
pub struct RowFile<S = AnySection> {
    /// What the table calls the row.
    pub name: String,
    /// Whether the row is one that this project adds, and not one of the paper.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ours: bool,
    /// The published numbers; only a row of ours may have none.
    #[serde(rename = "paper", default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// The recipe at [`Scale::Demo`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demo: Option<S>,
    /// The recipe at [`Scale::Small`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub small: Option<S>,
    /// The recipe at [`Scale::Paper`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paper_scale: Option<S>,
}

/// `[paper]`: the numbers that ours are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// On validation, in the table's metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<f64>,
    /// On test, in the table's metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// Norm of the last activation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<f64>,
    /// Where they stand and who measured them.
    pub source: String,
    /// Largest distance to `test` that is called a match at [`Scale::Paper`].
    pub tolerance: f64,
}

/// `[demo]`, `[small]` or `[paper_scale]`: a recipe and the seeds to run it with. One with `data.images` is of images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, read once")]
pub enum AnySection {
    /// Of a language model.
    Text(Section),
    /// Of an image classifier.
    Image(ImageSection),
}

/// A section with a [`TextRecipe`].
///
/// The keys of [`TextRecipe`] stand beside `seeds`; they are repeated here because serde cannot both flatten
/// and refuse unknown keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// One run a seed.
    pub seeds: Vec<u64>,
    /// [`TextRecipe::data`].
    pub data: DataConfig,
    /// [`TextRecipe::model`].
    pub model: ModelConfig,
    /// [`TextRecipe::variational`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variational: Option<VariationalConfig>,
    /// [`TextRecipe::information_penalty`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information_penalty: Option<InformationPenaltyConfig>,
    /// [`TextRecipe::bayes_by_backprop`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bayes_by_backprop: Option<BayesByBackpropConfig>,
    /// [`TextRecipe::pointer_sentinel`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer_sentinel: Option<PointerSentinelConfig>,
    /// [`TextRecipe::penalties`].
    #[serde(default, rename = "penalty", skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<PenaltyConfig>,
    /// [`TextRecipe::weight_penalty`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_penalty: Option<WeightPenaltyConfig>,
    /// [`TextRecipe::training`].
    pub training: TrainingConfig,
}

/// A section with an [`ImageRecipe`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSection {
    /// One run a seed.
    pub seeds: Vec<u64>,
    /// [`ImageRecipe::data`].
    pub data: ImageDataConfig,
    /// [`ImageRecipe::model`].
    pub model: ImageModelConfig,
    /// [`ImageRecipe::penalties`].
    #[serde(default, rename = "penalty", skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<PenaltyConfig>,
    /// [`ImageRecipe::training`].
    pub training: ImageTrainingConfig,
}

impl Section {
    /// The recipe, without the seeds.
    pub fn recipe(&self) -> TextRecipe {
        TextRecipe {
            data: self.data.clone(),
            model: self.model.clone(),
            variational: self.variational.clone(),
            information_penalty: self.information_penalty.clone(),
            bayes_by_backprop: self.bayes_by_backprop.clone(),
            pointer_sentinel: self.pointer_sentinel.clone(),
            penalties: self.penalties.clone(),
            weight_penalty: self.weight_penalty.clone(),
            training: self.training.clone(),
        }
    }
}

impl ImageSection {
    /// The recipe, without the seeds.
    pub fn recipe(&self) -> ImageRecipe {
        ImageRecipe {
            data: self.data.clone(),
            model: self.model.clone(),
            penalties: self.penalties.clone(),
            training: self.training.clone(),
        }
    }
}

impl AnySection {
    /// The recipe, without the seeds.
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::Text(section) => section.recipe().into(),
            Self::Image(section) => section.recipe().into(),
        }
    }

    /// One run a seed.
    pub fn seeds(&self) -> &[u64] {
        match self {
            Self::Text(section) => &section.seeds,
            Self::Image(section) => &section.seeds,
        }
    }

    /// The section of a language model, if it is one.
    pub fn text(self) -> Option<Section> {
        match self {
            Self::Text(section) => Some(section),
            Self::Image(_) => None,
        }
    }

    /// The first `count` seeds; after the section's own ones, the numbers that follow the largest.
    pub fn first_seeds(&self, count: usize) -> Vec<u64> {
        let last = self.seeds().iter().max().copied().unwrap_or(0);
        self.seeds().iter().copied().chain(last + 1..).take(count).collect()
    }
}

impl<S> RowFile<S> {
    /// The same with other sections.
    fn map<T>(self, section: impl Fn(S) -> T) -> RowFile<T> {
        RowFile {
            name: self.name,
            ours: self.ours,
            published: self.published,
            demo: self.demo.map(&section),
            small: self.small.map(&section),
            paper_scale: self.paper_scale.map(&section),
        }
    }
}

impl RowFile {
    /// The section of `scale`, if the row can be run at it.
    pub fn section(&self, scale: Scale) -> Option<&AnySection> {
        match scale {
            Scale::Demo => self.demo.as_ref(),
            Scale::Small => self.small.as_ref(),
            Scale::Paper => self.paper_scale.as_ref(),
        }
    }

    /// Scales that the row can be run at; none if it is not built yet.
    pub fn scales(&self) -> impl Iterator<Item = Scale> {
        Scale::ALL.into_iter().filter(|&scale| self.section(scale).is_some())
    }
}

impl Row {
    /// Read a row's file and check every value of every scale.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file.
    pub fn load(path: &Path) -> Result<Self, ExperimentsError> {
        let file = read_row(path)?;
        let invalid = |reason| ExperimentsError::Row { path: path.to_owned(), reason };
        match &file.published {
            None if !file.ours => return Err(invalid("has no [paper], though it is not `ours`")),
            Some(Published { valid: None, test: None, norm: None, .. }) => {
                return Err(invalid("has a [paper] without `valid`, `test` and `norm`"));
            }
            Some(Published { valid, test, norm, tolerance, .. }) => {
                let numbers = [*valid, *test, *norm, Some(*tolerance)];
                if numbers
                    .into_iter()
                    .flatten()
                    .any(|number| !(number.is_finite() && number >= 0.0))
                {
                    return Err(invalid("has a number in [paper] that is negative or not finite"));
                }
            }
            None => {}
        }
        let row = Self {
            id: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            file,
        };
        for scale in row.file.scales() {
            row.section(scale, &[])?;
        }
        Ok(row)
    }

    /// The section of `scale` after overrides (see [`apply_overrides`](crate::recipe::apply_overrides)),
    /// with every value checked; `None` if the row cannot be run at it.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file, the section and the override.
    pub fn section(
        &self,
        scale: Scale,
        overrides: &[String],
    ) -> Result<Option<AnySection>, ExperimentsError> {
        let Some(section) = self.file.section(scale) else {
            return Ok(None);
        };
        let mut section = section.clone();
        let name = scale.section();
        if !overrides.is_empty() {
            let document =
                toml::Value::try_from(&section).expect("what was read from TOML can be written");
            let overridden = match &section {
                AnySection::Text(_) => {
                    with_overrides(document, overrides, &self.path).map(AnySection::Text)
                }
                AnySection::Image(_) => {
                    with_overrides(document, overrides, &self.path).map(AnySection::Image)
                }
            };
            section = overridden.map_err(|source| ExperimentsError::Section {
                section: name,
                source: Box::new(source),
            })?;
        }
        let invalid = |reason| ExperimentsError::Row { path: self.path.clone(), reason };
        let seeds = section.seeds();
        if seeds.is_empty() {
            return Err(invalid("has a section without seeds"));
        }
        if seeds.iter().collect::<HashSet<_>>().len() < seeds.len() {
            return Err(invalid("has a section that repeats a seed"));
        }
        // TOML's integers end here, and a seed after the last one is always possible.
        if seeds.iter().any(|&seed| seed >= i64::MAX as u64) {
            return Err(invalid("has a seed that TOML cannot hold"));
        }
        section.recipe().validate().map_err(|source| ExperimentsError::Section {
            section: name,
            source: Box::new(RecipeError::Invalid { path: self.path.clone(), source }),
        })?;
        Ok(Some(section))
    }
}

impl Experiments {
    /// The folder given by `--experiments`, else `experiments` in the current folder or the nearest folder
    /// above it that has one.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError::NoFolder`], or [`ExperimentsError::NoTables`] if the folder given holds none.
    pub fn locate(flag: Option<&Path>) -> Result<Self, ExperimentsError> {
        if let Some(root) = flag {
            let experiments = Self { root: root.to_owned() };
            experiments.table_names()?;
            return Ok(experiments);
        }
        // Relative where it can be: paths end up in messages and tables.
        let experiments = Self { root: PathBuf::from(FOLDER) };
        if experiments.table_names().is_ok() {
            return Ok(experiments);
        }
        let here = std::env::current_dir()
            .map_err(|source| ExperimentsError::Read { path: PathBuf::from("."), source })?;
        Self::find(&here)
    }

    /// `experiments` in `here` or the nearest folder above it.
    fn find(here: &Path) -> Result<Self, ExperimentsError> {
        here.ancestors()
            .map(|folder| Self { root: folder.join(FOLDER) })
            .find(|experiments| experiments.table_names().is_ok())
            .ok_or_else(|| ExperimentsError::NoFolder { from: here.to_owned() })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where records go unless `--records` says otherwise: `records` in this folder.
    pub fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    /// Where checkpoints and logs go unless `--runs` says otherwise: `runs` beside this folder.
    pub fn runs(&self) -> PathBuf {
        self.root.parent().unwrap_or(Path::new("")).join("runs")
    }

    /// Names of all tables, sorted.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError::NoTables`] if there are none; [`ExperimentsError::Read`].
    pub fn table_names(&self) -> Result<Vec<String>, ExperimentsError> {
        let read = |source| ExperimentsError::Read { path: self.root.clone(), source };
        let none = || ExperimentsError::NoTables { root: self.root.clone() };
        let entries = match fs::read_dir(&self.root) {
            Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(none());
            }
            entries => entries.map_err(read)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(read)?;
            if entry.path().join(TABLE_FILE).is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        if names.is_empty() { Err(none()) } else { Ok(names) }
    }

    /// Names of the tables that have a row of the paper, sorted.
    ///
    /// # Errors
    ///
    /// As [`table`](Self::table).
    pub fn paper_tables(&self) -> Result<Vec<String>, ExperimentsError> {
        let mut names = self.table_names()?;
        let mut failure = None;
        names.retain(|name| match self.table(name) {
            Ok(table) => table.rows.iter().any(|row| !row.file.ours),
            Err(err) => {
                failure.get_or_insert(err);
                false
            }
        });
        failure.map_or(Ok(names), Err)
    }

    /// Read a table and all its rows, and check every value.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file: an unknown table, a file that does not fit the schema, a
    /// value out of range, a row that `table.toml` lists and that has no file, or the other way round.
    pub fn table(&self, id: &str) -> Result<Table, ExperimentsError> {
        let names = self.table_names()?;
        if names.iter().all(|name| name != id) {
            return Err(ExperimentsError::UnknownTable {
                id: id.to_owned(),
                root: self.root.clone(),
                known: names,
            });
        }
        let folder = self.root.join(id);
        let path = folder.join(TABLE_FILE);
        let file: TableFile = read_toml(&path)?;

        let listed: BTreeSet<&str> = file.rows.iter().map(String::as_str).collect();
        if listed.len() < file.rows.len() {
            return Err(ExperimentsError::Row { path, reason: "lists a row twice" });
        }
        let present = row_names(&folder)?;
        if let Some(row) = listed.iter().find(|&&row| !present.contains(row)) {
            return Err(ExperimentsError::MissingRow { path, row: (*row).to_owned() });
        }
        if let Some(row) = present.iter().find(|row| !listed.contains(row.as_str())) {
            return Err(ExperimentsError::UnlistedRow { path, row: row.clone() });
        }

        let load = |row: &String| Row::load(&folder.join(format!("{row}.toml")));
        let rows = file.rows.iter().map(load).collect::<Result<_, _>>()?;
        Ok(Table { id: id.to_owned(), file, rows })
    }
}

/// Names of the row files in a table's folder.
fn row_names(folder: &Path) -> Result<BTreeSet<String>, ExperimentsError> {
    let read = |source| ExperimentsError::Read { path: folder.to_owned(), source };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if name != TABLE_FILE
            && !name.starts_with('.')
            && let Some(stem) = name.strip_suffix(".toml")
        {
            names.insert(stem.to_owned());
        }
    }
    Ok(names)
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ExperimentsError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ExperimentsError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| schema(path, source))
}

fn schema(path: &Path, source: toml::de::Error) -> ExperimentsError {
    ExperimentsError::Schema { path: path.to_owned(), source: Box::new(source) }
}

/// Key that names the row whose file a row's file goes on from.
const EXTENDS: &str = "extends";

/// How many files may go on from each other; more are taken for a circle.
const MOST_EXTENSIONS: usize = 8;

/// A row's file, put on top of the files that it goes on from.
fn read_row(path: &Path) -> Result<RowFile, ExperimentsError> {
    let mut files: Vec<toml::Table> = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        if files.len() == MOST_EXTENSIONS {
            let reason = "goes on from itself, by way of `extends`";
            return Err(ExperimentsError::Row { path, reason });
        }
        let mut file: toml::Table = read_toml(&path)?;
        next = match file.remove(EXTENDS) {
            None => None,
            Some(toml::Value::String(row)) => Some(extended_path(&path, &row)),
            Some(_) => {
                let reason = "has an `extends` that is no text; write \"row\" or \"table/row\"";
                return Err(ExperimentsError::Row { path, reason });
            }
        };
        files.push(file);
    }
    let sections = files.iter().flat_map(|file| Scale::ALL.map(|scale| file.get(scale.section())));
    let of_images = sections.flatten().any(is_of_images);
    if files.len() == 1 {
        // Once more, so that an error has its line.
        return if of_images {
            read_toml(path).map(|row: RowFile<_>| row.map(AnySection::Image))
        } else {
            read_toml(path).map(|row: RowFile<_>| row.map(AnySection::Text))
        };
    }
    let whole = files.into_iter().rev().reduce(|mut base, file| {
        for key in ["name", "ours", "paper"] {
            base.remove(key);
        }
        merge(&mut base, file);
        base
    });
    let whole = toml::Value::Table(whole.expect("there is a file"));
    let row = if of_images {
        whole.try_into().map(|row: RowFile<_>| row.map(AnySection::Image))
    } else {
        whole.try_into().map(|row: RowFile<_>| row.map(AnySection::Text))
    };
    row.map_err(|source| schema(path, source))
}

/// `row` beside the file at `path`, or in another table.
fn extended_path(path: &Path, row: &str) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    match row.split_once('/') {
        None => folder.join(format!("{row}.toml")),
        Some((table, row)) => folder.with_file_name(table).join(format!("{row}.toml")),
    }
}

/// Put `change` over `base`.
fn merge(base: &mut toml::Table, change: toml::Table) {
    use toml::Value::Table;
    for (key, value) in change {
        match (base.get_mut(&key), value) {
            (Some(Table(old)), Table(new)) => {
                let names_a_kind = matches!(key.as_str(), "model" | "schedule" | "weight_decay");
                if names_a_kind && new.keys().all(|kind| !old.contains_key(kind)) {
                    *old = new;
                } else {
                    merge(old, new);
                }
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The `experiments` folder: tables, their rows, and the recipes of each row.
//!
//! ```text
//! experiments/
//!   table2/
//!     table.toml        title, metric, and the rows in the paper's order
//!     lstm_anp.toml     one row: the published numbers, and a recipe for each scale
//!   bases/              what several rows extend
//!   records/            one file per finished run; see [`crate::record`]
//! ```

mod error;
mod merge;
mod plot_config;
mod row;
mod row_file;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use error::ExperimentsError;
pub use plot_config::{AxisScale, PanelConfig, PlotConfig, PlotValue, SeriesConfig};
pub use row::{Candidate, Row, Runs, Sweep};
pub use row_file::Published;
use row_file::{FOLDER, read_toml};

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
    /// What `anp report --plot` draws, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plot: Option<PlotConfig>,
}

/// What the numbers of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Metric {
    /// Perplexity; lower is better.
    Perplexity,
    /// Share of the test images that are classified correctly, in percent; higher is better.
    Accuracy,
    /// Share of the test images that are classified wrongly, in percent; lower is better.
    Error,
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Perplexity => "perplexity",
            Self::Accuracy => "accuracy",
            Self::Error => "error",
        })
    }
}

impl Experiments {
    /// The folder given by `--experiments`, else the nearest `experiments` in the current folder or
    /// above it.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError::NoFolder`], or [`ExperimentsError::NoTables`] if the given folder holds
    /// none.
    pub fn locate(flag: Option<&Path>) -> Result<Self, ExperimentsError> {
        if let Some(root) = flag {
            let experiments = Self { root: root.to_owned() };
            experiments.table_names()?;
            return Ok(experiments);
        }
        // Relative if possible: paths end up in messages and tables.
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

    /// Where checkpoints go unless `--runs` says otherwise: `runs` beside this folder.
    pub fn runs(&self) -> PathBuf {
        self.root.parent().unwrap_or(Path::new("")).join("runs")
    }

    /// Names of all tables, sorted.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError::NoTables`] if there are none; [`ExperimentsError::Read`].
    pub fn table_names(&self) -> Result<Vec<String>, ExperimentsError> {
        let names = match names(&self.root) {
            Err(ExperimentsError::Read { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Vec::new()
            }
            names => names?,
        };
        let is_table = |name: &String| self.root.join(name).join(TABLE_FILE).is_file();
        let tables: Vec<_> = names.into_iter().filter(is_table).collect();
        if tables.is_empty() {
            return Err(ExperimentsError::NoTables { root: self.root.clone() });
        }
        Ok(tables)
    }

    /// Names of the tables that have a row of the paper, sorted.
    ///
    /// # Errors
    ///
    /// As [`table`](Self::table).
    pub fn paper_tables(&self) -> Result<Vec<String>, ExperimentsError> {
        let mut names = Vec::new();
        for name in self.table_names()? {
            if self.table(&name)?.rows.iter().any(|row| !row.ours) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Read a table and all its rows, and check every value.
    ///
    /// # Errors
    ///
    /// [`ExperimentsError`], naming the file: an unknown table, a file that does not fit the
    /// schema, a value out of range, a row that is listed without a file or has one without being
    /// listed.
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
        let (_, file): (_, TableFile) = read_toml(&path)?;

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

/// Names of the row files in a table's folder, without their ending.
fn row_names(folder: &Path) -> Result<BTreeSet<String>, ExperimentsError> {
    let mut names = names(folder)?;
    names.retain(|name| name != TABLE_FILE && !name.starts_with('.'));
    Ok(names.iter().filter_map(|name| name.strip_suffix(".toml")).map(str::to_owned).collect())
}

/// Names of what is in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, ExperimentsError> {
    let read = |source| ExperimentsError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;

//! Row files as they are written, and how files that extend each other become one recipe per scale.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::error::ExperimentsError;
use super::merge::merge;
use crate::recipe::Scale;

/// Name of the folder that holds the tables.
pub(super) const FOLDER: &str = "experiments";

/// How many files may extend each other; more are taken for a circle.
const MOST_EXTENSIONS: usize = 16;

/// A row file, or a file that only others extend.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RowFile {
    /// What the table calls the row.
    pub name: Option<String>,
    /// Whether this project adds the row to the paper's.
    #[serde(default)]
    pub ours: bool,
    /// The file that this one changes: `folder/file`, or `file` for one beside it.
    pub extends: Option<String>,
    /// Scales that the row can run at; the default is all that `scale` and extended files have.
    pub scales: Option<BTreeSet<Scale>>,
    /// The published numbers; only a row of ours may have none.
    pub published: Option<Published>,
    /// Recipe and seeds, as far as they are the same at every scale.
    #[serde(default)]
    pub base: toml::Table,
    /// What each scale has on top of `base`.
    #[serde(default)]
    pub scale: BTreeMap<Scale, toml::Table>,
}

/// `[published]`: the numbers that ours are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// On validation, in the table's metric.
    pub valid: Option<f64>,
    /// On test, in the table's metric.
    pub test: Option<f64>,
    /// Norm of the last activation.
    pub norm: Option<f64>,
    /// Largest distance to `test` that counts as a match at [`Scale::Paper`].
    pub tolerance: f64,
    /// Where they were published, and who measured them.
    pub source: String,
}

/// A row's file, followed by the files that it extends, the nearest first.
pub(super) struct Chain(Vec<Source>);

struct Source {
    path: PathBuf,
    text: String,
    file: RowFile,
}

impl Chain {
    /// Read a row's file and the files that it extends.
    pub fn read(path: &Path) -> Result<Self, ExperimentsError> {
        let mut sources = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            if sources.len() == MOST_EXTENSIONS {
                let reason = "extends itself";
                return Err(ExperimentsError::Row { path, reason });
            }
            let (text, file): (_, RowFile) = read_toml(&path)?;
            next = match &file.extends {
                Some(name) => Some(extended_path(&path, name)?),
                None => None,
            };
            sources.push(Source { path, text, file });
        }
        Ok(Self(sources))
    }

    /// The row's own file.
    pub fn own(&self) -> &RowFile {
        &self.0[0].file
    }

    /// The scales that the row can run at.
    pub fn scales(&self) -> BTreeSet<Scale> {
        let of_all = || self.0.iter().flat_map(|it| it.file.scale.keys().copied()).collect();
        self.own().scales.clone().unwrap_or_else(of_all)
    }

    /// Recipe and seeds at `scale`: each file goes on top of the one that it extends.
    pub fn section(&self, scale: Scale) -> toml::Table {
        let mut section = toml::Table::new();
        for Source { file, .. } in self.0.iter().rev() {
            merge(&mut section, &file.base);
            if let Some(change) = file.scale.get(&scale) {
                merge(&mut section, change);
            }
        }
        section
    }

    /// The error for a section that is no recipe. It names the file and the line that hold the
    /// wrong key: those that have most of the key's path, preferably in the row's own file.
    pub fn recipe_error(&self, scale: Scale, source: toml::de::Error) -> ExperimentsError {
        let keys = wrong_key(&source);
        let (mut most, mut path, mut line) = (0, &self.0[0].path, None);
        for candidate in &self.0 {
            if let Some((depth, found)) = candidate.find(scale, &keys)
                && depth > most
            {
                (most, path, line) = (depth, &candidate.path, Some(found));
            }
        }
        ExperimentsError::Recipe { path: path.clone(), line, scale, source: Box::new(source) }
    }
}

impl Source {
    /// How many of the keys stand here below each other, and the line of the last of them.
    fn find(&self, scale: Scale, keys: &[String]) -> Option<(usize, usize)> {
        let document = DeTable::parse(&self.text).ok()?.into_inner();
        let scale = scale.to_string();
        let scale = document.get("scale").and_then(|it| it.get_ref().get(scale.as_str()));
        let sections = document.get("base").into_iter().chain(scale);
        let found = sections.filter_map(|it| find(it.get_ref(), keys));
        let (depth, at) = found.max_by_key(|&(depth, _)| depth)?;
        Some((depth, 1 + self.text[..at].matches('\n').count()))
    }
}

/// How many of the keys stand in `value` below each other, and where the last of them begins. Other
/// keys may be between them: errors leave out kinds (`model.lstm`) and positions in lists.
fn find(value: &DeValue<'_>, keys: &[String]) -> Option<(usize, usize)> {
    let [key, rest @ ..] = keys else { return None };
    let inside = match value {
        DeValue::Table(table) => match table.get_key_value(key.as_str()) {
            Some((name, value)) => {
                let deeper = find(value.get_ref(), rest).map(|(depth, at)| (depth + 1, at));
                return deeper.or(Some((1, name.span().start)));
            }
            None => table.values().collect(),
        },
        DeValue::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    };
    let found = inside.into_iter().filter_map(|it| find(it.get_ref(), keys));
    found.max_by_key(|&(depth, _)| depth)
}

/// Read a TOML file; also returns its text.
pub(super) fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<(String, T), ExperimentsError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ExperimentsError::Read { path: path.to_owned(), source })?;
    let file = toml::from_str(&text).map_err(|source| ExperimentsError::Schema {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    Ok((text, file))
}

/// The file that the file at `path` extends: `file` is beside it; `folder/file` is looked for in
/// the folders above and in their `experiments`, so that a row can be copied anywhere in a
/// checkout.
fn extended_path(path: &Path, name: &str) -> Result<PathBuf, ExperimentsError> {
    let name = format!("{name}.toml");
    let absolute = std::path::absolute(path).unwrap_or_default();
    let folders: Vec<_> = path.ancestors().chain(absolute.ancestors()).skip(1).collect();
    let candidates = match name.contains('/') {
        true => {
            folders.iter().flat_map(|it| [it.join(&name), it.join(FOLDER).join(&name)]).collect()
        }
        false => vec![path.with_file_name(&name)],
    };
    let found = candidates.into_iter().find(|it| it.is_file());
    found.ok_or_else(|| ExperimentsError::NothingToExtend { path: path.to_owned(), name })
}

/// The path of the key that an error is about, as far as the error tells. The `toml` crate gives
/// the path only in the last line of the message (``in `training.schedule` ``), and serde an
/// unknown key only in the first (``unknown field `epochs` ``).
fn wrong_key(err: &toml::de::Error) -> Vec<String> {
    let message = err.to_string();
    let path = message.trim_end().rsplit_once("\nin `").map_or("", |(_, path)| path);
    let path = path.trim_end_matches('`').split('.').filter(|key| !key.is_empty());
    let unknown = message.strip_prefix("unknown field `").and_then(|it| it.split('`').next());
    path.chain(unknown).map(str::to_owned).collect()
}

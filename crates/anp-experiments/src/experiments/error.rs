use std::io;
use std::path::PathBuf;

use crate::recipe::{InvalidRecipe, OverrideError, Scale};

/// Names with less similarity than this (Jaro's measure, from 0 to 1) are not taken for each other.
const SIMILAR: f64 = 0.7;

/// Why the tables or their rows could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentsError {
    /// No folder with tables was found.
    #[error(
        "there is no folder `experiments` with tables in {} or above it; \
         run this in a checkout of anp, or give --experiments DIR",
        .from.display()
    )]
    NoFolder {
        /// The folder where the search began.
        from: PathBuf,
    },
    /// The folder has no tables.
    #[error("{} holds no tables (folders with a table.toml)", .root.display())]
    NoTables {
        /// The folder.
        root: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is not TOML, or has keys or values that the schema does not have.
    #[error("{} is wrong{}", .path.display(), did_you_mean(.source))]
    Schema {
        /// The file.
        path: PathBuf,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// A file's values do not fit each other.
    #[error("{} {reason}", .path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A row's recipe has unknown, missing or wrong keys.
    #[error(
        "{}{} makes a wrong recipe at {scale} scale{}",
        .path.display(), .line.map_or_else(String::new, |line| format!(":{line}")),
        did_you_mean(.source)
    )]
    Recipe {
        /// The file that holds the wrong key: the row's own, or one that it extends.
        path: PathBuf,
        /// The line, from 1, if the key stands in a file.
        line: Option<usize>,
        /// The scale.
        scale: Scale,
        /// Which key.
        source: Box<toml::de::Error>,
    },
    /// A value of a row's recipe cannot be used.
    #[error("{} sets an impossible value at {scale} scale", .path.display())]
    InvalidRecipe {
        /// The row's file.
        path: PathBuf,
        /// The scale.
        scale: Scale,
        /// Which value.
        source: InvalidRecipe,
    },
    /// `--set` cannot be applied.
    #[error("--set cannot be applied to {}", .path.display())]
    Override {
        /// The row's file.
        path: PathBuf,
        /// Which override, and why.
        source: OverrideError,
    },
    /// The result of `--set` is no recipe.
    #[error(
        "--set {} makes a wrong recipe of {}{}",
        .overrides.join(" --set "), .path.display(), did_you_mean(.source)
    )]
    OverriddenRecipe {
        /// The row's file.
        path: PathBuf,
        /// The overrides, as given.
        overrides: Vec<String>,
        /// Which key.
        source: Box<toml::de::Error>,
    },
    /// No table has this name.
    #[error("there is no table `{id}` in {}; there are {}", .root.display(), .known.join(", "))]
    UnknownTable {
        /// The name.
        id: String,
        /// The folder of the tables.
        root: PathBuf,
        /// The names that exist.
        known: Vec<String>,
    },
    /// No row of the tables has this name.
    #[error("there is no row `{id}`; there are {}", .known.join(", "))]
    UnknownRow {
        /// The name.
        id: String,
        /// The names that exist in the tables asked for.
        known: Vec<String>,
    },
    /// A row is listed but has no file.
    #[error("{} lists the row `{row}`, but there is no {row}.toml beside it", .path.display())]
    MissingRow {
        /// The table's file.
        path: PathBuf,
        /// The row.
        row: String,
    },
    /// A row has a file but is not listed.
    #[error(
        "{} does not list the row `{row}`, but there is a {row}.toml beside it", .path.display()
    )]
    UnlistedRow {
        /// The table's file.
        path: PathBuf,
        /// The row.
        row: String,
    },
}

/// A question to append to a message: the known name that is most similar to the unknown one.
fn did_you_mean(err: &toml::de::Error) -> String {
    let message = err.message();
    // As serde says it: unknown field `epochs`, expected one of `max_epochs`, `patience`
    if !message.starts_with("unknown field `") && !message.starts_with("unknown variant `") {
        return String::new();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let nearest = names
        .map(|name| (strsim::jaro(unknown, name), name))
        .filter(|&(similarity, _)| similarity > SIMILAR)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    nearest.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ModelConfig, TrainingConfig};

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_known_one() {
        let asked = |text: &str| did_you_mean(&toml::from_str::<TrainingConfig>(text).unwrap_err());
        assert_eq!(asked("epochs = 3"), "; did you mean `max_epochs`?");
        assert_eq!(asked("learnig_rate = 1.0"), "; did you mean `learning_rate`?");
        assert_eq!(asked("surprise = 1"), "");
        // The name is not what is wrong here.
        assert_eq!(asked("max_epochs = 'three'"), "");
        let model = toml::from_str::<ModelConfig>("[lst]").unwrap_err();
        assert_eq!(did_you_mean(&model), "; did you mean `lstm`?");
    }
}

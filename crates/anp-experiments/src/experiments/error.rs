use std::io;
use std::path::PathBuf;

use crate::recipe::{RecipeError, did_you_mean};

/// Why the tables or their rows could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentsError {
    /// No folder with tables was found.
    #[error(
        "there is no folder `experiments` with tables in {} or above it; run this in a checkout of anp, or give --experiments DIR",
        .from.display()
    )]
    NoFolder {
        /// The folder from which was searched.
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
    /// A file is not TOML, or has keys or values that the schema does not.
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
    /// A row's section has a wrong value, or an override made one.
    #[error("the section [{section}] cannot be used")]
    Section {
        /// The section's name.
        section: &'static str,
        /// The file, the key and the value.
        source: Box<RecipeError>,
    },
    /// No table has this name.
    #[error("there is no table `{id}` in {}; there are {}", .root.display(), .known.join(", "))]
    UnknownTable {
        /// The name.
        id: String,
        /// Where was looked.
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
    #[error("{} does not list the row `{row}`, but there is a {row}.toml beside it", .path.display())]
    UnlistedRow {
        /// The table's file.
        path: PathBuf,
        /// The row.
        row: String,
    },
}

//! `--data-dir` and `--quiet`, the same for every command.

use std::path::PathBuf;

use super::output::note;
use crate::data::Store;

/// What every command is told.
#[derive(Debug, clap::Args)]
pub(super) struct Globals {
    /// Folder of the data sets, instead of ANP_DATA_DIR or the platform's data folder
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub data_dir: Option<PathBuf>,

    /// Print results and errors only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

impl Globals {
    /// The data sets.
    pub fn store(&self) -> Store {
        Store::locate(self.data_dir.as_deref())
    }

    /// Write a line to stderr, unless it should be quiet there.
    pub fn note(&self, line: String) {
        if !self.quiet {
            note(line);
        }
    }
}

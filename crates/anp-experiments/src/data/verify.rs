//! What is there, and whether it is right.

use std::fmt;
use std::path::PathBuf;

use super::error::DataError;
use super::manifest::{Manifest, ManifestFile, Split};
use super::store::Store;

/// What was found of a data set.
#[derive(Debug)]
pub struct Verification {
    /// One entry per file, in the order of the manifest.
    pub files: Vec<FileReport>,
    /// Whether the token, line and type counts are the right ones; `None` if a file is missing or
    /// damaged, so that there was nothing to count.
    pub counts: Option<Result<(), DataError>>,
}

/// What was found of a file.
#[derive(Debug)]
pub struct FileReport {
    /// What the file is for.
    pub split: Split,
    /// Where it belongs.
    pub path: PathBuf,
    /// What was found there.
    pub state: FileState,
}

/// What was found in a file's place.
#[derive(Debug)]
pub enum FileState {
    /// The right bytes.
    Whole,
    /// No file.
    Missing,
    /// A file that cannot be read or has the wrong size or checksum.
    Damaged(DataError),
}

/// How much of a data set is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Compiled into the program.
    Embedded,
    /// All files, each with the right checksum.
    Present,
    /// No file.
    Missing,
    /// Some files, all of them right.
    Incomplete,
    /// At least one file that is not the right one.
    Damaged,
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

impl Store {
    /// Check size and checksum of every file of a data set and, if all are right, the counts (of an
    /// image set: the labels).
    pub fn verify(&self, manifest: &Manifest) -> Verification {
        let files = self.look_at_files(manifest);
        let whole = files.iter().all(|file| matches!(file.state, FileState::Whole));
        let counts = whole.then(|| self.check_counts(manifest));
        Verification { files, counts }
    }

    /// How much of a data set is there; checksums are compared, counts are not.
    pub fn presence(&self, manifest: &Manifest) -> Presence {
        if manifest.embedded {
            return Presence::Embedded;
        }
        let files = self.look_at_files(manifest);
        let is_missing = |file: &&FileReport| matches!(file.state, FileState::Missing);
        let missing = files.iter().filter(is_missing).count();
        if files.iter().any(|file| matches!(file.state, FileState::Damaged(_))) {
            Presence::Damaged
        } else if missing == 0 {
            Presence::Present
        } else if missing == files.len() {
            Presence::Missing
        } else {
            Presence::Incomplete
        }
    }

    /// What is to be said of a data set whose files are not the official ones but are taken for
    /// them; `None` if it has nothing of the kind.
    pub fn variant(&self, manifest: &Manifest) -> Option<String> {
        let is_variant = |file: &ManifestFile| match self.check_file(manifest, file) {
            Ok(Some(found)) => Some(found) == file.variant_sha256,
            Ok(None) | Err(_) => false,
        };
        manifest.variant.clone().filter(|_| manifest.files.iter().any(is_variant))
    }

    fn look_at_files(&self, manifest: &Manifest) -> Vec<FileReport> {
        let report = |file: &ManifestFile| FileReport {
            split: file.split,
            path: self.path(manifest, file),
            state: match self.check_file(manifest, file) {
                Ok(Some(_)) => FileState::Whole,
                Ok(None) => FileState::Missing,
                Err(err) => FileState::Damaged(err),
            },
        };
        manifest.files.iter().map(report).collect()
    }
}

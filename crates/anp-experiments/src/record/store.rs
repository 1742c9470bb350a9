//! Records as files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::kinds::{Head, Record};
use crate::atomic;
use crate::engine::SCHEMA_VERSION;
use crate::image::record::ImageRecord;
use crate::recipe::kind::Kind;
use crate::recipe::{Scale, content_hash};
use crate::text::record::TextRecord;
use crate::vib::record::VibRecord;

/// A record and the file that it is in.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecord {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub record: Record,
}

/// Why a record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A number is infinite or NaN, which JSON cannot represent.
    #[error("the record for {} holds a number that is not finite", .path.display())]
    NotFinite {
        /// The file that was to be written.
        path: PathBuf,
    },
    /// The file is not JSON, or not a record.
    #[error(
        "{} is no record; restore it, or move it out of the folder and run again", .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// The file was written by an older anp.
    #[error(
        "{} has schema version {found}, which is older than {SCHEMA_VERSION}, the one of this anp; \
         move it out of the folder and run again, or use the anp that wrote it",
        .path.display()
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
    /// The file was written by a newer anp.
    #[error(
        "{} has schema version {found}, which is newer than {SCHEMA_VERSION}, the one of this anp; \
         update anp, or move the file out of the folder",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
    /// The recipe in the file is not the one that was run.
    #[error(
        "{} was changed after it was written: its recipe hashes to {found}, but its recipe_hash is \
         {recorded}",
        .path.display()
    )]
    HashMismatch {
        /// The file.
        path: PathBuf,
        /// Hash of the recipe in the file.
        found: String,
        /// The hash that the file gives.
        recorded: String,
    },
    /// Some files of a folder are wrong; none was touched.
    #[error(
        "{} of the records in {} cannot be used (nothing was changed):{}",
        .bad.len(), .folder.display(), list(.bad)
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// One error per file, in the order of their names.
        bad: Vec<RecordError>,
    },
}

/// One line per error, with its causes.
fn list(errors: &[RecordError]) -> String {
    let line = |err: &RecordError| match std::error::Error::source(err) {
        Some(source) => format!("\n  {err}: {source}"),
        None => format!("\n  {err}"),
    };
    errors.iter().map(line).collect()
}

/// The part of a record that says how to read the rest.
#[derive(Deserialize)]
struct Header {
    schema_version: u32,
    /// Absent in other versions, perhaps.
    recipe: Option<Kind>,
}

impl Record {
    /// Name of the record's file: `<table>-<row>-<scale>-s<seed>-<first 8 of the recipe
    /// hash>.json`.
    pub fn file_name(&self) -> String {
        let Head { table, row, scale, seed, recipe_hash, .. } = self.head();
        format!("{}.json", run_name(table, row, scale, seed, recipe_hash))
    }

    /// Write the record into `folder`, under its [`file_name`](Self::file_name).
    ///
    /// A record of the same run and recipe is replaced; other files are kept.
    ///
    /// # Errors
    ///
    /// [`RecordError::Write`] and [`RecordError::NotFinite`]; the folder is then as it was before.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, RecordError> {
        let path = folder.join(self.file_name());
        let mut json = serde_json::to_vec_pretty(self).expect("a record has string keys only");
        json.push(b'\n');
        // Numbers that are not finite become `null`, which no reader accepts.
        if Self::parse(&json, &path).ok().as_ref() != Some(self) {
            return Err(RecordError::NotFinite { path });
        }
        match atomic::write(&path, |file| file.write_all(&json)) {
            Ok(()) => Ok(path),
            Err(source) => Err(RecordError::Write { path, source }),
        }
    }

    /// Read one record. The file's name does not matter.
    ///
    /// # Errors
    ///
    /// [`RecordError`], naming the file.
    pub fn load(path: &Path) -> Result<Self, RecordError> {
        let bytes =
            fs::read(path).map_err(|source| RecordError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes, path)
    }

    /// The record in the bytes of a file.
    fn parse(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        let path = || path.to_owned();
        let corrupt = |source| RecordError::Corrupt { path: path(), source };
        // Before the rest, because the rest may look different in another version.
        let Header { schema_version: found, recipe: kind } =
            serde_json::from_slice(bytes).map_err(corrupt)?;
        if found < SCHEMA_VERSION {
            return Err(RecordError::Older { path: path(), found });
        }
        if found > SCHEMA_VERSION {
            return Err(RecordError::Newer { path: path(), found });
        }
        let record = match kind {
            None | Some(Kind::Text) => serde_json::from_slice::<TextRecord>(bytes).map(Self::from),
            Some(Kind::Image) => serde_json::from_slice::<ImageRecord>(bytes).map(Self::from),
            Some(Kind::Vib) => serde_json::from_slice::<VibRecord>(bytes).map(Self::from),
        };
        let record = record.map_err(corrupt)?;
        let found = content_hash(&record.recipe());
        let recorded = record.head().recipe_hash;
        if found != recorded {
            let recorded = recorded.to_owned();
            return Err(RecordError::HashMismatch { path: path(), found, recorded });
        }
        Ok(record)
    }
}

/// Name of a run: of its record, and of the folder of its checkpoints.
pub(crate) fn run_name(table: &str, row: &str, scale: Scale, seed: u64, hash: &str) -> String {
    let hash = hash.get(..8).unwrap_or(hash);
    format!("{table}-{row}-{scale}-s{seed}-{hash}")
}

/// Read all records of a folder (its `.json` files), in the order of their names.
///
/// A folder that is not there has no records. Folders below it and hidden files are left alone.
///
/// # Errors
///
/// [`RecordError::Read`] if the folder cannot be read; [`RecordError::Folder`] if any of its
/// records cannot, with all of them: a number is not left out of a mean because its file is
/// damaged.
pub fn load_folder(folder: &Path) -> Result<Vec<StoredRecord>, RecordError> {
    let read = |source| RecordError::Read { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(read)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();

    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for path in paths {
        match Record::load(&path) {
            Ok(record) => records.push(StoredRecord { path, record }),
            Err(err) => bad.push(err),
        }
    }
    if bad.is_empty() {
        Ok(records)
    } else {
        Err(RecordError::Folder { folder: folder.to_owned(), bad })
    }
}

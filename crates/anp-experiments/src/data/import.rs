//! Data sets from files that are already on this machine.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use sha2::{Digest, Sha256};
use tar::{Archive, Entry};

use super::digest::Sha256Hex;
use super::error::DataError;
use super::manifest::{Manifest, ManifestFile, Split};
use super::store::Store;
use crate::atomic;

/// What became of the files of a data set.
#[derive(Debug)]
pub struct ImportReport {
    /// One entry per file, in the order of the manifest.
    pub files: Vec<ImportedFile>,
}

impl ImportReport {
    /// Whether all files of the data set are in the store now.
    pub fn is_complete(&self) -> bool {
        self.files.iter().all(|file| !matches!(file.outcome, ImportOutcome::NotFound { .. }))
    }

    /// Whether a file of the data set, or one that is called like it, was found in the folder.
    pub fn found_any(&self) -> bool {
        self.files.iter().any(|file| match &file.outcome {
            ImportOutcome::Imported { .. } => true,
            ImportOutcome::NotFound { candidates } => !candidates.is_empty(),
            ImportOutcome::Whole => false,
        })
    }
}

/// What became of a file.
#[derive(Debug)]
pub struct ImportedFile {
    /// What the file is for.
    pub split: Split,
    /// Where it belongs.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: ImportOutcome,
}

/// What became of a file.
#[derive(Debug)]
pub enum ImportOutcome {
    /// The right file was in the store already.
    Whole,
    /// Copied (and unpacked) from this file.
    Imported {
        /// The file in the folder.
        from: PathBuf,
    },
    /// No file of the folder has the right bytes.
    NotFound {
        /// Files that have the right name, each with the reason why it is not the right file.
        candidates: Vec<Candidate>,
    },
}

/// A file that is called like the right one, but is not.
#[derive(Debug, thiserror::Error)]
#[error("{}: {mismatch}", path.display())]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// Why it is not the right one.
    pub mismatch: Mismatch,
}

/// Why a file is not the right one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The (unpacked) file has fewer bytes.
    #[error("has {found} bytes, not {expected}")]
    TooShort {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// The (unpacked) file has more bytes.
    #[error("has more than {expected} bytes")]
    TooLong {
        /// Bytes that it should have.
        expected: u64,
    },
    /// The (unpacked) file has other bytes.
    #[error("has the SHA-256 {found}, not {expected}")]
    Checksum {
        /// SHA-256 of the file.
        found: Sha256Hex,
        /// SHA-256 that it should have.
        expected: Sha256Hex,
    },
    /// The file cannot be read or unpacked.
    #[error("cannot be read ({0})")]
    Unreadable(io::Error),
}

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::other(mismatch)
    }
}

impl Store {
    /// Take the files of a data set from `folder` and the folders directly in it.
    ///
    /// A file is recognised by its name in the manifest or one of the other names given there,
    /// plain or with `.gz` or `.xz` behind it, or in the archive that the manifest names, and taken
    /// only if its unpacked bytes have the right SHA-256; so it does not matter that many data sets
    /// have a `train.txt`. It is copied, and unpacked, under a temporary name first. Files that are
    /// in the store already are left alone.
    ///
    /// # Errors
    ///
    /// [`DataError::Read`] if `folder` cannot be listed, [`DataError::Write`] if the store cannot
    /// be written. A file that was not found is an outcome, not an error.
    pub fn import(&self, manifest: &Manifest, folder: &Path) -> Result<ImportReport, DataError> {
        let folders = folder_and_its_folders(folder)?;
        let import = |file: &ManifestFile| {
            let path = self.path(manifest, file);
            let outcome = self.import_file(manifest, file, &path, &folders)?;
            Ok(ImportedFile { split: file.split, path, outcome })
        };
        Ok(ImportReport {
            files: manifest.files.iter().map(import).collect::<Result<_, DataError>>()?,
        })
    }

    pub(super) fn import_file(
        &self,
        manifest: &Manifest,
        file: &ManifestFile,
        path: &Path,
        folders: &[PathBuf],
    ) -> Result<ImportOutcome, DataError> {
        if self.has(manifest, file)? {
            return Ok(ImportOutcome::Whole);
        }
        let mut candidates = Vec::new();
        for from in candidate_paths(manifest, file, folders) {
            match atomic::write(path, |to| copy(&from, manifest, file, to)) {
                Ok(()) => return Ok(ImportOutcome::Imported { from }),
                Err(err) => match err.downcast() {
                    Ok(mismatch) => candidates.push(Candidate { path: from, mismatch }),
                    Err(source) => return Err(DataError::Write { path: path.to_owned(), source }),
                },
            }
        }
        Ok(ImportOutcome::NotFound { candidates })
    }
}

/// `folder` and the folders directly in it, sorted.
fn folder_and_its_folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::read(folder))? {
        let path = entry.map_err(DataError::read(folder))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    folders.insert(0, folder.to_owned());
    Ok(folders)
}

/// The files in `folders` that are called like `file`, or like the archive that has it.
fn candidate_paths(manifest: &Manifest, file: &ManifestFile, folders: &[PathBuf]) -> Vec<PathBuf> {
    let archive = manifest.archive.iter().map(|archive| archive.name.clone());
    let names = || std::iter::once(&file.name).chain(&file.aliases);
    let packed = |name: &String| ["", ".gz", ".xz"].map(|ending| format!("{name}{ending}"));
    let names: Vec<_> = names().flat_map(packed).chain(archive).collect();
    let paths = folders.iter().flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    paths.filter(|path| path.is_file()).collect()
}

/// Copy the unpacked bytes and check them; an error about `from` is a [`Mismatch`].
fn copy(
    from: &Path,
    manifest: &Manifest,
    file: &ManifestFile,
    to: &mut impl Write,
) -> io::Result<()> {
    let content = unpacked(from).map_err(Mismatch::Unreadable)?;
    if manifest.archive.as_ref().is_some_and(|it| from.ends_with(&it.name)) {
        let mut archive = Archive::new(content);
        let member = member(&mut archive, &file.name).map_err(Mismatch::Unreadable)?;
        copy_content(member, file, to)
    } else {
        copy_content(content, file, to)
    }
}

fn copy_content(content: impl Read, file: &ManifestFile, to: &mut impl Write) -> io::Result<()> {
    let expected = file.bytes;
    // One byte more than there should be is enough to know.
    let mut content = content.take(expected + 1);
    let mut hasher = Sha256::new();
    let mut found = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(Mismatch::Unreadable(err).into()),
        };
        found += u64::try_from(read).expect("a length fits into 64 bits");
        hasher.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
    }
    if found > expected {
        return Err(Mismatch::TooLong { expected }.into());
    }
    if found < expected {
        return Err(Mismatch::TooShort { found, expected }.into());
    }
    let found = Sha256Hex::finish(hasher);
    if !file.accepts(&found) {
        return Err(Mismatch::Checksum { found, expected: file.sha256.clone() }.into());
    }
    Ok(())
}

/// The file `name` of a tar archive, in whatever folder it is there.
fn member<'a, R: Read>(archive: &'a mut Archive<R>, name: &str) -> io::Result<Entry<'a, R>> {
    for member in archive.entries()? {
        let member = member?;
        if member.header().entry_type().is_file() && member.path()?.ends_with(name) {
            return Ok(member);
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the archive has no file {name}")))
}

/// The content of a file, unpacked according to its name.
fn unpacked(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path)?);
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(MultiGzDecoder::new(file)),
        Some("xz") => Box::new(XzDecoder::new_multi_decoder(file)),
        _ => Box::new(file),
    })
}

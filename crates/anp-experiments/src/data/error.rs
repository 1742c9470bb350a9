//! What can be wrong with data, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::digest::Sha256Hex;
use super::fetch::failure::FailedAddress;
use super::manifest::Split;
use super::store::Store;

/// Why a data set could not be read, fetched or imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No manifest has this name.
    #[error("there is no data set `{name}`; the known ones are {}", list(known))]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },

    /// Files of a data set are not in the store.
    #[error(
        "data set `{name}` is not there: {} not found in {} ({}); get it with `{}`, or take \
         it from a folder that has its files with `{}`",
        list(missing), store.root().display(), store.origin(), store.command("fetch", name),
        store.command("import", "DIR")
    )]
    Missing {
        /// The data set.
        name: String,
        /// The files, relative to the store's root.
        missing: Vec<String>,
        /// Where they were looked for.
        store: Store,
    },

    /// A file of a data set has a wrong size.
    #[error(
        "{} is not the right file: it has {found} bytes instead of {expected}{}; replace it with \
         `{advice}`",
        path.display(), if found < expected { " (cut off?)" } else { "" }
    )]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes of the file.
        found: u64,
        /// The command that replaces it.
        advice: String,
    },

    /// A file of a data set has a wrong checksum.
    #[error(
        "{} is not the right file: its SHA-256 is {found} instead of {expected}; replace it with \
         `{advice}`",
        path.display()
    )]
    WrongChecksum {
        /// The file.
        path: PathBuf,
        /// SHA-256 according to the manifest.
        expected: Sha256Hex,
        /// SHA-256 of the file.
        found: Sha256Hex,
        /// The command that replaces it.
        advice: String,
    },

    /// A corpus does not have the counts that its manifest promises.
    #[error(
        "the {split} split of `{name}` has {found} {what} instead of {expected}, although its \
         checksum is right: the loader or datasets/{name}.toml is wrong, please report it"
    )]
    WrongCount {
        /// The data set.
        name: String,
        /// The split.
        split: Split,
        /// What was counted.
        what: &'static str,
        /// Count according to the manifest.
        expected: usize,
        /// Count of the loader.
        found: usize,
    },

    /// No address gave the right file.
    #[error(
        "cannot download {}: no address gave the right file{}\n\
         check the connection and try again, or get the files elsewhere and take them in with \
         `{import}`",
        path.display(), lines(addresses)
    )]
    Fetch {
        /// The file.
        path: PathBuf,
        /// The addresses, in the order in which they were tried.
        addresses: Vec<FailedAddress>,
        /// The command that takes in files from a folder.
        import: String,
    },

    /// Another process is downloading the same file.
    #[error("another process is downloading {}; wait until it is done", path.display())]
    Busy {
        /// The file that is not complete yet.
        path: PathBuf,
    },

    /// A file does not hold the images that it should.
    #[error(
        "{} does not hold images of `{name}`: {reason}; replace it with `{advice}`",
        path.display()
    )]
    BadImages {
        /// The file.
        path: PathBuf,
        /// The data set.
        name: String,
        /// What is wrong.
        reason: String,
        /// The command that replaces it.
        advice: String,
    },

    /// A text holds no word.
    #[error(
        "{} holds no words ({bytes} bytes); give a text with one sentence per line",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },

    /// A text is not UTF-8.
    #[error(
        "{} is not UTF-8: the byte at offset {offset} (line {line}) is invalid; convert the file, \
         for example with iconv",
        path.display()
    )]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first byte that is not part of a character, from 0.
        offset: usize,
        /// Its line, from 1.
        line: usize,
    },

    /// A word is not in the vocabulary, and the vocabulary has no word for such words.
    #[error(
        "`{word}` in line {line} of {} is not in the training text, and the training text has no \
         `<unk>` to stand for it; replace rare words in all three files with `<unk>`",
        path.display()
    )]
    NoUnk {
        /// The word.
        word: String,
        /// The file that has it.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },

    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// A file could not be written; nothing with its final name was changed.
    #[error(
        "cannot write {}; make room or make the folder writable, or choose another one with \
         --data-dir or ANP_DATA_DIR",
        path.display()
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DataError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Write { path: path.to_owned(), source }
    }
}

/// `a, b, c`, each in quotes.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// One line each.
fn lines(addresses: &[FailedAddress]) -> String {
    addresses.iter().map(|address| format!("\n  {address}")).collect()
}

//! The file that a download grows in.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::data::digest::Sha256Hex;
use crate::data::error::DataError;

/// A file that is not complete yet, locked against other processes.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    of_one_address: bool,
}

impl Part {
    /// Open or make `<path>.part` and its folder.
    pub(super) fn open(whole: &Path) -> Result<Self, DataError> {
        let mut path = whole.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let folder = atomic::folder_of(&path);
        fs::create_dir_all(folder).map_err(DataError::write(folder))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DataError::write(&path))?;
        // Where a file system has no locks there is nothing to respect.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(DataError::Busy { path });
        }
        let len = file.seek(SeekFrom::End(0)).map_err(DataError::write(&path))?;
        Ok(Self { path, file, len, of_one_address: false })
    }

    /// Bytes that are here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What is appended from now on is from another address.
    pub(super) fn begin_address(&mut self) {
        self.of_one_address = self.len == 0;
    }

    /// Whether all bytes are from the address that was begun last.
    pub(super) fn is_of_one_address(&self) -> bool {
        self.of_one_address
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(DataError::write(&self.path))?;
        self.len += u64::try_from(bytes.len()).expect("a length fits into 64 bits");
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Result<(), DataError> {
        // An empty file may be one that cannot be cut.
        if self.len > 0 {
            let cleared = self.file.set_len(0).and_then(|()| self.file.rewind());
            cleared.map_err(DataError::write(&self.path))?;
        }
        (self.len, self.of_one_address) = (0, true);
        Ok(())
    }

    pub(super) fn digest(&mut self) -> Result<Sha256Hex, DataError> {
        let digest = self.file.rewind().and_then(|()| Sha256Hex::of_reader(&mut self.file));
        Ok(digest.map_err(DataError::read(&self.path))?.0)
    }

    /// Give the file its name, for good.
    pub(super) fn finish(self, whole: &Path) -> Result<(), DataError> {
        self.file.sync_all().map_err(DataError::write(&self.path))?;
        fs::rename(&self.path, whole)
            .and_then(|()| atomic::sync_folder(atomic::folder_of(whole)))
            .map_err(DataError::write(whole))
    }

    pub(super) fn discard(self) -> Result<(), DataError> {
        fs::remove_file(&self.path).map_err(DataError::write(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_to_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/file.txt");
        let first = Part::open(&path).unwrap();
        assert!(matches!(Part::open(&path), Err(DataError::Busy { .. })));
        first.discard().unwrap();
        Part::open(&path).unwrap();
    }
}

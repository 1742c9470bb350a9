//! Reading data sets from the store, and checking them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::catalogue::manifest;
use super::corpus::{Corpus, EOS};
use super::digest::Sha256Hex;
use super::error::DataError;
use super::image_set::ImageSet;
use super::manifest::{Manifest, ManifestFile, Split};
use super::store::Store;

/// The bytes of the demo corpus, in the order of its manifest.
const DEMO: [&[u8]; 3] = [
    include_bytes!("../../../../datasets/demo/train.txt"),
    include_bytes!("../../../../datasets/demo/valid.txt"),
    include_bytes!("../../../../datasets/demo/test.txt"),
];

/// The bytes of the embedded image set, in the order of its manifest.
const FASHION: [&[u8]; 4] = [
    include_bytes!("../../../../datasets/fashion_mnist_small/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion_mnist_small/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion_mnist_small/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../../datasets/fashion_mnist_small/t10k-labels-idx1-ubyte.gz"),
];

/// A file of a data set, read and checked.
struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Whether it is the file that is taken for the official one.
    is_variant: bool,
}

impl Store {
    /// Read the corpus called `name` and check sizes, checksums and counts.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownName`], or what [`load_manifest`](Self::load_manifest) answers.
    pub fn load(&self, name: &str) -> Result<Corpus, DataError> {
        self.load_manifest(&manifest(name)?)
    }

    /// Read the corpus that `manifest` describes and check sizes, checksums and counts.
    ///
    /// # Errors
    ///
    /// [`DataError::Missing`], which says how to get the data; [`DataError::WrongSize`],
    /// [`DataError::WrongChecksum`] or [`DataError::WrongCount`]; or any error of
    /// [`Corpus::from_files`].
    pub fn load_manifest(&self, manifest: &Manifest) -> Result<Corpus, DataError> {
        self.check_presence(manifest)?;
        let read = |split| self.read(manifest, manifest.file(split));
        let files = [read(Split::Train)?, read(Split::Valid)?, read(Split::Test)?];
        let corpus = Corpus::from_bytes(files.each_ref().map(|it| (&*it.path, &*it.bytes)))?;
        check_counts(manifest, &corpus)?;
        Ok(corpus)
    }

    /// Read the image set called `name` and check sizes, checksums, counts and labels.
    ///
    /// # Errors
    ///
    /// [`DataError::UnknownName`], or what [`load_images_manifest`](Self::load_images_manifest)
    /// answers.
    pub fn load_images(&self, name: &str) -> Result<ImageSet, DataError> {
        self.load_images_manifest(&manifest(name)?)
    }

    /// Read the image set that `manifest` describes and check sizes, checksums, counts and labels.
    ///
    /// # Errors
    ///
    /// [`DataError::Missing`], which says how to get the data; [`DataError::WrongSize`],
    /// [`DataError::WrongChecksum`] or [`DataError::BadImages`].
    pub fn load_images_manifest(&self, manifest: &Manifest) -> Result<ImageSet, DataError> {
        self.check_presence(manifest)?;
        let mut files = Vec::with_capacity(manifest.files.len());
        let mut variant = None;
        for file in &manifest.files {
            let Content { path, bytes, is_variant } = self.read(manifest, file)?;
            files.push((path, bytes));
            variant = variant.or(manifest.variant.clone().filter(|_| is_variant));
        }
        ImageSet::from_files(manifest, &files, variant).map_err(|(path, reason)| {
            let advice = self.command("fetch", &manifest.name);
            DataError::BadImages { path, name: manifest.name.clone(), reason, advice }
        })
    }

    /// Whether the data set called `name` can be read, and is the right one.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load) and [`load_images`](Self::load_images).
    pub fn check_readable(&self, name: &str) -> Result<(), DataError> {
        self.check_counts(&manifest(name)?)
    }

    /// Load a data set to see whether it is what its manifest says.
    pub(super) fn check_counts(&self, manifest: &Manifest) -> Result<(), DataError> {
        if manifest.is_images() {
            self.load_images_manifest(manifest).map(|_| ())
        } else {
            self.load_manifest(manifest).map(|_| ())
        }
    }

    /// Whether the right file is in the store; one that is damaged is not.
    ///
    /// # Errors
    ///
    /// [`DataError::Read`].
    pub(super) fn has(&self, manifest: &Manifest, file: &ManifestFile) -> Result<bool, DataError> {
        match self.check_file(manifest, file) {
            Ok(found) => Ok(found.is_some()),
            Err(DataError::WrongSize { .. } | DataError::WrongChecksum { .. }) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// The checksum of a file, if it is there and the right one; `None` if it is not there.
    ///
    /// # Errors
    ///
    /// [`DataError::WrongSize`], [`DataError::WrongChecksum`] or [`DataError::Read`].
    pub(super) fn check_file(
        &self,
        manifest: &Manifest,
        file: &ManifestFile,
    ) -> Result<Option<Sha256Hex>, DataError> {
        if manifest.embedded {
            return Ok(Some(file.sha256.clone()));
        }
        let path = self.path(manifest, file);
        let content = match File::open(&path) {
            Ok(content) => content,
            Err(err) if is_absence(&err) => return Ok(None),
            Err(source) => return Err(DataError::Read { path, source }),
        };
        let bytes = content.metadata().map_err(DataError::read(&path))?.len();
        let digest = || Ok(Sha256Hex::of_reader(content)?.0);
        self.check(manifest, file, &path, bytes, digest).map(Some)
    }

    /// The bytes of a file, which are the right ones.
    fn read(&self, manifest: &Manifest, file: &ManifestFile) -> Result<Content, DataError> {
        let path = self.path(manifest, file);
        let bytes = if manifest.embedded {
            let files = if manifest.is_images() { &FASHION[..] } else { &DEMO };
            let index = manifest.files.iter().position(|it| it == file).unwrap_or_default();
            files[index].to_vec()
        } else {
            fs::read(&path).map_err(DataError::read(&path))?
        };
        let found = u64::try_from(bytes.len()).expect("a length fits into 64 bits");
        let digest = self.check(manifest, file, &path, found, || Ok(Sha256Hex::of(&bytes)))?;
        Ok(Content { path, bytes, is_variant: Some(&digest) == file.variant_sha256.as_ref() })
    }

    fn check_presence(&self, manifest: &Manifest) -> Result<(), DataError> {
        let missing: Vec<String> = manifest
            .files
            .iter()
            .filter(|file| !manifest.embedded && is_missing(&self.path(manifest, file)))
            .map(|file| format!("{}/{}", manifest.folder, file.name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(DataError::Missing { name: manifest.name.clone(), missing, store: self.clone() })
    }

    /// Compare a file with what its manifest says, and return its checksum, which is asked for only
    /// if the size is right.
    fn check(
        &self,
        manifest: &Manifest,
        file: &ManifestFile,
        path: &Path,
        bytes: u64,
        digest: impl FnOnce() -> io::Result<Sha256Hex>,
    ) -> Result<Sha256Hex, DataError> {
        let path = path.to_owned();
        let advice = || self.command("fetch", &manifest.name);
        if bytes != file.bytes {
            let [expected, found] = [file.bytes, bytes];
            return Err(DataError::WrongSize { path, expected, found, advice: advice() });
        }
        let found = digest().map_err(DataError::read(&path))?;
        if !file.accepts(&found) {
            let expected = file.sha256.clone();
            return Err(DataError::WrongChecksum { path, expected, found, advice: advice() });
        }
        Ok(found)
    }
}

/// Whether there is nothing at `path`; false if that cannot be found out.
fn is_missing(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|err| is_absence(&err))
}

fn is_absence(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Compare a corpus with the counts in its manifest.
fn check_counts(manifest: &Manifest, corpus: &Corpus) -> Result<(), DataError> {
    let eos = corpus.vocabulary.id(EOS);
    let lines = |tokens: &[u32]| tokens.iter().filter(|&&token| Some(token) == eos).count();
    let check = |split, what, expected, found| {
        if expected == found {
            return Ok(());
        }
        Err(DataError::WrongCount { name: manifest.name.clone(), split, what, expected, found })
    };
    for split in Split::ALL {
        let file = manifest.file(split);
        let tokens = corpus.split(split);
        check(split, "tokens", file.tokens, tokens.len())?;
        check(split, "lines", file.lines, lines(tokens))?;
    }
    check(Split::Train, "word types", manifest.vocabulary, corpus.vocabulary.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_corpus_needs_no_folder_and_has_its_counts() {
        let store = Store::choose(Some(Path::new("nowhere")), None, None);
        let demo = store.load("demo").unwrap();
        assert_eq!(
            (demo.train.len(), demo.valid.len(), demo.test.len()),
            (266_700, 21_008, 21_857)
        );
        assert_eq!(demo.vocabulary.len(), 6_439);
        assert!(!Path::new("nowhere").exists());
    }

    #[test]
    fn missing_data_names_the_folder_the_reason_and_both_commands() {
        let store = Store::choose(None, Some(Path::new("nowhere")), None);
        let message = store.load("penn_treebank").unwrap_err().to_string();
        for part in [
            "`ptb/ptb.train.txt`, `ptb/ptb.valid.txt`, `ptb/ptb.test.txt`",
            "nowhere (given by ANP_DATA_DIR)",
            "`anp data fetch penn_treebank`",
            "`anp data import DIR`",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }

    #[test]
    fn counts_that_differ_are_reported() {
        let mut manifest = manifest("demo").unwrap();
        manifest.vocabulary += 1;
        let store = Store::choose(None, None, None);
        let message = store.load_manifest(&manifest).unwrap_err().to_string();
        assert!(message.contains("6439 word types instead of 6440"), "{message}");
    }

    #[test]
    fn a_damaged_file_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::choose(None, Some(folder.path()), None);
        let mut manifest = manifest("demo").unwrap();
        manifest.embedded = false;
        fs::create_dir(folder.path().join("demo")).unwrap();
        for (split, bytes) in Split::ALL.into_iter().zip(DEMO) {
            fs::write(store.path(&manifest, manifest.file(split)), bytes).unwrap();
        }
        store.load_manifest(&manifest).unwrap();

        let path = store.path(&manifest, manifest.file(Split::Valid));
        let mut bytes = DEMO[1].to_vec();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let err = store.load_manifest(&manifest).unwrap_err();
        assert!(matches!(err, DataError::WrongChecksum { .. }), "{err}");
        assert!(err.to_string().contains("`anp data fetch demo`"), "{err}");

        fs::write(&path, &bytes[..1000]).unwrap();
        let err = store.load_manifest(&manifest).unwrap_err();
        assert!(err.to_string().contains("1000 bytes instead of 96332 (cut off?)"), "{err}");
    }
}

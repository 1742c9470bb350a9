//! The folder that holds the data sets.

use std::{
    env, fmt, fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{Corpus, DataError, ImageSet, Manifest, ManifestFile, Sha256Hex, Split, manifest};

/// The environment variable that names the data folder.
pub const DATA_DIR_VARIABLE: &str = "ANP_DATA_DIR";

/// The bytes of the demo corpus, in the order of [`Split::ALL`].
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

/// The folder that holds the data sets, one folder each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    origin: Origin,
}

/// Why the store is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--data-dir`.
    Flag,
    /// The environment variable `ANP_DATA_DIR`.
    Environment,
    /// The platform's folder for a program's data.
    Platform,
    /// The current folder, as the platform knows no home.
    CurrentFolder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flag => "given by --data-dir",
            Self::Environment => "given by ANP_DATA_DIR",
            Self::Platform => "the platform's data folder, as neither --data-dir nor ANP_DATA_DIR is given",
            Self::CurrentFolder => {
                "below the current folder, as neither --data-dir nor ANP_DATA_DIR is given and there is no home folder"
            }
        })
    }
}

impl Store {
    /// The folder given by `--data-dir`, else by `ANP_DATA_DIR` (if it is not empty), else the
    /// platform's data folder, for example `~/.local/share/anp`. It need not exist.
    pub fn locate(flag: Option<&Path>) -> Self {
        let variable = env::var_os(DATA_DIR_VARIABLE).filter(|value| !value.is_empty());
        let platform = directories::ProjectDirs::from("", "", "anp");
        Self::choose(
            flag,
            variable.as_deref().map(Path::new),
            platform.as_ref().map(directories::ProjectDirs::data_dir),
        )
    }

    fn choose(flag: Option<&Path>, variable: Option<&Path>, platform: Option<&Path>) -> Self {
        let (root, origin) = match (flag, variable, platform) {
            (Some(flag), _, _) => (flag, Origin::Flag),
            (None, Some(variable), _) => (variable, Origin::Environment),
            (None, None, Some(platform)) => (platform, Origin::Platform),
            (None, None, None) => (Path::new("anp-data"), Origin::CurrentFolder),
        };
        Self { root: root.to_owned(), origin }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Why it is this folder.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Where `file` of `manifest` belongs.
    pub fn path(&self, manifest: &Manifest, file: &ManifestFile) -> PathBuf {
        self.root.join(&manifest.folder).join(&file.name)
    }

    /// `anp data VERB ARGUMENT`, with the flag that finds this store again if it needs one.
    pub fn command(&self, verb: &str, argument: &str) -> String {
        match self.origin {
            Origin::Flag => format!("anp data {verb} {argument} --data-dir {}", quoted(&self.root)),
            Origin::Environment | Origin::Platform | Origin::CurrentFolder => {
                format!("anp data {verb} {argument}")
            }
        }
    }

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

        let read = |split| {
            let file = manifest.file(split);
            let path = self.path(manifest, file);
            let bytes = if manifest.embedded {
                DEMO[split as usize].to_vec()
            } else {
                fs::read(&path).map_err(DataError::read(&path))?
            };
            let found = u64::try_from(bytes.len()).expect("a length fits into 64 bits");
            self.check(manifest, file, &path, found, || Ok(Sha256Hex::of(&bytes)))?;
            Ok::<_, DataError>((path, bytes))
        };
        let [train, valid, test] = [read(Split::Train)?, read(Split::Valid)?, read(Split::Test)?];
        let corpus =
            Corpus::from_bytes([(&train.0, &train.1), (&valid.0, &valid.1), (&test.0, &test.1)])?;
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
        let mut is_variant = false;
        for (index, file) in manifest.files.iter().enumerate() {
            let path = self.path(manifest, file);
            let bytes = if manifest.embedded {
                FASHION[index].to_vec()
            } else {
                fs::read(&path).map_err(DataError::read(&path))?
            };
            let found = u64::try_from(bytes.len()).expect("a length fits into 64 bits");
            self.check(manifest, file, &path, found, || {
                let digest = Sha256Hex::of(&bytes);
                is_variant |= Some(&digest) == file.variant_sha256.as_ref();
                Ok(digest)
            })?;
            files.push((path, bytes));
        }
        let variant = manifest.variant.clone().filter(|_| is_variant);
        let advice = self.command("fetch", &manifest.name);
        ImageSet::from_files(manifest, &files, variant).map_err(|(path, reason)| {
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

    /// Compare a file with what its manifest says; the checksum is asked for only if the size is
    /// right.
    pub(super) fn check(
        &self,
        manifest: &Manifest,
        file: &ManifestFile,
        path: &Path,
        bytes: u64,
        digest: impl FnOnce() -> io::Result<Sha256Hex>,
    ) -> Result<(), DataError> {
        let path = path.to_owned();
        let advice = || self.command("fetch", &manifest.name);
        if bytes != file.bytes {
            return Err(DataError::WrongSize {
                path,
                expected: file.bytes,
                found: bytes,
                advice: advice(),
            });
        }
        let found = digest().map_err(DataError::read(&path))?;
        if found != file.sha256 && Some(&found) != file.variant_sha256.as_ref() {
            return Err(DataError::WrongChecksum {
                path,
                expected: file.sha256.clone(),
                found,
                advice: advice(),
            });
        }
        Ok(())
    }

    /// Whether the file is there; if so, whether it is the right one.
    ///
    /// # Errors
    ///
    /// [`DataError::WrongSize`], [`DataError::WrongChecksum`] or [`DataError::Read`].
    pub(super) fn check_file(
        &self,
        manifest: &Manifest,
        file: &ManifestFile,
    ) -> Result<bool, DataError> {
        if manifest.embedded {
            return Ok(true);
        }
        let path = self.path(manifest, file);
        let content = match fs::File::open(&path) {
            Ok(content) => content,
            Err(err) if is_absence(&err) => return Ok(false),
            Err(source) => return Err(DataError::Read { path, source }),
        };
        let bytes = content.metadata().map_err(DataError::read(&path))?.len();
        self.check(manifest, file, &path, bytes, || Ok(Sha256Hex::of_reader(content)?.0))?;
        Ok(true)
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
    let eos = corpus.vocabulary.id(super::EOS);
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

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/\\._-:~+=,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable_and_the_variable_before_the_platform() {
        let [flag, variable, platform] =
            ["flag", "variable", "platform"].map(|p| Some(Path::new(p)));
        let at = |store: Store| (store.root().display().to_string(), store.origin());
        assert_eq!(at(Store::choose(flag, variable, platform)), ("flag".into(), Origin::Flag));
        assert_eq!(
            at(Store::choose(None, variable, platform)),
            ("variable".into(), Origin::Environment)
        );
        assert_eq!(at(Store::choose(None, None, platform)), ("platform".into(), Origin::Platform));
        assert_eq!(at(Store::choose(None, None, None)), ("anp-data".into(), Origin::CurrentFolder));
    }

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
    fn advice_repeats_the_flag() {
        let store = Store::choose(Some(Path::new("my data")), None, None);
        assert_eq!(
            store.command("fetch", "wikitext_2"),
            "anp data fetch wikitext_2 --data-dir 'my data'"
        );
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

//! What a data set is: `datasets/*.toml`, compiled in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{DataError, Sha256Hex};

/// Names of all known data sets, in the order in which they are listed.
pub const NAMES: [&str; 6] =
    ["demo", "penn_treebank", "wikitext_2", "fashion_mnist_small", "cifar_10", "cifar_100"];

/// `datasets/<name>.toml` for each of [`NAMES`].
const MANIFESTS: [&str; 6] = [
    include_str!("../../../../datasets/demo.toml"),
    include_str!("../../../../datasets/penn_treebank.toml"),
    include_str!("../../../../datasets/wikitext_2.toml"),
    include_str!("../../../../datasets/fashion_mnist_small.toml"),
    include_str!("../../../../datasets/cifar_10.toml"),
    include_str!("../../../../datasets/cifar_100.toml"),
];

/// A data set: what it is called, what it consists of, and how to know that it is the right one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name in recipes and on the command line, for example `penn_treebank`.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// What the text is and how it was prepared.
    pub about: String,
    /// Who made it.
    pub citation: String,
    /// Licence, in a few words.
    pub licence: String,
    /// What the licence means for whoever downloads it.
    pub notice: String,
    /// Folder below the store's root.
    pub folder: String,
    /// Whether the files are compiled in, and nothing has to be fetched.
    #[serde(default)]
    pub embedded: bool,
    /// Number of types in the training split, `<eos>` counted; 0 if it is no text.
    #[serde(default)]
    pub vocabulary: usize,
    /// Number of classes; 0 if it is no image set.
    #[serde(default)]
    pub classes: usize,
    /// How the files hold images, if they do.
    #[serde(default)]
    pub image_format: Option<ImageFormat>,
    /// What is taken off each channel (red, green, blue) of a pixel in [0, 1].
    #[serde(default)]
    pub mean: [f32; 3],
    /// What each channel is divided by then.
    #[serde(default)]
    pub std: [f32; 3],
    /// What is said of files that have a checksum other than the official one, if there are any.
    #[serde(default)]
    pub variant: Option<String>,
    /// One archive with all files, where they are not published one by one.
    #[serde(default)]
    pub archive: Option<Archive>,
    /// The files: one a split of a text, one or more a split of an image set.
    #[serde(rename = "file")]
    pub files: Vec<ManifestFile>,
}

/// One file of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// What the file is for.
    pub split: Split,
    /// File name below the data set's folder.
    pub name: String,
    /// Other names that `import` looks for.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the unpacked file.
    pub sha256: Sha256Hex,
    /// SHA-256 of another file that is taken for it; see [`Manifest::variant`].
    #[serde(default)]
    pub variant_sha256: Option<Sha256Hex>,
    /// Number of lines.
    #[serde(default)]
    pub lines: usize,
    /// Number of tokens, one `<eos>` a line counted.
    #[serde(default)]
    pub tokens: usize,
    /// Number of images.
    #[serde(default)]
    pub images: usize,
    /// Public addresses of exactly these bytes, best first.
    #[serde(default)]
    pub urls: Vec<String>,
}

/// A gzipped tar archive that has all files of a data set, each under its name, in whatever folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// File name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 of the archive, which is compared.
    pub sha256: Sha256Hex,
    /// MD5 of the archive as its makers publish it, for who wants to compare it by hand.
    pub md5: String,
    /// Public addresses of exactly these bytes, best first.
    pub urls: Vec<String>,
}

/// How files hold images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// Records of a label and 3,072 pixels: red, green and blue planes of 32 × 32.
    Cifar10,
    /// The same behind a coarse and a fine label; the fine one counts.
    Cifar100,
    /// Two gzipped files a split, grey images of 28 × 28 and labels, as MNIST has them.
    Idx,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What a model is trained on; the vocabulary comes from here.
    Train,
    /// What decides the learning rate and the parameters that are kept.
    Valid,
    /// What is measured once, at the end.
    Test,
}

impl Split {
    /// All splits, in the order in which they are read.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

impl Manifest {
    /// The file of `split`.
    ///
    /// # Panics
    ///
    /// If the manifest has none; those of texts that are compiled in have all three (tested).
    pub fn file(&self, split: Split) -> &ManifestFile {
        self.files
            .iter()
            .find(|file| file.split == split)
            .unwrap_or_else(|| panic!("datasets/{}.toml has no {split} file", self.name))
    }

    /// Whether it is an image set, and no text.
    pub fn is_images(&self) -> bool {
        self.image_format.is_some()
    }

    /// Images of a split.
    pub fn images(&self, split: Split) -> usize {
        self.files.iter().filter(|file| file.split == split).map(|file| file.images).sum()
    }

    /// Size of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Tokens of all files, one `<eos>` a line counted.
    pub fn tokens(&self) -> usize {
        self.files.iter().map(|file| file.tokens).sum()
    }
}

/// All known data sets, in the order in which they are listed.
///
/// # Panics
///
/// If a file of `datasets/` does not fit the schema; tested.
pub fn manifests() -> Vec<Manifest> {
    MANIFESTS.into_iter().map(parse).collect()
}

/// The data set called `name`.
///
/// # Errors
///
/// [`DataError::UnknownName`], which lists the known names.
///
/// # Panics
///
/// As [`manifests`].
pub fn manifest(name: &str) -> Result<Manifest, DataError> {
    match NAMES.iter().position(|known| *known == name) {
        Some(index) => Ok(parse(MANIFESTS[index])),
        None => Err(DataError::UnknownName {
            name: name.to_owned(),
            known: NAMES.map(str::to_owned).into(),
        }),
    }
}

fn parse(text: &str) -> Manifest {
    toml::from_str(text).unwrap_or_else(|err| panic!("a manifest in datasets/ is wrong: {err}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_manifest_says_what_fetch_and_load_need() {
        let all = manifests();
        let names: Vec<_> = all.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, NAMES);
        let folders: HashSet<_> = all.iter().map(|manifest| manifest.folder.as_str()).collect();
        assert_eq!(folders.len(), NAMES.len());

        for manifest in &all {
            let splits: Vec<_> = manifest.files.iter().map(|file| file.split).collect();
            if manifest.is_images() {
                assert!(manifest.classes > 1 && manifest.vocabulary == 0, "{}", manifest.name);
                assert!(manifest.std.iter().all(|&std| std > 0.0), "{}", manifest.name);
                assert!(splits.contains(&Split::Train) && splits.contains(&Split::Test));
            } else {
                assert_eq!(splits, Split::ALL, "{}", manifest.name);
                assert!(manifest.vocabulary > 1 && manifest.classes == 0, "{}", manifest.name);
            }
            if let Some(archive) = &manifest.archive {
                assert!(archive.urls.iter().all(|url| url.starts_with("https://")));
                assert!(!archive.urls.is_empty() && archive.md5.len() == 32, "{}", archive.name);
            }
            for file in &manifest.files {
                let distinct: HashSet<_> = file.urls.iter().collect();
                assert_eq!(distinct.len(), file.urls.len(), "{} repeats an address", file.name);
                if manifest.embedded || manifest.archive.is_some() {
                    assert!(file.urls.is_empty(), "{} needs no address", file.name);
                } else {
                    assert!(file.urls.len() >= 3, "{} has fewer than three addresses", file.name);
                }
                assert!(file.urls.iter().all(|url| url.starts_with("https://")), "{}", file.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = manifest("ptb").unwrap_err().to_string();
        assert!(message.contains("`ptb`") && message.contains("penn_treebank"), "{message}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = MANIFESTS[1].replacen("title", "titel", 1);
        assert!(toml::from_str::<Manifest>(&text).is_err());
    }
}

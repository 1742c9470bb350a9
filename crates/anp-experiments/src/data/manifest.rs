//! What a data set is: the schema of `datasets/*.toml`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Sha256Hex;

/// Height and width of an image that a model reads.
pub const IMAGE_SIDE: usize = 32;
/// Height and width of an image of the MNIST kind in its file.
pub(super) const GREY_SIDE: usize = 28;

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
    /// Number of types in the training split, `<eos>` counted; 0 if it is not a text.
    #[serde(default)]
    pub vocabulary: usize,
    /// Number of classes; 0 if it is not an image set.
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
    /// The files: one per split of a text, one or more per split of an image set.
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
    /// MD5 of the archive as its makers publish it, for anyone who wants to compare it by hand.
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

impl ManifestFile {
    /// Whether a file with this checksum is the right one.
    pub(super) fn accepts(&self, digest: &Sha256Hex) -> bool {
        *digest == self.sha256 || Some(digest) == self.variant_sha256.as_ref()
    }
}

impl Split {
    /// All splits, in the order in which they are read.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
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

    /// Channels, height and width of an image in the files.
    pub fn image_shape(&self) -> [usize; 3] {
        match self.image_format {
            Some(ImageFormat::Idx) => [1, GREY_SIDE, GREY_SIDE],
            _ => [3, IMAGE_SIDE, IMAGE_SIDE],
        }
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

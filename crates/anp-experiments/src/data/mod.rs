//! Texts and image sets: what they are, where they are, how they get there, and the token ids and
//! pixels that a model reads.
//!
//! - [`Manifest`]: what a data set is, from `datasets/*.toml` (compiled in): files, addresses,
//!   checksums, counts, licence.
//! - [`Store`]: the folder that holds them. [`Store::load`] reads a corpus and checks it,
//!   [`Store::fetch`] downloads it, [`Store::import`] takes it from files that are already here,
//!   [`Store::verify`] looks at what is there.
//! - [`Corpus`] and [`Vocabulary`]: three streams of token ids. [`Corpus::from_files`] and
//!   [`Corpus::from_texts`] read any text.
//! - [`ImageSet`]: training and test images with their labels; [`Store::load_images`] reads one and
//!   checks it.
//!
//! Nothing here prints. Progress of a download goes to a callback.
//!
//! ```
//! use anp_experiments::data::Store;
//!
//! let demo = Store::locate(None).load("demo")?;
//! assert_eq!(demo.vocabulary.len(), 6_439);
//! assert_eq!(demo.test.len(), 21_857);
//! # Ok::<(), anp_experiments::data::DataError>(())
//! ```

mod catalogue;
mod corpus;
mod digest;
mod error;
mod fetch;
mod image_set;
mod import;
mod load;
mod manifest;
mod store;
mod verify;

pub use catalogue::{NAMES, manifest, manifests};
pub use corpus::{Corpus, EOS, UNK, Vocabulary};
pub use digest::Sha256Hex;
pub use error::DataError;
pub use fetch::failure::{FailedAddress, FetchFailure};
pub use fetch::{FetchEvent, FetchOptions};
pub use image_set::{IMAGE_BYTES, ImageSet, Images};
pub use import::{Candidate, ImportOutcome, ImportReport, ImportedFile, Mismatch};
pub use manifest::{Archive, IMAGE_SIDE, ImageFormat, Manifest, ManifestFile, Split};
pub use store::{DATA_DIR_VARIABLE, Origin, Store};
pub use verify::{FileReport, FileState, Presence, Verification};

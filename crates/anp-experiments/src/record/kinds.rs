use serde::Serialize;

use crate::engine::RunRecord;
use crate::image::record::ImageRecord;
use crate::provenance::Provenance;
use crate::recipe::{Recipe, Scale};
use crate::text::record::TextRecord;
use crate::vib::record::VibRecord;

/// A finished run of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Record {
    /// A language model.
    Text(Box<TextRecord>),
    /// An image classifier.
    Image(Box<ImageRecord>),
    /// An image classifier with a bottleneck.
    Vib(Box<VibRecord>),
}

/// The part that records of all kinds have.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Table that the row belongs to.
    pub table: &'a str,
    /// Row.
    pub row: &'a str,
    /// Scale of the run.
    pub scale: Scale,
    /// Seed of the run.
    pub seed: u64,
    /// SHA-256 of the recipe.
    pub recipe_hash: &'a str,
    /// What was built and where it ran.
    pub provenance: &'a Provenance,
    /// Number of epochs.
    pub num_epochs: usize,
}

impl<'a, R, E, S> From<&'a RunRecord<R, E, S>> for Head<'a> {
    fn from(record: &'a RunRecord<R, E, S>) -> Self {
        Self {
            table: &record.table,
            row: &record.row,
            scale: record.scale,
            seed: record.seed,
            recipe_hash: &record.recipe_hash,
            provenance: &record.provenance,
            num_epochs: record.curve.len(),
        }
    }
}

impl Record {
    /// What records of all kinds have.
    pub fn head(&self) -> Head<'_> {
        match self {
            Self::Text(record) => (&**record).into(),
            Self::Image(record) => (&**record).into(),
            Self::Vib(record) => (&**record).into(),
        }
    }

    /// The recipe, after `--set`.
    pub fn recipe(&self) -> Recipe {
        match self {
            Self::Text(record) => record.recipe.clone().into(),
            Self::Image(record) => record.recipe.clone().into(),
            Self::Vib(record) => record.recipe.clone().into(),
        }
    }

    /// The record of a language model, if it is one.
    pub fn text(self) -> Option<TextRecord> {
        if let Self::Text(record) = self { Some(*record) } else { None }
    }

    /// The record of an image classifier, if it is one.
    pub fn image(self) -> Option<ImageRecord> {
        if let Self::Image(record) = self { Some(*record) } else { None }
    }

    /// The record of an image classifier with a bottleneck, if it is one.
    pub fn vib(self) -> Option<VibRecord> {
        if let Self::Vib(record) = self { Some(*record) } else { None }
    }
}

impl From<TextRecord> for Record {
    fn from(record: TextRecord) -> Self {
        Self::Text(Box::new(record))
    }
}

impl From<ImageRecord> for Record {
    fn from(record: ImageRecord) -> Self {
        Self::Image(Box::new(record))
    }
}

impl From<VibRecord> for Record {
    fn from(record: VibRecord) -> Self {
        Self::Vib(Box::new(record))
    }
}

//! What can be wrong with a recipe that can be read, and the checks that both kinds of recipe share.

use std::fmt::Display;

use anp_models::Site;

use crate::data::{self, Manifest};

/// A recipe that can be read but not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecipe {
    /// A number outside the range of its key.
    #[error("{key} must be {allowed}, but is {value}")]
    OutOfRange {
        /// Path of the key in the recipe.
        key: String,
        /// What the key allows, in words.
        allowed: &'static str,
        /// The number.
        value: f64,
    },
    /// A data set that has no manifest, or one of another kind.
    #[error("{key} must be one of {known}, but is `{value}`")]
    UnknownDataSet {
        /// Path of the key in the recipe.
        key: &'static str,
        /// The name.
        value: String,
        /// The names that exist.
        known: String,
    },
    /// More tokens or images than there are.
    #[error("{key} is {used}, but {name} has {existing} of them")]
    MoreThanThereAre {
        /// Path of the key in the recipe.
        key: &'static str,
        /// Its value.
        used: usize,
        /// Tokens or images that there are.
        existing: usize,
        /// The data set.
        name: String,
    },
    /// A training step needs more images than there are.
    #[error("data.batch_size is {batch_size}, but there are {images} training images of {name}")]
    BatchTooLarge {
        /// Images per step.
        batch_size: usize,
        /// Images to train on.
        images: usize,
        /// The image set.
        name: String,
    },
    /// The decoder cannot share the embedding's weight.
    #[error(
        "model.{kind}.tie_weights = true needs an embedding as wide as the last layer, \
         but d_embed is {d_embed} and the layer has {d_output} units"
    )]
    TiedWidths {
        /// Kind of the network.
        kind: &'static str,
        /// Width of the embedding.
        d_embed: usize,
        /// Width of the last layer.
        d_output: usize,
    },
    /// Two keys that both say how the recurrent layers start.
    #[error(
        "model.lstm.layer_init_range and model.lstm.layer_init_by_units exclude each other; \
         remove one"
    )]
    TwoRanges,
    /// A key that this kind of network does not use.
    #[error("{key} does nothing in a model.{kind}; remove it")]
    NoUse {
        /// Path of the key in the recipe.
        key: &'static str,
        /// Kind of the network.
        kind: &'static str,
    },
    /// Two keys that exclude each other.
    #[error("{key} cannot be together with {other}: {reason}; remove one of them")]
    Together {
        /// Path of one key in the recipe.
        key: &'static str,
        /// Path of the other key.
        other: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A layer that the network does not have.
    #[error("{key} is `{site}`, but the model has {num_layers} layers, counted from 0")]
    SiteOutsideModel {
        /// Path of the key in the recipe.
        key: String,
        /// The site.
        site: Site,
        /// Recurrent layers of the model.
        num_layers: usize,
    },
    /// Cell states of a network that has none.
    #[error("{key} is `{site}`, but the layers of a model.{kind} have no cell states")]
    NoCells {
        /// Path of the key in the recipe.
        key: String,
        /// The site.
        site: Site,
        /// Kind of the network.
        kind: &'static str,
    },
}

pub(crate) fn at_least_one(key: impl Display, value: usize) -> Result<(), InvalidRecipe> {
    require(key, "at least 1", value as f64, value >= 1)
}

pub(crate) fn probability(key: impl Display, value: f64) -> Result<(), InvalidRecipe> {
    require(key, "in [0, 1)", value, (0.0..1.0).contains(&value))
}

pub(crate) fn not_negative(key: impl Display, value: f64) -> Result<(), InvalidRecipe> {
    require(key, "in [0, ∞)", value, value.is_finite() && value >= 0.0)
}

pub(crate) fn positive(key: impl Display, value: f64) -> Result<(), InvalidRecipe> {
    require(key, "in (0, ∞)", value, value.is_finite() && value > 0.0)
}

pub(crate) fn finite(key: &str, value: f64) -> Result<(), InvalidRecipe> {
    require(key, "finite", value, value.is_finite())
}

pub(crate) fn require(
    key: impl Display,
    allowed: &'static str,
    value: f64,
    holds: bool,
) -> Result<(), InvalidRecipe> {
    if holds {
        return Ok(());
    }
    Err(InvalidRecipe::OutOfRange { key: key.to_string(), allowed, value })
}

/// The manifest of the data set that `key` names, among those of images or those of texts.
pub(crate) fn data_set(
    key: &'static str,
    name: &str,
    is_images: bool,
) -> Result<Manifest, InvalidRecipe> {
    let mut known = Vec::new();
    for manifest in data::manifests().into_iter().filter(|it| it.is_images() == is_images) {
        if manifest.name == name {
            return Ok(manifest);
        }
        known.push(manifest.name);
    }
    let (value, known) = (name.to_owned(), known.join(", "));
    Err(InvalidRecipe::UnknownDataSet { key, value, known })
}

/// How many of the `existing` items of a data set `key` asks for: `used`, or all of them.
pub(crate) fn part_of(
    manifest: &Manifest,
    key: &'static str,
    used: Option<usize>,
    existing: usize,
) -> Result<usize, InvalidRecipe> {
    let used = used.unwrap_or(existing);
    at_least_one(key, used)?;
    if used > existing {
        let name = manifest.name.clone();
        return Err(InvalidRecipe::MoreThanThereAre { key, used, existing, name });
    }
    Ok(used)
}

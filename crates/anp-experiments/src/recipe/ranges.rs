//! What is wrong with a recipe that can be read, and the ranges that keys of every kind of recipe have.

use std::fmt::Display;

use anp_models::Site;

/// A recipe that can be read but not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecipe {
    /// A number outside of what its key allows.
    #[error("{key} must be {allowed}, but is {value}")]
    OutOfRange {
        /// Path of the key in the recipe.
        key: String,
        /// What the key allows, in words.
        allowed: &'static str,
        /// The number.
        value: f64,
    },
    /// A corpus that has no manifest.
    #[error("data.corpus must be one of {known}, but is `{value}`")]
    UnknownCorpus {
        /// The name.
        value: String,
        /// The names that exist.
        known: String,
    },
    /// An image set that has no manifest.
    #[error("data.images must be one of {known}, but is `{value}`")]
    UnknownImages {
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
    /// A training step would need more images than there are.
    #[error("data.batch_size is {batch_size}, but there are {images} training images of {name}")]
    BatchTooLarge {
        /// Images a step.
        batch_size: usize,
        /// Images to train on.
        images: usize,
        /// The image set.
        name: String,
    },
    /// A text that names no activation of an image network.
    #[error("{key} is wrong")]
    UnknownImageSite {
        /// Path of the key in the recipe.
        key: String,
        /// The text, and what is known.
        source: anp_models::ParseImageSiteError,
    },
    /// The decoder cannot share the embedding's weight.
    #[error(
        "model.{kind}.tie_weights = true needs an embedding as wide as the last layer, but d_embed is {d_embed} and \
         the layer has {d_output} units"
    )]
    TiedWidths {
        /// Kind of the network.
        kind: &'static str,
        /// Width of the embedding.
        d_embed: usize,
        /// Width of the last layer.
        d_output: usize,
    },
    /// Two keys that say how the recurrent layers start.
    #[error(
        "model.lstm.layer_init_range and model.lstm.layer_init_by_units exclude each other; remove one"
    )]
    TwoRanges,
    /// A key that the network has no use for.
    #[error("{key} does nothing in a model.{kind}; remove it")]
    NoUse {
        /// Path of the key in the recipe.
        key: &'static str,
        /// Kind of the network.
        kind: &'static str,
    },
    /// Two keys that cannot both be there.
    #[error("{key} cannot be together with {other}: {reason}; remove one of them")]
    Together {
        /// Path of the one key in the recipe.
        key: &'static str,
        /// Path of the other.
        other: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A text that names no activation of any network.
    #[error("{key} is wrong")]
    UnknownSite {
        /// Path of the key in the recipe.
        key: String,
        /// The text, and what is known.
        source: anp_models::ParseSiteError,
    },
    /// An activation that other networks have.
    #[error("{key} is `{site}`, but the model has {num_layers} layers, counted from 0")]
    SiteOutsideModel {
        /// Path of the key in the recipe.
        key: String,
        /// The site.
        site: Site,
        /// Recurrent layers of the model.
        num_layers: usize,
    },
    /// Cell states of a network without cells.
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

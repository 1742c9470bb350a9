//! Recipes: everything that decides the number of one run, as data.
//!
//! A *row file* (`experiments/<table>/<row>.toml`) is one row of a table of the paper: its label, the
//! paper's numbers with their source, and a [`Recipe`] for each [`Scale`] it can be run at.

mod error;
mod hash;
mod overrides;
pub(crate) mod penalty;
pub(crate) mod ranges;
mod scale;

use serde::Serialize;

pub use error::RecipeError;
pub(crate) use error::did_you_mean;
pub(crate) use hash::content_hash;
pub(crate) use overrides::with_overrides;
pub use overrides::{OverrideError, apply_overrides};
pub use penalty::PenaltyConfig;
pub use ranges::InvalidRecipe;
pub use scale::Scale;

#[cfg(test)]
pub(crate) use crate::image::recipe::test_image_recipe;
pub use crate::image::recipe::{
    ImageDataConfig, ImageModelConfig, ImageRecipe, ImageTrainingConfig, MixedPrecision,
    ResnetLayout, WideResnetRecipe,
};
#[cfg(test)]
pub(crate) use crate::text::recipe::test_recipe;
pub use crate::text::recipe::{
    BayesByBackpropConfig, BiasInit, DataConfig, GateMasks, InformationPenaltyConfig,
    InformationReduction, LstmConfig, MaskSpan, MixtureOver, ModelConfig, NasConfig,
    PointerSentinelConfig, RhnConfig, ScheduleConfig, Shape, SruActivation, SruConfig, TextRecipe,
    TrainingConfig, VariationalConfig, WeightDecayConfig, WeightPenaltyConfig, WeightPenaltyForm,
    WordTie,
};

/// What a run is of: text or images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, read once")]
pub enum Recipe {
    /// A language model.
    Text(TextRecipe),
    /// An image classifier.
    Image(ImageRecipe),
}

impl Recipe {
    /// Name of the manifest in `datasets/` that is read.
    pub fn data_set(&self) -> &str {
        match self {
            Self::Text(recipe) => &recipe.data.corpus,
            Self::Image(recipe) => &recipe.data.images,
        }
    }

    /// The recipe of a language model, if it is one.
    pub fn text(self) -> Option<TextRecipe> {
        match self {
            Self::Text(recipe) => Some(recipe),
            Self::Image(_) => None,
        }
    }

    /// Check every value, and that the values fit each other.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipe`] for the first value that is wrong, naming its key as `--set` takes it.
    pub fn validate(&self) -> Result<(), InvalidRecipe> {
        match self {
            Self::Text(recipe) => recipe.validate(),
            Self::Image(recipe) => recipe.validate(),
        }
    }
}

impl From<TextRecipe> for Recipe {
    fn from(recipe: TextRecipe) -> Self {
        Self::Text(recipe)
    }
}

impl From<ImageRecipe> for Recipe {
    fn from(recipe: ImageRecipe) -> Self {
        Self::Image(recipe)
    }
}

/// Whether the tables of a recipe are those of an [`ImageRecipe`]: these have `data.images`, others `data.corpus`.
pub(crate) fn is_of_images(recipe: &impl Serialize) -> bool {
    let value = serde_json::to_value(recipe).unwrap_or_default();
    value.pointer("/data/images").is_some()
}

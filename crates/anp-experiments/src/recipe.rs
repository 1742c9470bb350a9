//! Recipes: everything that decides the number of one run, as data.
//!
//! A row of a table has one [`Recipe`] for each [`Scale`] that it can run at; see
//! [`experiments`](crate::experiments) for the files that hold them.

pub(crate) mod hash;
pub(crate) mod kind;
mod overrides;
pub(crate) mod penalty;
pub(crate) mod precision;
pub(crate) mod ranges;
pub(crate) mod regularizer;
pub(crate) mod scale;

use serde::{Deserialize, Serialize};

pub use hash::content_hash;
use kind::Kind;
pub use overrides::{OverrideError, apply_overrides};
pub use penalty::{PenaltyConfig, WeightPenaltyConfig, WeightPenaltyForm};
pub use precision::{MixedPrecision, NoSuchPrecision};
pub use ranges::InvalidRecipe;
pub use regularizer::{LabelPrior, RegularizerConfig};
pub use scale::Scale;

#[cfg(test)]
pub(crate) use crate::image::recipe::test_image_recipe;
pub use crate::image::recipe::{
    ImageDataConfig, ImageModelConfig, ImageRecipe, ImageTrainingConfig, WideResnetRecipe,
};
#[cfg(test)]
pub(crate) use crate::text::recipe::test_recipe;
pub use crate::text::recipe::{
    BayesByBackpropConfig, DataConfig, InformationPenaltyConfig, InformationReduction, LstmConfig,
    ModelConfig, NasConfig, PointerSentinelConfig, RhnConfig, ScheduleConfig, Shape, SruConfig,
    TextRecipe, TrainingConfig, VariationalConfig,
};
#[cfg(test)]
pub(crate) use crate::vib::recipe::test_vib_recipe;
pub use crate::vib::recipe::{
    VibConfig, VibEvaluationConfig, VibModelConfig, VibRecipe, VibTrainingConfig,
};

/// A recipe of any kind. This is the one place where the kinds meet.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "there are a few of them, read once")]
pub enum Recipe {
    /// A language model.
    Text(TextRecipe),
    /// An image classifier.
    Image(ImageRecipe),
    /// An image classifier with a bottleneck.
    Vib(VibRecipe),
}

impl Recipe {
    /// Read a recipe: one whose `data` has `images` trains on images, with a bottleneck if its
    /// `model` has `vib`; any other trains on text.
    ///
    /// # Errors
    ///
    /// If a key is unknown or missing, or has a value of the wrong type.
    pub fn from_toml(document: toml::Value) -> Result<Self, toml::de::Error> {
        match Kind::deserialize(document.clone()) {
            Ok(Kind::Image) => document.try_into().map(Self::Image),
            Ok(Kind::Vib) => document.try_into().map(Self::Vib),
            Ok(Kind::Text) | Err(_) => document.try_into().map(Self::Text),
        }
    }

    /// Name of the manifest in `datasets/` whose data is read.
    pub fn data_set(&self) -> &str {
        match self {
            Self::Text(recipe) => &recipe.data.corpus,
            Self::Image(recipe) => &recipe.data.images,
            Self::Vib(recipe) => &recipe.data.images,
        }
    }

    /// The smaller type that its products round their operands to, if they do.
    pub fn mixed_precision(&self) -> Option<MixedPrecision> {
        match self {
            Self::Text(recipe) => recipe.training.mixed_precision,
            Self::Image(recipe) => recipe.training.mixed_precision,
            Self::Vib(_) => None,
        }
    }

    /// The same with the numbers set to 1 that do not decide how long a step takes: the learning
    /// rate and the strengths of the terms of the loss.
    pub(crate) fn alike(&self) -> Self {
        let mut alike = self.clone();
        let unify = |eta: &mut f64| *eta = if *eta > 0.0 { 1.0 } else { 0.0 };
        match &mut alike {
            Self::Text(recipe) => {
                recipe.training.learning_rate = 1.0;
                recipe.penalties.iter_mut().for_each(|penalty| unify(&mut penalty.eta));
                recipe.regularizers.iter_mut().for_each(|it| unify(it.strength_mut()));
                recipe.weight_penalty.iter_mut().for_each(|it| unify(&mut it.eta));
                recipe.information_penalty.iter_mut().for_each(|it| unify(&mut it.beta));
            }
            Self::Image(recipe) => {
                recipe.training.learning_rate = 1.0;
                recipe.penalties.iter_mut().for_each(|penalty| unify(&mut penalty.eta));
                recipe.regularizers.iter_mut().for_each(|it| unify(it.strength_mut()));
                recipe.weight_penalty.iter_mut().for_each(|it| unify(&mut it.eta));
            }
            Self::Vib(recipe) => {
                recipe.training.learning_rate = 1.0;
                recipe.vib_mut().beta.iter_mut().for_each(unify);
            }
        }
        alike
    }

    /// The language model's recipe, if it is one.
    pub fn text(self) -> Option<TextRecipe> {
        if let Self::Text(recipe) = self { Some(recipe) } else { None }
    }

    /// The image classifier's recipe, if it is one.
    pub fn image(self) -> Option<ImageRecipe> {
        if let Self::Image(recipe) = self { Some(recipe) } else { None }
    }

    /// The recipe of an image classifier with a bottleneck, if it is one.
    pub fn vib(self) -> Option<VibRecipe> {
        if let Self::Vib(recipe) = self { Some(recipe) } else { None }
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
            Self::Vib(recipe) => recipe.validate(),
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

impl From<VibRecipe> for Recipe {
    fn from(recipe: VibRecipe) -> Self {
        Self::Vib(recipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(recipe: impl Serialize, site: &str) -> String {
        let mut document = toml::Value::try_from(recipe).unwrap();
        document["penalty"][0]["site"] = site.into();
        Recipe::from_toml(document).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_site_is_refused_with_its_key_and_the_sites() {
        assert_eq!(
            error(test_recipe(), "hidden"),
            "`hidden` is no site; known are embedding, layer[i].cell, layer[i].hidden, output_raw, \
             output_dropped, logits\nin `penalty.site`\n"
        );
        assert_eq!(
            error(test_image_recipe(), "output_raw"),
            "`output_raw` is no site; known are conv1, group1, group2, group3, relu, pooled, \
             logits\nin `penalty.site`\n"
        );
    }

    #[test]
    fn the_kind_of_a_recipe_is_that_of_its_data_and_model() {
        let recipes: [Recipe; 3] =
            [test_recipe().into(), test_image_recipe().into(), test_vib_recipe().into()];
        for recipe in recipes {
            let document = toml::Value::try_from(&recipe).unwrap();
            assert_eq!(Recipe::from_toml(document), Ok(recipe));
        }
    }
}

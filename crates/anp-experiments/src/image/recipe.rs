//! Recipes of image classifiers.

use anp_core::ExampleGroup;
use anp_models::{ImageSite, Kernels, ResidualLayout, WideResNetConfig};
use serde::{Deserialize, Serialize};

use crate::data::Split;
use crate::recipe::penalty::{PenaltyConfig, WeightPenaltyConfig};
use crate::recipe::precision::MixedPrecision;
use crate::recipe::ranges::{InvalidRecipe, check_numbers, data_set, part_of, require};
use crate::recipe::regularizer::RegularizerConfig;

/// Everything but the seed that decides the result of a run on images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRecipe {
    /// What is read.
    pub data: ImageDataConfig,
    /// The network.
    pub model: ImageModelConfig,
    /// Terms added to the loss, each with its site.
    #[serde(default, rename = "penalty", skip_serializing_if = "Vec::is_empty")]
    pub penalties: Vec<PenaltyConfig<ImageSite>>,
    /// Rivals of the penalties, added to the loss.
    #[serde(default, rename = "regularizer", skip_serializing_if = "Vec::is_empty")]
    pub regularizers: Vec<RegularizerConfig<ImageSite>>,
    /// A term added to the loss on the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_penalty: Option<WeightPenaltyConfig>,
    /// How it is trained.
    pub training: ImageTrainingConfig,
}

/// The images and what is done to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageDataConfig {
    /// Name of a manifest in `datasets/`: `fashion_mnist_small`, `cifar_10`, `cifar_100`.
    pub images: String,
    /// Images per training step; the last step of an epoch takes what is left.
    pub batch_size: usize,
    /// Train on this many images, from the first; the default is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_images: Option<usize>,
    /// Test on this many images, from the first; the default is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Whether training images are padded by 4, cropped at random and mirrored at random.
    pub augment: bool,
}

/// The network: one key under `[model]` names its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ImageModelConfig {
    /// A wide residual network (Zagoruyko & Komodakis, 2016).
    WideResnet(WideResnetRecipe),
}

/// `[model.wide_resnet]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideResnetRecipe {
    /// Layers with weights: `6n + 4` for `n` blocks per group.
    pub depth: usize,
    /// Widening factor `k`: the groups have `16k`, `32k` and `64k` channels.
    pub width: usize,
    /// Which of the two published networks of this name it is.
    pub layout: ResidualLayout,
    /// Probability of dropping an element between the two convolutions of a block.
    pub dropout: f64,
}

/// Optimisation: stochastic gradient descent with momentum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTrainingConfig {
    /// Epochs to train.
    pub max_epochs: usize,
    /// Learning rate of the first epoch, for the loss averaged over the batch.
    pub learning_rate: f64,
    /// The learning rate is multiplied by `decay_factor` after each of these epochs.
    pub decay_after: Vec<usize>,
    /// See `decay_after`.
    pub decay_factor: f64,
    /// Momentum `μ`, without dampening.
    pub momentum: f64,
    /// Whether the velocity is forgotten after each epoch, as in code that makes a new optimiser
    /// for each epoch.
    pub reset_momentum: bool,
    /// This multiple of each parameter, including scales, shifts and biases, is added to its
    /// gradient.
    pub weight_decay: f64,
    /// Type that convolutions round their operands to, forward and backward, also in evaluation;
    /// the default is none. Everything else stays in single precision: parameters, velocities,
    /// normalisations, pooling, the linear layer, loss and penalties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_precision: Option<MixedPrecision>,
}

impl ImageTrainingConfig {
    /// The learning rate of `epoch`, from 1.
    pub fn learning_rate(&self, epoch: usize) -> f64 {
        let decays = self.decay_after.iter().filter(|&&last| epoch > last).count();
        self.learning_rate * self.decay_factor.powi(decays as i32)
    }
}

impl ImageRecipe {
    /// Check every value, and that the values fit each other and the data set.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipe`] for the first value that is wrong, naming its key as `--set` takes it.
    pub fn validate(&self) -> Result<(), InvalidRecipe> {
        check_numbers(self)?;
        self.data.validate()?;
        let ImageModelConfig::WideResnet(network) = &self.model;
        let exists = WideResNetConfig::blocks_per_group(network.depth).is_some();
        let depths = "6n + 4 with n at least 1 (10, 16, 22, 28, …)";
        require("model.wide_resnet.depth", depths, network.depth as f64, exists)?;
        if self.penalties.iter().any(|penalty| penalty.temporal) {
            return Err(InvalidRecipe::NoUse { key: "penalty.temporal", kind: "wide_resnet" });
        }
        let has_no_steps = |it: &RegularizerConfig<_>| it.kind() == "norm_stabilizer";
        if self.regularizers.iter().any(has_no_steps) {
            let key = "regularizer.norm_stabilizer";
            return Err(InvalidRecipe::NoUse { key, kind: "wide_resnet" });
        }
        let has_group = |it: &RegularizerConfig<_>| match it {
            RegularizerConfig::InformationBound { group, .. } => *group != ExampleGroup::TimeStep,
            _ => false,
        };
        if self.regularizers.iter().any(has_group) {
            let key = "regularizer.information_bound.group";
            return Err(InvalidRecipe::NoUse { key, kind: "wide_resnet" });
        }
        Ok(())
    }

    /// The network, for a data set with so many classes.
    pub fn network(&self, num_classes: usize, kernels: Kernels) -> WideResNetConfig {
        let ImageModelConfig::WideResnet(network) = &self.model;
        WideResNetConfig {
            depth: network.depth,
            width: network.width,
            num_classes,
            layout: network.layout,
            dropout: network.dropout,
            precision: MixedPrecision::of_products(self.training.mixed_precision),
            kernels,
        }
    }
}

impl ImageDataConfig {
    /// Check the values, and that they fit the data set.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipe`] for the first value that is wrong.
    pub(crate) fn validate(&self) -> Result<(), InvalidRecipe> {
        let manifest = data_set("data.images", &self.images, true)?;
        let part = |key, split, used| part_of(&manifest, key, used, manifest.images(split));
        let images = part("data.train_images", Split::Train, self.train_images)?;
        part("data.test_images", Split::Test, self.test_images)?;
        if self.batch_size > images {
            let (batch_size, name) = (self.batch_size, manifest.name);
            return Err(InvalidRecipe::BatchTooLarge { batch_size, images, name });
        }
        Ok(())
    }
}

/// A small recipe with one penalty.
#[cfg(test)]
pub(crate) fn test_image_recipe() -> ImageRecipe {
    ImageRecipe {
        data: ImageDataConfig {
            images: "fashion_mnist_small".to_owned(),
            batch_size: 8,
            train_images: Some(20),
            test_images: Some(10),
            augment: true,
        },
        model: ImageModelConfig::WideResnet(WideResnetRecipe {
            depth: 10,
            width: 1,
            layout: ResidualLayout::Meliketoy,
            dropout: 0.0,
        }),
        penalties: vec![PenaltyConfig {
            site: ImageSite::Pooled,
            norm: anp_core::Norm::L2sq,
            reduction: anp_core::Reduction::HalfSum,
            eta: 1e-3,
            temporal: false,
        }],
        regularizers: Vec::new(),
        weight_penalty: None,
        training: ImageTrainingConfig {
            max_epochs: 2,
            learning_rate: 0.1,
            decay_after: vec![1],
            decay_factor: 0.2,
            momentum: 0.9,
            reset_momentum: true,
            weight_decay: 5e-4,
            mixed_precision: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut ImageRecipe)) -> String {
        let mut recipe = test_image_recipe();
        recipe.validate().unwrap();
        change(&mut recipe);
        recipe.validate().unwrap_err().to_string()
    }

    fn network(recipe: &mut ImageRecipe) -> &mut WideResnetRecipe {
        let ImageModelConfig::WideResnet(network) = &mut recipe.model;
        network
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_by_key_value_and_range() {
        let cases = [
            (
                refusal(|it| network(it).depth = 12),
                "model.wide_resnet.depth must be 6n + 4 with n at least 1 (10, 16, 22, 28, …), \
                 but is 12",
            ),
            (
                refusal(|it| network(it).width = 0),
                "model.wide_resnet.width must be at least 1, but is 0",
            ),
            (
                refusal(|it| network(it).dropout = 1.0),
                "model.wide_resnet.dropout must be in [0, 1), but is 1",
            ),
            (
                refusal(|it| it.data.batch_size = 21),
                "data.batch_size is 21, but there are 20 training images of fashion_mnist_small",
            ),
            (
                refusal(|it| it.data.train_images = Some(3001)),
                "data.train_images is 3001, but fashion_mnist_small has 3000 of them",
            ),
            (
                refusal(|it| it.data.images = "demo".to_owned()),
                "data.images must be one of fashion_mnist_small, cifar_10, cifar_100, \
                 but is `demo`",
            ),
            (
                refusal(|it| it.penalties[0].temporal = true),
                "penalty.temporal does nothing in a model.wide_resnet; remove it",
            ),
            (
                refusal(|it| it.penalties[0].eta = -1.0),
                "penalty.0.eta must be in [0, ∞), but is -1",
            ),
            (
                refusal(|it| it.training.momentum = 1.0),
                "training.momentum must be in [0, 1), but is 1",
            ),
            (
                refusal(|it| it.training.learning_rate = f64::NAN),
                "training.learning_rate must be in (0, ∞), but is NaN",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message, expected);
        }
    }

    /// The paper's: 0.1 for epochs 1 to 60, then a fifth from 61, 121 and 161.
    #[test]
    fn the_learning_rate_falls_after_the_epochs_given() {
        let mut training = test_image_recipe().training;
        training.decay_after = vec![60, 120, 160];
        for (epoch, rate) in
            [(1, 0.1), (60, 0.1), (61, 0.02), (120, 0.02), (121, 0.004), (161, 0.0008)]
        {
            assert!((training.learning_rate(epoch) - rate).abs() < 1e-15, "{epoch}");
        }
    }
}

//! Recipes of the deep variational information bottleneck.

use anp_models::VibClassifierConfig;
use serde::{Deserialize, Serialize};

use crate::data::Manifest;
use crate::image::recipe::ImageDataConfig;
use crate::recipe::ranges::{InvalidRecipe, check_numbers};

/// Everything but the seed that decides the result of a run with a bottleneck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibRecipe {
    /// What is read.
    pub data: ImageDataConfig,
    /// The network.
    pub model: VibModelConfig,
    /// How it is trained.
    pub training: VibTrainingConfig,
    /// How it is measured.
    pub evaluation: VibEvaluationConfig,
}

/// The network: one key under `[model]` names its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VibModelConfig {
    /// A multilayer perceptron with a Gaussian code (Alemi et al., 2016).
    Vib(VibConfig),
}

/// `[model.vib]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibConfig {
    /// Units of each of the encoder's two hidden layers.
    pub d_hidden: usize,
    /// Features of the code.
    pub d_latent: usize,
    /// Strength β of the divergence of the code from N(0, I), in nats per image; 0 leaves the
    /// noise. Without the key there is no bottleneck: the code is its mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
}

/// Optimisation: Adam, and an average of the parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibTrainingConfig {
    /// Epochs to train.
    pub max_epochs: usize,
    /// Learning rate of the first epoch, for the loss averaged over the batch.
    pub learning_rate: f64,
    /// The learning rate is multiplied by `decay_factor` after so many epochs, again and again.
    pub decay_every: usize,
    /// See `decay_every`.
    pub decay_factor: f64,
    /// Decay of Adam's mean of the gradients.
    pub beta_1: f64,
    /// Decay of Adam's mean of their squares.
    pub beta_2: f64,
    /// What Adam adds to the root of that mean.
    pub epsilon: f64,
    /// Decay of the average of the parameters, per step; the average is what is measured.
    pub average_decay: f64,
}

/// `[evaluation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VibEvaluationConfig {
    /// Codes drawn for each image, whose predictions are averaged.
    pub samples: usize,
}

impl VibTrainingConfig {
    /// The learning rate of `epoch`, from 1.
    pub fn learning_rate(&self, epoch: usize) -> f64 {
        let decays = (epoch - 1) / self.decay_every;
        self.learning_rate * self.decay_factor.powi(decays as i32)
    }

    /// Weight of the parameters after step `step`, counted from 1, in their average:
    ///
    /// ```text
    /// aₖ = Σᵢ dᵏ⁻ⁱ pᵢ / Σᵢ dᵏ⁻ⁱ,   i = 1 … k      aₖ = aₖ₋₁ + (pₖ − aₖ₋₁) · (1 − d) / (1 − dᵏ)
    /// ```
    ///
    /// The exponential average without the bias towards its beginning, as the authors' code has it.
    pub fn average_weight(&self, step: u64) -> f64 {
        // Beyond 10⁹ steps dᵏ is 0 or d is 1.
        let power = self.average_decay.powi(step.min(1_000_000_000) as i32);
        (1.0 - self.average_decay) / (1.0 - power)
    }
}

impl VibRecipe {
    /// Check every value, and that the values fit the data set.
    ///
    /// # Errors
    ///
    /// [`InvalidRecipe`] for the first value that is wrong, naming its key as `--set` takes it.
    pub fn validate(&self) -> Result<(), InvalidRecipe> {
        check_numbers(self)?;
        self.data.validate()
    }

    /// The part of the model's recipe that is of its kind.
    pub fn vib(&self) -> &VibConfig {
        let VibModelConfig::Vib(config) = &self.model;
        config
    }

    /// The same, to change it.
    pub fn vib_mut(&mut self) -> &mut VibConfig {
        let VibModelConfig::Vib(config) = &mut self.model;
        config
    }

    /// The network, for the images of `manifest`.
    pub fn network(&self, manifest: &Manifest) -> VibClassifierConfig {
        let VibConfig { d_hidden, d_latent, beta } = *self.vib();
        let d_input = manifest.image_shape().iter().product();
        VibClassifierConfig { d_input, d_hidden, d_latent, num_classes: manifest.classes, beta }
    }
}

/// A small recipe.
#[cfg(test)]
pub(crate) fn test_vib_recipe() -> VibRecipe {
    VibRecipe {
        data: ImageDataConfig {
            images: "fashion_mnist_small".to_owned(),
            batch_size: 8,
            train_images: Some(20),
            test_images: Some(10),
            augment: false,
        },
        model: VibModelConfig::Vib(VibConfig { d_hidden: 6, d_latent: 3, beta: Some(1e-3) }),
        training: VibTrainingConfig {
            max_epochs: 2,
            learning_rate: 1e-3,
            decay_every: 2,
            decay_factor: 0.97,
            beta_1: 0.5,
            beta_2: 0.999,
            epsilon: 1e-8,
            average_decay: 0.9,
        },
        evaluation: VibEvaluationConfig { samples: 4 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    fn refusal(change: impl FnOnce(&mut VibRecipe)) -> String {
        let mut recipe = test_vib_recipe();
        recipe.validate().unwrap();
        change(&mut recipe);
        recipe.validate().unwrap_err().to_string()
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_by_key_value_and_range() {
        let cases = [
            (
                refusal(|it| it.vib_mut().beta = Some(-1.0)),
                "model.vib.beta must be in [0, ∞), but is -1",
            ),
            (
                refusal(|it| it.vib_mut().d_latent = 0),
                "model.vib.d_latent must be at least 1, but is 0",
            ),
            (
                refusal(|it| it.evaluation.samples = 0),
                "evaluation.samples must be at least 1, but is 0",
            ),
            (refusal(|it| it.training.beta_1 = 1.0), "training.beta_1 must be in [0, 1), but is 1"),
            (
                refusal(|it| it.training.average_decay = 1.0),
                "training.average_decay must be in [0, 1), but is 1",
            ),
            (
                refusal(|it| it.training.epsilon = 0.0),
                "training.epsilon must be in (0, ∞), but is 0",
            ),
            (
                refusal(|it| it.training.decay_every = 0),
                "training.decay_every must be at least 1, but is 0",
            ),
            (
                refusal(|it| it.data.batch_size = 21),
                "data.batch_size is 21, but there are 20 training images of fashion_mnist_small",
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(message, expected);
        }
    }

    /// The authors': 1e-4, times 0.97 after every two epochs.
    #[test]
    fn the_learning_rate_falls_after_every_so_many_epochs() {
        let mut training = test_vib_recipe().training;
        training.learning_rate = 1e-4;
        for (epoch, decays) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (200, 99)] {
            let expected = 1e-4 * 0.97_f64.powi(decays);
            assert!((training.learning_rate(epoch) / expected - 1.0).abs() < 1e-12, "{epoch}");
        }
    }

    /// Against the sum that it stands for.
    #[test]
    fn the_average_is_that_of_the_parameters_with_decaying_weights() {
        let training = test_vib_recipe().training;
        let parameters = [3.0, -1.0, 0.5, 2.0, 7.0_f64];
        let mut average = f64::NAN;
        for (index, parameter) in parameters.iter().enumerate() {
            let weight = training.average_weight(index as u64 + 1);
            average =
                if index == 0 { *parameter } else { average + weight * (parameter - average) };
            let so_far = parameters[..=index].iter().rev().enumerate();
            let (sum, weights) = so_far.fold((0.0, 0.0), |(sum, weights), (age, parameter)| {
                let weight = 0.9_f64.powi(age as i32);
                (sum + weight * parameter, weights + weight)
            });
            assert!((average - sum / weights).abs() < 1e-12, "{average}, {}", sum / weights);
        }
        assert_eq!(training.average_weight(1), 1.0);
        assert!((training.average_weight(u64::MAX) - 0.1).abs() < 1e-12);
    }

    /// 784 – 1024 – 1024 – 512, and 256 – 10.
    #[test]
    fn the_published_network_reads_the_middle_of_grey_images() {
        let mut recipe = test_vib_recipe();
        (recipe.vib_mut().d_hidden, recipe.vib_mut().d_latent) = (1024, 256);
        let of = |images| recipe.network(&data::manifest(images).unwrap());
        let layers = 785 * 1024 + 1025 * 1024 + 1025 * 512 + 257 * 10;
        assert_eq!(of("fashion_mnist_small").num_params(), layers);
        assert_eq!(of("cifar_10").d_input, 3 * 32 * 32);
    }
}

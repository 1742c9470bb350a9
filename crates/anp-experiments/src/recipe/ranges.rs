//! What can be wrong with a recipe that can be read, and the checks that all kinds share.

use anp_models::Site;
use serde::Serialize;
use toml::Value;

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

/// Words that end keys, the numbers that these keys allow, in words and as a test.
type Range = (&'static str, &'static str, fn(f64) -> bool);

/// The numbers that recipes of all kinds allow; see [`check_numbers`].
const RANGES: [Range; 10] = [
    (
        "batch_size bptt d_embed d_hidden d_latent d_output decay_after decay_every depth interval \
         max_epochs num_layers patience samples test_images train_images train_tokens width window",
        "at least 1",
        |value| value >= 1.0,
    ),
    ("num_biases", "1 or 2", |value| value == 1.0 || value == 2.0),
    ("divide_by", "in [1, ∞)", |value| value.is_finite() && value >= 1.0),
    (
        "alpha average_decay beta_1 beta_2 coupled decoupled dropout input_dropout \
         inter_layer_dropout momentum output_dropout recurrent_dropout rnn_dropout weight_decay \
         weight_dropout word_dropout",
        "in [0, 1)",
        |value| (0.0..1.0).contains(&value),
    ),
    ("gamma half_probability", "in [0, 1]", |value| (0.0..=1.0).contains(&value)),
    ("factor prior_pi", "in (0, 1)", |value| value > 0.0 && value < 1.0),
    ("beta deviation eta lambda supervision target", "in [0, ∞)", |value| {
        value.is_finite() && value >= 0.0
    }),
    (
        "decay_factor epsilon grad_clip_norm init_range initial_sigma layer_init_range \
         learning_rate",
        "in (0, ∞)",
        |value| value.is_finite() && value > 0.0,
    ),
    (
        "forget_bias highway_bias hold_epochs max_decays shortest transform_bias",
        "finite",
        |value| value.is_finite(),
    ),
    // The reciprocal of σ² must be finite in single precision.
    ("prior_log_sigma1 prior_log_sigma2", "in [-20, 20]", |value| value.abs() <= 20.0),
];

/// Check every number of a recipe against the range of its key.
///
/// # Panics
///
/// If a number has no range here, or a count is larger than TOML's integers.
pub(crate) fn check_numbers(recipe: &impl Serialize) -> Result<(), InvalidRecipe> {
    let recipe = Value::try_from(recipe).expect("TOML can hold a recipe");
    check("", "", &recipe)
}

/// Check the numbers in `value`, which stands at `path`; `name` is the last part that is a word.
fn check(path: &str, name: &str, value: &Value) -> Result<(), InvalidRecipe> {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    };
    let number = match value {
        Value::Table(table) => {
            return table.iter().try_for_each(|(key, value)| check(&below(key), key, value));
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            return items.try_for_each(|(at, item)| check(&below(&at.to_string()), name, item));
        }
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return Ok(()),
    };
    let mut ranges = RANGES.iter();
    let (_, allowed, holds) = ranges
        .find(|(words, ..)| words.split(' ').any(|word| word == name))
        .unwrap_or_else(|| panic!("the range of {path} is missing"));
    require(path, allowed, number, holds(number))
}

pub(crate) fn require(
    key: &str,
    allowed: &'static str,
    value: f64,
    holds: bool,
) -> Result<(), InvalidRecipe> {
    if holds {
        return Ok(());
    }
    Err(InvalidRecipe::OutOfRange { key: key.to_owned(), allowed, value })
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
    if used > existing {
        let name = manifest.name.clone();
        return Err(InvalidRecipe::MoreThanThereAre { key, used, existing, name });
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_has_two_ranges() {
        let mut names: Vec<_> = RANGES.iter().flat_map(|(words, ..)| words.split(' ')).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_path_of_a_number_is_named_as_set_takes_it() {
        let recipe = |text: &str| text.parse::<toml::Table>().unwrap();
        let refused = |text: &str| check_numbers(&recipe(text)).unwrap_err().to_string();
        assert_eq!(refused("a.forget_bias = nan"), "a.forget_bias must be finite, but is NaN");
        assert_eq!(refused("[[b]]\neta = -inf"), "b.0.eta must be in [0, ∞), but is -inf");
        assert_eq!(refused("decay_after = [5, 0]"), "decay_after.1 must be at least 1, but is 0");
        assert_eq!(check_numbers(&recipe("eta = 0.0\nsite = 'x'\ntemporal = true")), Ok(()));
    }
}

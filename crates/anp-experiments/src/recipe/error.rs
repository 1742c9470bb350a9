//! Why a recipe cannot be used.

use std::path::PathBuf;

use super::{InvalidRecipe, OverrideError};

/// Names that are less alike than this (Jaro's measure, from 0 to 1) are not taken for each other.
const ALIKE: f64 = 0.7;

/// Why `--set` makes no recipe, or a recipe cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// `--set` cannot be applied.
    #[error("--set cannot be applied to {}", .path.display())]
    Override {
        /// The file.
        path: PathBuf,
        /// Which override, and why.
        source: OverrideError,
    },
    /// The result of `--set` has keys or values that the schema does not.
    #[error(
        "--set {} makes a wrong recipe of {}{}",
        .overrides.join(" --set "), .path.display(), did_you_mean(.source)
    )]
    OverriddenSchema {
        /// The file.
        path: PathBuf,
        /// The overrides, as given.
        overrides: Vec<String>,
        /// Which key.
        source: Box<toml::de::Error>,
    },
    /// A value cannot be used.
    #[error("{} sets an impossible value", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which value.
        source: InvalidRecipe,
    },
}

/// A question to put behind a message: the known name that is most like the one that TOML refuses, if any is.
pub(crate) fn did_you_mean(err: &toml::de::Error) -> String {
    let message = err.message();
    // As serde says it: unknown field `epochs`, expected one of `max_epochs`, `patience`
    if !message.starts_with("unknown field `") && !message.starts_with("unknown variant `") {
        return String::new();
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let unknown = names.next().unwrap_or_default();
    let nearest = names
        .map(|name| (strsim::jaro(unknown, name), name))
        .filter(|&(alike, _)| alike > ALIKE)
        .max_by(|(left, _), (right, _)| left.total_cmp(right));
    nearest.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ModelConfig, TrainingConfig};

    #[test]
    fn a_name_that_is_not_known_is_answered_with_the_nearest_that_is() {
        let asked = |text: &str| did_you_mean(&toml::from_str::<TrainingConfig>(text).unwrap_err());
        assert_eq!(asked("epochs = 3"), "; did you mean `max_epochs`?");
        assert_eq!(asked("learnig_rate = 1.0"), "; did you mean `learning_rate`?");
        assert_eq!(asked("surprise = 1"), "");
        // Not the name is wrong here.
        assert_eq!(asked("max_epochs = 'three'"), "");
        let model = toml::from_str::<ModelConfig>("[lst]").unwrap_err();
        assert_eq!(did_you_mean(&model), "; did you mean `lstm`?");
    }
}

//! Recipes from files, and what tells one recipe from another.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{InvalidRecipe, OverrideError, Recipe, apply_overrides};

/// Why a recipe could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML, or has keys or values that the schema does not.
    #[error("{} is wrong", .path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// `--set` cannot be applied.
    #[error("--set cannot be applied to {}", .path.display())]
    Override {
        /// The file.
        path: PathBuf,
        /// Which override, and why.
        source: OverrideError,
    },
    /// The result of `--set` has keys or values that the schema does not.
    #[error("--set {} makes a wrong recipe of {}", .overrides.join(" --set "), .path.display())]
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

impl Recipe {
    /// Read a file that holds one recipe, apply overrides ([`apply_overrides`]), and check every value.
    ///
    /// # Errors
    ///
    /// [`RecipeError`], naming the file.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, RecipeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        let schema =
            |source| RecipeError::Schema { path: path.to_owned(), source: Box::new(source) };
        // Read as it is first: only the text knows lines and columns.
        let mut recipe: Self = toml::from_str(&text).map_err(schema)?;
        if !overrides.is_empty() {
            let document = toml::Value::Table(text.parse().map_err(schema)?);
            recipe = with_overrides(document, overrides, path)?;
        }
        recipe
            .validate()
            .map_err(|source| RecipeError::Invalid { path: path.to_owned(), source })?;
        Ok(recipe)
    }

    /// SHA-256 of the recipe's canonical JSON, in hexadecimal: what makes two runs the same experiment.
    ///
    /// The canonical form has sorted keys and no spaces, and leaves out optional keys that are not set: a
    /// comment, the order of keys or a new optional key does not change it.
    ///
    /// # Panics
    ///
    /// Never: a recipe is always JSON.
    pub fn content_hash(&self) -> String {
        let value = serde_json::to_value(self).expect("a recipe has string keys only");
        let digest = Sha256::digest(sorted(value).to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Read a table from a file again after applying overrides to it.
///
/// # Errors
///
/// [`RecipeError::Override`] and [`RecipeError::OverriddenSchema`], naming the file at `path`.
pub(crate) fn with_overrides<T: serde::de::DeserializeOwned>(
    mut document: toml::Value,
    overrides: &[String],
    path: &Path,
) -> Result<T, RecipeError> {
    apply_overrides(&mut document, overrides)
        .map_err(|source| RecipeError::Override { path: path.to_owned(), source })?;
    document.try_into().map_err(|source| RecipeError::OverriddenSchema {
        path: path.to_owned(),
        overrides: overrides.to_vec(),
        source: Box::new(source),
    })
}

/// The same JSON with the keys of every object sorted, whatever map `serde_json` was built with.
fn sorted(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> =
                map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{ModelConfig, ScheduleConfig, test_recipe};

    fn load(text: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        std::fs::write(&path, text).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        Recipe::load(&path, &overrides)
    }

    fn text() -> String {
        toml::to_string(&test_recipe()).unwrap()
    }

    fn messages(err: &dyn std::error::Error) -> String {
        let mut text = err.to_string();
        let mut cause = err.source();
        while let Some(err) = cause {
            text = format!("{text}: {err}");
            cause = err.source();
        }
        text
    }

    #[test]
    fn a_recipe_reads_back_what_it_writes() {
        assert_eq!(load(&text(), &[]).unwrap(), test_recipe());
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_line_and_key() {
        for table in ["[data]", "[[penalty]]", "[training]"] {
            let text = text().replace(table, &format!("{table}\nsurprise = 1"));
            let line = text.lines().position(|line| line == "surprise = 1").unwrap() + 1;
            let message = messages(&load(&text, &[]).unwrap_err());
            assert!(message.contains("recipe.toml is wrong"), "{message}");
            assert!(message.contains(&format!("line {line}, column 1")), "{message}");
            assert!(message.contains("unknown field `surprise`"), "{message}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        let table: toml::Table = text().parse().unwrap();
        for key in [
            "surprise",
            "data.surprise",
            "model.surprise",
            "model.lstm.surprise",
            "penalty.0.surprise",
            "training.surprise",
            "training.schedule.surprise",
            "training.schedule.on_plateau.surprise",
        ] {
            let mut value = toml::Value::Table(table.clone());
            apply_overrides(&mut value, &[format!("{key}=1")]).unwrap();
            assert!(value.try_into::<Recipe>().is_err(), "{key} is taken");
            let message = messages(&load(&text(), &[&format!("{key}=1")]).unwrap_err());
            assert!(message.contains(&format!("--set {key}=1")), "{message}");
        }
    }

    #[test]
    fn every_key_can_be_overridden() {
        let overrides = [
            "training.max_epochs=3",
            "model.lstm.d_hidden=9",
            "penalty.0.site=layer[1].cell",
            "training.schedule={fixed={hold_epochs=4,divide_by=2}}",
            "training.patience=2",
        ];
        let recipe = load(&text(), &overrides).unwrap();
        let ModelConfig::Lstm(lstm) = &recipe.model;
        assert_eq!(recipe.training.max_epochs, 3);
        assert_eq!(lstm.d_hidden, 9);
        assert_eq!(recipe.penalties[0].site, "layer[1].cell");
        assert_eq!(recipe.training.patience, Some(2));
        assert_eq!(
            recipe.training.schedule,
            ScheduleConfig::Fixed { hold_epochs: 4, divide_by: 2.0 }
        );
    }

    #[test]
    fn an_overridden_value_is_checked_too() {
        let message = messages(&load(&text(), &["data.bptt=0"]).unwrap_err());
        assert!(message.ends_with("data.bptt must be at least 1, but is 0"), "{message}");
    }

    #[test]
    fn the_hash_is_that_of_the_content() {
        let hash = test_recipe().content_hash();
        assert_eq!(hash.len(), 64);
        let reordered: toml::Table = text().parse().unwrap();
        assert_eq!(reordered.try_into::<Recipe>().unwrap().content_hash(), hash);

        let mut other = test_recipe();
        other.penalties[0].eta = 2e-4;
        assert_ne!(other.content_hash(), hash);
    }

    /// Records keep hashes: this one must not change unless the meaning of recipes does.
    #[test]
    fn the_hash_is_stable() {
        let canonical = concat!(
            r#"{"data":{"batch_size":4,"bptt":5,"corpus":"demo"},"model":{"lstm":{"bias_init":"zeros","#,
            r#""d_embed":8,"d_hidden":8,"forget_bias":1.0,"init_range":0.1,"input_dropout":0.5,"#,
            r#""inter_layer_dropout":0.5,"num_biases":1,"num_layers":2,"output_dropout":0.5,"#,
            r#""tie_weights":false}},"penalty":[{"eta":0.0001,"norm":"l2sq","reduction":"half_sum","#,
            r#""site":"output_dropped"}],"training":{"grad_clip_norm":5.0,"learning_rate":1.0,"#,
            r#""max_epochs":2,"schedule":{"on_plateau":{"factor":0.7,"max_decays":15}}}}"#,
        );
        let value = serde_json::to_value(test_recipe()).unwrap();
        assert_eq!(sorted(value).to_string(), canonical);
    }
}

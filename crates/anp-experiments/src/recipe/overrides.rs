//! `--set KEY=VALUE`: changing one key of a recipe from the command line.

use toml::Value;

/// Why an override could not be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OverrideError {
    /// There is no `=`, or nothing before it.
    #[error("`{text}` is no override; write KEY=VALUE, for example training.max_epochs=3")]
    Syntax {
        /// The override, as given.
        text: String,
    },
    /// The value begins like a TOML array, table or string, but is none.
    #[error("the value of `{text}` is not TOML")]
    Value {
        /// The override, as given.
        text: String,
        /// What TOML says.
        source: Box<toml::de::Error>,
    },
    /// The key leads through a value that has no keys.
    #[error("`{text}`: `{parent}` is of type {kind}, which has nothing called `{segment}`")]
    NotATable {
        /// The override, as given.
        text: String,
        /// The part of the key that leads to the value without keys.
        parent: String,
        /// TOML's name for the type of that value.
        kind: &'static str,
        /// The part of the key that was looked for in it.
        segment: String,
    },
    /// The key leads through an array, but names neither a position in it nor the one after it.
    #[error("`{text}`: `{parent}` has {len} entries, counted from 0; `{segment}` is none of them")]
    Index {
        /// The override, as given.
        text: String,
        /// The part of the key that leads to the array.
        parent: String,
        /// The array's length.
        len: usize,
        /// The part of the key that should be a position.
        segment: String,
    },
}

/// Apply `KEY=VALUE` overrides in order; the last override of a key wins.
///
/// A key is the path of a value, with dots: `training.schedule.on_plateau.factor=0.5`. A number is
/// a position in an array, from 0: `penalty.0.eta=1e-3`; the position after the last one appends.
/// A value is TOML; what is not TOML is taken as a string, so that words need no quotes:
/// `data.corpus=wikitext_2`. A table can be replaced as a whole:
/// `training.schedule={fixed={hold_epochs=4, divide_by=2.0}}`.
///
/// Missing keys are added. Unknown keys are accepted here and refused when the result is read as a
/// recipe.
///
/// # Errors
///
/// [`OverrideError`]. The overrides before the wrong one have been applied.
pub fn apply_overrides(document: &mut Value, overrides: &[String]) -> Result<(), OverrideError> {
    for text in overrides {
        let (key, value) = split(text)?;
        *entry(document, key, text)? = parse_value(value, text)?;
    }
    Ok(())
}

/// Split an override at its first `=`.
fn split(text: &str) -> Result<(&str, &str), OverrideError> {
    text.split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, _)| key.split('.').all(|segment| !segment.is_empty()))
        .ok_or_else(|| OverrideError::Syntax { text: text.to_owned() })
}

/// The value as TOML, or as a string if it neither is TOML nor looks like it.
fn parse_value(value: &str, text: &str) -> Result<Value, OverrideError> {
    match value.parse::<Value>() {
        Ok(value) => Ok(value),
        Err(source) if value.starts_with(['[', '{', '"', '\'']) => {
            Err(OverrideError::Value { text: text.to_owned(), source: Box::new(source) })
        }
        Err(_) => Ok(Value::String(value.to_owned())),
    }
}

/// The place that a key names, created if it does not exist.
fn entry<'a>(
    document: &'a mut Value,
    key: &str,
    text: &str,
) -> Result<&'a mut Value, OverrideError> {
    let mut place = document;
    let mut walked = 0;
    for segment in key.split('.') {
        let parent = || match key[..walked].trim_end_matches('.') {
            "" => "the recipe".to_owned(),
            parent => parent.to_owned(),
        };
        place = match place {
            Value::Table(table) => table.entry(segment).or_insert_with(|| empty(&key[walked..])),
            Value::Array(items) => {
                let len = items.len();
                let index =
                    segment.parse::<usize>().ok().filter(|&index| index <= len).ok_or_else(
                        || OverrideError::Index {
                            text: text.to_owned(),
                            parent: parent(),
                            len,
                            segment: segment.to_owned(),
                        },
                    )?;
                if index == len {
                    items.push(empty(&key[walked..]));
                }
                &mut items[index]
            }
            other => {
                return Err(OverrideError::NotATable {
                    text: text.to_owned(),
                    parent: parent(),
                    kind: other.type_str(),
                    segment: segment.to_owned(),
                });
            }
        };
        walked += segment.len() + 1;
    }
    Ok(place)
}

/// What a missing value starts as: an array if position 0 follows in the key, else a table.
fn empty(rest: &str) -> Value {
    match rest.split('.').nth(1) {
        Some("0") => Value::Array(Vec::new()),
        _ => Value::Table(toml::Table::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::recipe::{ModelConfig, ScheduleConfig, TextRecipe, test_recipe};

    fn document() -> Value {
        let text = "
            [data]
            corpus = 'demo'
            [[penalty]]
            site = 'output_raw'
            eta = 1e-4
            [training]
            max_epochs = 4
        ";
        Value::Table(text.parse().unwrap())
    }

    fn set(overrides: &[&str]) -> Result<Value, OverrideError> {
        let mut value = document();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        apply_overrides(&mut value, &overrides).map(|()| value)
    }

    #[test]
    fn values_keep_their_types_and_words_need_no_quotes() {
        let value = set(&[
            "training.max_epochs = 3",
            "penalty.0.eta=1e-3",
            "data.corpus=penn_treebank",
            "penalty.0.site=layer[0].cell",
            "model.lstm.tie_weights=true",
        ])
        .unwrap();
        assert_eq!(value["training"]["max_epochs"], Value::Integer(3));
        assert_eq!(value["penalty"][0]["eta"], Value::Float(1e-3));
        assert_eq!(value["data"]["corpus"].as_str(), Some("penn_treebank"));
        assert_eq!(value["penalty"][0]["site"].as_str(), Some("layer[0].cell"));
        assert_eq!(value["model"]["lstm"]["tie_weights"], Value::Boolean(true));
    }

    #[test]
    fn a_table_is_replaced_as_a_whole() {
        let value = set(&["training={max_epochs=1}", "data = { corpus = 'x' }"]).unwrap();
        assert_eq!(value["training"].as_table().unwrap().len(), 1);
        assert_eq!(value["data"]["corpus"].as_str(), Some("x"));
    }

    #[test]
    fn the_last_override_of_a_key_counts() {
        let value = set(&["training.max_epochs=1", "training.max_epochs=2"]).unwrap();
        assert_eq!(value["training"]["max_epochs"], Value::Integer(2));
    }

    #[test]
    fn the_position_after_the_last_one_appends() {
        let value = set(&["penalty.1.eta=2.0"]).unwrap();
        assert_eq!(value["penalty"].as_array().unwrap().len(), 2);
        assert_eq!(value["penalty"][1]["eta"], Value::Float(2.0));

        let mut none = Value::Table(toml::Table::new());
        apply_overrides(&mut none, &["penalty.0.eta=2.0".to_owned()]).unwrap();
        assert_eq!(none["penalty"][0]["eta"], Value::Float(2.0));
    }

    #[test]
    fn what_is_no_override_is_named() {
        for text in ["max_epochs", "=3", "training..max_epochs=3", ".a=1"] {
            assert_eq!(set(&[text]), Err(OverrideError::Syntax { text: text.to_owned() }));
        }
        let message = set(&["penalty.2.eta=1.0"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "`penalty.2.eta=1.0`: `penalty` has 1 entries, counted from 0; `2` is none of them"
        );
        let message = set(&["training.max_epochs.most=1"]).unwrap_err().to_string();
        assert_eq!(
            message,
            "`training.max_epochs.most=1`: `training.max_epochs` is of type integer, \
             which has nothing called `most`"
        );
        assert!(matches!(set(&["seeds=[1, 2"]), Err(OverrideError::Value { .. })));
    }

    #[test]
    fn a_value_cannot_smuggle_in_another_key() {
        let value = set(&["data.corpus=demo\nbptt = 3"]).unwrap();
        assert_eq!(value["data"].as_table().unwrap().len(), 1);
    }

    /// The test recipe after these overrides.
    fn recipe(overrides: &[&str]) -> Result<TextRecipe, toml::de::Error> {
        let mut document = Value::try_from(test_recipe()).unwrap();
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        apply_overrides(&mut document, &overrides).unwrap();
        document.try_into()
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
        let recipe = recipe(&overrides).unwrap();
        let ModelConfig::Lstm(lstm) = &recipe.model else { unreachable!("it is") };
        assert_eq!(recipe.training.max_epochs, 3);
        assert_eq!(lstm.d_hidden, 9);
        assert_eq!(recipe.penalties[0].site.to_string(), "layer[1].cell");
        assert_eq!(recipe.training.patience, Some(2));
        assert_eq!(
            recipe.training.schedule,
            ScheduleConfig::Fixed { hold_epochs: 4, divide_by: 2.0 }
        );
    }
}

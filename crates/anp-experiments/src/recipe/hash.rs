//! The hash that tells one recipe from another.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 of a recipe's canonical JSON, in hexadecimal: two runs with the same hash are the same
/// experiment.
///
/// The canonical form has sorted keys and no spaces, and leaves out optional keys that are not set.
/// So comments, the order of keys and new optional keys do not change the hash.
pub fn content_hash(recipe: &impl Serialize) -> String {
    let value = serde_json::to_value(recipe).expect("a recipe has string keys only");
    let digest = Sha256::digest(sorted(value).to_string());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same JSON with sorted keys, whichever map type `serde_json` was built with.
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
    use crate::text::recipe::{TextRecipe, test_recipe};

    #[test]
    fn the_hash_is_that_of_the_content() {
        let hash = content_hash(&test_recipe());
        assert_eq!(hash.len(), 64);
        let text = toml::to_string(&test_recipe()).unwrap();
        let reordered: toml::Table = text.parse().unwrap();
        assert_eq!(content_hash(&reordered.try_into::<TextRecipe>().unwrap()), hash);

        let mut other = test_recipe();
        other.penalties[0].eta = 2e-4;
        assert_ne!(content_hash(&other), hash);
    }

    /// Records keep hashes: this one must not change unless the meaning of recipes does.
    #[test]
    fn the_hash_is_stable() {
        let canonical = concat!(
            r#"{"data":{"batch_size":4,"bptt":5,"corpus":"demo"},"#,
            r#""model":{"lstm":{"bias_init":"zeros","d_embed":8,"d_hidden":8,"#,
            r#""forget_bias":1.0,"init_range":0.1,"input_dropout":0.5,"#,
            r#""inter_layer_dropout":0.5,"num_biases":1,"num_layers":2,"output_dropout":0.5,"#,
            r#""tie_weights":false}},"#,
            r#""penalty":[{"eta":0.0001,"norm":"l2sq","reduction":"half_sum","#,
            r#""site":"output_dropped"}],"training":{"grad_clip_norm":5.0,"learning_rate":1.0,"#,
            r#""max_epochs":2,"schedule":{"on_plateau":{"factor":0.7,"max_decays":15}}}}"#,
        );
        let value = serde_json::to_value(test_recipe()).unwrap();
        assert_eq!(sorted(value).to_string(), canonical);
    }
}

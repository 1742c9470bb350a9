//! How a section of a row file changes what it goes on top of; `docs/reproducing.md` has the rules.

use toml::{Table, Value};

/// Tables with one key, which names a kind: two kinds never mix.
const KINDS: [&str; 3] = ["model", "schedule", "weight_decay"];

/// Put `change` over `base`.
pub(super) fn merge(base: &mut Table, change: &Table) {
    for (key, new) in change {
        match (base.get_mut(key), new) {
            (Some(Value::Table(old)), Value::Table(new)) if is_same_kind(key, old, new) => {
                merge(old, new);
            }
            (Some(Value::Array(old)), Value::Table(new)) if are_positions(new, old.len()) => {
                for (position, old) in old.iter_mut().enumerate() {
                    match (old, new.get(&position.to_string())) {
                        (Value::Table(old), Some(Value::Table(new))) => merge(old, new),
                        (old, Some(new)) => *old = new.clone(),
                        (_, None) => {}
                    }
                }
            }
            _ => {
                base.insert(key.clone(), new.clone());
            }
        }
    }
}

fn is_same_kind(key: &str, old: &Table, new: &Table) -> bool {
    !KINDS.contains(&key) || new.keys().any(|kind| old.contains_key(kind))
}

/// Whether the keys are positions in a list of `len` entries, as in `penalty.0.eta`.
fn are_positions(keys: &Table, len: usize) -> bool {
    keys.keys().all(|key| key.parse().is_ok_and(|position: usize| position < len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(base: &str, change: &str) -> Table {
        let mut base: Table = base.parse().unwrap();
        merge(&mut base, &change.parse().unwrap());
        base
    }

    #[test]
    fn keys_are_replaced_and_tables_merged() {
        let expected = "seeds = [3]\ndata = { bptt = 35, batch_size = 10 }";
        let found =
            merged("seeds = [1, 2]\ndata = { bptt = 35 }", "seeds = [3]\ndata.batch_size = 10");
        assert_eq!(found, expected.parse().unwrap());
    }

    #[test]
    fn another_kind_replaces_the_whole_table() {
        for key in KINDS {
            let base = format!("{key} = {{ old = {{ a = 1, b = 2 }} }}");
            let change = format!("{key}.new.c = 3");
            assert_eq!(merged(&base, &change), change.parse().unwrap());
            let same = format!("{key}.old.a = 3");
            let expected = format!("{key} = {{ old = {{ a = 3, b = 2 }} }}");
            assert_eq!(merged(&base, &same), expected.parse().unwrap());
        }
    }

    #[test]
    fn a_list_is_replaced_or_changed_by_position() {
        let base = "penalty = [{ site = 'x', eta = 1.0 }, { site = 'y', eta = 2.0 }]";
        assert_eq!(merged(base, "penalty = []"), "penalty = []".parse().unwrap());
        let expected = "penalty = [{ site = 'x', eta = 1.0 }, { site = 'y', eta = 3.0 }]";
        assert_eq!(merged(base, "penalty.1.eta = 3.0"), expected.parse().unwrap());
        // Not a list any more: reading it as a recipe names the key.
        assert_eq!(merged(base, "penalty.2.eta = 3.0"), "penalty.2.eta = 3.0".parse().unwrap());
    }
}

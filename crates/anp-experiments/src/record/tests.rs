use std::fs;

use anp_models::Kernels;
use anp_testing::package;
use serde::Serialize;

use super::*;
use crate::recipe::{ImageRecipe, Scale, TextRecipe, VibRecipe, content_hash, test_recipe};

/// A record with made-up numbers, as if `recipe` had been run.
pub(crate) fn test_record(
    table: &str,
    row: &str,
    scale: Scale,
    seed: u64,
    recipe: &TextRecipe,
) -> TextRecord {
    let score = |perplexity: f64| Score { nll: perplexity.ln(), perplexity, tokens: 1000 };
    let activation = |norm: f64| ActivationStatistics {
        norm,
        half_squared_norm: norm * norm / 2.0,
        frobenius_per_step: norm,
        rms: norm / 4.0,
        saturated: 0.01,
    };
    let epoch = |epoch: usize| EpochRecord {
        epoch,
        learning_rate: 1.0,
        train_nll: 5.0,
        valid_nll: 4.9,
        valid_perplexity: 4.9_f64.exp(),
        penalties: recipe.penalties.iter().map(|_| 0.5).collect(),
        grad_norm: 7.0,
        clipped: 0.5,
        seconds: 12.5,
    };
    RunRecord {
        schema_version: SCHEMA_VERSION,
        table: table.to_owned(),
        row: row.to_owned(),
        scale,
        seed,
        recipe: recipe.clone(),
        recipe_hash: content_hash(&recipe),
        provenance: Provenance {
            commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
            dirty: Some(false),
            anp_version: "0.1.0".to_owned(),
            burn_version: "0.22.1".to_owned(),
            device: "flex".to_owned(),
            kernels: Kernels::Fused,
            platform: "linux x86_64".to_owned(),
            threads: 2,
            instructions: vec!["avx2".to_owned()],
            started_at: "2025-01-01T00:00:00Z".to_owned(),
            finished_at: "2025-01-01T00:00:25Z".to_owned(),
            wall_seconds: 25.0,
            tokens_per_second: 4000.0,
            resumed: 0,
        },
        num_params: 1234,
        penalties: Vec::new(),
        curve: vec![epoch(1), epoch(2)],
        result: RunResult {
            best_epoch: 2,
            valid: score(80.0 + seed as f64),
            valid_single_stream: score(79.5 + seed as f64),
            test: score(76.0 + seed as f64),
            activation_valid: activation(4.0),
            activation_train: activation(6.0),
        },
    }
}

/// A record like `text`, of another kind of run.
fn record_like<R: Clone + Serialize, E, S>(
    text: TextRecord,
    recipe: &R,
    curve: Vec<E>,
    result: S,
) -> RunRecord<R, E, S> {
    RunRecord {
        schema_version: text.schema_version,
        table: text.table,
        row: text.row,
        scale: text.scale,
        seed: text.seed,
        recipe: recipe.clone(),
        recipe_hash: content_hash(recipe),
        provenance: text.provenance,
        num_params: text.num_params,
        penalties: text.penalties,
        curve,
        result,
    }
}

/// The same of images.
pub(crate) fn test_image_record(
    table: &str,
    row: &str,
    scale: Scale,
    seed: u64,
    recipe: &ImageRecipe,
) -> ImageRecord {
    let text = test_record(table, row, scale, seed, &test_recipe());
    let epoch = |epoch: usize| ImageEpochRecord {
        epoch,
        learning_rate: 0.1,
        train_nll: 1.0,
        train_accuracy: 60.0,
        test_nll: 0.9,
        test_accuracy: 65.0 - epoch as f64,
        penalties: recipe.penalties.iter().map(|_| 0.25).collect(),
        activation_norm: 3.0,
        grad_norm: 1.5,
        seconds: 12.5,
    };
    let score = |accuracy: f64| ImageScore { nll: 0.9, accuracy, images: 10 };
    let curve = vec![epoch(1), epoch(2)];
    let result = ImageResult {
        test: score(63.0),
        best_epoch: 1,
        best: score(64.0),
        pooled: FeatureStatistics { norm: 3.0, half_squared_norm: 4.5, rms: 0.375 },
        data_variant: None,
    };
    record_like(text, recipe, curve, result)
}

/// The same of images with a bottleneck.
pub(crate) fn test_vib_record(
    table: &str,
    row: &str,
    scale: Scale,
    seed: u64,
    recipe: &VibRecipe,
) -> VibRecord {
    let text = test_record(table, row, scale, seed, &test_recipe());
    let prediction = |accuracy: f64| Prediction { nll: 0.9, accuracy };
    let score = VibScore {
        images: 10,
        mean_code: prediction(81.0),
        one_sample: prediction(80.0),
        averaged: prediction(82.0),
        information_x: recipe.clone().vib_mut().beta.map(|_| 12.5),
        information_y: 1.5,
        sigma: recipe.clone().vib_mut().beta.map(|_| 0.5),
        code_norm: 3.0,
    };
    let epoch = |epoch: usize| VibEpochRecord {
        epoch,
        learning_rate: 1e-3,
        train_nll: 0.1,
        train_accuracy: 99.0,
        penalties: vec![0.25],
        test: score,
        grad_norm: 1.5,
        seconds: 12.5,
    };
    let curve = vec![epoch(1), epoch(2)];
    let result = VibResult { test: score, train: score, data_variant: None };
    record_like(text, recipe, curve, result)
}

#[test]
fn a_record_of_images_reads_back_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = crate::recipe::test_image_recipe();
    let record = test_image_record("table4", "wrn", Scale::Demo, 3, &recipe);
    let record = Record::from(record);
    let path = record.save(folder.path()).unwrap();
    assert_eq!(Record::load(&path).unwrap(), record);
}

fn record(seed: u64) -> TextRecord {
    test_record("table2", "lstm_anp", Scale::Demo, seed, &test_recipe())
}

#[test]
fn a_record_reads_back_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = record(7);
    record.result.test.nll = 0.1 + 0.2; // no short decimal form
    let hash = record.recipe_hash[..8].to_owned();
    let record = Record::from(record);
    let path = record.save(folder.path()).unwrap();
    assert_eq!(path, folder.path().join(format!("table2-lstm_anp-demo-s7-{hash}.json")));
    assert_eq!(Record::load(&path).unwrap(), record);
}

/// Records from before there were kernels lack the key, and are read as of plain ones.
#[test]
fn committed_records_read_back_byte_for_byte() {
    let committed = package().join("../../experiments/records");
    let folder = tempfile::tempdir().unwrap();
    let records = load_folder(&committed).unwrap();
    assert!(records.len() > 50, "the records are not there");
    for StoredRecord { path, record } in records {
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(path.file_name().unwrap(), record.file_name().as_str());
        let written = fs::read_to_string(record.save(folder.path()).unwrap()).unwrap();
        if text.contains("\"kernels\"") {
            assert_eq!(written, text, "{}", path.display());
        } else {
            assert_eq!(written.replace("    \"kernels\": \"plain\",\n", ""), text);
        }
    }
}

#[test]
fn what_json_cannot_hold_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut record = record(1);
    record.curve[0].grad_norm = f64::INFINITY;
    assert!(matches!(Record::from(record).save(folder.path()), Err(RecordError::NotFinite { .. })));
    assert_eq!(load_folder(folder.path()).unwrap(), []);
}

#[test]
fn a_folder_is_read_in_order_and_only_its_records() {
    let folder = tempfile::tempdir().unwrap();
    for seed in [2, 1] {
        Record::from(record(seed)).save(folder.path()).unwrap();
    }
    fs::write(folder.path().join("README.md"), "not a record").unwrap();
    fs::write(folder.path().join(".half.json"), "{").unwrap();
    let seeds: Vec<_> = load_folder(folder.path())
        .unwrap()
        .iter()
        .map(|stored| stored.record.head().seed)
        .collect();
    assert_eq!(seeds, [1, 2]);
    assert_eq!(load_folder(&folder.path().join("nothing")).unwrap(), []);
}

#[test]
fn every_bad_record_is_named_and_none_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let good = Record::from(record(1)).save(folder.path()).unwrap();
    let text = fs::read_to_string(&good).unwrap();
    let version = format!("\"schema_version\": {SCHEMA_VERSION}");
    let bad = [
        ("cut.json", text[..text.len() / 2].to_owned(), "EOF while parsing"),
        ("key.json", text.replace("\"seed\"", "\"sead\""), "unknown field `sead`"),
        ("newer.json", text.replace(&version, "\"schema_version\": 99"), "update anp"),
        ("older.json", text.replace(&version, "\"schema_version\": 0"), "which is older than"),
        ("edited.json", text.replace("\"eta\": 0.0001", "\"eta\": 0.1"), "was changed after"),
        ("empty.json", String::new(), "line 1 column 0"),
    ];
    for (name, text, _) in &bad {
        fs::write(folder.path().join(name), text).unwrap();
    }

    let message = load_folder(folder.path()).unwrap_err().to_string();
    assert!(message.starts_with("6 of the records in "), "{message}");
    for (name, text, reason) in &bad {
        let line = message.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.contains(reason), "{line}");
        assert_eq!(&fs::read_to_string(folder.path().join(name)).unwrap(), text);
    }
    let cut = message.lines().find(|line| line.contains("cut.json")).unwrap();
    assert!(cut.contains("line ") && cut.contains("column "), "{cut}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let message = Record::from(record(1)).save(&file).unwrap_err().to_string();
    assert!(message.contains("file"), "{message}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

/// Whoever reads records with another program reads `docs/records.md`.
#[test]
fn every_key_is_documented() {
    fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    found.push(key.clone());
                    // The recipe's keys are those of the row files.
                    if key != "recipe" {
                        keys(value, found);
                    }
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
            _ => {}
        }
    }

    let mut record = record(1);
    record.penalties.push(PenaltyEquivalent {
        site: "output_dropped".to_owned(),
        eta: 1e-4,
        lambda: Some(1e-3),
        awd_alpha: Some(0.5),
    });
    let mut found = Vec::new();
    keys(&serde_json::to_value(record).unwrap(), &mut found);
    let documentation = include_str!("../../../../docs/records.md");
    for key in found {
        assert!(documentation.contains(&format!("`{key}`")), "docs/records.md lacks {key}");
    }
}

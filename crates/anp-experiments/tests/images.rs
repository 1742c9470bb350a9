//! Runs on images: the same result however often they are stopped, and what is said of recipes and
//! files that are wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anp_experiments::data::Store;
use anp_experiments::device::{DeviceName, Devices};
use anp_experiments::engine::{
    CheckpointFolder, Control, Outcome, Place, RunId, RunRequest, TrainError, run,
};
use anp_experiments::experiments::Row;
use anp_experiments::image::ImageTask;
use anp_experiments::image::batches::Augmentation;
use anp_experiments::recipe::{
    ImageModelConfig, ImageRecipe, MixedPrecision, Scale, WeightPenaltyConfig, WeightPenaltyForm,
};
use anp_experiments::record::{ImageRecord, load_folder};
use anp_models::Kernels;
use anp_testing::{SilentRenderer, lock_generator, package};
use burn::train::Interrupter;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROW: &str = r#"
name = "tiny"
ours = true

[scale.demo]
seeds = [1]

[scale.demo.data]
images = "fashion_mnist_small"
batch_size = 8
train_images = 44
test_images = 20
augment = true

[scale.demo.model.wide_resnet]
depth = 10
width = 1
layout = "meliketoy"
dropout = 0.2

[[scale.demo.penalty]]
site = "pooled"
norm = "l2sq"
reduction = "half_sum"
eta = 1e-3

[scale.demo.training]
max_epochs = 2
learning_rate = 0.05
decay_after = [1]
decay_factor = 0.2
momentum = 0.9
reset_momentum = false
weight_decay = 5e-4
"#;

/// A folder with the row, changed.
fn workplace(from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    // The folder's name is the table's in records; those of hidden files are not read.
    let folder = tempfile::Builder::new().prefix("table").tempdir().unwrap();
    let path = folder.path().join("tiny.toml");
    assert!(ROW.contains(from), "{from}");
    fs::write(&path, ROW.replace(from, to)).unwrap();
    (folder, path)
}

fn recipe() -> ImageRecipe {
    let (_folder, path) = workplace("", "");
    let runs = Row::load(&path).unwrap().runs(Scale::Demo, &[]).unwrap().unwrap();
    runs.recipe.image().expect("it is a run on images")
}

/// A run that saves after each step, stopped after `updates` reports; at once if `before`.
fn start(
    recipe: &ImageRecipe,
    run_dir: &Path,
    updates: usize,
    before: bool,
) -> Result<Outcome<ImageRecord>, TrainError> {
    start_on(1, recipe, run_dir, updates, before)
}

/// [`start`] on so many devices, all of them the same one.
fn start_on(
    devices: usize,
    recipe: &ImageRecipe,
    run_dir: &Path,
    updates: usize,
    before: bool,
) -> Result<Outcome<ImageRecord>, TrainError> {
    let interrupter = Interrupter::new();
    if before {
        interrupter.stop(None);
    }
    let name: DeviceName = "flex".parse().expect("a name");
    let device = name.open().expect("flex is compiled in");
    let (to_stop, mut left) = (interrupter.clone(), updates);
    let renderer = SilentRenderer::default().on_progress(move |_| match left {
        0 => to_stop.stop(None),
        _ => left -= 1,
    });
    run::<ImageTask>(RunRequest {
        recipe: recipe.clone(),
        id: RunId {
            table: "tests".to_owned(),
            row: "tiny".to_owned(),
            scale: Scale::Demo,
            seed: 3,
        },
        place: Place {
            devices: Devices::new(vec![(name, device); devices]),
            kernels: Kernels::Fused,
            store: Store::locate(None),
        },
        control: Control {
            checkpoint_interval: Duration::ZERO,
            ..Control::new(run_dir.to_owned(), Box::new(renderer), interrupter)
        },
    })
}

/// What two runs that are the same must agree in, to the bit.
fn numbers(record: &ImageRecord) -> String {
    let mut record = record.clone();
    for epoch in &mut record.curve {
        epoch.seconds = 0.0;
    }
    serde_json::to_string(&(record.result, record.curve, record.num_params)).unwrap()
}

fn finished(outcome: Outcome<ImageRecord>) -> Box<ImageRecord> {
    match outcome {
        Outcome::Finished(record) => record,
        Outcome::Interrupted { .. } => panic!("nobody asked it to stop"),
    }
}

/// Six batches an epoch, a checkpoint after each: the run is stopped in the middle of both epochs,
/// with a velocity, running statistics and sums that must all come back.
#[test]
fn a_run_stopped_in_mid_epoch_ends_as_one_that_was_not() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let whole =
        finished(start(&recipe(), &folder.path().join("whole"), usize::MAX, false).unwrap());
    assert_eq!(whole.provenance.resumed, 0);
    assert_eq!(whole.curve.len(), 2);
    assert!(
        whole.curve.iter().all(|epoch| epoch.penalties[0] > 0.0 && epoch.activation_norm > 0.0)
    );

    let run_dir = folder.path().join("stopped");
    let (mut in_the_middle, mut stops) = (0, 0);
    let record = loop {
        match start(&recipe(), &run_dir, stops % 4, false).unwrap() {
            Outcome::Finished(record) => break record,
            Outcome::Interrupted { checkpoint } => {
                stops += 1;
                assert!(stops < 200, "the run makes no progress");
                let name = checkpoint.unwrap().file_name().unwrap().to_string_lossy().into_owned();
                in_the_middle += usize::from(!name.ends_with("w000000000"));
            }
        }
    };
    assert!(in_the_middle > 0, "it was stopped between epochs only");
    assert_eq!(record.provenance.resumed, stops);
    assert_eq!(numbers(&record), numbers(&whole));
}

/// Normalised by halves of a batch, a network is not that of one device, but close to it; stopped
/// and continued, it is the same.
#[test]
fn a_run_on_two_devices_can_be_stopped_and_is_recorded() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    let dropout = start_on(2, &recipe, &folder.path().join("dropout"), usize::MAX, false);
    let message = dropout.unwrap_err().to_string();
    assert!(message.contains("(flex,flex): dropout draws from one generator"), "{message}");

    let ImageModelConfig::WideResnet(network) = &mut recipe.model;
    network.dropout = 0.0;
    let run = |devices, name| {
        finished(start_on(devices, &recipe, &folder.path().join(name), usize::MAX, false).unwrap())
    };
    let (one, two) = (run(1, "one"), run(2, "two"));
    assert_eq!(two.provenance.device, "flex,flex");
    assert_eq!(two.recipe_hash, one.recipe_hash);
    assert_ne!(numbers(&two), numbers(&one));
    let [first, second] = [&one, &two].map(|record| record.curve[0].train_nll);
    assert!((first / second - 1.0).abs() < 0.05, "{first}, {second}");

    let run_dir = folder.path().join("stopped");
    let mut stops = 0;
    let record = loop {
        match start_on(2, &recipe, &run_dir, stops % 4, false).unwrap() {
            Outcome::Finished(record) => break record,
            Outcome::Interrupted { .. } => stops += 1,
        }
        assert!(stops < 200, "the run makes no progress");
    };
    assert_eq!(record.provenance.resumed, stops);
    assert_eq!(numbers(&record), numbers(&two));
    let err = start(&recipe, &run_dir, usize::MAX, false).unwrap_err().to_string();
    assert!(err.contains("resume with --device flex,flex"), "{err}");
}

/// A number of 8 bits is within 0.4 % of what it stands for. Losses stay within a percent in the
/// first epoch, where runs have not drifted apart yet.
#[test]
fn bfloat16_convolutions_keep_losses_within_a_percent() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    let single =
        finished(start(&recipe, &folder.path().join("single"), usize::MAX, false).unwrap());
    recipe.training.mixed_precision = Some(MixedPrecision::Bf16);
    let mixed = finished(start(&recipe, &folder.path().join("mixed"), usize::MAX, false).unwrap());
    let [of_single, of_mixed] = [&single, &mixed].map(|it| it.curve[0].train_nll);
    assert_ne!(of_single, of_mixed);
    assert!((of_mixed / of_single - 1.0).abs() < 0.01, "{of_single}, {of_mixed}");
    let [of_single, of_mixed] = [&single, &mixed].map(|it| it.curve[0].grad_norm);
    assert!((of_mixed / of_single - 1.0).abs() < 0.03, "{of_single}, {of_mixed}");
    assert_ne!(single.recipe_hash, mixed.recipe_hash);
}

#[cfg(feature = "ndarray")]
#[test]
fn a_precision_that_the_device_has_not_is_refused() {
    let (folder, path) = workplace("weight_decay", "mixed_precision = \"bf16\"\nweight_decay");
    let output = anp(folder.path(), &["train", path.to_str().unwrap(), "--device", "ndarray"]);
    refused(&output, &["training.mixed_precision is bf16, which ndarray does not have"]);
}

#[cfg(feature = "ndarray")]
#[test]
fn two_backends_share_a_run_that_the_program_starts() {
    let (folder, path) = workplace("dropout = 0.2", "dropout = 0.0");
    let words = ["train", path.to_str().unwrap(), "--device", "flex,ndarray"];
    let output = anp(folder.path(), &words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("devices: flex (") && text.contains(", ndarray ("), "{text}");
    assert_eq!(record(folder.path()).provenance.device, "flex,ndarray");
}

#[test]
fn devices_that_cannot_share_a_run_are_refused() {
    let (folder, path) = workplace("", "");
    let train =
        |devices| anp(folder.path(), &["train", path.to_str().unwrap(), "--device", devices]);
    refused(&train("flex,flex"), &["flex is named twice"]);
    refused(&train("flex,gpu"), &["`gpu` is not a device"]);
    let text = package().join("../../experiments/table2/lstm.toml");
    let words = ["train", text.to_str().unwrap(), "--device", "flex,ndarray"];
    let reason = if cfg!(feature = "ndarray") {
        "cannot be on several devices (flex,ndarray): only images are shared out"
    } else {
        "ndarray is not compiled in"
    };
    refused(&anp(folder.path(), &words), &[reason]);
}

#[test]
fn a_run_that_is_stopped_before_it_begins_goes_on() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let outcome = start(&recipe(), folder.path(), usize::MAX, true).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted { checkpoint: Some(_) }));
    let mut other = recipe();
    other.training.learning_rate = 0.01;
    let err = start(&other, folder.path(), usize::MAX, false).unwrap_err();
    assert!(matches!(err, TrainError::OtherRun { .. }), "{err}");
}

/// A rate at which the loss grows beyond all numbers.
#[test]
fn a_loss_that_is_no_number_ends_the_run_with_its_place() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.training.learning_rate = 1e30;
    let message = start(&recipe, folder.path(), usize::MAX, false).unwrap_err().to_string();
    assert!(
        message.contains("in epoch 1, batch ") && message.contains("learning_rate"),
        "{message}"
    );
}

/// With the same seed the penalty shrinks the features; nothing else differs.
#[test]
fn the_penalty_shrinks_the_features() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.penalties[0].eta = 1.0;
    let with = finished(start(&recipe, &folder.path().join("with"), usize::MAX, false).unwrap());
    recipe.penalties.clear();
    let without =
        finished(start(&recipe, &folder.path().join("without"), usize::MAX, false).unwrap());
    assert!(without.curve[0].penalties.is_empty());
    assert!(with.curve[1].activation_norm < 0.8 * without.curve[1].activation_norm);
    assert_eq!(with.num_params, without.num_params);
}

/// Each changes the training and says how much it adds to the loss. Several devices are refused to
/// those that are of a whole batch.
#[test]
fn turning_a_regulariser_on_changes_the_loss_of_images() {
    let _alone = lock_generator();
    let folder = tempfile::tempdir().unwrap();
    let mut recipe = recipe();
    recipe.training.max_epochs = 1;
    recipe.penalties.clear();
    // Several devices are refused to every network with dropout.
    let ImageModelConfig::WideResnet(network) = &mut recipe.model;
    network.dropout = 0.0;
    let run = |recipe: &ImageRecipe, name: &str| {
        finished(start(recipe, &folder.path().join(name), usize::MAX, false).unwrap())
    };
    let base = run(&recipe, "base");
    assert_eq!(base.penalties, []);
    let bound = |terms: &str| {
        format!(
            "information_bound = {{ site = 'pooled', beta = 1.0, epsilon = 1e-3, \
             terms = '{terms}', trace_factor = 'corrected' }}"
        )
    };
    for (name, text) in [
        ("target_norm", "target_norm = { site = 'pooled', beta = 0.1, target = 1.0 }".to_owned()),
        ("confidence_penalty", "confidence_penalty = { beta = 0.1 }".to_owned()),
        ("uniform", "label_smoothing = { alpha = 0.1, prior = 'uniform' }".to_owned()),
        ("unigram", "label_smoothing = { alpha = 0.1, prior = 'unigram' }".to_owned()),
        ("darc1", "darc1 = { lambda = 0.01 }".to_owned()),
        ("trace", bound("trace")),
        ("bound", bound("trace_and_log_determinant")),
    ] {
        recipe.regularizers = vec![toml::from_str(&text).unwrap()];
        recipe.validate().unwrap();
        let record = run(&recipe, name);
        assert_ne!(record.curve[0].train_nll, base.curve[0].train_nll, "{name} does nothing");
        assert_eq!(record.penalties.len(), 1, "{name}");
        let [logged] = record.curve[0].penalties[..] else { panic!("{name}: one term") };
        let is_signed = ["confidence_penalty", "uniform", "unigram"].contains(&name);
        assert!(logged.is_finite() && (logged > 0.0 || is_signed && logged != 0.0), "{name}");

        let several = start_on(2, &recipe, &folder.path().join(format!("{name}_2")), 0, false);
        let of_whole_batch = ["darc1", "trace", "bound"].contains(&name);
        assert_eq!(several.is_err(), of_whole_batch, "{name}");
    }
    recipe.regularizers.clear();
    for form in [WeightPenaltyForm::HalfSumSquares, WeightPenaltyForm::GlobalNorm] {
        recipe.weight_penalty = Some(WeightPenaltyConfig { form, eta: 0.01 });
        let record = run(&recipe, &format!("{form:?}"));
        assert_ne!(record.curve[0].train_nll, base.curve[0].train_nll, "{form:?} does nothing");
        assert!(record.curve[0].penalties[0] > 0.0 && record.penalties.len() == 1, "{form:?}");
    }
    let of_window = bound("trace").replace(" }", ", group = 'minibatch' }");
    recipe.regularizers = vec![toml::from_str(&of_window).unwrap()];
    let message = recipe.validate().unwrap_err().to_string();
    assert!(message.starts_with("regularizer.information_bound.group does nothing"), "{message}");
}

fn anp(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_anp"))
        .args(words)
        .current_dir(folder)
        .env("ANP_DATA_DIR", folder.join("data"))
        .output()
        .unwrap()
}

#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
}

#[test]
fn wrong_recipes_are_refused() {
    for (from, to, parts) in [
        ("depth = 10", "depth = 12", &["model.wide_resnet.depth must be 6n + 4", "but is 12"][..]),
        (
            "batch_size = 8",
            "batch_size = 45",
            &["data.batch_size is 45", "44 training images of fashion_mnist_small"],
        ),
        ("train_images = 44", "train_images = 3001", &["fashion_mnist_small has 3000 of them"]),
        ("momentum = 0.9", "momentun = 0.9", &["momentun", "did you mean `momentum`?"]),
        ("\"pooled\"", "\"pool\"", &["`pool` is no site", "pooled"]),
    ] {
        let (folder, path) = workplace(from, to);
        let output = anp(folder.path(), &["train", path.to_str().unwrap(), "--device", "flex"]);
        refused(&output, &[parts, &["tiny.toml"]].concat());
    }
}

#[test]
fn damaged_and_missing_image_files_are_refused() {
    let (folder, path) = workplace("fashion_mnist_small", "cifar_10");
    let row = path.to_str().unwrap();
    let train = ["train", row, "--device", "flex"];
    refused(
        &anp(folder.path(), &train),
        &["`cifar-10/data_batch_1.bin`", "anp data fetch cifar_10"],
    );

    // A batch that was cut off, and one with a label that there is not.
    let data = folder.path().join("data/cifar-10");
    fs::create_dir_all(&data).unwrap();
    let mut batch = vec![0; 30_730_000];
    batch[0] = 10;
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"] {
        fs::write(data.join(format!("{name}.bin")), &batch[..30_730_000 - 100]).unwrap();
    }
    fs::write(data.join("test_batch.bin"), &batch).unwrap();
    let cut_off = "30729900 bytes instead of 30730000 (cut off?)";
    refused(&anp(folder.path(), &train), &["data_batch_1.bin", cut_off]);
    let verified = anp(folder.path(), &["data", "verify", "cifar_10"]);
    refused(&verified, &[cut_off, "test_batch.bin", "SHA-256"]);

    // An archive of that name which is none.
    let downloads = folder.path().join("downloads");
    fs::create_dir(&downloads).unwrap();
    fs::write(downloads.join("cifar-100-binary.tar.gz"), b"no archive").unwrap();
    let imported = anp(folder.path(), &["data", "import", "downloads", "cifar_100"]);
    refused(&imported, &["cifar-100-binary.tar.gz", "train.bin: no file with the right bytes"]);
}

/// `anp train` in a process of its own, which saves after each step.
fn train(folder: &Path, row: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_anp"))
        .args(["train", row.to_str().unwrap(), "--device", "flex", "--quiet"])
        .args(["--checkpoint-every", "0"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The record of the only run in `folder`.
fn record(folder: &Path) -> ImageRecord {
    let mut records = load_folder(&folder.join("records")).unwrap();
    assert_eq!(records.len(), 1, "one record");
    records.remove(0).record.image().unwrap()
}

/// Two epochs of six steps and as many checkpoints. Every other life ends while a checkpoint is
/// being written.
#[test]
fn a_run_killed_at_random_moments_ends_with_the_same_bits() {
    const KILLS: usize = 8;
    /// Where starting takes most of a life, none of the first may have ended in the middle of an
    /// epoch.
    const MOST_LIVES: usize = 100;
    let (folder, row) = workplace("", "");
    let started = Instant::now();
    assert!(train(folder.path(), &row).wait().unwrap().success());
    let mut lifetime = started.elapsed().mul_f64(0.5);
    let uninterrupted = record(folder.path());
    let begin_again = || {
        fs::remove_dir_all(folder.path().join("records")).unwrap();
        fs::remove_dir_all(folder.path().join("runs")).unwrap();
    };
    begin_again();

    let seed = match std::env::var("ANP_TEST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let run_dir = folder.path().join("runs").join(uninterrupted_name(&uninterrupted));
    let (mut lives, mut kills, mut places) = (0, 0, Vec::new());
    let in_the_middle = |name: &String| !name.ends_with("w000000000");
    while kills < KILLS || !places.iter().any(in_the_middle) {
        assert!(lives < MOST_LIVES, "seed {seed}: killed between epochs only, at {places:?}");
        lives += 1;
        let mut child = train(folder.path(), &row);
        sleep(lifetime.mul_f64(random.random_range(0.0..1.0)));
        if kills % 2 == 1 {
            while child.try_wait().unwrap().is_none() && !is_saving(&run_dir) {
                sleep(Duration::from_micros(200));
            }
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            // Done before it could be killed: the machine is faster now. Begin again, with shorter
            // lives.
            assert_eq!(numbers(&record(folder.path())), numbers(&uninterrupted), "seed {seed}");
            begin_again();
            lifetime /= 2;
            kills = 0;
            places.clear();
            continue;
        }
        kills += 1;
        let newest = CheckpointFolder::new(&run_dir).newest().unwrap_or_default();
        places.extend(newest.map(|it| it.file_name().unwrap().to_string_lossy().into_owned()));
    }

    assert!(train(folder.path(), &row).wait().unwrap().success(), "seed {seed}: {places:?}");
    let record = record(folder.path());
    assert_eq!(numbers(&record), numbers(&uninterrupted), "seed {seed}: {places:?}");
    assert!(record.provenance.resumed > 0, "seed {seed}: {places:?}");
    assert!(!is_saving(&run_dir), "leftovers of killed processes");
}

fn uninterrupted_name(record: &ImageRecord) -> String {
    format!("{}-tiny-demo-s{}-{}", record.table, record.seed, &record.recipe_hash[..8])
}

/// Whether a checkpoint is being written or removed, or was when its process died.
fn is_saving(run_dir: &Path) -> bool {
    let entries = fs::read_dir(run_dir.join("checkpoints")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with('.'))
}

/// What a run draws for an image does not depend on the run's other draws.
#[test]
fn augmentation_is_a_function_of_seed_epoch_and_image() {
    assert_eq!(Augmentation::draw(1, 2, 3), Augmentation::draw(1, 2, 3));
    let draws =
        |seed, epoch| (0..50).map(|i| Augmentation::draw(seed, epoch, i)).collect::<Vec<_>>();
    assert_ne!(draws(1, 2), draws(1, 3));
    assert_ne!(draws(1, 2), draws(2, 2));
}

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anp_models::Kernels;
use burn::module::Module;
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::metric::LearningRateMetric;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use serde::Serialize;

use super::batches::{ImageLoader, Normalization, Source};
use super::build::{build, equivalents};
use super::recipe::{ImageModelConfig, ImageRecipe};
use super::task::{
    ImageManifest, ImageStrategy, ImageSums, ImageTrainer, ImageTrainingStopped, evaluate_images,
    load, optimizer,
};
use crate::atomic::check_writable;
use crate::data::{ImageSet, Images, Store};
use crate::engine::checkpoint::{CheckpointError, CheckpointFolder, StoredCheckpoint};
use crate::engine::metrics::{Quantity, SummaryMetric};
use crate::engine::run::{NoMetricLogger, Outcome, RunRequest, TrainError, lock};
use crate::provenance::{self, Course, Sources};
use crate::random::{Purpose, seed};
use crate::recipe::is_of_images;
use crate::record::{ImageRecord, ImageResult, ImageScore, SCHEMA_VERSION};

/// Train an image classifier as the recipe says, or go on where a run in the same folder stopped.
///
/// # Errors
///
/// See [`TrainError`]. What was saved before stays.
pub fn run_images(request: RunRequest<ImageRecipe>) -> Result<Outcome<ImageRecord>, TrainError> {
    request.recipe.validate()?;
    let set = request.store.load_images(&request.recipe.data.images)?;
    run_images_on(set, request)
}

/// [`run_images`] on images that are not in the store.
///
/// # Errors
///
/// See [`TrainError`]. What was saved before stays.
pub fn run_images_on(
    mut set: ImageSet,
    request: RunRequest<ImageRecipe>,
) -> Result<Outcome<ImageRecord>, TrainError> {
    let recipe = request.recipe.clone();
    recipe.validate()?;
    let run_folder = |source| TrainError::RunFolder { path: request.run_dir.clone(), source };
    check_writable(&request.run_dir).map_err(run_folder)?;
    let _lock = lock(&request.run_dir)?;
    let checkpoints = CheckpointFolder::new(&request.run_dir);
    checkpoints.clean()?;
    if request.again
        && let Some(path) = checkpoints.newest()?
    {
        let stored = StoredCheckpoint::<ImageManifest>::open_of(&path)?;
        if stored.manifest().trainer.ended(&recipe.training) {
            checkpoints.clear()?;
        }
    }

    check_devices(&request)?;
    let devices = [&request.device].into_iter().chain(&request.other_devices);
    let devices: Vec<_> = devices.map(|device| device.clone().autodiff()).collect();
    let device = devices[0].clone();
    device.seed(seed(request.seed, Purpose::Init, 0));
    let network = recipe.network(set.num_classes, request.kernels);
    let mut learner = build(&recipe, set.num_classes, request.kernels, &device);
    let recipe_hash = recipe.content_hash();
    let (velocities, trainer) = match checkpoints.newest()? {
        None => (HashMap::new(), new_trainer(recipe_hash.clone(), &request)),
        Some(path) => {
            let stored = StoredCheckpoint::<ImageManifest>::open_of(&path)?;
            let trainer = &stored.manifest().trainer;
            if (&trainer.recipe_hash, trainer.seed) != (&recipe_hash, request.seed) {
                return Err(TrainError::OtherRun { path: request.run_dir });
            }
            if (&trainer.device, trainer.kernels) != (&request.device_name, request.kernels) {
                let begun_on = format!("{} --kernels {}", trainer.device, trainer.kernels);
                return Err(TrainError::OtherDevice { path: request.run_dir, begun_on });
            }
            let (net, velocities, mut trainer) = load(stored, learner.net, &device)?;
            learner.net = net;
            trainer.resumed += 1;
            (velocities, trainer)
        }
    };

    let variant = set.variant.take();
    let normalization = Arc::new(Normalization::new(&set));
    let source = |mut images: Images, used: Option<usize>, augment| {
        images.truncate(used.unwrap_or(images.len()));
        Source {
            images: Arc::new(images),
            normalization: Arc::clone(&normalization),
            batch_size: recipe.data.batch_size,
            augment,
        }
    };
    let train = source(set.train, recipe.data.train_images, recipe.data.augment);
    let test = source(set.test, recipe.data.test_images, false);
    let trainer = if trainer.ended(&recipe.training) {
        trainer
    } else {
        let outcome = Arc::new(Mutex::new(None));
        let test = ImageLoader::new(test, device.clone().inner());
        let starting_epoch = trainer.current_epoch();
        let strategy = ImageStrategy {
            recipe: recipe.clone(),
            devices,
            train: train.clone(),
            test: test.clone(),
            checkpoints: checkpoints.clone(),
            checkpoint_interval: request.checkpoint_interval,
            start: Mutex::new(Some((
                optimizer(&recipe.training, request.kernels, velocities),
                trainer,
            ))),
            outcome: Arc::clone(&outcome),
        };
        let train = ImageLoader::new(train, device.clone());
        let mut training =
            SupervisedTraining::new(&request.run_dir, Arc::new(train), Arc::new(test))
                .with_application_logger(None)
                .with_metric_logger(NoMetricLogger)
                .with_interrupter(request.interrupter.clone())
                .renderer(request.renderer)
                .num_epochs(recipe.training.max_epochs)
                .label(&format!("{} {}, seed {}", request.table, request.row, request.seed))
                .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
        if starting_epoch > 1 {
            training = training.checkpoint(starting_epoch - 1);
        }
        for quantity in [Quantity::Loss, Quantity::Accuracy] {
            let metric = SummaryMetric::new(quantity);
            training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
        }
        for quantity in [Quantity::Penalty, Quantity::GradNorm, Quantity::ImagesPerSecond] {
            training = training.metric_train_numeric(SummaryMetric::new(quantity));
        }
        training = training.metric_train_numeric(LearningRateMetric::new());

        // Learning rate and update are the strategy's; burn-train's are not asked.
        let learner = Learner::new(learner, SgdConfig::new().init(), ConstantLr::new(0.0));
        let result = training.launch(learner);
        let outcome = outcome.lock().expect("no panic").take();
        let trained = match (outcome, result.error) {
            (Some(outcome), None) => outcome,
            (_, Some(err)) => return Err(TrainError::Training(err.to_string())),
            (None, None) => return Err(TrainError::Training("the loop gave no result".to_owned())),
        };
        match trained {
            Ok(trainer) => trainer,
            Err(ImageTrainingStopped::Interrupted { checkpoint }) => {
                return Ok(Outcome::Interrupted { checkpoint: Some(checkpoint) });
            }
            Err(ImageTrainingStopped::Checkpoint(err)) => return Err(err.into()),
            Err(ImageTrainingStopped::Events(err)) => {
                return Err(TrainError::Training(err.to_string()));
            }
            Err(ImageTrainingStopped::Device(err)) => {
                return Err(TrainError::Training(err.to_string()));
            }
            Err(ImageTrainingStopped::NotFinite {
                quantity,
                value,
                epoch,
                batch,
                step,
                learning_rate,
            }) => {
                return Err(TrainError::NotFiniteImages {
                    quantity,
                    value,
                    epoch,
                    batch,
                    step,
                    learning_rate,
                    checkpoint: checkpoints.newest()?,
                });
            }
        }
    };

    let (test, pooled) = trainer.last.expect("an epoch is done");
    // The first of the best.
    let best = trainer
        .curve
        .iter()
        .rev()
        .max_by(|left, right| left.test_accuracy.total_cmp(&right.test_accuracy));
    let best = best.expect("an epoch is done");
    let result = ImageResult {
        test,
        best_epoch: best.epoch,
        best: ImageScore { nll: best.test_nll, accuracy: best.test_accuracy, images: test.images },
        pooled,
        data_variant: variant,
    };
    Ok(Outcome::Finished(Box::new(ImageRecord {
        schema_version: SCHEMA_VERSION,
        table: request.table,
        row: request.row,
        scale: request.scale,
        seed: request.seed,
        penalties: equivalents(&recipe),
        recipe,
        recipe_hash,
        provenance: provenance::collect(Course {
            device: request.device_name,
            kernels: trainer.kernels,
            sources: trainer.sources,
            started_at: trainer.started_at,
            wall_seconds: trainer.wall_seconds,
            items_per_second: trainer.train_images as f64 / trainer.train_seconds,
            resumed: trainer.resumed,
        }),
        num_params: network.num_params(),
        curve: trainer.curve,
        result,
    })))
}

/// Whether the devices can do what the recipe asks for.
fn check_devices(request: &RunRequest<ImageRecipe>) -> Result<(), TrainError> {
    let devices = [&request.device].into_iter().chain(&request.other_devices);
    for (device, name) in devices.zip(request.device_name.split(',')) {
        check_precision(&request.recipe, device, name)?;
    }
    let ImageModelConfig::WideResnet(network) = &request.recipe.model;
    if network.dropout > 0.0 && !request.other_devices.is_empty() {
        return Err(TrainError::SeveralDevices {
            devices: request.device_name.clone(),
            reason: "dropout draws from one generator, in the order in which the devices come by, and no run could be repeated",
        });
    }
    Ok(())
}

fn check_precision(recipe: &ImageRecipe, device: &Device, name: &str) -> Result<(), TrainError> {
    match recipe.training.mixed_precision {
        Some(precision) if !device.supports_dtype(precision.dtype()) => {
            Err(TrainError::NoSuchPrecision { precision, device: name.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Score of a checkpoint's network.
#[derive(Debug, Clone, Serialize)]
pub struct CheckpointScore {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Epochs that are done.
    pub epochs: usize,
    /// On the test images of the recipe.
    pub test: ImageScore,
}

/// Whether the checkpoint at `path` (its folder, or that of its run) is of an image classifier.
///
/// # Errors
///
/// As [`StoredCheckpoint::open`].
pub fn is_checkpoint_of_images(path: &Path) -> Result<bool, CheckpointError> {
    let stored = StoredCheckpoint::<serde_json::Value>::open_of(path)?;
    Ok(stored.manifest().get("recipe").is_some_and(is_of_images))
}

/// Measure the network of a checkpoint on the test images; `None` if `progress`, told how many of the batches are done, says
/// `false`.
///
/// # Errors
///
/// [`TrainError::Checkpoint`], [`TrainError::Data`] and [`TrainError::NoSuchPrecision`].
pub fn evaluate_checkpoint(
    path: &Path,
    store: &Store,
    kernels: Kernels,
    device: &Device,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<CheckpointScore>, TrainError> {
    let stored = StoredCheckpoint::<ImageManifest>::open_of(path)?;
    let recipe = stored.manifest().recipe.clone();
    check_precision(&recipe, device, "this device")?;
    let set = store.load_images(&recipe.data.images)?;
    let checkpoint = stored.path().to_owned();
    let device = device.clone().autodiff();
    let mut learner = build(&recipe, set.num_classes, kernels, &device);
    let (net, _, trainer) = load(stored, learner.net, &device)?;
    learner.net = net;
    let normalization = Arc::new(Normalization::new(&set));
    let mut images = set.test;
    images.truncate(recipe.data.test_images.unwrap_or(images.len()));
    let (images, batch_size) = (Arc::new(images), recipe.data.batch_size);
    let source = Source { images, normalization, batch_size, augment: false };
    let num_batches = source.num_batches();
    let loader = ImageLoader::new(source, device.inner());
    let measured =
        evaluate_images(&learner.valid(), &loader, |done, _| progress(done, num_batches));
    let epochs = trainer.curve.len();
    Ok(measured.map(|(test, _)| CheckpointScore { checkpoint, epochs, test }))
}

fn new_trainer(recipe_hash: String, request: &RunRequest<ImageRecipe>) -> ImageTrainer {
    ImageTrainer {
        recipe_hash,
        seed: request.seed,
        device: request.device_name.clone(),
        kernels: request.kernels,
        batch: 0,
        step: 0,
        sums: ImageSums::default(),
        curve: Vec::new(),
        last: None,
        sources: Sources::current(),
        started_at: provenance::now(),
        wall_seconds: 0.0,
        train_seconds: 0.0,
        train_images: 0,
        resumed: 0,
    }
}

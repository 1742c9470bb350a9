use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anp_models::{Kernels, Site};
use burn::module::Module;
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{LearningRateMetric, MetricDefinition, NumericEntry};
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};

use super::checkpoint::{CheckpointError, CheckpointFolder, StoredCheckpoint};
use super::metrics::{Quantity, SummaryMetric};
use super::position::{EpochSums, TrainerState};
use super::strategy::{BpttStrategy, Start, Trained, TrainingStopped};
use crate::atomic::check_writable;
use crate::data::{Corpus, DataError, Store};
use crate::image::run_images;
use crate::provenance::{self, Course, Sources};
use crate::random::{Purpose, seed};
use crate::recipe::{InvalidRecipe, MixedPrecision, Recipe, Scale, TextRecipe};
use crate::record::{AnyRecord, Record, RunResult, SCHEMA_VERSION};
use crate::text::batches::{TextTooShort, TokenStreams, WindowLoader};
use crate::text::build::{Texts, build_learner, equivalents};
use crate::text::evaluate::{EvaluationProgress, activation_statistics, evaluate};
use crate::text::learner::{LmLearner, Objective};
use crate::text::noising::{Noising, NoisingConfig};
use crate::text::schedule::Schedule;

/// Windows over which a trained model's activations are measured on the training text.
const STATISTICS_WINDOWS: usize = 200;

/// One run: a recipe, a seed, a device, and where things go.
pub struct RunRequest<R = TextRecipe> {
    /// Table of the row, for the record.
    pub table: String,
    /// Row, for the record.
    pub row: String,
    /// Scale, for the record.
    pub scale: Scale,
    /// Seed of everything random.
    pub seed: u64,
    /// What to do.
    pub recipe: R,
    /// Where to compute.
    pub device: Device,
    /// More devices, which share the work of each batch with the first; of images only.
    pub other_devices: Vec<Device>,
    /// Name of the device, for the record; of several, with commas between them.
    pub device_name: String,
    /// How recurrences and losses are computed.
    pub kernels: Kernels,
    /// Where the data sets are.
    pub store: Store,
    /// Folder of the run's checkpoints.
    pub run_dir: PathBuf,
    /// Time between two checkpoints; there is one after each epoch, too.
    pub checkpoint_interval: Duration,
    /// Stops the run at the next window or batch.
    pub interrupter: Interrupter,
    /// Begin again if the run is done already; one that was stopped goes on all the same.
    pub again: bool,
    /// Shows how the training goes on.
    pub renderer: Box<dyn MetricsRenderer>,
    /// Told how the last evaluation goes on: which part, and how far it is.
    pub on_evaluation: Box<dyn FnMut(&'static str, EvaluationProgress)>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome<R = Record> {
    /// It is done.
    Finished(Box<R>),
    /// It was asked to stop, and can go on.
    Interrupted {
        /// Where it goes on from; `None` if it was stopped before the first checkpoint or in the last evaluation.
        checkpoint: Option<PathBuf>,
    },
}

/// Why a run could not be begun or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe makes no sense.
    #[error("the recipe cannot be run")]
    Recipe(#[from] InvalidRecipe),
    /// The data is not there or not right.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A text is too short.
    #[error("the {split} text cannot be cut")]
    TooShort {
        /// Which text.
        split: &'static str,
        /// What is wrong.
        source: TextTooShort,
    },
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The folder of the run cannot be used.
    #[error("cannot write to the run folder {}; choose another with --runs", .path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process is at it.
    #[error("another process is working on this run; wait for it, or stop it ({} is locked)", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The checkpoint is of another recipe or seed.
    #[error(
        "the run folder {} belongs to another recipe or seed; choose another with --runs, or remove it to start again",
        .path.display()
    )]
    OtherRun {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint is of another device.
    #[error(
        "the run in {} was begun on {begun_on}, and a record names one device; go on with --device {begun_on}, \
         or remove the folder to start again", .path.display()
    )]
    OtherDevice {
        /// The folder.
        path: PathBuf,
        /// Device of the checkpoint.
        begun_on: String,
    },
    /// There are more devices than the run can use.
    #[error(
        "this run cannot be on several devices ({devices}): {reason}; give --device one of them"
    )]
    SeveralDevices {
        /// Their names.
        devices: String,
        /// Why not.
        reason: &'static str,
    },
    /// The device computes in no such type.
    #[error(
        "training.mixed_precision is {precision}, which {device} does not have; choose another device, or a recipe without it"
    )]
    NoSuchPrecision {
        /// What the recipe asks for.
        precision: MixedPrecision,
        /// Name of the device, or of several.
        device: String,
    },
    /// A number that is no number.
    #[error(
        "{quantity} became {value} in epoch {epoch}, window {window} (step {step}), at learning rate {learning_rate}; \
         {}; try a lower training.learning_rate or training.grad_clip_norm", last_good(.checkpoint.as_deref())
    )]
    NotFinite {
        /// What is not finite.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Window of the epoch, from 1.
        window: usize,
        /// Step since the beginning, from 1.
        step: u64,
        /// Learning rate of the epoch.
        learning_rate: f64,
        /// Newest checkpoint, from before.
        checkpoint: Option<PathBuf>,
    },
    /// A number of an image run that is no number.
    #[error(
        "{quantity} became {value} in epoch {epoch}, batch {batch} (step {step}), at learning rate {learning_rate}; \
         {}; try a lower training.learning_rate", last_good(.checkpoint.as_deref())
    )]
    NotFiniteImages {
        /// What is not finite.
        quantity: &'static str,
        /// Its value.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Batch of the epoch, from 1.
        batch: usize,
        /// Step since the beginning, from 1.
        step: u64,
        /// Learning rate of the epoch.
        learning_rate: f64,
        /// Newest checkpoint, from before.
        checkpoint: Option<PathBuf>,
    },
    /// burn-train gave up.
    #[error("training failed: {0}")]
    Training(String),
}

fn last_good(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last good checkpoint is {}", path.display()),
        None => "there is no checkpoint from before".to_owned(),
    }
}

impl<R> Outcome<R> {
    pub(crate) fn map<T>(self, record: impl FnOnce(R) -> T) -> Outcome<T> {
        match self {
            Self::Finished(finished) => Outcome::Finished(Box::new(record(*finished))),
            Self::Interrupted { checkpoint } => Outcome::Interrupted { checkpoint },
        }
    }
}

impl<R> RunRequest<R> {
    /// The same with another recipe, and its own one.
    fn replace<T>(self, recipe: impl FnOnce(R) -> T) -> RunRequest<T> {
        RunRequest {
            table: self.table,
            row: self.row,
            scale: self.scale,
            seed: self.seed,
            recipe: recipe(self.recipe),
            device: self.device,
            other_devices: self.other_devices,
            device_name: self.device_name,
            kernels: self.kernels,
            store: self.store,
            run_dir: self.run_dir,
            checkpoint_interval: self.checkpoint_interval,
            interrupter: self.interrupter,
            again: self.again,
            renderer: self.renderer,
            on_evaluation: self.on_evaluation,
        }
    }
}

/// [`run`] or [`run_images`], whatever the recipe is of.
///
/// # Errors
///
/// See [`TrainError`]. What was saved before stays.
pub fn run_any(request: RunRequest<Recipe>) -> Result<Outcome<AnyRecord>, TrainError> {
    match request.recipe.clone() {
        Recipe::Text(recipe) => {
            run(request.replace(|_| recipe)).map(|outcome| outcome.map(AnyRecord::from))
        }
        Recipe::Image(recipe) => {
            run_images(request.replace(|_| recipe)).map(|outcome| outcome.map(AnyRecord::from))
        }
    }
}

/// Train as the recipe says, or go on where a run in the same folder stopped, and evaluate.
///
/// # Errors
///
/// See [`TrainError`]. What was saved before stays.
pub fn run(request: RunRequest) -> Result<Outcome, TrainError> {
    request.recipe.validate()?;
    one_device(&request)?;
    let corpus = request.store.load(&request.recipe.data.corpus)?;
    run_on(&corpus, request)
}

/// A language model's windows follow each other on one device.
fn one_device(request: &RunRequest) -> Result<(), TrainError> {
    if request.other_devices.is_empty() {
        return Ok(());
    }
    Err(TrainError::SeveralDevices {
        devices: request.device_name.clone(),
        reason: "only images are shared out among devices, and it is of text",
    })
}

/// [`run`] on a corpus that is not in the store.
///
/// # Errors
///
/// See [`TrainError`]. What was saved before stays.
pub fn run_on(corpus: &Corpus, request: RunRequest) -> Result<Outcome, TrainError> {
    let recipe = request.recipe.clone();
    recipe.validate()?;
    one_device(&request)?;
    let texts = Texts::cut(corpus, &recipe)?;
    let num_words = corpus.vocabulary.len();
    let noising = recipe.data.noising.as_ref();
    let vocab_size = num_words + noising.map_or(0, NoisingConfig::extra_words);
    let noising = noising
        .map(|config| Noising::new(config, recipe.data.training_text(&corpus.train), num_words));

    let run_folder = |source| TrainError::RunFolder { path: request.run_dir.clone(), source };
    check_writable(&request.run_dir).map_err(run_folder)?;
    let _lock = lock(&request.run_dir)?;
    let checkpoints = CheckpointFolder::new(&request.run_dir);
    checkpoints.clean()?;
    if request.again
        && let Some(path) = checkpoints.newest()?
        && StoredCheckpoint::open(&path)?.trainer().ended
    {
        checkpoints.clear()?;
    }

    let device = request.device.clone().autodiff();
    device.seed(seed(request.seed, Purpose::Init, 0));
    let mut learner = build_learner(&recipe, vocab_size, request.kernels, &device);
    learner.objective.windows_per_epoch = texts.train.num_windows();
    let num_params = learner.lm.num_params();
    let mut optimizer = SgdConfig::new().init();
    let recipe_hash = recipe.content_hash();

    let (best, average, state, trainer) = match checkpoints.newest()? {
        None => (None, None, None, TrainerState::new(&recipe, recipe_hash.clone(), &request)),
        Some(path) => {
            let stored = StoredCheckpoint::open(&path)?;
            let trainer = stored.trainer();
            if (&trainer.recipe_hash, trainer.seed) != (&recipe_hash, request.seed) {
                return Err(TrainError::OtherRun { path: request.run_dir });
            }
            if (&trainer.device, trainer.kernels) != (&request.device_name, request.kernels) {
                let begun_on = format!("{} --kernels {}", trainer.device, trainer.kernels);
                return Err(TrainError::OtherDevice { path: request.run_dir, begun_on });
            }
            let snapshot = stored.load(&learner.lm)?;
            learner.lm = snapshot.model;
            optimizer = optimizer.load_record(snapshot.optimizer);
            let mut trainer = snapshot.trainer;
            trainer.resumed += 1;
            (snapshot.best, snapshot.average, snapshot.state, trainer)
        }
    };

    let trained = if trainer.ended {
        let best = best.unwrap_or_else(|| learner.lm.clone());
        Ok(Trained { best, trainer })
    } else {
        let outcome = Arc::new(Mutex::new(None));
        let train = WindowLoader::new(texts.train.clone(), device.clone());
        let valid = WindowLoader::new(texts.valid.clone(), device.clone().inner());
        let starting_epoch = trainer.current_epoch();
        let strategy = BpttStrategy {
            recipe: recipe.clone(),
            vocab_size,
            device: device.clone(),
            train: train.clone(),
            noising,
            valid: valid.clone(),
            checkpoints: checkpoints.clone(),
            checkpoint_interval: request.checkpoint_interval,
            start: Mutex::new(Some(Start {
                optimizer: optimizer.clone(),
                best,
                average,
                state,
                trainer,
            })),
            outcome: Arc::clone(&outcome),
        };
        let mut training =
            SupervisedTraining::new(&request.run_dir, Arc::new(train), Arc::new(valid))
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
        for quantity in [Quantity::Loss, Quantity::Perplexity] {
            let metric = SummaryMetric::new(quantity);
            training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
        }
        for quantity in [Quantity::Penalty, Quantity::GradNorm, Quantity::TokensPerSecond] {
            training = training.metric_train_numeric(SummaryMetric::new(quantity));
        }
        training = training.metric_train_numeric(LearningRateMetric::new());

        // The learning rate is the strategy's; burn-train's scheduler is not asked.
        let result = training.launch(Learner::new(learner, optimizer, ConstantLr::new(0.0)));
        let outcome = outcome.lock().expect("no panic").take();
        match (outcome, result.error) {
            (Some(outcome), None) => outcome,
            (_, Some(err)) => return Err(TrainError::Training(err.to_string())),
            (None, None) => return Err(TrainError::Training("the loop gave no result".to_owned())),
        }
    };
    let Trained { best, trainer } = match trained {
        Ok(trained) => trained,
        Err(TrainingStopped::Interrupted { checkpoint }) => {
            return Ok(Outcome::Interrupted { checkpoint: Some(checkpoint) });
        }
        Err(TrainingStopped::Checkpoint(err)) => return Err(err.into()),
        Err(TrainingStopped::Events(err)) => return Err(TrainError::Training(err.to_string())),
        Err(TrainingStopped::NotFinite { quantity, value, epoch, window, step, learning_rate }) => {
            return Err(TrainError::NotFinite {
                quantity,
                value,
                epoch,
                window,
                step,
                learning_rate,
                checkpoint: checkpoints.newest()?,
            });
        }
    };

    let evaluating = Instant::now();
    let best = LmLearner { lm: best, objective: Objective::default() };
    let mut on_evaluation = request.on_evaluation;
    let mut progress = |part, progress| {
        on_evaluation(part, progress);
        !request.interrupter.should_stop()
    };
    let Some(result) = measure(&best, &trainer, &texts, &device, &mut progress) else {
        return Ok(Outcome::Interrupted { checkpoint: checkpoints.newest()? });
    };
    if !result.test.perplexity.is_finite() {
        return Err(TrainError::NotFinite {
            quantity: "the test perplexity",
            value: result.test.perplexity,
            epoch: result.best_epoch,
            window: texts.train.num_windows(),
            step: trainer.step,
            learning_rate: trainer.schedule.learning_rate(),
            checkpoint: checkpoints.newest()?,
        });
    }
    let wall_seconds = trainer.wall_seconds + evaluating.elapsed().as_secs_f64();
    Ok(Outcome::Finished(Box::new(Record {
        schema_version: SCHEMA_VERSION,
        table: request.table,
        row: request.row,
        scale: request.scale,
        seed: request.seed,
        penalties: equivalents(&recipe, vocab_size),
        recipe,
        recipe_hash,
        provenance: provenance::collect(Course {
            device: request.device_name,
            kernels: trainer.kernels,
            sources: trainer.sources,
            started_at: trainer.started_at,
            wall_seconds,
            items_per_second: trainer.train_tokens as f64 / trainer.train_seconds,
            resumed: trainer.resumed,
        }),
        num_params,
        curve: trainer.curve,
        result,
    })))
}

/// The best parameters' scores and activations; `None` if interrupted.
fn measure(
    best: &LmLearner,
    trainer: &TrainerState,
    texts: &Texts,
    device: &Device,
    progress: &mut dyn FnMut(&'static str, EvaluationProgress) -> bool,
) -> Option<RunResult> {
    let plain_device = device.clone().inner();
    let model = best.valid();
    let mut score = |part, streams: &Arc<TokenStreams>| {
        let loader = WindowLoader::new(Arc::clone(streams), plain_device.clone());
        evaluate(&model, &loader, |done| progress(part, done))
    };
    let valid = score("validation", &texts.valid)?;
    let valid_single_stream = score("validation, one stream", &texts.valid_single)?;
    let test = score("test, one stream", &texts.test)?;

    let activation_valid = activation_statistics(
        &model.lm,
        &texts.valid,
        Site::OutputRaw,
        usize::MAX,
        &plain_device,
        |done| progress("activations, validation", done),
    )?;
    device.seed(seed(trainer.seed, Purpose::Statistics, 0));
    let activation_train = activation_statistics(
        &best.lm,
        &texts.train,
        Site::OutputDropped,
        STATISTICS_WINDOWS,
        device,
        |done| progress("activations, training", done),
    )?;
    let best_epoch = trainer.schedule.best_epoch().unwrap_or(trainer.schedule.epochs());
    Some(RunResult {
        best_epoch,
        valid,
        valid_single_stream,
        test,
        activation_valid,
        activation_train,
    })
}

/// burn-train writes its metrics to files unless it is given a logger; the curve is in the record.
pub(crate) struct NoMetricLogger;

impl MetricLogger for NoMetricLogger {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

impl TrainerState {
    fn new(recipe: &TextRecipe, recipe_hash: String, request: &RunRequest) -> Self {
        Self {
            recipe_hash,
            seed: request.seed,
            device: request.device_name.clone(),
            kernels: request.kernels,
            schedule: Schedule::new(&recipe.training),
            window: 0,
            step: 0,
            averaging: None,
            epoch: EpochSums::default(),
            curve: Vec::new(),
            ended: false,
            sources: Sources::current(),
            started_at: provenance::now(),
            wall_seconds: 0.0,
            train_seconds: 0.0,
            train_tokens: 0,
            resumed: 0,
        }
    }
}

/// Keep other processes away from the run for as long as the file lives.
pub(crate) fn lock(run_dir: &Path) -> Result<File, TrainError> {
    let path = run_dir.join("run.lock");
    let open = || fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file =
        open().map_err(|source| TrainError::RunFolder { path: run_dir.to_owned(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrainError::Locked { path }),
        Err(TryLockError::Error(source)) => {
            Err(TrainError::RunFolder { path: run_dir.to_owned(), source })
        }
    }
}

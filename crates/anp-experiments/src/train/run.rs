use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anp_core::{ActivationNormConfig, BatchShape, LossReduction, Norm, Reduction};
use anp_kernels::sgd::WeightDecay;
use anp_kernels::sru::Activation;
use anp_models::{
    BiasInit, CellConfig, Dropout, GateMasks, Kernels, LayerInitRange, MaskSpan, MixtureOver,
    PointerConfig, RecurrentLmConfig, ScaleMixture, Site, StochasticConfig, WordTie,
};
use burn::module::Module;
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{LearningRateMetric, MetricDefinition, NumericEntry};
use burn::train::renderer::MetricsRenderer;
use burn::train::{Interrupter, Learner, SupervisedTraining, TrainingStrategy};

use crate::atomic::check_writable;
use crate::batches::{Tail, TextTooShort, TokenStreams, WindowLoader};
use crate::data::{Corpus, DataError, Store};
use crate::evaluate::{EvaluationProgress, activation_statistics, evaluate};
use crate::noising::{Noising, NoisingConfig};
use crate::provenance::{self, Course, Sources};
use crate::random::{Purpose, seed};
use crate::recipe::{
    self, InvalidRecipe, MixedPrecision, ModelConfig, PenaltyConfig, Recipe, Scale, Shape,
    SruActivation, TextRecipe, WeightDecayConfig,
};
use crate::record::{AnyRecord, PenaltyEquivalent, Record, RunResult, SCHEMA_VERSION};
use crate::train::checkpoint::{CheckpointError, CheckpointFolder, StoredCheckpoint};
use crate::train::image_run::run_images;
use crate::train::learner::{LmLearner, Objective, SitePenalty};
use crate::train::metrics::{Quantity, SummaryMetric};
use crate::train::schedule::Schedule;
use crate::train::state::{EpochSums, TrainerState};
use crate::train::strategy::{BpttStrategy, Start, Trained, TrainingStopped};

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
    fn map<T>(self, record: impl FnOnce(R) -> T) -> Outcome<T> {
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
pub(super) struct NoMetricLogger;

impl MetricLogger for NoMetricLogger {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

/// The texts of a corpus, cut as the protocol says.
pub struct Texts {
    /// Training, in the recipe's batch size, tail dropped.
    pub train: Arc<TokenStreams>,
    /// Validation, likewise.
    pub valid: Arc<TokenStreams>,
    /// Validation as one stream.
    pub valid_single: Arc<TokenStreams>,
    /// Test as one stream.
    pub test: Arc<TokenStreams>,
}

impl Texts {
    /// Cut `corpus` as `recipe` says.
    ///
    /// # Errors
    ///
    /// [`TrainError::TooShort`].
    pub fn cut(corpus: &Corpus, recipe: &TextRecipe) -> Result<Self, TrainError> {
        let data = &recipe.data;
        let cut = |split, text: &[u32], batch_size, tail| {
            TokenStreams::new(text, batch_size, data.bptt, tail)
                .map(Arc::new)
                .map_err(|source| TrainError::TooShort { split, source })
        };
        Ok(Self {
            train: cut("training", data.training_text(&corpus.train), data.batch_size, Tail::Drop)?,
            valid: cut("validation", &corpus.valid, data.batch_size, Tail::Drop)?,
            valid_single: cut("validation", &corpus.valid, 1, Tail::Keep)?,
            test: cut("test", &corpus.test, 1, Tail::Keep)?,
        })
    }
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

/// The network and the penalties of a recipe, drawn from the device's random number generator. How many windows an epoch has
/// is for the caller to say: it depends on the text.
///
/// # Panics
///
/// If the recipe is not valid.
pub fn build_learner(
    recipe: &TextRecipe,
    vocab_size: usize,
    kernels: Kernels,
    device: &Device,
) -> LmLearner {
    let lm = network(recipe, vocab_size, kernels).init(device);
    let objective = Objective {
        penalties: recipe.penalties.iter().map(PenaltyConfig::build).collect(),
        weight_penalty: recipe.weight_penalty.clone(),
        information: recipe.information_penalty.clone(),
        supervision: recipe.pointer_sentinel.as_ref().map_or(0.0, |pointer| pointer.supervision),
        windows_per_epoch: 1,
        loss: recipe.training.loss.unwrap_or(LossReduction::SumOverTime),
        weight_decay: match recipe.training.weight_decay {
            None => WeightDecay::None,
            Some(WeightDecayConfig::Coupled(factor)) => WeightDecay::Coupled(factor),
            Some(WeightDecayConfig::Decoupled(share)) => WeightDecay::Decoupled(share),
        },
    };
    LmLearner { lm, objective }
}

/// The network of a recipe.
pub fn network(recipe: &TextRecipe, vocab_size: usize, kernels: Kernels) -> RecurrentLmConfig {
    let Shape { d_embed, d_hidden, d_output, num_layers, tie_weights } = recipe.model.shape();
    let mut dropout = Dropout::default();
    let (cell, init_range);
    let (mut layer_init_range, mut decoder_bias_init) = (None, BiasInit::Uniform);
    match &recipe.model {
        ModelConfig::Lstm(lstm) => {
            dropout.input = lstm.input_dropout;
            dropout.inter_layer = lstm.inter_layer_dropout;
            dropout.output = lstm.output_dropout;
            cell = CellConfig::Lstm {
                forget_bias: lstm.forget_bias,
                num_biases: lstm.num_biases,
                bias_init: lstm.bias_init.into(),
            };
            init_range = lstm.init_range;
            layer_init_range = if lstm.layer_init_by_units {
                Some(LayerInitRange::InverseRootUnits)
            } else {
                lstm.layer_init_range.map(LayerInitRange::Fixed)
            };
            if let Some(init) = lstm.decoder_bias_init {
                decoder_bias_init = init.into();
            }
        }
        ModelConfig::Sru(sru) => {
            dropout.input = sru.input_dropout;
            dropout.output = sru.output_dropout;
            dropout.product = sru.rnn_dropout;
            dropout.recurrent = sru.rnn_dropout;
            cell = CellConfig::Sru {
                activation: match sru.activation {
                    SruActivation::Identity => Activation::Identity,
                    SruActivation::Tanh => Activation::Tanh,
                },
                highway_bias: sru.highway_bias,
            };
            init_range = sru.init_range;
            decoder_bias_init = BiasInit::Zeros;
        }
        ModelConfig::Rhn(rhn) => {
            dropout.input = rhn.input_dropout;
            dropout.output = rhn.output_dropout;
            cell = CellConfig::Rhn { depth: rhn.depth, transform_bias: rhn.transform_bias };
            init_range = rhn.init_range;
        }
        ModelConfig::Nas(nas) => {
            dropout.input = nas.input_dropout;
            dropout.inter_layer = nas.inter_layer_dropout;
            dropout.output = nas.output_dropout;
            cell = CellConfig::Nas;
            init_range = nas.init_range;
        }
    }
    if let Some(variational) = &recipe.variational {
        dropout.span = match variational.span {
            recipe::MaskSpan::Step => MaskSpan::Step,
            recipe::MaskSpan::Window => MaskSpan::Window,
        };
        dropout.word = variational.word_dropout;
        dropout.word_tie = match variational.word_tie {
            recipe::WordTie::Token => WordTie::Token,
            recipe::WordTie::Sequence => WordTie::Sequence,
            recipe::WordTie::Window => WordTie::Window,
        };
        if variational.recurrent_dropout > 0.0 {
            dropout.recurrent = variational.recurrent_dropout;
        }
        dropout.weight = variational.weight_dropout;
        dropout.gates = match variational.gates {
            recipe::GateMasks::Shared => GateMasks::Shared,
            recipe::GateMasks::Separate => GateMasks::Separate,
        };
    }
    RecurrentLmConfig {
        vocab_size,
        d_embed,
        d_hidden,
        d_output,
        num_layers,
        cell,
        tie_weights,
        dropout,
        init_range,
        layer_init_range,
        decoder_bias_init,
        stochastic: recipe.information_penalty.as_ref().map(|penalty| StochasticConfig {
            initial_sigma: penalty.initial_sigma,
            in_recurrence: penalty.sample_recurrence,
        }),
        pointer: recipe.pointer_sentinel.as_ref().map(|pointer| PointerConfig {
            window: pointer.window,
            state_gradient: pointer.state_gradient,
        }),
        posterior: recipe.bayes_by_backprop.as_ref().map(|bayes| ScaleMixture {
            pi: bayes.prior_pi,
            log_sigma1: bayes.prior_log_sigma1,
            log_sigma2: bayes.prior_log_sigma2,
            over: match bayes.mixture_over {
                recipe::MixtureOver::Weight => MixtureOver::Weight,
                recipe::MixtureOver::Row => MixtureOver::Row,
            },
        }),
        kernels,
    }
}

impl From<recipe::BiasInit> for BiasInit {
    fn from(init: recipe::BiasInit) -> Self {
        match init {
            recipe::BiasInit::Zeros => Self::Zeros,
            recipe::BiasInit::Uniform => Self::Uniform,
        }
    }
}

impl PenaltyConfig {
    /// The penalty.
    ///
    /// # Panics
    ///
    /// If it is not valid.
    fn build(&self) -> SitePenalty {
        SitePenalty {
            site: self.site.parse().expect("a validated recipe"),
            norm: ActivationNormConfig::new(self.eta)
                .with_norm(self.norm)
                .with_reduction(self.reduction)
                .init(),
            temporal: self.temporal,
        }
    }
}

/// What the recipe's penalties are in the conventions of the literature.
fn equivalents(recipe: &TextRecipe, vocab_size: usize) -> Vec<PenaltyEquivalent> {
    let sizes = recipe.model.shape();
    let loss = recipe.training.loss.unwrap_or(LossReduction::SumOverTime);
    let equivalent = |penalty: &PenaltyConfig| {
        let site: Site = penalty.site.parse().expect("a validated recipe");
        let shape = BatchShape {
            batch_size: recipe.data.batch_size,
            seq_length: recipe.data.bptt,
            d_hidden: match site {
                Site::Embedding => sizes.d_embed,
                Site::Logits => vocab_size,
                Site::LayerCell(layer) | Site::LayerHidden(layer)
                    if layer + 1 < sizes.num_layers =>
                {
                    sizes.d_hidden
                }
                _ => sizes.d_output,
            },
        };
        // A difference between steps is no activation: nothing is equivalent to its penalty.
        let of = |convert: fn(Norm, Reduction, f64, BatchShape, LossReduction) -> Option<f64>| {
            let value = convert(penalty.norm, penalty.reduction, penalty.eta, shape, loss);
            value.filter(|_| !penalty.temporal)
        };
        PenaltyEquivalent {
            site: penalty.site.clone(),
            eta: penalty.eta,
            lambda: of(anp_core::lambda),
            awd_alpha: of(anp_core::awd_alpha),
        }
    };
    let on_weights = recipe.weight_penalty.as_ref().map(|penalty| PenaltyEquivalent {
        site: "recurrent weights".to_owned(),
        eta: penalty.eta,
        lambda: None,
        awd_alpha: None,
    });
    let on_information = recipe.information_penalty.as_ref().map(|penalty| PenaltyEquivalent {
        site: "information".to_owned(),
        eta: penalty.beta,
        lambda: None,
        awd_alpha: None,
    });
    let on_pointer = recipe.pointer_sentinel.as_ref().map(|pointer| PenaltyEquivalent {
        site: "pointer supervision".to_owned(),
        eta: pointer.supervision,
        lambda: None,
        awd_alpha: None,
    });
    // Its strength is not the recipe's to choose: the divergence counts once an epoch.
    let on_posterior = recipe.bayes_by_backprop.as_ref().map(|_| PenaltyEquivalent {
        site: "weight posterior".to_owned(),
        eta: 1.0,
        lambda: None,
        awd_alpha: None,
    });
    let on_activations = recipe.penalties.iter().map(equivalent);
    on_activations
        .chain(on_weights)
        .chain(on_information)
        .chain(on_pointer)
        .chain(on_posterior)
        .collect()
}

/// Keep other processes away from the run for as long as the file lives.
pub(super) fn lock(run_dir: &Path) -> Result<File, TrainError> {
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

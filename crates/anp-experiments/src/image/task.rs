use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anp_kernels::sgd::{ClippedSgd, Momentum, WeightDecay};
use anp_models::{Kernels, WideResNet};
use burn::data::dataloader::{DataLoader, Progress};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use burn::train::train::MultiDeviceStepError;
use burn::train::{
    EventProcessorTraining, InferenceStep, Interrupter, Learner, LearnerEvent,
    SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingError, TrainingItem, ValidLoader,
};
use serde::{Deserialize, Serialize};

use super::batches::{ImageLoader, Prepared, Source};
use super::learner::{BatchOutput, ImageLearner, ImageReport};
use super::recipe::{ImageRecipe, ImageTrainingConfig};
use super::replicas::Replicas;
use crate::engine::checkpoint::{
    CheckpointError, CheckpointFolder, FORMAT_VERSION, StoredCheckpoint,
};
use crate::engine::metrics::Summary;
use crate::provenance::Sources;
use crate::random::{Purpose, seed};
use crate::record::{FeatureStatistics, ImageEpochRecord, ImageScore};

/// Batches between two looks at the losses: the device is not waited for at each.
const READ_EVERY: usize = 8;

/// Where a run is, but for its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTrainer {
    /// SHA-256 of the recipe.
    pub recipe_hash: String,
    /// Seed of the run.
    pub seed: u64,
    /// Device that the run was begun on, or several with commas between them.
    pub device: String,
    /// As given to `--kernels`.
    pub kernels: Kernels,
    /// Batches done in the current epoch.
    pub batch: usize,
    /// Steps done since the beginning.
    pub step: u64,
    /// Sums over the current epoch.
    pub sums: ImageSums,
    /// Finished epochs.
    pub curve: Vec<ImageEpochRecord>,
    /// Score and features after the last finished epoch.
    pub last: Option<(ImageScore, FeatureStatistics)>,
    /// Sources that the run was begun with.
    pub sources: Option<Sources>,
    /// When the run first started, RFC 3339, UTC.
    pub started_at: String,
    /// Seconds of work up to the checkpoint.
    pub wall_seconds: f64,
    /// Of these, seconds spent in training steps.
    pub train_seconds: f64,
    /// Images trained on.
    pub train_images: u64,
    /// How often the run was continued.
    pub resumed: usize,
}

/// Sums over the batches of an epoch, in double precision, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageSums {
    batches: usize,
    images: usize,
    nll: f64,
    correct: f64,
    norm: f64,
    grad_norm: f64,
    penalties: Vec<f64>,
    seconds: f64,
}

impl ImageTrainer {
    /// Epoch that the run is in, from 1.
    pub fn current_epoch(&self) -> usize {
        self.curve.len() + 1
    }

    /// Whether all epochs are done.
    pub fn ended(&self, training: &ImageTrainingConfig) -> bool {
        self.curve.len() >= training.max_epochs
    }

    /// Name of a checkpoint taken now; names sort by age.
    fn checkpoint_name(&self) -> String {
        format!("e{:05}-w{:09}", self.curve.len(), self.batch)
    }
}

/// `trainer.json` of an image classifier.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImageManifest {
    format_version: u32,
    /// Recipe of the run.
    pub recipe: ImageRecipe,
    /// Places, in the order of a visit, of the parameters that have a velocity.
    velocities: Vec<usize>,
    /// Position, sums and curve.
    pub trainer: ImageTrainer,
}

/// The tensors of a checkpoint as one module, so that Burn writes them as one file.
#[derive(Module, Debug)]
struct SavedTensors {
    net: WideResNet,
    velocities: Vec<Param<Tensor<1>>>,
}

/// Ids and sizes of the parameters of a module, running statistics among them, in the order of a visit.
#[derive(Default)]
struct Places(Vec<(ParamId, usize)>);

impl ModuleVisitor for Places {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.id, param.val().dims().iter().product()));
    }
}

impl Places {
    fn of(net: &WideResNet) -> Vec<(ParamId, usize)> {
        let mut places = Self::default();
        net.visit(&mut places);
        places.0
    }
}

/// The optimiser of a recipe, with these velocities.
pub(super) fn optimizer(
    training: &ImageTrainingConfig,
    kernels: Kernels,
    velocities: HashMap<ParamId, Tensor<1>>,
) -> ClippedSgd {
    ClippedSgd {
        kernels,
        max_norm: None,
        momentum: (training.momentum > 0.0).then_some(Momentum {
            factor: training.momentum,
            dampening: 0.0,
            nesterov: false,
        }),
        weight_decay: match training.weight_decay {
            0.0 => WeightDecay::None,
            decay => WeightDecay::Coupled(decay),
        },
        velocities,
        ..ClippedSgd::default()
    }
}

/// Load a checkpoint into a network like `net`: the network, the velocities, and where the run was.
pub(super) fn load(
    stored: StoredCheckpoint<ImageManifest>,
    net: WideResNet,
    device: &Device,
) -> Result<(WideResNet, HashMap<ParamId, Tensor<1>>, ImageTrainer), CheckpointError> {
    let manifest = stored.manifest();
    let device = device.clone().inner();
    let sizes = Places::of(&net);
    let zeros = |&place: &usize| {
        Param::from_tensor(Tensor::zeros([sizes.get(place).map_or(0, |it| it.1)], &device))
    };
    let velocities = manifest.velocities.iter().map(zeros).collect();
    let tensors = stored.load_tensors(SavedTensors { net, velocities })?;
    let ids = Places::of(&tensors.net);
    let velocities = manifest.velocities.iter().zip(tensors.velocities);
    let velocities =
        velocities.map(|(&place, velocity)| (ids[place].0, velocity.val().detach())).collect();
    Ok((tensors.net, velocities, manifest.trainer.clone()))
}

/// Epochs of augmented images with momentum, as a learning strategy of burn-train.
///
/// A stock loop checkpoints at the end of an epoch only, and its optimiser cannot be made to forget the momentum there.
pub(super) struct ImageStrategy {
    pub recipe: ImageRecipe,
    /// The network lives on the first; all share each batch.
    pub devices: Vec<Device>,
    pub train: Source,
    pub test: ImageLoader,
    pub checkpoints: CheckpointFolder,
    pub checkpoint_interval: Duration,
    /// What training starts from, taken by [`fit`](SupervisedLearningStrategy::fit).
    pub start: Mutex<Option<(ClippedSgd, ImageTrainer)>>,
    /// What training led to, for who launched it: the trait's return value has no room for it.
    pub outcome: Arc<Mutex<Option<Result<ImageTrainer, ImageTrainingStopped>>>>,
}

/// Why training stopped before its end.
#[derive(Debug)]
pub(super) enum ImageTrainingStopped {
    Interrupted {
        checkpoint: PathBuf,
    },
    NotFinite {
        quantity: &'static str,
        value: f64,
        epoch: usize,
        batch: usize,
        step: u64,
        learning_rate: f64,
    },
    Checkpoint(CheckpointError),
    /// A device failed.
    Device(MultiDeviceStepError),
    /// burn-train could not process what it was told.
    Events(Arc<TrainingError>),
}

impl From<CheckpointError> for ImageTrainingStopped {
    fn from(err: CheckpointError) -> Self {
        Self::Checkpoint(err)
    }
}

impl SupervisedLearningStrategy<ImageLearner> for ImageStrategy {
    fn fit(
        &self,
        components: TrainingComponents<ImageLearner>,
        learner: Learner<ImageLearner>,
        _train: TrainLoader<ImageLearner>,
        _valid: ValidLoader<ImageLearner>,
        _starting_epoch: usize,
    ) -> (ImageLearner, SupervisedTrainingEventProcessor<ImageLearner>) {
        let start = self.start.lock().expect("no panic").take();
        let (optimizer, trainer) = start.expect("a strategy is used once");
        let model = learner.model();
        // The learner keeps a second handle on every parameter, which would forbid updates in place.
        drop(learner);
        let mut run = Run {
            strategy: self,
            replicas: Replicas::new(self.devices.clone()),
            model: Some(model),
            optimizer,
            trainer,
            events: components.event_processor,
            interrupter: components.interrupter,
            pending: Vec::new(),
            flushed_at: Instant::now(),
            clock: Instant::now(),
            saved_at: Instant::now(),
        };
        let result = match (run.train(), run.interrupter.error()) {
            // Asked here and not of burn-train, whose dashboard forgets it at the end of a training.
            (Ok(()) | Err(ImageTrainingStopped::Interrupted { .. }), Some(err)) => {
                Err(ImageTrainingStopped::Events(err))
            }
            (result, _) => result,
        };
        let model = run.model.take().expect("the model is there between steps");
        *self.outcome.lock().expect("no panic") = Some(result.map(|()| run.trainer));
        (model, run.events)
    }
}

/// Scalars of one batch that have not been read yet.
struct PendingBatch {
    images: usize,
    /// Loss, gradient norm, right answers, feature norms, then the penalties: `[1]` each.
    values: Vec<Tensor<1>>,
}

struct Run<'a> {
    strategy: &'a ImageStrategy,
    replicas: Replicas,
    /// Taken during an update, which consumes it.
    model: Option<ImageLearner>,
    optimizer: ClippedSgd,
    trainer: ImageTrainer,
    events: SupervisedTrainingEventProcessor<ImageLearner>,
    interrupter: Interrupter,
    pending: Vec<PendingBatch>,
    flushed_at: Instant,
    /// When `trainer.wall_seconds` was last brought up to date.
    clock: Instant,
    saved_at: Instant,
}

impl Run<'_> {
    fn train(&mut self) -> Result<(), ImageTrainingStopped> {
        let training = &self.strategy.recipe.training;
        while !self.trainer.ended(training) {
            self.train_epoch()?;
            self.test()?;
        }
        Ok(())
    }

    fn model(&self) -> &ImageLearner {
        self.model.as_ref().expect("the model is there between steps")
    }

    fn learning_rate(&self) -> f64 {
        self.strategy.recipe.training.learning_rate(self.trainer.current_epoch())
    }

    fn train_epoch(&mut self) -> Result<(), ImageTrainingStopped> {
        let strategy = self.strategy;
        let num_batches = strategy.train.num_batches();
        let (run_seed, epoch) = (self.trainer.seed, self.trainer.current_epoch());
        let learning_rate = self.learning_rate();
        self.emit_train(LearnerEvent::StartSplit { epoch_number: epoch, total_items: num_batches });
        if strategy.recipe.training.reset_momentum && self.trainer.batch == 0 {
            self.optimizer.velocities.clear();
        }
        let mut batches: Prepared = strategy.train.epoch(run_seed, epoch, self.trainer.batch);
        self.flushed_at = Instant::now();

        while self.trainer.batch < num_batches {
            if self.interrupter.should_stop() {
                return self.save_and_stop();
            }
            let batch = batches.next().expect("a thread makes every batch");
            let images = batch.len();
            strategy.devices[0].seed(seed(run_seed, Purpose::Dropout, self.trainer.step));
            let (output, gradients) =
                self.replicas.step(self.model(), batch).map_err(ImageTrainingStopped::Device)?;
            let model = self.model.take().expect("the model is there between steps");
            let (model, norm) = self.optimizer.step(learning_rate, model, gradients, Vec::new());
            self.model = Some(model);
            let mut values = vec![output.nll_sum, norm.inner(), output.correct, output.norm_sum];
            values.extend(output.penalties);
            self.pending.push(PendingBatch { images, values });
            self.trainer.batch += 1;
            self.trainer.step += 1;

            let due = self.saved_at.elapsed() >= strategy.checkpoint_interval;
            if self.pending.len() == READ_EVERY || self.trainer.batch == num_batches || due {
                self.read_pending(learning_rate)?;
            }
            if due && self.trainer.batch < num_batches {
                self.save()?;
            }
        }
        self.emit_train(LearnerEvent::EndSplit(epoch));
        Ok(())
    }

    /// Read what the last batches gave, add it up, and look whether it is finite.
    fn read_pending(&mut self, learning_rate: f64) -> Result<(), ImageTrainingStopped> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let values: Vec<_> = pending.iter().flat_map(|batch| batch.values.clone()).collect();
        let values: Vec<f64> = Tensor::cat(values, 0).into_data().iter::<f64>().collect();
        let num_values = values.len() / pending.len();
        let first_batch = self.trainer.batch - pending.len();
        let first_step = self.trainer.step - pending.len() as u64;
        let epoch = self.trainer.current_epoch();

        let sums = &mut self.trainer.sums;
        sums.penalties.resize(num_values - 4, 0.0);
        let mut summary = Summary::default();
        let (mut nll, mut correct) = (0.0, 0.0);
        for (index, (batch, values)) in pending.iter().zip(values.chunks(num_values)).enumerate() {
            let names = ["the loss", "the norm of the gradients", "a count", "a feature"];
            for (quantity, &value) in
                names.into_iter().chain(std::iter::repeat("a penalty")).zip(values)
            {
                if !value.is_finite() {
                    return Err(ImageTrainingStopped::NotFinite {
                        quantity,
                        value,
                        epoch,
                        batch: first_batch + index + 1,
                        step: first_step + index as u64 + 1,
                        learning_rate,
                    });
                }
            }
            sums.batches += 1;
            sums.images += batch.images;
            sums.nll += values[0];
            sums.grad_norm += values[1];
            sums.correct += values[2];
            sums.norm += values[3];
            for (sum, &value) in sums.penalties.iter_mut().zip(&values[4..]) {
                *sum += value;
            }
            nll += values[0];
            correct += values[2];
            summary.tokens += batch.images;
            summary.grad_norm += values[1] / pending.len() as f64;
            summary.penalty += values[4..].iter().sum::<f64>() / pending.len() as f64;
        }
        summary.nll = nll / summary.tokens as f64;
        summary.accuracy = 100.0 * correct / summary.tokens as f64;
        summary.seconds = self.flushed_at.elapsed().as_secs_f64();
        self.flushed_at = Instant::now();
        sums.seconds += summary.seconds;
        self.trainer.train_seconds += summary.seconds;
        self.trainer.train_images += summary.tokens as u64;

        let total = self.strategy.train.num_batches();
        let item = TrainingItem::new(
            ImageReport::Summary(summary),
            Progress::new(self.trainer.batch, total, Some("batches".to_owned())),
            Some(self.trainer.batch),
            Some(learning_rate.into()),
        );
        self.emit_train(LearnerEvent::ProcessedItem(item));
        Ok(())
    }

    /// Measure on the test images, and close the epoch.
    fn test(&mut self) -> Result<(), ImageTrainingStopped> {
        let epoch = self.trainer.current_epoch();
        let learning_rate = self.learning_rate();
        let num_batches = self.strategy.test.num_items();
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: num_batches };
        self.interrupter.fail_on_error(self.events.process_valid(start));
        let model = self.model().valid();
        let (events, interrupter) = (&mut self.events, &self.interrupter);
        let measured = evaluate_images(&model, &self.strategy.test, |done, summary| {
            let item = TrainingItem::new(
                ImageReport::Summary(summary),
                Progress::new(done, num_batches, Some("batches".to_owned())),
                Some(done),
                None,
            );
            let event = LearnerEvent::ProcessedItem(item);
            interrupter.fail_on_error(events.process_valid(event));
            !interrupter.should_stop()
        });
        // Resuming starts at the end of the epoch and measures again.
        let Some((score, features)) = measured else { return self.save_and_stop() };
        self.interrupter.fail_on_error(self.events.process_valid(LearnerEvent::EndSplit(epoch)));
        for (quantity, value) in [
            ("the test loss", score.nll),
            ("a feature of a test image", features.half_squared_norm),
        ] {
            if !value.is_finite() {
                return Err(ImageTrainingStopped::NotFinite {
                    quantity,
                    value,
                    epoch,
                    batch: self.trainer.batch,
                    step: self.trainer.step,
                    learning_rate,
                });
            }
        }

        let sums = std::mem::take(&mut self.trainer.sums);
        let (batches, images) = (sums.batches as f64, sums.images as f64);
        self.trainer.curve.push(ImageEpochRecord {
            epoch,
            learning_rate,
            train_nll: sums.nll / images,
            train_accuracy: 100.0 * sums.correct / images,
            test_nll: score.nll,
            test_accuracy: score.accuracy,
            penalties: sums.penalties.iter().map(|sum| sum / batches).collect(),
            activation_norm: sums.norm / images,
            grad_norm: sums.grad_norm / batches,
            seconds: sums.seconds,
        });
        self.trainer.last = Some((score, features));
        self.trainer.batch = 0;
        self.emit_train(LearnerEvent::EndEpoch(epoch));
        self.save()?;
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf, CheckpointError> {
        self.trainer.wall_seconds += self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        // Brings the running statistics up to date, which lag by a step.
        self.model().valid();
        let net = self.model().net.clone();
        let places = Places::of(&net).into_iter().enumerate();
        let (velocities, tensors) = places
            .filter_map(|(place, (id, _))| {
                let velocity = self.optimizer.velocities.get(&id)?;
                Some((place, Param::from_tensor(velocity.clone())))
            })
            .unzip();
        let manifest = ImageManifest {
            format_version: FORMAT_VERSION,
            recipe: self.strategy.recipe.clone(),
            velocities,
            trainer: self.trainer.clone(),
        };
        let name = self.trainer.checkpoint_name();
        let tensors = SavedTensors { net, velocities: tensors };
        let path = self.strategy.checkpoints.save_parts(&name, tensors, None, &manifest)?;
        self.saved_at = Instant::now();
        // Not training time.
        self.flushed_at = Instant::now();
        Ok(path)
    }

    fn save_and_stop(&mut self) -> Result<(), ImageTrainingStopped> {
        self.read_pending(self.learning_rate())?;
        let checkpoint = self.save()?;
        Err(ImageTrainingStopped::Interrupted { checkpoint })
    }

    fn emit_train(&mut self, event: LearnerEvent<ImageReport>) {
        self.interrupter.fail_on_error(self.events.process_train(event));
    }
}

/// Loss, accuracy and size of the features over all images of a loader.
///
/// `model` must be in evaluation mode (`model.valid()`). `progress` is called after each batch; the evaluation is given up,
/// and `None` returned, when it says `false`.
pub(super) fn evaluate_images(
    model: &ImageLearner,
    loader: &ImageLoader,
    mut progress: impl FnMut(usize, Summary) -> bool,
) -> Option<(ImageScore, FeatureStatistics)> {
    let [mut nll, mut correct, mut norm, mut square] = [0.0; 4];
    let mut images = 0;
    let width = model.net.norm.gamma.dims()[0];
    for (index, batch) in loader.iter().enumerate() {
        let started = Instant::now();
        let batch = batch.expect("batches are made from memory");
        let output = InferenceStep::step(model, batch).into_batch();
        let BatchOutput { images: of_batch, nll_sum, correct: right, norm_sum, square_sum, .. } =
            output;
        let values = Tensor::cat(vec![nll_sum, right, norm_sum, square_sum], 0).into_data();
        let values: Vec<f64> = values.iter::<f64>().collect();
        nll += values[0];
        correct += values[1];
        norm += values[2];
        square += values[3];
        images += of_batch;
        let summary = Summary {
            nll: values[0] / of_batch as f64,
            accuracy: 100.0 * values[1] / of_batch as f64,
            tokens: of_batch,
            seconds: started.elapsed().as_secs_f64(),
            ..Summary::default()
        };
        if !progress(index + 1, summary) {
            return None;
        }
    }
    let count = images as f64;
    let score = ImageScore { nll: nll / count, accuracy: 100.0 * correct / count, images };
    let features = FeatureStatistics {
        norm: norm / count,
        half_squared_norm: 0.5 * square / count,
        rms: (square / (count * width as f64)).sqrt(),
    };
    Some((score, features))
}

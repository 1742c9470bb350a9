use anp_models::VibClassifierConfig;
use burn::module::Module;
use burn::optim::{AdamConfig, ModuleOptimizer};
use burn::tensor::Device;
use burn::train::TrainStep;

use super::data::VibData;
use super::evaluate::{Draws, evaluate};
use super::learner::{VibLearner, VibOutput};
use super::recipe::{VibRecipe, VibTrainingConfig};
use super::record::{VibEpochRecord, VibResult, VibScore};
use super::snapshot::{VibState, VibTensors};
use crate::data::{self, Manifest, Store};
use crate::device::Devices;
use crate::engine::{
    Context, EpochEnd, FinishedEpoch, GoOn, GoOnPart, Metrics, NotFinite, PenaltyEquivalent,
    Position, Quantity, Snapshot, StepError, StepScalars, Task, TrainError, Words, finite,
};
use crate::gradient_norm::gradient_norm;
use crate::image::batches::{Prepared, Source};
use crate::image::{ACCURACY, IMAGES_PER_SECOND};
use crate::moving_mean::move_towards;
use crate::random::{Purpose, seed};

/// Training of a classifier with a bottleneck by Adam. What is measured is an average of its
/// parameters.
pub struct VibTask {
    recipe: VibRecipe,
    network: VibClassifierConfig,
    data: VibData,
    device: Device,
    seed: u64,
    /// Taken during an update, which consumes it.
    model: Option<VibLearner>,
    optimizer: ModuleOptimizer,
    /// The average of the parameters after each step.
    average: Option<VibLearner>,
    /// Score after the last finished epoch.
    last: Option<VibScore>,
    /// Epochs that have been measured or are being so.
    epoch: usize,
    /// The remaining batches of the current epoch, prepared ahead.
    batches: Option<Prepared>,
}

/// Adam as a recipe has it.
pub(super) fn optimizer(training: &VibTrainingConfig) -> ModuleOptimizer {
    AdamConfig::new()
        .with_beta_1(training.beta_1 as f32)
        .with_beta_2(training.beta_2 as f32)
        .with_epsilon(training.epsilon as f32)
        .init()
}

/// The manifest of a recipe's images.
pub(super) fn manifest(recipe: &VibRecipe) -> Manifest {
    data::manifest(&recipe.data.images).expect("a valid recipe")
}

impl VibTask {
    fn model(&self) -> &VibLearner {
        self.model.as_ref().expect("the model is there between steps")
    }

    /// Measure the averaged parameters.
    fn measure(&self, source: &Source, epoch: usize, go_on: &mut GoOn<'_>) -> Option<VibScore> {
        let draws = Draws::after_epoch(self.recipe.evaluation.samples, self.seed, epoch);
        let device = self.device.clone().inner();
        let average = self.average.as_ref().unwrap_or(self.model()).valid();
        evaluate(&average, source, self.network.num_classes, draws, &device, go_on)
    }
}

impl Task for VibTask {
    const KIND: &'static str = "vib";
    const WORDS: Words =
        Words { step: "batch", steps: "batches", remedy: "a lower training.learning_rate" };
    const METRICS: Metrics = Metrics {
        both: &[Quantity::LOSS, ACCURACY],
        train: &[Quantity::PENALTY, Quantity::GRAD_NORM, IMAGES_PER_SECOND],
    };
    const READ_EVERY: usize = 8;

    type Recipe = VibRecipe;
    type Data = VibData;
    type Output = VibOutput;
    type Learner = VibLearner;
    type Tensors = VibTensors;
    type State = VibState;
    type Validation = VibScore;
    type Epoch = VibEpochRecord;
    type Result = VibResult;

    fn check(recipe: &VibRecipe, devices: &Devices) -> Result<(), TrainError> {
        recipe.validate()?;
        if devices.are_several() {
            return Err(TrainError::SeveralDevices {
                devices: devices.to_string(),
                reason: "codes are drawn from one generator, in the order in which the devices \
                         come by, and no run could be repeated",
            });
        }
        Ok(())
    }

    fn load(recipe: &VibRecipe, store: &Store) -> Result<VibData, TrainError> {
        Ok(VibData::new(store.load_images(&recipe.data.images)?, &recipe.data))
    }

    fn made_up(recipe: &VibRecipe, share: f64) -> Result<VibData, TrainError> {
        Ok(VibData::made_up(&recipe.data, share))
    }

    fn new(recipe: VibRecipe, data: VibData, context: Context) -> Self {
        let Context { mut devices, seed, .. } = context;
        let device = devices.swap_remove(0);
        let network = recipe.network(&manifest(&recipe));
        let model = VibLearner { net: network.init(&device), shape: data.shape };
        Self {
            model: Some(model),
            optimizer: optimizer(&recipe.training),
            average: None,
            last: None,
            epoch: 1,
            batches: None,
            recipe,
            network,
            data,
            device,
            seed,
        }
    }

    fn learner(&self) -> VibLearner {
        self.model().clone()
    }

    fn num_params(&self) -> usize {
        self.network.num_params()
    }

    fn penalties(&self) -> Vec<PenaltyEquivalent> {
        let equivalent =
            |eta| PenaltyEquivalent { site: "code".to_owned(), eta, lambda: None, awd_alpha: None };
        self.network.beta.map(equivalent).into_iter().collect()
    }

    fn max_epochs(&self) -> usize {
        self.recipe.training.max_epochs
    }

    fn learning_rate(&self, epoch: usize) -> f64 {
        self.recipe.training.learning_rate(epoch)
    }

    fn start_epoch(&mut self, at: Position) -> usize {
        self.epoch = at.epoch;
        let train = &self.data.images.train;
        self.batches = Some(train.epoch(self.seed, at.epoch, at.done));
        train.num_batches()
    }

    fn step(&mut self, at: Position) -> Result<StepScalars, StepError> {
        let batch = self.batches.as_mut().and_then(Iterator::next);
        let batch = batch.expect("a thread makes every batch of the epoch");
        let items = batch.num_images();
        self.device.seed(seed(self.seed, Purpose::Code, at.step));
        let model = self.model.take().expect("the model is there between steps");
        let step = TrainStep::step(&model, batch.to_device(&self.device));
        let grad_norm = gradient_norm(&model, &step.grads);
        let model = self.optimizer.step(self.learning_rate(at.epoch), model, step.grads);
        self.average = Some(match self.average.take() {
            Some(average) => {
                let weight = self.recipe.training.average_weight(at.step + 1);
                move_towards(average, &model, weight)
            }
            None => model.clone(),
        });
        self.model = Some(model);
        let output = step.item.into_step();
        Ok(StepScalars {
            items,
            loss: output.nll_sum,
            grad_norm,
            max_norm: None,
            correct: Some(output.correct),
            extras: Vec::new(),
            penalties: output.penalties,
        })
    }

    fn validation_steps(&self) -> usize {
        self.data.images.test.num_batches()
    }

    fn validate(&mut self, go_on: &mut GoOn<'_>) -> Option<VibScore> {
        self.measure(&self.data.images.test, self.epoch, go_on)
    }

    fn end_epoch(
        &mut self,
        finished: FinishedEpoch,
        score: VibScore,
    ) -> Result<EpochEnd<VibEpochRecord>, NotFinite> {
        score.check_finite()?;
        self.last = Some(score);
        let FinishedEpoch { epoch, learning_rate, sums } = finished;
        let record = VibEpochRecord {
            epoch,
            learning_rate,
            train_nll: sums.mean_loss(),
            train_accuracy: sums.accuracy(),
            penalties: sums.mean_penalties(),
            test: score,
            grad_norm: sums.mean_grad_norm(),
            seconds: sums.seconds,
        };
        Ok(EpochEnd { record, is_last: epoch >= self.max_epochs() })
    }

    fn snapshot(&self) -> Snapshot<Self> {
        let average = self.average.as_ref().map(|it| it.net.clone());
        let state = VibState { last: self.last, has_average: average.is_some() };
        let tensors = VibTensors { net: self.model().net.clone(), average };
        Snapshot { tensors, optimizer: self.optimizer.to_record(), state }
    }

    fn template(&self, state: &VibState) -> VibTensors {
        VibTensors::like(self.model().net.clone(), state)
    }

    fn restore(&mut self, snapshot: Snapshot<Self>) {
        let Snapshot { tensors: VibTensors { net, average }, optimizer, state } = snapshot;
        let shape = self.data.shape;
        self.model = Some(VibLearner { net, shape });
        self.average = average.map(|net| VibLearner { net, shape });
        self.optimizer = self.optimizer.clone().load_record(optimizer);
        self.last = state.last;
    }

    /// The last epoch has measured the test images.
    fn finish(
        self,
        curve: &[VibEpochRecord],
        go_on: &mut GoOnPart<'_>,
    ) -> Result<Option<VibResult>, NotFinite> {
        let mut go_on = |progress| go_on("training images", progress);
        let train = self.measure(&self.data.images.train, curve.len(), &mut go_on);
        let Some(train) = train else { return Ok(None) };
        train.check_finite()?;
        let test = self.last.expect("an epoch is done");
        Ok(Some(VibResult { test, train, data_variant: self.data.images.variant }))
    }
}

impl VibScore {
    fn check_finite(&self) -> Result<(), NotFinite> {
        finite("the loss of the images", self.mean_code.nll + self.one_sample.nll)?;
        finite("the divergence of the codes", self.information_x.unwrap_or(0.0))?;
        finite("the mean of a code", self.code_norm)
    }
}

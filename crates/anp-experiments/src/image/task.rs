use anp_kernels::sgd::ClippedSgd;
use anp_models::WideResNetConfig;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::Device;

use super::batches::Prepared;
use super::build::{build, equivalents, optimizer};
use super::data::ImageData;
use super::evaluate::evaluate;
use super::learner::{BatchOutput, ImageLearner};
use super::recipe::{ImageModelConfig, ImageRecipe};
use super::record::{FeatureStatistics, ImageEpochRecord, ImageResult, ImageScore};
use super::replicas::Replicas;
use super::snapshot::{ImageState, ImageTensors, Velocities};
use crate::data::Store;
use crate::device::Devices;
use crate::engine::{
    Context, EpochEnd, FinishedEpoch, GoOn, GoOnPart, Metrics, NotFinite, PenaltyEquivalent,
    Position, Quantity, Snapshot, StepError, StepScalars, Task, TrainError, Words, finite,
};
use crate::random::{Purpose, seed};
use crate::recipe::RegularizerConfig;

/// ‖pooled features‖₂, summed over the images of a step.
const FEATURE_NORM: &str = "the norm of the features";

/// Share of the images that are classified correctly, in percent.
pub const ACCURACY: Quantity = Quantity {
    higher_is_better: true,
    ..Quantity::per_item("Accuracy", |it| (it.accuracy, it.items as f64))
};

/// Speed of training.
pub const IMAGES_PER_SECOND: Quantity = Quantity::per_second("Images per second");

/// Training with momentum on augmented images. The momentum may be reset after each epoch.
pub struct ImageTask {
    recipe: ImageRecipe,
    network: WideResNetConfig,
    data: ImageData,
    /// All share each batch; the network is on the first.
    devices: Vec<Device>,
    seed: u64,
    replicas: Replicas,
    /// Taken during an update, which consumes it.
    model: Option<ImageLearner>,
    optimizer: ClippedSgd,
    /// Score and features after the last finished epoch.
    last: Option<(ImageScore, FeatureStatistics)>,
    /// The remaining batches of the current epoch, prepared ahead.
    batches: Option<Prepared>,
}

impl ImageTask {
    fn model(&self) -> &ImageLearner {
        self.model.as_ref().expect("the model is there between steps")
    }
}

impl Task for ImageTask {
    const KIND: &'static str = "image";
    const WORDS: Words =
        Words { step: "batch", steps: "batches", remedy: "a lower training.learning_rate" };
    const METRICS: Metrics = Metrics {
        both: &[Quantity::LOSS, ACCURACY],
        train: &[Quantity::PENALTY, Quantity::GRAD_NORM, IMAGES_PER_SECOND],
    };
    const READ_EVERY: usize = 8;

    type Recipe = ImageRecipe;
    type Data = ImageData;
    type Output = BatchOutput;
    type Learner = ImageLearner;
    type Tensors = ImageTensors;
    type State = ImageState;
    type Validation = (ImageScore, FeatureStatistics);
    type Epoch = ImageEpochRecord;
    type Result = ImageResult;

    fn check(recipe: &ImageRecipe, devices: &Devices) -> Result<(), TrainError> {
        recipe.validate()?;
        if let Some(precision) = recipe.training.mixed_precision {
            precision.check(devices).map_err(|err| TrainError::Task(Box::new(err)))?;
        }
        let ImageModelConfig::WideResnet(network) = &recipe.model;
        if network.dropout > 0.0 && devices.are_several() {
            return Err(TrainError::SeveralDevices {
                devices: devices.to_string(),
                reason: "dropout draws from one generator, in the order in which the devices come \
                         by, and no run could be repeated",
            });
        }
        if recipe.regularizers.iter().any(RegularizerConfig::is_of_whole_batch)
            && devices.are_several()
        {
            return Err(TrainError::SeveralDevices {
                devices: devices.to_string(),
                reason: "DARC1 and the information bound are of a whole batch, of which each \
                         device has a part",
            });
        }
        Ok(())
    }

    fn load(recipe: &ImageRecipe, store: &Store) -> Result<ImageData, TrainError> {
        Ok(ImageData::new(store.load_images(&recipe.data.images)?, &recipe.data))
    }

    fn made_up(recipe: &ImageRecipe, share: f64) -> Result<ImageData, TrainError> {
        Ok(ImageData::made_up(&recipe.data, share))
    }

    fn new(recipe: ImageRecipe, data: ImageData, context: Context) -> Self {
        let Context { devices, kernels, seed } = context;
        Self {
            network: recipe.network(data.num_classes, kernels),
            replicas: Replicas::new(devices.clone()),
            model: Some(build(&recipe, &data, kernels, &devices[0])),
            optimizer: optimizer(&recipe.training, kernels, Velocities::new()),
            last: None,
            batches: None,
            recipe,
            data,
            devices,
            seed,
        }
    }

    fn learner(&self) -> ImageLearner {
        self.model().clone()
    }

    fn num_params(&self) -> usize {
        self.network.num_params()
    }

    fn penalties(&self) -> Vec<PenaltyEquivalent> {
        equivalents(&self.recipe)
    }

    fn max_epochs(&self) -> usize {
        self.recipe.training.max_epochs
    }

    fn learning_rate(&self, epoch: usize) -> f64 {
        self.recipe.training.learning_rate(epoch)
    }

    fn start_epoch(&mut self, at: Position) -> usize {
        if self.recipe.training.reset_momentum && at.done == 0 {
            self.optimizer.velocities.clear();
        }
        self.batches = Some(self.data.train.epoch(self.seed, at.epoch, at.done));
        self.data.train.num_batches()
    }

    fn step(&mut self, at: Position) -> Result<StepScalars, StepError> {
        let batch = self.batches.as_mut().and_then(Iterator::next);
        let batch = batch.expect("a thread makes every batch of the epoch");
        let items = batch.num_images();
        self.devices[0].seed(seed(self.seed, Purpose::Dropout, at.step));
        let (output, gradients) = self.replicas.step(self.model(), batch)?;

        let rate = self.learning_rate(at.epoch);
        let model = self.model.take().expect("the model is there between steps");
        let (model, norm) = self.optimizer.step(rate, model, gradients, Vec::new());
        self.model = Some(model);
        Ok(StepScalars {
            items,
            loss: output.nll_sum,
            grad_norm: norm.inner(),
            max_norm: None,
            correct: Some(output.correct),
            extras: vec![(FEATURE_NORM, output.norm_sum)],
            penalties: output.penalties,
        })
    }

    fn validation_steps(&self) -> usize {
        self.data.test.num_batches()
    }

    fn validate(&mut self, go_on: &mut GoOn<'_>) -> Option<(ImageScore, FeatureStatistics)> {
        let device = self.devices[0].clone().inner();
        evaluate(&self.model().valid(), &self.data.test, &device, go_on)
    }

    fn end_epoch(
        &mut self,
        finished: FinishedEpoch,
        (score, features): (ImageScore, FeatureStatistics),
    ) -> Result<EpochEnd<ImageEpochRecord>, NotFinite> {
        finite("the test loss", score.nll)?;
        finite("a feature of a test image", features.half_squared_norm)?;
        self.last = Some((score, features));
        let FinishedEpoch { epoch, learning_rate, sums } = finished;
        let record = ImageEpochRecord {
            epoch,
            learning_rate,
            train_nll: sums.mean_loss(),
            train_accuracy: sums.accuracy(),
            test_nll: score.nll,
            test_accuracy: score.accuracy,
            penalties: sums.mean_penalties(),
            activation_norm: sums.extras[FEATURE_NORM] / sums.items as f64,
            grad_norm: sums.mean_grad_norm(),
            seconds: sums.seconds,
        };
        Ok(EpochEnd { record, is_last: epoch >= self.max_epochs() })
    }

    fn snapshot(&self) -> Snapshot<Self> {
        // Updates the running statistics, which lag by a step.
        self.model().valid();
        let net = self.model().net.clone();
        let (tensors, state) = ImageTensors::new(net, &self.optimizer.velocities, self.last);
        Snapshot { tensors, optimizer: OptimizerRecord::default(), state }
    }

    fn template(&self, state: &ImageState) -> ImageTensors {
        ImageTensors::like(self.model().net.clone(), state, &self.devices[0])
    }

    fn restore(&mut self, snapshot: Snapshot<Self>) {
        let Snapshot { tensors, state, .. } = snapshot;
        let (net, velocities) = tensors.into_parts(&state);
        self.model = Some(ImageLearner { net, ..self.model().clone() });
        self.optimizer.velocities = velocities;
        self.last = state.last;
    }

    /// The last epoch has measured everything.
    fn finish(
        self,
        curve: &[ImageEpochRecord],
        _: &mut GoOnPart<'_>,
    ) -> Result<Option<ImageResult>, NotFinite> {
        let (test, pooled) = self.last.expect("an epoch is done");
        // The first of the best.
        let by_accuracy = |left: &&ImageEpochRecord, right: &&ImageEpochRecord| {
            left.test_accuracy.total_cmp(&right.test_accuracy)
        };
        let best = curve.iter().rev().max_by(by_accuracy).expect("an epoch is done");
        let best_score =
            ImageScore { nll: best.test_nll, accuracy: best.test_accuracy, images: test.images };
        Ok(Some(ImageResult {
            test,
            best_epoch: best.epoch,
            best: best_score,
            pooled,
            data_variant: self.data.variant,
        }))
    }
}

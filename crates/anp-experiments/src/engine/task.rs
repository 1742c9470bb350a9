use std::error::Error;

use anp_models::Kernels;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::tensor::Device;
use burn::train::{InferenceStep, LearnerModel, TrainStep};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::TrainError;
use super::metrics::{Quantity, Report, StepOutput, Summary};
use super::position::Position;
use super::record::PenaltyEquivalent;
use super::scalars::{EpochSums, NotFinite, StepScalars};
use crate::data::Store;
use crate::device::Devices;

/// What differs between kinds of runs. The engine does everything else.
///
/// [`run`](super::run) creates a task with [`new`](Self::new), resumes it from a checkpoint with
/// [`restore`](Self::restore), and then calls, epoch by epoch:
///
/// ```text
/// start_epoch, step … step, validate, end_epoch      until an epoch is the last
/// finish
/// ```
///
/// [`step`](Self::step) is a complete training step, from the batch to the updated parameters; it
/// returns its scalars unread. A run that is interrupted anywhere ends with the same bits if
///
/// - every random draw is seeded from the run's seed and the [`Position`] alone (see
///   [`random`](crate::random)), and
/// - [`snapshot`](Self::snapshot) holds everything else that the next step depends on.
pub trait Task: Sized + 'static {
    /// Names the kind of run in checkpoints.
    const KIND: &'static str;
    /// Words for messages.
    const WORDS: Words;
    /// What is shown while it trains.
    const METRICS: Metrics;
    /// Number of steps whose scalars are read together, so as not to wait for the device at each.
    const READ_EVERY: usize;

    /// Everything that determines the result except the seed.
    type Recipe: Clone + Serialize + DeserializeOwned;
    /// The data for training and evaluation.
    type Data;
    /// The output of the learner's steps.
    type Output: StepOutput;
    /// The model with its training and inference step, for burn-train.
    type Learner: LearnerModel
        + TrainStep<Output = Report<Self::Output>>
        + InferenceStep<Output = Report<Self::Output>>;
    /// All tensors of a checkpoint.
    type Tensors: Module;
    /// The rest of a checkpoint, apart from what the engine keeps.
    type State: Serialize + DeserializeOwned;
    /// The measurement after each epoch.
    type Validation;
    /// An epoch in the record.
    type Epoch: Clone + Serialize + DeserializeOwned;
    /// The numbers that go into the table.
    type Result;

    /// Check the recipe, and that it can run on these devices, before any data is read.
    ///
    /// # Errors
    ///
    /// [`TrainError::Recipe`], [`TrainError::SeveralDevices`] or [`TrainError::Task`].
    fn check(recipe: &Self::Recipe, devices: &Devices) -> Result<(), TrainError>;

    /// Read the data.
    ///
    /// # Errors
    ///
    /// [`TrainError::Data`] or [`TrainError::Task`].
    fn load(recipe: &Self::Recipe, store: &Store) -> Result<Self::Data, TrainError>;

    /// Made-up data of the recipe's sizes, with this share of what is trained on and measured, but
    /// at least a step of each: to measure how long steps take.
    ///
    /// # Errors
    ///
    /// [`TrainError::Task`].
    fn made_up(recipe: &Self::Recipe, share: f64) -> Result<Self::Data, TrainError>;

    /// Create the task before its first step. Parameters are drawn from the generator of the first
    /// device, which is seeded.
    fn new(recipe: Self::Recipe, data: Self::Data, context: Context) -> Self;

    /// A handle on the model for burn-train. While it lives, parameters cannot be updated in place.
    fn learner(&self) -> Self::Learner;

    /// Number of trainable parameters.
    fn num_params(&self) -> usize;

    /// What each penalty amounts to in the conventions of the literature.
    fn penalties(&self) -> Vec<PenaltyEquivalent>;

    /// Largest number of epochs.
    fn max_epochs(&self) -> usize;

    /// Learning rate of the current epoch, counted from 1.
    fn learning_rate(&self, epoch: usize) -> f64;

    /// Prepare the steps of an epoch from `at` on; returns the number of steps of the whole epoch.
    fn start_epoch(&mut self, at: Position) -> usize;

    /// Make one training step.
    ///
    /// # Errors
    ///
    /// If a device fails.
    fn step(&mut self, at: Position) -> Result<StepScalars, StepError>;

    /// Number of steps of a validation.
    fn validation_steps(&self) -> usize;

    /// Measure the model; `None` if `go_on` returns `false`.
    fn validate(&mut self, go_on: &mut GoOn<'_>) -> Option<Self::Validation>;

    /// Close an epoch.
    ///
    /// # Errors
    ///
    /// [`NotFinite`] if a number of the validation is not finite.
    fn end_epoch(
        &mut self,
        epoch: FinishedEpoch,
        validation: Self::Validation,
    ) -> Result<EpochEnd<Self::Epoch>, NotFinite>;

    /// Everything that the next step depends on, apart from recipe, data and [`Context`].
    fn snapshot(&self) -> Snapshot<Self>;

    /// Tensors with the shapes of a checkpoint with this state.
    fn template(&self, state: &Self::State) -> Self::Tensors;

    /// Restore what [`snapshot`](Self::snapshot) returned.
    fn restore(&mut self, snapshot: Snapshot<Self>);

    /// Measure the trained model; `None` if `go_on` returns `false`.
    ///
    /// # Errors
    ///
    /// [`NotFinite`] if a number is not finite.
    fn finish(
        self,
        curve: &[Self::Epoch],
        go_on: &mut GoOnPart<'_>,
    ) -> Result<Option<Self::Result>, NotFinite>;
}

/// Why a step failed.
pub type StepError = Box<dyn Error + Send + Sync>;

/// Called with the progress of an evaluation; returns whether to continue.
pub type GoOn<'a> = dyn FnMut(EvaluationProgress) -> bool + 'a;

/// Called with the part and the progress of an evaluation; returns whether to continue.
pub type GoOnPart<'a> = dyn FnMut(&'static str, EvaluationProgress) -> bool + 'a;

/// Words for messages about a kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// A step, for example `window`.
    pub step: &'static str,
    /// Its plural.
    pub steps: &'static str,
    /// What to try if numbers become infinite.
    pub remedy: &'static str,
}

/// What is shown while a run trains.
#[derive(Debug, Clone, Copy)]
pub struct Metrics {
    /// For training and validation.
    pub both: &'static [Quantity],
    /// For training only, besides the learning rate.
    pub train: &'static [Quantity],
}

/// Devices, kernels and seed of a task.
#[derive(Debug, Clone)]
pub struct Context {
    /// The devices, with autodiff; the model is on the first.
    pub devices: Vec<Device>,
    /// How the model computes.
    pub kernels: Kernels,
    /// Seed of all random draws.
    pub seed: u64,
}

/// Progress of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationProgress {
    /// Completed steps.
    pub done: usize,
    /// All steps.
    pub total: usize,
    /// The steps since the last report; `None` if no loss is measured.
    pub measured: Option<Summary>,
}

/// The training of an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedEpoch {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Sums over its steps.
    pub sums: EpochSums,
}

/// The result of an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochEnd<E> {
    /// The epoch, for the record.
    pub record: E,
    /// Whether it was the last.
    pub is_last: bool,
}

/// A task's part of a checkpoint.
pub struct Snapshot<T: Task> {
    /// Parameters and all other tensors.
    pub tensors: T::Tensors,
    /// State of a Burn optimizer; empty if there is none.
    pub optimizer: OptimizerRecord,
    /// Everything else.
    pub state: T::State,
}

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

/// What differs between kinds of runs; the engine does all else.
///
/// [`run`](super::run) makes a task with [`new`](Self::new), brings it to where a checkpoint was
/// taken with [`restore`](Self::restore), and then asks for one epoch after the other:
///
/// ```text
/// start_epoch, step … step, validate, end_epoch          until an epoch is the last
/// finish
/// ```
///
/// A step does what a training step does, from the batch to the updated parameters, and hands over
/// its scalars unread. A task draws each random number from a seed that depends on the run's seed
/// and the [`Position`] only (see [`random`](crate::random)), and puts all else that the next step
/// depends on into [`snapshot`](Self::snapshot): then a run that is stopped anywhere ends with the
/// same bits.
pub trait Task: Sized + 'static {
    /// Names the kind of run in checkpoints.
    const KIND: &'static str;
    /// What messages call things.
    const WORDS: Words;
    /// What is shown while it trains.
    const METRICS: Metrics;
    /// Steps between two looks at the scalars: the device is not waited for at each.
    const READ_EVERY: usize;

    /// Everything that decides the result, but for the seed.
    type Recipe: Clone + Serialize + DeserializeOwned;
    /// What is trained and evaluated on.
    type Data;
    /// What a step of the learner gives.
    type Output: StepOutput;
    /// The model with its training and inference step, for burn-train.
    type Learner: LearnerModel
        + TrainStep<Output = Report<Self::Output>>
        + InferenceStep<Output = Report<Self::Output>>;
    /// Everything a checkpoint must hold that is a tensor.
    type Tensors: Module;
    /// Everything else, beside what the engine keeps.
    type State: Serialize + DeserializeOwned;
    /// What is measured after each epoch.
    type Validation;
    /// One epoch in the record.
    type Epoch: Clone + Serialize + DeserializeOwned;
    /// The numbers that go into the table.
    type Result;

    /// Check the recipe, and that it can be run on these devices, before any data is read.
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

    /// The task before the first step, with parameters drawn from the first device's generator,
    /// which is seeded.
    fn new(recipe: Self::Recipe, data: Self::Data, context: Context) -> Self;

    /// The model, as burn-train sees it. Whoever holds it keeps parameters from being updated in
    /// place.
    fn learner(&self) -> Self::Learner;

    /// Trainable parameters of the model.
    fn num_params(&self) -> usize;

    /// What each penalty amounts to in the conventions of the literature.
    fn penalties(&self) -> Vec<PenaltyEquivalent>;

    /// Most epochs that are trained.
    fn max_epochs(&self) -> usize;

    /// Learning rate of an epoch, from 1: the current one.
    fn learning_rate(&self, epoch: usize) -> f64;

    /// Get ready for the steps of the epoch from `at` on; how many steps the epoch has in all.
    fn start_epoch(&mut self, at: Position) -> usize;

    /// One training step.
    ///
    /// # Errors
    ///
    /// If a device fails.
    fn step(&mut self, at: Position) -> Result<StepScalars, StepError>;

    /// Steps of a validation.
    fn validation_steps(&self) -> usize;

    /// Measure the model; `None` if `go_on`, told how far it is, says `false`.
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

    /// Everything that the next step depends on, beside recipe, data and [`Context`].
    fn snapshot(&self) -> Snapshot<Self>;

    /// Tensors of the shapes that a checkpoint with this state has.
    fn template(&self, state: &Self::State) -> Self::Tensors;

    /// Become what [`snapshot`](Self::snapshot) was taken of.
    fn restore(&mut self, snapshot: Snapshot<Self>);

    /// Measure the trained model; `None` if `go_on`, told which part and how far it is, says
    /// `false`.
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

/// Told how far an evaluation is; says whether to go on.
pub type GoOn<'a> = dyn FnMut(EvaluationProgress) -> bool + 'a;

/// Told which part of an evaluation is made, and how far it is; says whether to go on.
pub type GoOnPart<'a> = dyn FnMut(&'static str, EvaluationProgress) -> bool + 'a;

/// What messages call the parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// A step: `window`, `batch`.
    pub step: &'static str,
    /// Several.
    pub steps: &'static str,
    /// What to try where numbers grow beyond all bounds.
    pub remedy: &'static str,
}

/// What is shown while a run trains.
#[derive(Debug, Clone, Copy)]
pub struct Metrics {
    /// In training and validation.
    pub both: &'static [Quantity],
    /// In training, beside the learning rate.
    pub train: &'static [Quantity],
}

/// Where and with what seed a task runs.
#[derive(Debug, Clone)]
pub struct Context {
    /// The devices, with gradients; the model is on the first.
    pub devices: Vec<Device>,
    /// How the model computes.
    pub kernels: Kernels,
    /// Seed of everything random.
    pub seed: u64,
}

/// How far an evaluation or a measurement is.
#[derive(Debug, Clone, Copy)]
pub struct EvaluationProgress {
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
    /// The steps since the last report; `None` where no loss is measured.
    pub measured: Option<Summary>,
}

/// An epoch of training.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedEpoch {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Learning rate during the epoch.
    pub learning_rate: f64,
    /// Sums over its steps.
    pub sums: EpochSums,
}

/// What follows from an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochEnd<E> {
    /// The epoch, for the record.
    pub record: E,
    /// Whether it was the last.
    pub is_last: bool,
}

/// What a checkpoint holds of a task.
pub struct Snapshot<T: Task> {
    /// Parameters, and whatever else is a tensor.
    pub tensors: T::Tensors,
    /// What an optimizer of Burn remembers, if it remembers anything.
    pub optimizer: OptimizerRecord,
    /// Everything else.
    pub state: T::State,
}

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::optim::SgdConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{LearningRateMetric, MetricDefinition, NumericEntry};
use burn::train::renderer::MetricsRenderer;
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTraining, SupervisedTrainingEventProcessor, TrainLoader, TrainingComponents,
    TrainingItem, TrainingStrategy, ValidLoader,
};

use super::checkpoint::CheckpointFolder;
use super::error::{CheckpointError, TrainError};
use super::metrics::{Report, SummaryMetric};
use super::position::{Position, RunState};
use super::scalars::{EpochSums, NotFinite, StepScalars};
use super::task::{EpochEnd, EvaluationProgress, FinishedEpoch, Task};

/// A run and its state.
pub(super) struct Run<T: Task> {
    pub recipe: T::Recipe,
    pub task: T,
    pub state: RunState<T::Epoch>,
    pub checkpoints: CheckpointFolder,
}

/// How training is shown, saved and interrupted.
pub(super) struct Launch {
    pub label: String,
    pub renderer: Box<dyn MetricsRenderer>,
    pub interrupter: Interrupter,
    pub checkpoint_interval: Duration,
}

/// Why training stopped before its end.
pub(super) enum Stopped {
    Interrupted { checkpoint: PathBuf },
    Failed(TrainError),
}

impl<E: Into<TrainError>> From<E> for Stopped {
    fn from(err: E) -> Self {
        Self::Failed(err.into())
    }
}

/// Train to the end of the last epoch.
pub(super) fn train<T: Task>(run: Run<T>, launch: Launch) -> Result<Run<T>, Stopped> {
    let Launch { label, renderer, interrupter, checkpoint_interval } = launch;
    let (learner, num_epochs) = (run.task.learner(), run.task.max_epochs());
    let epochs_done = run.state.position.epoch - 1;
    let slot = Arc::new(Mutex::new(Slot::Waiting(run)));
    let strategy = Strategy { checkpoint_interval, slot: Arc::clone(&slot) };
    // The folder is for checkpoints and logs of burn-train, which are off.
    let mut training = SupervisedTraining::new("", Arc::new(NoLoader), Arc::new(NoLoader))
        .with_application_logger(None)
        .with_metric_logger(NoMetricLogger)
        .with_interrupter(interrupter)
        .renderer(renderer)
        .num_epochs(num_epochs)
        .label(&label)
        .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)));
    if epochs_done > 0 {
        training = training.checkpoint(epochs_done);
    }
    for &quantity in T::METRICS.both {
        let metric = SummaryMetric::new(quantity);
        training = training.metric_train_numeric(metric.clone()).metric_valid_numeric(metric);
    }
    for &quantity in T::METRICS.train {
        training = training.metric_train_numeric(SummaryMetric::new(quantity));
    }
    training = training.metric_train_numeric(LearningRateMetric::new());

    // The task has its own learning rate and update; those given here are not used.
    let learner = Learner::new(learner, SgdConfig::new().init(), ConstantLr::new(0.0));
    let error = training.launch(learner).error;
    let ended = slot.lock().expect("no panic").take();
    match (ended, error) {
        (Slot::Ended(ended), None) => ended,
        (_, Some(err)) => Err(TrainError::Training(err.to_string()).into()),
        (_, None) => Err(TrainError::Training("the loop gave no result".to_owned()).into()),
    }
}

/// Carries a run into the strategy and out again, for which the trait has no parameters.
enum Slot<T: Task> {
    Empty,
    Waiting(Run<T>),
    Ended(Result<Run<T>, Stopped>),
}

impl<T: Task> Slot<T> {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Empty)
    }
}

/// A burn-train learning strategy that trains a [`Task`].
///
/// The stock loop shuffles items, keeps no state between them, and saves only at the end of an
/// epoch.
struct Strategy<T: Task> {
    checkpoint_interval: Duration,
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T: Task> SupervisedLearningStrategy<T::Learner> for Strategy<T> {
    fn fit(
        &self,
        components: TrainingComponents<T::Learner>,
        learner: Learner<T::Learner>,
        _train: TrainLoader<T::Learner>,
        _valid: ValidLoader<T::Learner>,
        _starting_epoch: usize,
    ) -> (T::Learner, SupervisedTrainingEventProcessor<T::Learner>) {
        // It holds a second handle on every parameter, which would prevent updates in place.
        drop(learner);
        let Slot::Waiting(run) = self.slot.lock().expect("no panic").take() else {
            panic!("a strategy is used once")
        };
        let mut training = Training {
            run,
            checkpoint_interval: self.checkpoint_interval,
            num_steps: 0,
            events: components.event_processor,
            interrupter: components.interrupter,
            pending: Vec::new(),
            flushed_at: Instant::now(),
            clock: Instant::now(),
            saved_at: Instant::now(),
        };
        let result = match (training.train(), training.interrupter.error()) {
            // Checked here because burn-train's dashboard clears the error when training ends.
            (Ok(()) | Err(Stopped::Interrupted { .. }), Some(err)) => {
                Err(TrainError::Training(err.to_string()).into())
            }
            (result, _) => result,
        };
        let Training { run, events, .. } = training;
        let learner = run.task.learner();
        *self.slot.lock().expect("no panic") = Slot::Ended(result.map(|()| run));
        (learner, events)
    }
}

/// A run during training.
struct Training<T: Task> {
    run: Run<T>,
    checkpoint_interval: Duration,
    /// Steps of the current epoch.
    num_steps: usize,
    events: SupervisedTrainingEventProcessor<T::Learner>,
    interrupter: Interrupter,
    /// Scalars that have not been read yet.
    pending: Vec<StepScalars>,
    flushed_at: Instant,
    /// When the run's `wall_seconds` was last updated.
    clock: Instant,
    saved_at: Instant,
}

impl<T: Task> Training<T> {
    fn train(&mut self) -> Result<(), Stopped> {
        while !self.run.state.ended {
            self.train_epoch()?;
            self.validate()?;
        }
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        self.run.task.learning_rate(self.run.state.position.epoch)
    }

    fn train_epoch(&mut self) -> Result<(), Stopped> {
        let epoch = self.run.state.position.epoch;
        self.num_steps = self.run.task.start_epoch(self.run.state.position);
        let total_items = self.num_steps;
        self.emit_train(LearnerEvent::StartSplit { epoch_number: epoch, total_items });
        self.flushed_at = Instant::now();

        while self.run.state.position.done < self.num_steps {
            if self.interrupter.should_stop() {
                return self.save_and_stop();
            }
            let scalars = self.run.task.step(self.run.state.position);
            self.pending.push(scalars.map_err(|err| TrainError::Training(err.to_string()))?);
            let position = &mut self.run.state.position;
            position.done += 1;
            position.step += 1;

            let is_last = position.done == self.num_steps;
            let is_due = self.saved_at.elapsed() >= self.checkpoint_interval;
            if self.pending.len() == T::READ_EVERY || is_last || is_due {
                self.read_pending()?;
            }
            if is_due && !is_last {
                self.save()?;
            }
        }
        self.emit_train(LearnerEvent::EndSplit(epoch));
        Ok(())
    }

    /// Read the pending scalars, check that they are finite, and add them up.
    fn read_pending(&mut self) -> Result<(), Stopped> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let steps = StepScalars::read(std::mem::take(&mut self.pending));
        let Position { epoch, done, step } = self.run.state.position;
        let mut read = EpochSums::default();
        for (to_come, scalars) in (0..steps.len()).rev().zip(&steps) {
            let (done, step) = (done - to_come, step - to_come as u64);
            scalars
                .check_finite()
                .map_err(|err| self.run.not_finite(err, Position { epoch, done, step }))?;
            self.run.state.sums.add(scalars);
            read.add(scalars);
        }
        read.seconds = self.flushed_at.elapsed().as_secs_f64();
        self.flushed_at = Instant::now();
        let RunState { sums, course, .. } = &mut self.run.state;
        sums.seconds += read.seconds;
        course.train_seconds += read.seconds;
        course.train_items += read.items as u64;

        let item = TrainingItem::new(
            Report::Summary(read.summary()),
            Progress::new(done, self.num_steps, Some(T::WORDS.steps.to_owned())),
            Some(done),
            Some(self.learning_rate().into()),
        );
        self.emit_train(LearnerEvent::ProcessedItem(item));
        Ok(())
    }

    /// Measure the model, and close the epoch.
    fn validate(&mut self) -> Result<(), Stopped> {
        let Self { run, events, interrupter, .. } = self;
        let Position { epoch, .. } = run.state.position;
        let mut emit = |event| interrupter.fail_on_error(events.process_valid(event));
        let total_items = run.task.validation_steps();
        emit(LearnerEvent::StartSplit { epoch_number: epoch, total_items });
        let validation = run.task.validate(&mut |progress| {
            let EvaluationProgress { done, total, measured } = progress;
            let item = TrainingItem::new(
                Report::Summary(measured.unwrap_or_default()),
                Progress::new(done, total, Some(T::WORDS.steps.to_owned())),
                Some(done),
                None,
            );
            emit(LearnerEvent::ProcessedItem(item));
            !interrupter.should_stop()
        });
        // A resumed run starts at the end of the epoch and validates again.
        let Some(validation) = validation else { return self.save_and_stop() };
        emit(LearnerEvent::EndSplit(epoch));

        let learning_rate = run.task.learning_rate(epoch);
        let sums = std::mem::take(&mut run.state.sums);
        let finished = FinishedEpoch { epoch, learning_rate, sums };
        let EpochEnd { record, is_last } = run
            .task
            .end_epoch(finished, validation)
            .map_err(|err| run.not_finite(err, run.state.position))?;
        run.state.curve.push(record);
        run.state.ended = is_last;
        run.state.position.epoch += 1;
        run.state.position.done = 0;
        self.emit_train(LearnerEvent::EndEpoch(epoch));
        self.save()?;
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf, CheckpointError> {
        let Run { recipe, task, state, checkpoints } = &mut self.run;
        state.course.wall_seconds += self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        let path = checkpoints.save(recipe, state, task.snapshot())?;
        self.saved_at = Instant::now();
        // Saving is not training time.
        self.flushed_at = Instant::now();
        Ok(path)
    }

    fn save_and_stop(&mut self) -> Result<(), Stopped> {
        self.read_pending()?;
        let checkpoint = self.save()?;
        Err(Stopped::Interrupted { checkpoint })
    }

    fn emit_train(&mut self, event: LearnerEvent<Report<T::Output>>) {
        self.interrupter.fail_on_error(self.events.process_train(event));
    }
}

impl<T: Task> Run<T> {
    fn not_finite(&self, err: NotFinite, at: Position) -> TrainError {
        let learning_rate = self.task.learning_rate(at.epoch);
        not_finite::<T>(err, at, learning_rate, &self.checkpoints)
    }
}

/// The error for a number that is not finite. `at` is the position after the step that produced it;
/// `at.done` is 0 if no step did.
pub(super) fn not_finite<T: Task>(
    err: NotFinite,
    at: Position,
    learning_rate: f64,
    checkpoints: &CheckpointFolder,
) -> TrainError {
    TrainError::NotFinite {
        quantity: err.quantity,
        value: err.value,
        epoch: err.epoch.unwrap_or(at.epoch),
        unit: (at.done > 0).then_some((T::WORDS.step, at.done)),
        step: at.step,
        learning_rate,
        remedy: T::WORDS.remedy,
        checkpoint: checkpoints.newest().unwrap_or_default(),
    }
}

/// burn-train requires loaders, but the strategy does not use them.
struct NoLoader;

impl<I> DataLoader<I> for NoLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<I> + 'a> {
        unreachable!("the strategy does not load")
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<I>> {
        Arc::new(Self)
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<I>> {
        Arc::new(Self)
    }
}

/// Without a logger burn-train writes metrics to files; the curve is in the record instead.
struct NoMetricLogger;

impl MetricLogger for NoMetricLogger {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

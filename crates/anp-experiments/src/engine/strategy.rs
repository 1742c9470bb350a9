use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anp_models::{LmState, RecurrentLm};
use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::tensor::{Device, Tensor};
use burn::train::{
    EventProcessorTraining, Interrupter, Learner, LearnerEvent, SupervisedLearningStrategy,
    SupervisedTrainingEventProcessor, TrainLoader, TrainStep, TrainingComponents, TrainingError,
    TrainingItem, ValidLoader,
};

use super::checkpoint::{CheckpointError, CheckpointFolder, Snapshot};
use super::metrics::{StepReport, Summary};
use super::position::{EpochSums, TrainerState};
use crate::random::{Purpose, seed};
use crate::recipe::TextRecipe;
use crate::record::EpochRecord;
use crate::text::averaging::Averaging;
use crate::text::batches::{LmBatch, Span, WindowLoader};
use crate::text::evaluate::evaluate;
use crate::text::learner::{LmLearner, Objective};
use crate::text::noising::Noising;

/// Windows between two looks at the losses: the device is not waited for at each.
const READ_EVERY: usize = 16;

/// Truncated back-propagation with carried state, as a learning strategy of burn-train.
///
/// A stock loop shuffles items and keeps nothing between them. Here the state goes from window to window, one
/// norm is taken over all gradients, the schedule may go back to the best parameters, and a checkpoint may
/// fall into the middle of an epoch.
pub(super) struct BpttStrategy {
    pub recipe: TextRecipe,
    pub vocab_size: usize,
    pub device: Device,
    pub train: WindowLoader,
    pub noising: Option<Noising>,
    pub valid: WindowLoader,
    pub checkpoints: CheckpointFolder,
    pub checkpoint_interval: Duration,
    /// What training starts from, taken by [`fit`](SupervisedLearningStrategy::fit).
    pub start: Mutex<Option<Start>>,
    /// What training led to, for who launched it: the trait's return value has no room for it.
    pub outcome: Arc<Mutex<Option<Result<Trained, TrainingStopped>>>>,
}

/// What training starts from, next to the model and the optimiser.
pub(super) struct Start {
    pub optimizer: ModuleOptimizer,
    pub best: Option<RecurrentLm>,
    pub average: Option<RecurrentLm>,
    pub state: Option<LmState>,
    pub trainer: TrainerState,
}

/// Training that came to its end.
pub(super) struct Trained {
    pub best: RecurrentLm,
    pub trainer: TrainerState,
}

/// Why training stopped before its end.
#[derive(Debug)]
pub(super) enum TrainingStopped {
    Interrupted {
        checkpoint: PathBuf,
    },
    NotFinite {
        quantity: &'static str,
        value: f64,
        epoch: usize,
        window: usize,
        step: u64,
        learning_rate: f64,
    },
    Checkpoint(CheckpointError),
    /// burn-train could not process what it was told.
    Events(Arc<TrainingError>),
}

impl From<CheckpointError> for TrainingStopped {
    fn from(err: CheckpointError) -> Self {
        Self::Checkpoint(err)
    }
}

impl SupervisedLearningStrategy<LmLearner> for BpttStrategy {
    fn fit(
        &self,
        components: TrainingComponents<LmLearner>,
        learner: Learner<LmLearner>,
        _train: TrainLoader<LmLearner>,
        _valid: ValidLoader<LmLearner>,
        _starting_epoch: usize,
    ) -> (LmLearner, SupervisedTrainingEventProcessor<LmLearner>) {
        let start = self.start.lock().expect("no panic").take().expect("a strategy is used once");
        let model = learner.model();
        // The learner keeps a second handle on every parameter, which would forbid updates in place.
        drop(learner);
        let mut run = Run {
            strategy: self,
            objective: model.objective.clone(),
            model: Some(model),
            optimizer: start.optimizer,
            best: start.best,
            average: start.average,
            state: start.state,
            num_windows: 0,
            trainer: start.trainer,
            events: components.event_processor,
            interrupter: components.interrupter,
            pending: Vec::new(),
            flushed_at: Instant::now(),
            clock: Instant::now(),
            saved_at: Instant::now(),
        };
        let result = match (run.train(), run.interrupter.error()) {
            // Asked here and not of burn-train, whose dashboard forgets it at the end of a training.
            (Ok(()) | Err(TrainingStopped::Interrupted { .. }), Some(err)) => {
                Err(TrainingStopped::Events(err))
            }
            (result, _) => result,
        };
        let model = run.model.take().expect("the model is there between steps");
        *self.outcome.lock().expect("no panic") = Some(result.map(|()| Trained {
            best: run.best.take().unwrap_or_else(|| model.lm.clone()),
            trainer: run.trainer,
        }));
        (model, run.events)
    }
}

/// Scalars of one window that have not been read yet.
struct PendingWindow {
    tokens: usize,
    /// Loss, gradient norm, then the penalties: `[1]` each.
    values: Vec<Tensor<1>>,
}

struct Run<'a> {
    strategy: &'a BpttStrategy,
    objective: Objective,
    /// Taken during an update, which consumes it.
    model: Option<LmLearner>,
    optimizer: ModuleOptimizer,
    best: Option<RecurrentLm>,
    average: Option<RecurrentLm>,
    state: Option<LmState>,
    /// Windows of the current epoch.
    num_windows: usize,
    trainer: TrainerState,
    events: SupervisedTrainingEventProcessor<LmLearner>,
    interrupter: Interrupter,
    pending: Vec<PendingWindow>,
    flushed_at: Instant,
    /// When `trainer.wall_seconds` was last brought up to date.
    clock: Instant,
    saved_at: Instant,
}

impl Run<'_> {
    fn train(&mut self) -> Result<(), TrainingStopped> {
        while !self.trainer.ended {
            self.train_epoch()?;
            self.validate()?;
        }
        Ok(())
    }

    fn model(&self) -> &LmLearner {
        self.model.as_ref().expect("the model is there between steps")
    }

    /// The parameters that count: the averages, where there are some.
    fn evaluated(&self) -> &RecurrentLm {
        self.average.as_ref().unwrap_or(&self.model().lm)
    }

    /// The windows of the current epoch. They follow from the seed and the step that the epoch began with, so that a run that
    /// goes on in the middle has the same.
    fn spans(&self) -> Vec<Span> {
        let streams = self.strategy.train.streams();
        let data = &self.strategy.recipe.data;
        let Some(variable) = &data.variable_bptt else { return streams.spans() };
        let first_step = self.trainer.step - self.trainer.window as u64;
        streams.spans_of_lengths(|index| {
            let step = first_step + index as u64;
            variable.draw(data.bptt, seed(self.trainer.seed, Purpose::WindowLength, step))
        })
    }

    fn train_epoch(&mut self) -> Result<(), TrainingStopped> {
        let strategy = self.strategy;
        let spans = self.spans();
        let num_windows = spans.len();
        self.num_windows = num_windows;
        let learning_rate = self.trainer.schedule.learning_rate();
        let epoch = self.trainer.current_epoch();
        self.emit_train(LearnerEvent::StartSplit { epoch_number: epoch, total_items: num_windows });
        self.flushed_at = Instant::now();

        while self.trainer.window < num_windows {
            if self.interrupter.should_stop() {
                return self.save_and_stop();
            }
            let (run_seed, step) = (self.trainer.seed, self.trainer.step);
            let noise = |inputs: &mut [i32], targets: &mut [i32]| {
                if let Some(noising) = &strategy.noising {
                    noising.apply(inputs, targets, seed(run_seed, Purpose::Noising, step));
                }
            };
            let streams = strategy.train.streams();
            let span = spans[self.trainer.window];
            let window = streams.window_with(span, &strategy.device, noise);
            let tokens = window.num_tokens();
            strategy.device.seed(seed(run_seed, Purpose::Dropout, step));

            let model = self.model.take().expect("the model is there between steps");
            let output = TrainStep::step(&model, LmBatch { window, state: self.state.take() });
            let gradients = output.grads;
            let output = output.item.into_window();
            let max_norm = strategy.recipe.training.grad_clip_norm;
            let mut rate = match strategy.recipe.data.variable_bptt {
                // As drawn: the end of the text does not count.
                Some(_) => learning_rate * span.drawn as f64 / strategy.recipe.data.bptt as f64,
                None => learning_rate,
            };
            if let Some(averaging) = &mut self.trainer.averaging {
                rate = averaging.learning_rate(rate);
            }
            let (model, norm) =
                model.update(&mut self.optimizer, rate, max_norm, gradients, output.rows);
            if let Some(averaging) = &mut self.trainer.averaging {
                self.average = Some(averaging.add(self.average.take(), &model.lm));
            }
            self.model = Some(model);
            self.state = Some(output.state);
            let mut values = vec![output.nll_sum, norm.inner()];
            values.extend(output.penalties);
            self.pending.push(PendingWindow { tokens, values });
            self.trainer.window += 1;
            self.trainer.step += 1;

            let due = self.saved_at.elapsed() >= strategy.checkpoint_interval;
            if self.pending.len() == READ_EVERY || self.trainer.window == num_windows || due {
                self.read_pending(learning_rate)?;
            }
            if due && self.trainer.window < num_windows {
                self.save()?;
            }
        }
        self.emit_train(LearnerEvent::EndSplit(epoch));
        Ok(())
    }

    /// Read what the last windows gave, add it up, and look whether it is finite.
    fn read_pending(&mut self, learning_rate: f64) -> Result<(), TrainingStopped> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        let values: Vec<_> = pending.iter().flat_map(|window| window.values.clone()).collect();
        let values: Vec<f64> = Tensor::cat(values, 0).into_data().iter::<f64>().collect();
        let num_values = values.len() / pending.len();
        let first_window = self.trainer.window - pending.len();
        let first_step = self.trainer.step - pending.len() as u64;

        let sums = &mut self.trainer.epoch;
        sums.penalties.resize(num_values - 2, 0.0);
        let mut summary = Summary::default();
        let mut nll = 0.0;
        for (index, (window, values)) in pending.iter().zip(values.chunks(num_values)).enumerate() {
            let names = ["the loss", "the norm of the gradients"].into_iter();
            for (quantity, &value) in names.chain(std::iter::repeat("a penalty")).zip(values) {
                if !value.is_finite() {
                    return Err(TrainingStopped::NotFinite {
                        quantity,
                        value,
                        epoch: self.trainer.schedule.epochs() + 1,
                        window: first_window + index + 1,
                        step: first_step + index as u64 + 1,
                        learning_rate,
                    });
                }
            }
            sums.windows += 1;
            sums.tokens += window.tokens;
            sums.nll += values[0];
            sums.grad_norm += values[1];
            sums.clipped += usize::from(values[1] > self.strategy.recipe.training.grad_clip_norm);
            for (sum, &value) in sums.penalties.iter_mut().zip(&values[2..]) {
                *sum += value;
            }
            nll += values[0];
            summary.tokens += window.tokens;
            summary.grad_norm += values[1] / pending.len() as f64;
            summary.penalty += values[2..].iter().sum::<f64>() / pending.len() as f64;
        }
        summary.nll = nll / summary.tokens as f64;
        summary.seconds = self.flushed_at.elapsed().as_secs_f64();
        self.flushed_at = Instant::now();
        sums.seconds += summary.seconds;
        self.trainer.train_seconds += summary.seconds;
        self.trainer.train_tokens += summary.tokens as u64;

        let (done, total) = (self.trainer.window, self.num_windows);
        let progress = Progress::new(done, total, Some("windows".to_owned()));
        let item = TrainingItem::new(
            StepReport::Summary(summary),
            progress,
            Some(done),
            Some(learning_rate.into()),
        );
        self.emit_train(LearnerEvent::ProcessedItem(item));
        Ok(())
    }

    fn validate(&mut self) -> Result<(), TrainingStopped> {
        let epoch = self.trainer.current_epoch();
        let valid = &self.strategy.valid;
        let num_windows = valid.streams().num_windows();
        let start = LearnerEvent::StartSplit { epoch_number: epoch, total_items: num_windows };
        self.interrupter.fail_on_error(self.events.process_valid(start));

        let evaluated = LmLearner { lm: self.evaluated().clone(), objective: Objective::default() };
        let model = evaluated.valid();
        let (mut done, mut nll_before, mut at) = (0, 0.0, Instant::now());
        let per_window = valid.streams().num_tokens() / num_windows;
        let score = evaluate(&model, valid, |progress| {
            let windows = progress.windows - done;
            let nll_sum = progress.nll * progress.windows as f64;
            let summary = Summary {
                nll: (nll_sum - nll_before) / windows as f64,
                tokens: windows * per_window,
                seconds: at.elapsed().as_secs_f64(),
                ..Summary::default()
            };
            (done, nll_before, at) = (progress.windows, nll_sum, Instant::now());
            let item = TrainingItem::new(
                StepReport::Summary(summary),
                Progress::new(progress.windows, progress.num_windows, Some("windows".to_owned())),
                Some(progress.windows),
                None,
            );
            let event = LearnerEvent::ProcessedItem(item);
            self.interrupter.fail_on_error(self.events.process_valid(event));
            !self.interrupter.should_stop()
        });
        // Resuming starts at the end of the epoch and validates again.
        let Some(score) = score else { return self.save_and_stop() };
        self.interrupter.fail_on_error(self.events.process_valid(LearnerEvent::EndSplit(epoch)));

        let learning_rate = self.trainer.schedule.learning_rate();
        // Above 709 nats the perplexity overflows while the loss is still a number.
        if !score.perplexity.is_finite() {
            return Err(TrainingStopped::NotFinite {
                quantity: "the validation perplexity",
                value: score.perplexity,
                epoch,
                window: self.trainer.window,
                step: self.trainer.step,
                learning_rate,
            });
        }
        let verdict = self.trainer.schedule.end_epoch(score.nll);
        let sums = std::mem::take(&mut self.trainer.epoch);
        self.trainer.curve.push(epoch_record(epoch, learning_rate, &sums, score.nll));
        if verdict.improved {
            self.best = Some(self.evaluated().clone());
        }
        if verdict.restore_best
            && let Some(best) = &self.best
        {
            self.model = Some(LmLearner { lm: best.clone(), objective: self.objective.clone() });
        }
        if self.trainer.schedule.is_averaging() && self.trainer.averaging.is_none() {
            self.trainer.averaging = Some(Averaging::default());
        }
        self.trainer.window = 0;
        self.trainer.ended = verdict.end.is_some();
        self.state = None;
        self.emit_train(LearnerEvent::EndEpoch(epoch));
        self.save()?;
        Ok(())
    }

    fn save(&mut self) -> Result<PathBuf, CheckpointError> {
        self.trainer.wall_seconds += self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        let snapshot = Snapshot {
            model: self.model().lm.clone(),
            best: self.best.clone(),
            average: self.average.clone(),
            state: self.state.clone(),
            optimizer: self.optimizer.to_record(),
            trainer: self.trainer.clone(),
        };
        let path = self.strategy.checkpoints.save(
            snapshot,
            &self.strategy.recipe,
            self.strategy.vocab_size,
        )?;
        self.saved_at = Instant::now();
        // Not training time.
        self.flushed_at = Instant::now();
        Ok(path)
    }

    fn save_and_stop(&mut self) -> Result<(), TrainingStopped> {
        self.read_pending(self.trainer.schedule.learning_rate())?;
        let checkpoint = self.save()?;
        Err(TrainingStopped::Interrupted { checkpoint })
    }

    fn emit_train(&mut self, event: LearnerEvent<StepReport>) {
        self.interrupter.fail_on_error(self.events.process_train(event));
    }
}

fn epoch_record(epoch: usize, learning_rate: f64, sums: &EpochSums, valid_nll: f64) -> EpochRecord {
    let windows = sums.windows as f64;
    EpochRecord {
        epoch,
        learning_rate,
        train_nll: sums.nll / sums.tokens as f64,
        valid_nll,
        valid_perplexity: valid_nll.exp(),
        penalties: sums.penalties.iter().map(|sum| sum / windows).collect(),
        grad_norm: sums.grad_norm / windows,
        clipped: sums.clipped as f64 / windows,
        seconds: sums.seconds,
    }
}

//! A few steps of a run on made-up data, to tell how long all of it will take.

use std::time::{Duration, Instant};

use super::error::TrainError;
use super::position::Position;
use super::run::Place;
use super::scalars::{EpochSums, StepScalars};
use super::task::{Context, EpochEnd, FinishedEpoch, Task};

/// How long the parts of a run take, as a few steps of each say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pilot {
    /// Training steps of an epoch.
    pub steps: usize,
    /// Seconds of a training step.
    pub step: f64,
    /// Seconds of the validation after each epoch.
    pub validation: f64,
    /// Seconds of the evaluation after the last epoch.
    pub last_evaluation: f64,
}

impl Pilot {
    /// Seconds of a run of so many epochs.
    pub fn seconds(&self, epochs: usize) -> f64 {
        let epoch = self.steps as f64 * self.step + self.validation;
        epochs as f64 * epoch + self.last_evaluation
    }
}

/// Make training steps for about half a second (two, if that takes longer) and the evaluations of
/// the least data that there can be. No data is read, and nothing is saved.
///
/// # Errors
///
/// As [`run`](super::run), apart from data and checkpoints.
pub fn pilot<T: Task>(recipe: &T::Recipe, place: &Place) -> Result<Pilot, TrainError> {
    /// Before anything is measured: compiling, tuning, the first touch of memory.
    const WARM_UP: usize = 2;
    /// Steps that take longer than this are not repeated.
    const LONG: Duration = Duration::from_secs(3);
    const ENOUGH: Duration = Duration::from_millis(500);
    const FEWEST: usize = 3;

    T::check(recipe, &place.devices)?;
    let task = |share: f64| {
        let devices = place.devices.named().iter().map(|(_, device)| device.clone().autodiff());
        let context = Context { devices: devices.collect(), kernels: place.kernels, seed: 1 };
        context.devices[0].seed(1);
        Ok::<_, TrainError>(T::new(recipe.clone(), T::made_up(recipe, share)?, context))
    };
    let mut whole = task(1.0)?;
    let steps = whole.start_epoch(Position::START);
    let mut at = Position::START;
    let mut sums = EpochSums::default();
    let mut step = |whole: &mut T| {
        if at.done == steps {
            at = Position::START;
            whole.start_epoch(at);
        }
        let started = Instant::now();
        let scalars = whole.step(at).map_err(|err| TrainError::Training(err.to_string()))?;
        StepScalars::read(vec![scalars]).iter().for_each(|scalars| sums.add(scalars));
        at = Position { done: at.done + 1, step: at.step + 1, ..at };
        Ok::<_, TrainError>(started.elapsed())
    };
    for _ in 0..WARM_UP {
        if step(&mut whole)? > LONG {
            break;
        }
    }
    let mut measured = vec![step(&mut whole)?];
    loop {
        let so_far = measured.iter().sum::<Duration>();
        if so_far > LONG || so_far >= ENOUGH && measured.len() >= FEWEST {
            break;
        }
        measured.push(step(&mut whole)?);
    }
    let train = measured.iter().sum::<Duration>().as_secs_f64() / measured.len() as f64;

    let validation_steps = whole.validation_steps() as f64;
    drop(whole);

    // A device that compiles its kernels does so the first time.
    let compiles = place.devices.named().iter().any(|(name, _)| !name.backend.is_cpu());
    let mut evaluations = evaluations(task(0.0)?, validation_steps, &sums);
    if compiles {
        evaluations = self::evaluations(task(0.0)?, validation_steps, &sums);
    }
    let [validation, last_evaluation] = evaluations;
    Ok(Pilot { steps, step: train, validation, last_evaluation })
}

/// Seconds of a validation of so many steps, and of the evaluation of the same length after the
/// last epoch, from `short`, which has the shortest texts or the fewest images that there can be.
/// `sums` are of some training steps.
fn evaluations<T: Task>(mut short: T, validation_steps: f64, sums: &EpochSums) -> [f64; 2] {
    let share = short.validation_steps() as f64 / validation_steps;
    let seconds = |started: Instant| started.elapsed().as_secs_f64() / share;
    short.validate(&mut |_| true);
    let started = Instant::now();
    let validated = short.validate(&mut |_| true).expect("nothing stops it");
    let validation = seconds(started);
    let epoch = FinishedEpoch { epoch: 1, learning_rate: 0.0, sums: sums.clone() };
    let mut last_evaluation = 0.0;
    if let Ok(EpochEnd { record, .. }) = short.end_epoch(epoch, validated) {
        let started = Instant::now();
        // An untrained model may have no finite perplexity; the time is the same.
        let _ = short.finish(&[record], &mut |_, _| true);
        last_evaluation = seconds(started);
    }
    [validation, last_evaluation]
}

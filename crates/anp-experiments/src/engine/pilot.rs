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

/// Make training steps for about half a second (one, if that takes longer) and the evaluations of
/// the least data that there can be. No data is read, and nothing is saved.
///
/// # Errors
///
/// As [`run`](super::run), apart from data and checkpoints.
pub fn pilot<T: Task>(recipe: &T::Recipe, place: &Place) -> Result<Pilot, TrainError> {
    /// Before anything is measured: compiling, tuning, the first touch of memory.
    const WARM_UP: usize = 2;
    /// A first step that takes longer than this counts, too.
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
    let mut warm_up = Duration::ZERO;
    for _ in 0..WARM_UP {
        warm_up = step(&mut whole)?;
        if warm_up > LONG {
            break;
        }
    }
    let mut measured = Vec::new();
    if warm_up > LONG {
        measured.push(warm_up);
    }
    while warm_up <= LONG && (measured.len() < FEWEST || measured.iter().sum::<Duration>() < ENOUGH)
    {
        measured.push(step(&mut whole)?);
    }
    let train = measured.iter().sum::<Duration>().as_secs_f64() / measured.len() as f64;

    let validation_steps = whole.validation_steps() as f64;
    drop(whole);

    // The shortest texts, or the fewest images, that there can be.
    let mut short = task(0.0)?;
    let share = short.validation_steps() as f64 / validation_steps;
    let seconds = |started: Instant| started.elapsed().as_secs_f64() / share;
    short.validate(&mut |_| true);
    let started = Instant::now();
    let validated = short.validate(&mut |_| true).expect("nothing stops it");
    let validation = seconds(started);
    let epoch = FinishedEpoch { epoch: 1, learning_rate: 0.0, sums };
    let mut last_evaluation = 0.0;
    if let Ok(EpochEnd { record, .. }) = short.end_epoch(epoch, validated) {
        let started = Instant::now();
        // An untrained model may have no finite perplexity; the time is the same.
        let _ = short.finish(&[record], &mut |_, _| true);
        last_evaluation = seconds(started);
    }
    Ok(Pilot { steps, step: train, validation, last_evaluation })
}

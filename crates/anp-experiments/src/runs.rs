//! Where the kinds of runs meet: [`engine::run`] for any recipe, and the evaluation and the
//! analysis of any checkpoint.

use serde::Serialize;

use crate::analyze::{Analysis, Options};
use crate::engine::{
    self, Checkpoint, GoOnPart, Outcome, Pilot, Place, RunRequest, Task, TrainError,
};
use crate::image::{self, CheckpointScore, ImageTask};
use crate::recipe::Recipe;
use crate::record::Record;
use crate::text::evaluate::MonteCarlo;
use crate::text::{self, CheckpointScores, TextTask};
use crate::vib::{self, VibCheckpointScore, VibTask};

/// [`engine::run`] for the recipe's kind of run.
///
/// # Errors
///
/// See [`TrainError`]. Earlier checkpoints are kept.
pub fn run(request: RunRequest<Recipe>) -> Result<Outcome<Record>, TrainError> {
    let RunRequest { recipe, id, place, control } = request;
    match recipe {
        Recipe::Text(recipe) => {
            let request = RunRequest { recipe, id, place, control };
            engine::run::<TextTask>(request).map(|outcome| outcome.map(Record::from))
        }
        Recipe::Image(recipe) => {
            let request = RunRequest { recipe, id, place, control };
            engine::run::<ImageTask>(request).map(|outcome| outcome.map(Record::from))
        }
        Recipe::Vib(recipe) => {
            let request = RunRequest { recipe, id, place, control };
            engine::run::<VibTask>(request).map(|outcome| outcome.map(Record::from))
        }
    }
}

/// [`engine::pilot`] for the recipe's kind of run.
///
/// # Errors
///
/// If the recipe cannot run at `place`.
pub fn pilot(recipe: &Recipe, place: &Place) -> Result<Pilot, TrainError> {
    match recipe {
        Recipe::Text(recipe) => engine::pilot::<TextTask>(recipe, place),
        Recipe::Image(recipe) => engine::pilot::<ImageTask>(recipe, place),
        Recipe::Vib(recipe) => engine::pilot::<VibTask>(recipe, place),
    }
}

/// The scores of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of a language model.
    Text(CheckpointScores),
    /// Of an image classifier.
    Image(CheckpointScore),
    /// Of an image classifier with a bottleneck.
    Vib(VibCheckpointScore),
}

/// Measure the parameters of a checkpoint; `None` if `go_on` returns `false`. For a language model,
/// `monte_carlo` is called with the run's seed and may ask for Monte-Carlo dropout.
///
/// # Errors
///
/// [`TrainError::Checkpoint`], [`TrainError::Data`] and [`TrainError::Task`].
pub fn evaluate(
    checkpoint: Checkpoint,
    place: &Place,
    monte_carlo: impl FnOnce(u64) -> Option<MonteCarlo>,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<Scores>, TrainError> {
    if checkpoint.kind() == ImageTask::KIND {
        let score = image::evaluate_checkpoint(checkpoint.of()?, place, go_on)?;
        return Ok(score.map(Scores::Image));
    }
    if checkpoint.kind() == VibTask::KIND {
        let score = vib::evaluate_checkpoint(checkpoint.of()?, place, go_on)?;
        return Ok(score.map(Scores::Vib));
    }
    let scores = text::evaluate_checkpoint(checkpoint.of()?, place, monte_carlo, go_on)?;
    Ok(scores.map(Scores::Text))
}

/// A checkpoint of a kind that cannot be analysed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the checkpoint is of a network with a bottleneck, which measures its information in training; \
     `anp report vib` shows it, and analyses are of language models and image classifiers"
)]
struct NoAnalysis;

/// Analyse the best parameters of a checkpoint, or, with `last`, those that training goes on from;
/// `None` if `go_on` returns `false`.
///
/// # Errors
///
/// [`TrainError::Checkpoint`], [`TrainError::Data`] and [`TrainError::Task`].
pub fn analyze(
    checkpoint: Checkpoint,
    place: &Place,
    options: &Options,
    last: bool,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<Analysis>, TrainError> {
    if checkpoint.kind() == ImageTask::KIND {
        // An image classifier has no other parameters than the last.
        return image::analyze_checkpoint(checkpoint.of()?, place, options, go_on);
    }
    if checkpoint.kind() == VibTask::KIND {
        return Err(TrainError::Task(Box::new(NoAnalysis)));
    }
    text::analyze_checkpoint(checkpoint.of()?, place, options, last, go_on)
}

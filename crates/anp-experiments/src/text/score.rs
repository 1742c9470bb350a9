//! The scores of a checkpoint's best parameters.

use std::path::PathBuf;

use burn::module::Module;
use serde::Serialize;

use super::build::{Texts, build_learner};
use super::evaluate::{MonteCarlo, TextScores, evaluate, evaluate_monte_carlo};
use super::learner::{LmLearner, Objective};
use super::snapshot::TextTensors;
use super::task::TextTask;
use crate::engine::{GoOnPart, Place, StoredCheckpoint, Task, TrainError};

/// The scores of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointScores {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Epoch of the parameters; `None` during the first epoch.
    pub best_epoch: Option<usize>,
    /// Without dropout.
    #[serde(flatten)]
    pub ordinary: TextScores,
    /// By Monte-Carlo dropout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mc_dropout: Option<MonteCarloScores>,
}

/// The scores of Monte-Carlo dropout, with the settings that reproduce them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MonteCarloScores {
    /// Number of passes and seed of their masks.
    #[serde(flatten)]
    pub monte_carlo: MonteCarlo,
    /// The scores.
    #[serde(flatten)]
    pub scores: TextScores,
}

/// Score the best parameters of a checkpoint on the texts of its recipe. Monte-Carlo dropout is
/// added if `monte_carlo`, given the run's seed, returns its settings. `None` if `go_on` returns
/// `false`.
///
/// # Errors
///
/// [`TrainError::Recipe`], [`TrainError::SeveralDevices`], [`TrainError::Data`],
/// [`TrainError::Task`] and [`TrainError::Checkpoint`].
pub fn evaluate_checkpoint(
    stored: StoredCheckpoint<TextTask>,
    place: &Place,
    monte_carlo: impl FnOnce(u64) -> Option<MonteCarlo>,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<CheckpointScores>, TrainError> {
    let recipe = &stored.recipe;
    TextTask::check(recipe, &place.devices)?;
    let texts = Texts::cut(&place.store.load(&recipe.data.corpus)?, recipe)?;
    let checkpoint = stored.path.clone();
    let best_epoch = stored.state.schedule.best_epoch();
    let monte_carlo = monte_carlo(stored.run.seed);

    let device = place.devices.first();
    let learner = build_learner(recipe, stored.state.vocab_size, place.kernels, device);
    let template = TextTensors::like(&learner.lm, &stored.state, recipe.data.batch_size);
    let TextTensors { model, best, .. } = stored.load(template)?.tensors;
    let lm = best.unwrap_or(model);
    let model = LmLearner { lm, objective: Objective::default() }.valid();

    Ok((|| {
        let ordinary = TextScores::of(&texts, |part, streams| {
            evaluate(&model, streams, device, |done| go_on(part, done))
        })?;
        let mc_dropout = match monte_carlo {
            None => None,
            Some(monte_carlo) => {
                let scores = TextScores::of(&texts, |part, streams| {
                    let go_on = |done| go_on(part, done);
                    evaluate_monte_carlo(&model.lm, streams, device, monte_carlo, go_on)
                })?;
                Some(MonteCarloScores { monte_carlo, scores })
            }
        };
        Some(CheckpointScores { checkpoint, best_epoch, ordinary, mc_dropout })
    })())
}

//! The score of a checkpoint's averaged parameters.

use std::path::PathBuf;

use burn::module::Module;
use serde::Serialize;

use super::evaluate::{Draws, evaluate};
use super::learner::VibLearner;
use super::record::VibScore;
use super::snapshot::VibTensors;
use super::task::{VibTask, manifest};
use crate::engine::{GoOnPart, Place, StoredCheckpoint, Task, TrainError};

/// The score of a checkpoint's averaged parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VibCheckpointScore {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Number of completed epochs.
    pub epochs: usize,
    /// Codes drawn for each image.
    pub samples: usize,
    /// Score on the test images of the recipe.
    pub test: VibScore,
}

/// Measure the averaged parameters of a checkpoint on the test images of its recipe, with the
/// codes that the run drew after its last completed epoch; `None` if `go_on` returns `false`.
///
/// # Errors
///
/// [`TrainError::Data`], [`TrainError::Task`] and [`TrainError::Checkpoint`].
pub fn evaluate_checkpoint(
    stored: StoredCheckpoint<VibTask>,
    place: &Place,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<VibCheckpointScore>, TrainError> {
    let recipe = stored.recipe.clone();
    VibTask::check(&recipe, &place.devices)?;
    let data = VibTask::load(&recipe, &place.store)?;
    let (checkpoint, epochs) = (stored.path.clone(), stored.run.curve.len());
    let samples = recipe.evaluation.samples;
    let draws = Draws::after_epoch(samples, stored.run.seed, epochs);
    let device = place.devices.first().clone().autodiff();
    let network = recipe.network(&manifest(&recipe));
    let template = VibTensors::like(network.init(&device), &stored.state);
    let VibTensors { net, average } = stored.load(template)?.tensors;
    let learner = VibLearner { net: average.unwrap_or(net), shape: data.shape };
    let mut go_on = |progress| go_on("test images", progress);
    let (learner, test, device) = (learner.valid(), &data.images.test, device.inner());
    let test = evaluate(&learner, test, network.num_classes, draws, &device, &mut go_on);
    Ok(test.map(|test| VibCheckpointScore { checkpoint, epochs, samples, test }))
}

//! The score of a checkpoint's network.

use std::path::PathBuf;

use burn::module::Module;
use serde::Serialize;

use super::build::build;
use super::evaluate::evaluate;
use super::record::ImageScore;
use super::snapshot::ImageTensors;
use super::task::ImageTask;
use crate::engine::{GoOnPart, Place, StoredCheckpoint, Task, TrainError};

/// The score of a checkpoint's network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointScore {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Number of completed epochs.
    pub epochs: usize,
    /// Score on the test images of the recipe.
    pub test: ImageScore,
}

/// Measure the network of a checkpoint on the test images of its recipe; `None` if `go_on` returns
/// `false`.
///
/// # Errors
///
/// [`TrainError::Data`], [`TrainError::Task`] and [`TrainError::Checkpoint`].
pub fn evaluate_checkpoint(
    stored: StoredCheckpoint<ImageTask>,
    place: &Place,
    go_on: &mut GoOnPart<'_>,
) -> Result<Option<CheckpointScore>, TrainError> {
    let recipe = &stored.recipe;
    ImageTask::check(recipe, &place.devices)?;
    let data = ImageTask::load(recipe, &place.store)?;
    let checkpoint = stored.path.clone();
    let device = place.devices.first().clone().autodiff();
    let mut learner = build(recipe, &data, place.kernels, &device);
    let template = ImageTensors::like(learner.net.clone(), &stored.state, &device);
    let epochs = stored.run.curve.len();
    learner.net = stored.load(template)?.tensors.net;
    let mut go_on = |progress| go_on("test images", progress);
    let measured = evaluate(&learner.valid(), &data.test, &device.inner(), &mut go_on);
    Ok(measured.map(|(test, _)| CheckpointScore { checkpoint, epochs, test }))
}

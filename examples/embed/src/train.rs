//! Training through burn-train, and what came out of it.

use std::error::Error;

use burn::data::dataloader::DataLoaderBuilder;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::InMemDataset;
use burn::optim::AdamConfig;
use burn::optim::lr_scheduler::constant::ConstantLr;
use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};

use crate::data::{DigitBatcher, digits};
use crate::metric::PenaltyMetric;
use crate::model::Classifier;
use crate::renderer::EpochLines;

const SEED: u64 = 7;
const BATCH_SIZE: usize = 32;
const LEARNING_RATE: f64 = 1e-3;

/// A trained classifier on the test digits.
#[derive(Debug)]
pub struct Evaluation {
    /// Share of the digits that were told right.
    pub accuracy: f64,
    /// Mean ‖h‖₂ of the last hidden activation.
    pub activation_norm: f64,
}

/// Train a classifier with a penalty of the given strength, and measure it.
///
/// # Errors
///
/// If training fails.
pub fn train_and_evaluate(strength: f64, num_epochs: usize) -> Result<Evaluation, Box<dyn Error>> {
    let device = Device::default();
    device.seed(SEED);
    let (train, test) = digits();
    let loader = || DataLoaderBuilder::new(DigitBatcher).batch_size(BATCH_SIZE);

    let result = SupervisedTraining::new(
        // Nothing below writes there; with_default_checkpointers() and a logger on disk would.
        "artifacts",
        loader().shuffle(SEED).build(InMemDataset::new(train)),
        loader().build(InMemDataset::new(test.clone())),
    )
    .metrics((AccuracyMetric::new(), LossMetric::new(), PenaltyMetric::new()))
    .num_epochs(num_epochs)
    .label(&format!("penalty of strength {strength}"))
    .renderer(Box::new(EpochLines::default()))
    .with_metric_logger(InMemoryMetricLogger::new())
    .with_application_logger(None)
    .launch(Learner::new(
        Classifier::new(strength, &device.clone().autodiff()),
        AdamConfig::new().init(),
        ConstantLr::new(LEARNING_RATE),
    ));
    if let Some(err) = result.error {
        return Err(err.into());
    }

    let batch = DigitBatcher.batch(test, &device);
    let (logits, hidden) = result.model.forward(batch.images);
    let right = logits.argmax(1).flatten(0, 1).equal(batch.labels);
    Ok(Evaluation {
        accuracy: right.float().mean().into_scalar(),
        activation_norm: hidden.square().sum_dim(1).sqrt().mean().into_scalar(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penalty_halves_the_activation_and_keeps_the_accuracy() {
        let without = train_and_evaluate(0.0, 10).unwrap();
        let with = train_and_evaluate(1e-2, 10).unwrap();
        assert!(with.activation_norm < 0.5 * without.activation_norm, "{with:?}, {without:?}");
        // Guessing gives 0.1; the distance allows for a dozen of the 360 test digits.
        assert!(without.accuracy > 0.93, "{without:?}");
        assert!(with.accuracy > without.accuracy - 0.033, "{with:?}, {without:?}");
    }
}

//! Image classifiers: recipe, batches, training step, evaluation.

pub mod batches;
mod build;
pub(crate) mod learner;
pub mod recipe;
mod replicas;
mod run;
mod task;

pub use learner::{BatchOutput, ImageLearner, ImageReport};
pub use replicas::Replicas;
pub use run::{
    CheckpointScore, evaluate_checkpoint, is_checkpoint_of_images, run_images, run_images_on,
};
pub use task::{ImageManifest, ImageTrainer};

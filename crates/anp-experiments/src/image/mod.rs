//! Image classifiers: recipe, batches, training step, evaluation.

mod analyze;
pub mod batches;
mod build;
mod data;
mod evaluate;
pub(crate) mod learner;
pub mod recipe;
pub(crate) mod record;
mod regularizer;
mod replicas;
mod score;
mod snapshot;
mod task;

pub use analyze::analyze_checkpoint;
pub use data::ImageData;
pub use learner::{BatchOutput, ImageLearner};
pub use regularizer::ImageRegularizer;
pub use replicas::Replicas;
pub use score::{CheckpointScore, evaluate_checkpoint};
pub use snapshot::{ImageState, ImageTensors};
pub use task::{ACCURACY, IMAGES_PER_SECOND, ImageTask};

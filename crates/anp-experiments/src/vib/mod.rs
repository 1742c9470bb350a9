//! The deep variational information bottleneck on images: recipe, training step, information.

mod data;
mod evaluate;
mod learner;
pub mod recipe;
pub(crate) mod record;
mod score;
mod snapshot;
mod task;
#[cfg(all(test, feature = "flex"))]
mod tests;

pub use data::VibData;
pub use learner::{VibLearner, VibOutput};
pub use score::{VibCheckpointScore, evaluate_checkpoint};
pub use snapshot::{VibState, VibTensors};
pub use task::VibTask;

//! The contents of a checkpoint of a run with a bottleneck.

use anp_models::VibClassifier;
use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::record::VibScore;

/// Everything except tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VibState {
    /// Score after the last finished epoch.
    pub last: Option<VibScore>,
    /// Whether a step has been made, so that there is an average.
    pub(super) has_average: bool,
}

/// The tensors, as one module that Burn writes to one file.
#[derive(Module, Debug)]
pub struct VibTensors {
    /// The network after the last step.
    pub net: VibClassifier,
    /// The average of its parameters.
    pub average: Option<VibClassifier>,
}

impl VibTensors {
    /// Tensors like those of a checkpoint with this state, on the device of `net`.
    pub fn like(net: VibClassifier, state: &VibState) -> Self {
        Self { average: state.has_average.then(|| net.clone()), net }
    }
}

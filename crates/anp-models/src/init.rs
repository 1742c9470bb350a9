//! Initial values.

use burn::module::{Initializer, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Initial values of a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasInit {
    /// Zero.
    Zeros,
    /// Uniform in the range of the weights.
    Uniform,
}

impl BiasInit {
    /// The same of Burn's, where weights start in `[-range, range]`.
    pub(crate) fn initializer(self, range: f64) -> Initializer {
        match self {
            Self::Zeros => Initializer::Zeros,
            Self::Uniform => within(range),
        }
    }
}

/// Uniform in `[-range, range]`.
pub(crate) fn within(range: f64) -> Initializer {
    Initializer::Uniform { min: -range, max: range }
}

/// Draw a parameter now. Burn's own draw happens at the first read, in whatever order parameters
/// are read.
pub(crate) fn draw<const D: usize>(
    initializer: Initializer,
    shape: [usize; D],
    device: &Device,
) -> Param<Tensor<D>> {
    Param::from_tensor(initializer.init(shape, device).into_value().detach())
}

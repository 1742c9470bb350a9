//! What the operation reads and returns.

use burn::tensor::Tensor;

/// Mean and variance of each channel: `[channels]` each.
#[derive(Debug, Clone)]
pub struct BatchStatistics {
    /// The mean.
    pub mean: Tensor<1>,
    /// The mean square of the differences from the mean.
    pub variance: Tensor<1>,
}

/// What batch normalisation reads.
#[derive(Debug, Clone)]
pub struct BatchNormInputs {
    /// `[batch_size, channels, height, width]`.
    pub input: Tensor<4>,
    /// γ: `[channels]`.
    pub gamma: Tensor<1>,
    /// β: `[channels]`.
    pub beta: Tensor<1>,
    /// Constants to normalise by, as in evaluation; `None` means the batch's own statistics.
    pub statistics: Option<BatchStatistics>,
    /// ε > 0.
    pub epsilon: f64,
    /// Whether `f` is the ReLU; else it is the identity.
    pub relu: bool,
}

//! What the operation reads and returns.

use burn::tensor::{Int, Tensor};

use crate::precision::MatmulPrecision;

/// A linear layer over classes, its input and the targets.
#[derive(Debug, Clone)]
pub struct LinearCrossEntropyInputs {
    /// `[num_tokens, d_hidden]`.
    pub hidden: Tensor<2>,
    /// `[d_hidden, num_classes]`, or `[num_classes, d_hidden]` if `tied`.
    pub weight: Tensor<2>,
    /// Whether `weight` is that of an embedding, whose transpose is the layer's weight.
    pub tied: bool,
    /// `[num_classes]`.
    pub bias: Tensor<1>,
    /// The correct classes: `[num_tokens]`.
    pub targets: Tensor<1, Int>,
    /// Of the products.
    pub precision: MatmulPrecision,
}

/// Terms of a loss that depend on the logits, one value per token: `[num_tokens]` each.
#[derive(Debug, Clone)]
pub struct LogitTerms {
    /// Negative log-likelihood of the target, in nats.
    pub nll: Tensor<1>,
    /// Squared norm of the logits.
    pub square: Tensor<1>,
    /// Entropy of the softmax, in nats.
    pub entropy: Tensor<1>,
    /// Logarithm of the softmax's partition function, `ln Σ e^z`, in nats.
    pub log_partition: Tensor<1>,
}

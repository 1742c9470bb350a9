//! Batch normalisation of images, with the ReLU that follows it in most networks.
//!
//! ```text
//! output[n, c, p] = f(γ[c] · (input[n, c, p] − mean[c]) / √(variance[c] + ε) + β[c])
//! ```
//!
//! [Ioffe & Szegedy, 2015](https://arxiv.org/abs/1502.03167). In training, mean and variance are
//! those of the batch, over `n` and all positions `p` of a channel; the variance is divided by the
//! number of values, not by that number minus one. The gradient goes through both.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
mod inputs;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use inputs::{BatchNormInputs, BatchStatistics};
pub use ops::{
    BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients, BatchNormOutputs,
    BatchNormSaved,
};
pub use reference::batch_norm as batch_norm_reference;

use crate::backend::{check_alike, check_shape, is_cpu};

const OPERATION: &str = "batch_norm";

/// Normalise a batch, as one operation with one backward step.
///
/// Returns the output, in the input's shape, and the statistics that it was normalised by, which
/// carry no gradient. On a device without a fused kernel, this is [`batch_norm_reference`].
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, or a size is zero.
pub fn batch_norm(inputs: BatchNormInputs) -> (Tensor<4>, BatchStatistics) {
    check(&inputs);
    if !is_cpu(&inputs.input.device()) {
        return batch_norm_reference(inputs);
    }
    let BatchNormInputs { input, gamma, beta, statistics, epsilon, relu } = inputs;
    let (mean, variance) = statistics
        .map(|BatchStatistics { mean, variance }| (mean.into_dispatch(), variance.into_dispatch()))
        .unzip();
    let BatchNormOutputs { output, mean, variance } =
        Dispatch::batch_norm_forward(BatchNormForward {
            input: input.into_dispatch(),
            gamma: gamma.into_dispatch(),
            beta: beta.into_dispatch(),
            mean: mean.into(),
            variance: variance.into(),
            epsilon,
            relu,
        });
    let [mean, variance] = [mean, variance].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(output), BatchStatistics { mean, variance })
}

#[track_caller]
fn check(inputs: &BatchNormInputs) {
    let BatchNormInputs { input, gamma, beta, statistics, epsilon, .. } = inputs;
    let [_, channels, _, _] = input.dims();
    assert!(
        input.dims().iter().product::<usize>() > 0,
        "{OPERATION}: no size may be zero: `input` has the shape {:?}",
        input.dims()
    );
    assert!(
        epsilon.is_finite() && *epsilon > 0.0,
        "{OPERATION}: `epsilon` must be in (0, ∞), but is {epsilon}"
    );
    check_shape(OPERATION, "gamma", &gamma.shape(), &[channels]);
    check_shape(OPERATION, "beta", &beta.shape(), &[channels]);
    check_alike!(OPERATION, input, gamma, beta);
    if let Some(BatchStatistics { mean, variance }) = statistics {
        check_shape(OPERATION, "mean", &mean.shape(), &[channels]);
        check_shape(OPERATION, "variance", &variance.shape(), &[channels]);
        check_alike!(OPERATION, input, mean, variance);
    }
}

//! A linear layer and the cross-entropy of its softmax, as one operation.
//!
//! ```text
//! z = hidden · weight + bias,  p = softmax(z)
//! nll[n] = −ln p[n, target[n]]
//! square[n] = Σᵥ z[n, v]²,  entropy[n] = −Σᵥ p[n, v] ln p[n, v]
//! log_partition[n] = ln Σᵥ exp z[n, v]
//! ```
//!
//! Logits, probabilities and their gradient share one buffer of `[num_tokens, num_classes]`, where
//! the reference holds several. Evaluation does not need even that one.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod inputs;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::Tensor;
pub use inputs::{LinearCrossEntropyInputs, LogitTerms};
pub use ops::{
    CrossEntropyBackend, CrossEntropyBackward, CrossEntropyForward, CrossEntropyGradients,
    CrossEntropyOutputs, CrossEntropySaved,
};
pub use reference::{
    linear_cross_entropy as linear_cross_entropy_reference, logit_terms as logit_terms_reference,
};

use crate::backend::{check_alike, check_shape, has_kernel};

const OPERATION: &str = "linear_cross_entropy";

/// Negative log-likelihood of each target, in nats: `[num_tokens]`.
///
/// On a device without a kernel, this is [`linear_cross_entropy_reference`], the same in Burn's
/// operations.
///
/// # Panics
///
/// If shapes, devices or data types do not match, or a target is not one of the classes. On a GPU,
/// the value for such a target is NaN instead: a panic would have to wait for the GPU.
pub fn linear_cross_entropy(inputs: LinearCrossEntropyInputs) -> Tensor<1> {
    check(&inputs);
    if !has_kernel(&inputs.hidden.device(), inputs.precision) {
        return linear_cross_entropy_reference(inputs);
    }
    let [num_tokens, _] = inputs.hidden.dims();
    values(inputs, false).reshape([num_tokens])
}

/// As [`linear_cross_entropy`], with the squared norm of the logits, and the entropy and the
/// partition function of the softmax.
///
/// # Panics
///
/// As [`linear_cross_entropy`].
pub fn logit_terms(inputs: LinearCrossEntropyInputs) -> LogitTerms {
    check(&inputs);
    if !has_kernel(&inputs.hidden.device(), inputs.precision) {
        return logit_terms_reference(inputs);
    }
    let [num_tokens, _] = inputs.hidden.dims();
    let values = values(inputs, true);
    let term = |index| values.clone().narrow(0, index, 1).reshape([num_tokens]);
    LogitTerms { nll: term(0), square: term(1), entropy: term(2), log_partition: term(3) }
}

fn values(inputs: LinearCrossEntropyInputs, terms: bool) -> Tensor<2> {
    let LinearCrossEntropyInputs { hidden, weight, tied, bias, targets, precision } = inputs;
    let CrossEntropyOutputs { values, .. } = Dispatch::cross_entropy_forward(CrossEntropyForward {
        hidden: hidden.into_dispatch(),
        weight: weight.into_dispatch(),
        bias: bias.into_dispatch(),
        targets: targets.into_dispatch(),
        tied,
        terms,
        keep: false,
        precision,
    });
    Tensor::from_dispatch(values)
}

#[track_caller]
fn check(inputs: &LinearCrossEntropyInputs) {
    let LinearCrossEntropyInputs { hidden, weight, tied, bias, targets, .. } = inputs;
    let [num_tokens, d_hidden] = hidden.dims();
    let [num_classes] = bias.dims();
    assert!(num_tokens > 0 && d_hidden > 0, "{OPERATION}: `hidden` is empty: {:?}", hidden.dims());
    let shape = if *tied { [num_classes, d_hidden] } else { [d_hidden, num_classes] };
    check_shape(OPERATION, "weight", &weight.shape(), &shape);
    check_shape(OPERATION, "targets", &targets.shape(), &[num_tokens]);
    check_alike!(OPERATION, hidden, weight, bias);
    assert!(
        targets.device() == hidden.device(),
        "{OPERATION}: `targets` is on {:?}, but `hidden` on {:?}",
        targets.device(),
        hidden.device()
    );
}

//! A linear layer and the cross-entropy of its softmax, as one operation.
//!
//! ```text
//! z = hidden · weight + bias,  p = softmax(z)
//! nll[n] = −ln p[n, target[n]]
//! square[n] = Σᵥ z[n, v]²,  entropy[n] = −Σᵥ p[n, v] ln p[n, v]
//! ```
//!
//! Logits, probabilities and their gradient share one buffer of `[num_tokens, num_classes]`, where a composition holds
//! several; in evaluation there is not even one.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod ops;
mod reference;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};
pub use ops::{
    CrossEntropyBackend, CrossEntropyBackward, CrossEntropyForward, CrossEntropyGradients,
    CrossEntropyOutputs, CrossEntropySaved,
};
pub use reference::{
    linear_cross_entropy as linear_cross_entropy_reference, logit_terms as logit_terms_reference,
};

use crate::backend::{check_alike, check_shape, is_cpu_or_cube};

const OPERATION: &str = "linear_cross_entropy";

/// A linear layer over classes, its input and what should come out.
#[derive(Debug, Clone)]
pub struct LinearCrossEntropyInputs {
    /// `[num_tokens, d_hidden]`.
    pub hidden: Tensor<2>,
    /// `[d_hidden, num_classes]`, or `[num_classes, d_hidden]` if `tied`.
    pub weight: Tensor<2>,
    /// Whether `weight` is that of an embedding, whose transpose is the layer's.
    pub tied: bool,
    /// `[num_classes]`.
    pub bias: Tensor<1>,
    /// The right classes: `[num_tokens]`.
    pub targets: Tensor<1, Int>,
}

/// Terms of a loss that depend on the logits, one value a token: `[num_tokens]` each.
#[derive(Debug, Clone)]
pub struct LogitTerms {
    /// Negative log-likelihood of the target, in nats.
    pub nll: Tensor<1>,
    /// Squared norm of the logits.
    pub square: Tensor<1>,
    /// Entropy of the softmax, in nats.
    pub entropy: Tensor<1>,
}

/// Negative log-likelihood of each target, in nats: `[num_tokens]`.
///
/// On a device without a fused kernel this is [`linear_cross_entropy_reference`], the same in Burn's operations.
///
/// # Panics
///
/// If shapes, devices or data types do not fit each other, or a target is none of the classes. A GPU is not waited for: there, the
/// value of such a target is NaN.
pub fn linear_cross_entropy(inputs: LinearCrossEntropyInputs) -> Tensor<1> {
    check(&inputs);
    if !is_cpu_or_cube(&inputs.hidden.device()) {
        return linear_cross_entropy_reference(inputs);
    }
    let [num_tokens, _] = inputs.hidden.dims();
    values(inputs, false).reshape([num_tokens])
}

/// The same with the squared norm of the logits and the entropy of the softmax.
///
/// # Panics
///
/// As [`linear_cross_entropy`].
pub fn logit_terms(inputs: LinearCrossEntropyInputs) -> LogitTerms {
    check(&inputs);
    if !is_cpu_or_cube(&inputs.hidden.device()) {
        return logit_terms_reference(inputs);
    }
    let [num_tokens, _] = inputs.hidden.dims();
    let values = values(inputs, true);
    let term = |index| values.clone().narrow(0, index, 1).reshape([num_tokens]);
    LogitTerms { nll: term(0), square: term(1), entropy: term(2) }
}

fn values(inputs: LinearCrossEntropyInputs, terms: bool) -> Tensor<2> {
    let LinearCrossEntropyInputs { hidden, weight, tied, bias, targets } = inputs;
    let CrossEntropyOutputs { values, .. } = Dispatch::cross_entropy_forward(CrossEntropyForward {
        hidden: hidden.into_dispatch(),
        weight: weight.into_dispatch(),
        bias: bias.into_dispatch(),
        targets: targets.into_dispatch(),
        tied,
        terms,
        keep: false,
    });
    Tensor::from_dispatch(values)
}

#[track_caller]
fn check(inputs: &LinearCrossEntropyInputs) {
    let LinearCrossEntropyInputs { hidden, weight, tied, bias, targets } = inputs;
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

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use super::inputs::{LinearCrossEntropyInputs, LogitTerms};

/// [`linear_cross_entropy`](super::linear_cross_entropy) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not match.
pub fn linear_cross_entropy(inputs: LinearCrossEntropyInputs) -> Tensor<1> {
    let targets = inputs.targets.clone();
    nll(log_softmax(logits(inputs), 1), targets)
}

/// [`logit_terms`](super::logit_terms) in Burn's operations: its specification.
///
/// # Panics
///
/// If shapes do not match.
pub fn logit_terms(inputs: LinearCrossEntropyInputs) -> LogitTerms {
    let targets = inputs.targets.clone();
    let logits = logits(inputs);
    let log_p = log_softmax(logits.clone(), 1);
    // Relative to the largest logit, so that nothing overflows. Its gradient cancels.
    let largest = logits.clone().max_dim(1).detach();
    let sum = (logits.clone() - largest.clone()).exp().sum_dim(1);
    LogitTerms {
        log_partition: (sum.log() + largest).squeeze_dim(1),
        nll: nll(log_p.clone(), targets),
        square: logits.square().sum_dim(1).squeeze_dim(1),
        entropy: (log_p.clone().exp() * log_p).sum_dim(1).squeeze_dim::<1>(1).neg(),
    }
}

fn logits(inputs: LinearCrossEntropyInputs) -> Tensor<2> {
    let LinearCrossEntropyInputs { hidden, weight, tied, bias, precision, .. } = inputs;
    let weight = if tied { weight.transpose() } else { weight };
    precision.matmul(hidden, weight) + bias.unsqueeze()
}

fn nll(log_p: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let [num_tokens, _] = log_p.dims();
    log_p.gather(1, targets.reshape([num_tokens, 1])).reshape([num_tokens]).neg()
}

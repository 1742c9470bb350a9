//! There is one buffer of the logits' size. [`forward`](forward::forward) leaves `p − y` in it, the
//! gradient of `nll` with respect to the logits, so the backward half is two products. With the
//! other terms, [`forward_with_terms`](forward::forward_with_terms) keeps the logits, and
//! [`logits_gradient`](backward::logits_gradient) replaces them with their gradient.
//! [`evaluate`](evaluate::evaluate) keeps nothing.

mod backward;
mod evaluate;
mod forward;
mod layer;
mod part;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{
    CrossEntropyBackend, CrossEntropyBackward, CrossEntropyForward, CrossEntropyGradients,
    CrossEntropyOutputs, CrossEntropySaved,
};
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use crate::precision::MatmulPrecision;
use layer::Layer;

/// Below this logarithm, a probability is 0, and so is its product with the logarithm.
const LOWEST: f64 = -1e3;

/// The terms of all tokens, or their gradients: `[num_tokens]` each.
#[derive(Debug, Clone, Copy)]
struct Terms<T> {
    nll: T,
    square: T,
    entropy: T,
    log_partition: T,
}

impl<'a, E> Terms<&'a [E]> {
    /// From `[4, num_tokens]`.
    fn split(values: &'a [E]) -> Self {
        let (first, last) = values.split_at(values.len() / 2);
        let [(nll, square), (entropy, log_partition)] =
            [first, last].map(|half| half.split_at(half.len() / 2));
        Self { nll, square, entropy, log_partition }
    }
}

impl<'a, E> Terms<&'a mut [E]> {
    /// From `[4, num_tokens]`.
    fn split_mut(values: &'a mut [E]) -> Self {
        let (first, last) = values.split_at_mut(values.len() / 2);
        let [(nll, square), (entropy, log_partition)] = [first, last].map(|half| {
            let middle = half.len() / 2;
            half.split_at_mut(middle)
        });
        Self { nll, square, entropy, log_partition }
    }
}

/// The values of [`CrossEntropyForward`].
struct Values<B: CpuBackend, E: CpuScalar> {
    hidden: B::Values<E>,
    weight: B::Values<E>,
    bias: B::Values<E>,
    targets: Vec<usize>,
    tied: bool,
    precision: MatmulPrecision,
}

impl<B: CpuBackend, E: CpuScalar> Values<B, E> {
    fn new(inputs: CrossEntropyForward<B>) -> Self {
        let CrossEntropyForward { hidden, weight, bias, targets, tied, precision, .. } = inputs;
        Self {
            hidden: B::values(hidden),
            weight: B::values(weight),
            bias: B::values(bias),
            targets: B::indices(targets),
            tied,
            precision,
        }
    }

    fn layer(&self) -> Layer<'_, E> {
        Layer::new(&self.weight, &self.bias, self.tied, &self.hidden, &self.targets)
            .with_precision(self.precision)
    }
}

fn forward<B: CpuBackend, E: CpuScalar>(inputs: CrossEntropyForward<B>) -> CrossEntropyOutputs<B> {
    let like = Like::<B>::new(&inputs.hidden);
    let (with_terms, keep) = (inputs.terms, inputs.keep);
    let inputs = Values::<B, E>::new(inputs);
    let (layer, num_tokens) = (inputs.layer(), inputs.targets.len());
    let mut values = vec![E::ZERO; 4 * num_tokens];
    let mut statistics = vec![E::ZERO; if keep && with_terms { 2 * num_tokens } else { 0 }];
    let terms = Terms::split_mut(&mut values);
    let logits = match (keep, with_terms) {
        (false, _) => {
            evaluate::evaluate(&layer, terms, threads());
            None
        }
        (true, false) => Some(forward::forward(&layer, terms.nll, threads())),
        (true, true) => {
            Some(forward::forward_with_terms(&layer, terms, &mut statistics, threads()))
        }
    };
    let num_terms = if with_terms { 4 } else { 1 };
    values.truncate(num_terms * num_tokens);
    let logits = logits.map(|logits| like.tensor(logits, [num_tokens, inputs.bias.len()]));
    let statistics = (keep && with_terms).then(|| like.tensor(statistics, [num_tokens, 2]));
    CrossEntropyOutputs {
        values: like.tensor(values, [num_terms, num_tokens]),
        logits: logits.into(),
        statistics: statistics.into(),
    }
}

fn backward<B: CpuBackend, E: CpuScalar>(
    saved: CrossEntropySaved<B>,
    values_grad: FloatTensor<B>,
) -> CrossEntropyGradients<B> {
    let CrossEntropySaved { inputs, outputs } = saved;
    let CrossEntropyOutputs { values, logits, statistics } = outputs;
    let like = Like::<B>::new(&inputs.hidden);
    let shapes = [inputs.hidden.shape(), inputs.weight.shape(), inputs.bias.shape()];
    let inputs = Values::<B, E>::new(inputs);
    let layer = inputs.layer();
    let logits = logits.into_option().expect("the forward step kept the logits");
    let values_grad = B::values::<E>(values_grad);
    let gradients = match B::optional::<E>(statistics) {
        None if inputs.precision == MatmulPrecision::Full => {
            let logits_grad = B::values(logits);
            backward::backward(&layer, &logits_grad, &values_grad, threads())
        }
        None => {
            // What is rounded is the gradient of the logits, and so with its scale.
            let mut logits_grad = B::owned(logits);
            let num_classes = inputs.bias.len();
            backward::scale_rows(&mut logits_grad, &values_grad, num_classes, threads());
            let ones = vec![E::ONE; inputs.targets.len()];
            backward::backward(&layer, &logits_grad, &ones, threads())
        }
        Some(statistics) => {
            let mut logits = B::owned(logits);
            backward::logits_gradient(
                &mut logits,
                &inputs.targets,
                backward::Statistics {
                    maximum_and_ln_sum: &statistics,
                    entropy: Terms::split(&B::values(values)).entropy,
                },
                Terms::split(&values_grad),
                threads(),
            );
            let ones = vec![E::ONE; inputs.targets.len()];
            backward::backward(&layer, &logits, &ones, threads())
        }
    };
    let [hidden, weight, bias] = shapes;
    CrossEntropyGradients {
        hidden: like.tensor(gradients.hidden, hidden),
        weight: like.tensor(gradients.weight, weight),
        bias: like.tensor(gradients.bias, bias),
    }
}

impl<B: CpuBackend> CrossEntropyBackend for B {
    fn cross_entropy_forward(inputs: CrossEntropyForward<Self>) -> CrossEntropyOutputs<Self> {
        with_scalar!(inputs.hidden.dtype(), forward::<Self>(inputs))
    }
}

impl<B: CpuBackend> CrossEntropyBackward for B {
    fn cross_entropy_backward(
        saved: CrossEntropySaved<Self>,
        values_grad: FloatTensor<Self>,
    ) -> CrossEntropyGradients<Self> {
        with_scalar!(values_grad.dtype(), backward::<Self>(saved, values_grad))
    }
}

#[cfg(test)]
mod tests;

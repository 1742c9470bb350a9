mod kernel;

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::CrossEntropyBackend;
use crate::cpu::backend::{CpuBackend, CpuScalar, Like, threads, with_scalar};
use kernel::{Gradients, Head, Terms, Upstream, evaluate, forward_with_terms, logits_gradient};

type Three<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// `[d_hidden, num_classes]` of a weight.
fn sizes<B: CpuBackend>(weight: &FloatTensor<B>, tied: bool) -> [usize; 2] {
    let [rows, columns] = weight.shape().dims();
    if tied { [columns, rows] } else { [rows, columns] }
}

fn forward<B: CpuBackend, E: CpuScalar>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    targets: IntTensor<B>,
    tied: bool,
    terms: bool,
    keep: bool,
) -> Three<B> {
    let like = Like::<B>::new(&hidden);
    let sizes = sizes::<B>(&weight, tied);
    let (hidden, weight, bias) = (B::values::<E>(hidden), B::values(weight), B::values(bias));
    let targets = B::indices(targets);
    let (num_tokens, threads) = (targets.len(), threads());
    let head = Head::new(&weight, Some(&bias), sizes, tied);
    let mut values = vec![E::ZERO; if terms { 3 } else { 1 } * num_tokens];
    let (nll, rest) = values.split_at_mut(num_tokens);
    let (mut logits, mut statistics) = (vec![E::ZERO; 1], vec![E::ZERO; 1]);
    let (mut logits_shape, mut statistics_shape) = ([1, 1], [1, 1]);
    if keep {
        logits_shape = [num_tokens, sizes[1]];
    }
    match (keep, terms) {
        (true, false) => {
            logits = kernel::forward(head, &hidden, &targets, nll, threads);
        }
        (true, true) => {
            statistics_shape = [num_tokens, 2];
            statistics = vec![E::ZERO; 2 * num_tokens];
            let (square, entropy) = rest.split_at_mut(num_tokens);
            let terms = Terms { square, entropy, statistics: &mut statistics };
            logits = forward_with_terms(head, &hidden, &targets, nll, terms, threads);
        }
        (false, false) => {
            let (mut square, mut entropy) = (nll.to_vec(), nll.to_vec());
            evaluate(head, &hidden, &targets, nll, &mut square, &mut entropy, threads);
        }
        (false, true) => {
            let (square, entropy) = rest.split_at_mut(num_tokens);
            evaluate(head, &hidden, &targets, nll, square, entropy, threads);
        }
    }
    let num_terms = values.len() / num_tokens;
    (
        like.tensor(values, [num_terms, num_tokens]),
        like.tensor(logits, logits_shape),
        like.tensor(statistics, statistics_shape),
    )
}

#[allow(clippy::too_many_arguments)]
fn backward<B: CpuBackend, E: CpuScalar>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    values: FloatTensor<B>,
    kept: FloatTensor<B>,
    statistics: FloatTensor<B>,
    upstream: FloatTensor<B>,
    tied: bool,
) -> Three<B> {
    let like = Like::<B>::new(&hidden);
    let [d_hidden, num_classes] = sizes::<B>(&weight, tied);
    let weight_shape = weight.shape();
    let [num_terms, num_tokens] = upstream.shape().dims();
    let mut scale = B::owned::<E>(upstream);
    let (hidden, weight) = (B::values::<E>(hidden), B::values(weight));
    let threads = threads();
    let (values_of_kept, turned);
    let logits_grad: &[E] = if num_terms == 1 {
        values_of_kept = B::values::<E>(kept);
        &values_of_kept
    } else {
        let mut logits = B::owned::<E>(kept);
        let values = B::values::<E>(values);
        let (nll, rest) = scale.split_at(num_tokens);
        let (square, entropy) = rest.split_at(num_tokens);
        let upstream = Upstream { nll, square: Some(square), entropy: Some(entropy) };
        logits_gradient(
            &mut logits,
            &B::indices(targets),
            &B::values::<E>(statistics),
            &values[2 * num_tokens..],
            upstream,
            threads,
        );
        scale.truncate(num_tokens);
        scale.fill(E::ONE);
        turned = logits;
        &turned
    };
    let head = Head::new(&weight, None, [d_hidden, num_classes], tied);
    let Gradients { hidden, weight, bias } =
        kernel::backward(head, &hidden, logits_grad, &scale, threads);
    (
        like.tensor(hidden, [num_tokens, d_hidden]),
        like.tensor(weight, weight_shape),
        like.tensor(bias, [num_classes]),
    )
}

macro_rules! cpu_cross_entropy {
    ($backend:ty) => {
        impl CrossEntropyBackend for $backend {
            fn cross_entropy_forward(
                hidden: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                targets: IntTensor<Self>,
                tied: bool,
                terms: bool,
                keep: bool,
            ) -> Three<Self> {
                with_scalar!(
                    hidden.dtype(),
                    forward::<Self>(hidden, weight, bias, targets, tied, terms, keep)
                )
            }

            fn cross_entropy_backward(
                hidden: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                targets: IntTensor<Self>,
                values: FloatTensor<Self>,
                kept: FloatTensor<Self>,
                statistics: FloatTensor<Self>,
                upstream: FloatTensor<Self>,
                tied: bool,
            ) -> Three<Self> {
                with_scalar!(
                    hidden.dtype(),
                    backward::<Self>(
                        hidden, weight, targets, values, kept, statistics, upstream, tied
                    )
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_cross_entropy!(burn::backend::Flex);
#[cfg(feature = "ndarray")]
cpu_cross_entropy!(burn::backend::NdArray);

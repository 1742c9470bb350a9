use super::Terms;
use super::layer::{Layer, rows_per_task};
use super::part::{Part, add_bias};
use crate::cpu::reduce::{BLOCK, sum_block};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// Write `nll`, `[tokens]`, and return its gradient with respect to the logits, `p − y`, `[tokens,
/// num_classes]`.
///
/// A NaN among a token's logits makes its `nll` NaN.
///
/// # Panics
///
/// If the slice has the wrong length.
pub(super) fn forward<E: Scalar>(layer: &Layer<'_, E>, nll: &mut [E], threads: usize) -> Vec<E> {
    assert_eq!(nll.len(), layer.targets.len(), "length of the losses");
    let mut logits = layer.logits(threads);
    let tokens = rows_per_task(layer.num_classes);
    let rows = logits.chunks_mut(tokens * layer.num_classes);
    let tasks = rows.zip(layer.targets.chunks(tokens)).zip(nll.chunks_mut(tokens)).collect();
    map(tasks, threads, |((rows, targets), nll)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = rows.chunks_exact_mut(layer.num_classes);
                for ((row, &target), nll) in rows.zip(targets).zip(nll) {
                    *nll = gradient_of_nll(row, layer.bias, target);
                }
            },
        );
    });
    logits
}

/// Write all terms, and return the logits, `[tokens, num_classes]`.
///
/// `statistics`, `[tokens, 2]`, receives the largest logit `m` and `ln Σᵥ e^(z[v] − m)`.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn forward_with_terms<E: Scalar>(
    layer: &Layer<'_, E>,
    terms: Terms<&mut [E]>,
    statistics: &mut [E],
    threads: usize,
) -> Vec<E> {
    let Terms { nll, square, entropy, log_partition } = terms;
    let num_tokens = layer.targets.len();
    let lens = [nll.len(), square.len(), entropy.len(), log_partition.len()];
    assert_eq!(lens, [num_tokens; 4], "lengths of the terms");
    assert_eq!(statistics.len(), 2 * num_tokens, "length of the statistics");
    let mut logits = layer.logits(threads);
    let tokens = rows_per_task(layer.num_classes);
    let tasks = logits
        .chunks_mut(tokens * layer.num_classes)
        .zip(layer.targets.chunks(tokens))
        .zip(nll.chunks_mut(tokens))
        .zip(square.chunks_mut(tokens))
        .zip(entropy.chunks_mut(tokens))
        .zip(log_partition.chunks_mut(tokens))
        .zip(statistics.chunks_mut(2 * tokens))
        .collect();
    map(tasks, threads, |(terms, statistics)| {
        let (((((rows, targets), nll), square), entropy), log_partition) = terms;
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(layer.num_classes).enumerate() {
                    let part = Part::of(row, layer.bias);
                    nll[i] = E::from_f64(part.nll(row[targets[i]].to_f64()));
                    square[i] = E::from_f64(part.square);
                    entropy[i] = E::from_f64(part.entropy());
                    log_partition[i] = E::from_f64(part.log_partition());
                    statistics[2 * i] = E::from_f64(part.maximum);
                    statistics[2 * i + 1] = E::from_f64(part.sum.ln());
                }
            },
        );
    });
    logits
}

/// Replace logits without bias with `p − y`, and return the loss.
#[inline(always)]
fn gradient_of_nll<E: Scalar>(row: &mut [E], bias: &[E], target: usize) -> E {
    let maximum = add_bias(row, bias);
    let logit = row[target];
    let mut sum = 0.0;
    for block in row.chunks_mut(BLOCK) {
        for value in block.iter_mut() {
            *value = (*value - maximum).exp();
        }
        sum += sum_block(block);
    }
    let scale = E::from_f64(1.0 / sum);
    for value in row.iter_mut() {
        *value *= scale;
    }
    row[target] -= E::ONE;
    E::from_f64(sum.ln() + (maximum.to_f64() - logit.to_f64()))
}

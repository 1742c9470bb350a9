use super::Terms;
use super::layer::{Layer, rows_per_task};
use super::part::Part;
use crate::cpu::matmul::{Destination, matmul_into};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// Write all terms, with the logits of a few classes at a time.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn evaluate<E: Scalar>(layer: &Layer<'_, E>, terms: Terms<&mut [E]>, threads: usize) {
    /// Logits that fit into the last-level cache.
    const LOGITS: usize = 1 << 20;
    /// Fewest classes at a time; with less, reading the hidden states would cost more than the
    /// product.
    const FEWEST: usize = 512;

    let Terms { nll, square, entropy, log_partition } = terms;
    let (tokens, num_classes) = (layer.targets.len(), layer.num_classes);
    let lens = [nll.len(), square.len(), entropy.len(), log_partition.len()];
    assert_eq!(lens, [tokens; 4], "lengths of the results");
    let width = (LOGITS / tokens.max(1)).clamp(FEWEST.min(num_classes), num_classes);
    let mut logits = vec![E::ZERO; tokens * width];
    let mut parts = vec![(Part::EMPTY, f64::NAN); tokens];
    for start in (0..num_classes).step_by(width) {
        let classes = start..(start + width).min(num_classes);
        let logits = &mut logits[..tokens * classes.len()];
        let (rows, weight) = (layer.tokens(layer.hidden), layer.weight(classes.clone()));
        let (stride, destination) = (classes.len(), Destination::Overwrite);
        matmul_into(logits, stride, destination, rows, weight, layer.precision, threads);
        let bias = &layer.bias[classes.clone()];
        let per_task = rows_per_task(classes.len());
        let rows = logits.chunks_mut(per_task * classes.len());
        let tasks =
            rows.zip(layer.targets.chunks(per_task)).zip(parts.chunks_mut(per_task)).collect();
        map(tasks, threads, |((rows, targets), parts)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = rows.chunks_exact_mut(classes.len());
                    for ((row, target), (part, logit)) in rows.zip(targets).zip(parts) {
                        *part = part.joined(Part::of(row, bias));
                        if classes.contains(target) {
                            *logit = row[target - classes.start].to_f64();
                        }
                    }
                },
            );
        });
    }
    for (token, (part, logit)) in parts.into_iter().enumerate() {
        nll[token] = E::from_f64(part.nll(logit));
        square[token] = E::from_f64(part.square);
        entropy[token] = E::from_f64(part.entropy());
        log_partition[token] = E::from_f64(part.log_partition());
    }
}

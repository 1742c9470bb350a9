use super::layer::{Layer, rows_per_task};
use super::{LOWEST, Terms};
use crate::cpu::matmul::{Matrix, matmul};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// What [`forward_with_terms`](super::forward::forward_with_terms) computed for each token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statistics<'a, E> {
    /// `[tokens, 2]`.
    pub(super) maximum_and_ln_sum: &'a [E],
    /// `[tokens]`.
    pub(super) entropy: &'a [E],
}

/// Replace the logits that [`forward_with_terms`](super::forward::forward_with_terms) returned with
/// their gradient.
///
/// ```text
/// dz = g_nll (p − y) + 2 g_square z − g_entropy p (ln p + entropy) + g_log_partition p
/// ```
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn logits_gradient<E: Scalar>(
    logits: &mut [E],
    targets: &[usize],
    statistics: Statistics<'_, E>,
    terms_grad: Terms<&[E]>,
    threads: usize,
) {
    let tokens = targets.len();
    if tokens == 0 {
        return;
    }
    let num_classes = logits.len() / tokens;
    assert_eq!(logits.len(), tokens * num_classes, "length of the logits");
    let Statistics { maximum_and_ln_sum, entropy } = statistics;
    let lens = [maximum_and_ln_sum.len(), entropy.len()];
    assert_eq!(lens, [2 * tokens, tokens], "lengths of the terms");
    let Terms { nll, square, entropy: _, log_partition } = terms_grad;
    let lens = [nll.len(), square.len(), terms_grad.entropy.len(), log_partition.len()];
    assert_eq!(lens, [tokens; 4], "lengths of the gradients");

    let per_task = rows_per_task(num_classes);
    let tasks = logits.chunks_mut(per_task * num_classes).enumerate().collect();
    map(tasks, threads, |(task, rows): (usize, &mut [E])| {
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(num_classes).enumerate() {
                    let token = task * per_task + i;
                    let (of_p, factor) =
                        (nll[token] + log_partition[token], square[token] + square[token]);
                    let entropy_grad = terms_grad.entropy[token];
                    let maximum = maximum_and_ln_sum[2 * token];
                    let ln_sum = maximum_and_ln_sum[2 * token + 1];
                    let entropy = entropy[token];
                    for z in row.iter_mut() {
                        let ln_p = (*z - maximum - ln_sum).maximum(E::from_f64(LOWEST));
                        let through_p = ln_p.exp() * (of_p - entropy_grad * (ln_p + entropy));
                        // A class may be excluded by −∞, whose square must not matter if its factor
                        // is 0.
                        let direct = if factor == E::ZERO { E::ZERO } else { factor * *z };
                        *z = through_p + direct;
                    }
                    row[targets[token]] -= nll[token];
                }
            },
        );
    });
}

/// Gradients of a layer and its input; `weight` has the layout of the layer's weight.
#[derive(Debug)]
pub(super) struct Gradients<E> {
    /// `[tokens, d_hidden]`.
    pub(super) hidden: Vec<E>,
    pub(super) weight: Vec<E>,
    /// `[num_classes]`.
    pub(super) bias: Vec<E>,
}

/// Gradients of the layer and its input, from those of the logits, `[tokens, num_classes]`, times
/// `scale`, `[tokens]`.
///
/// After [`forward`](super::forward::forward), `scale` is the gradient of `nll`; after
/// [`logits_gradient`], it is ones.
///
/// # Panics
///
/// If a slice has the wrong length.
pub(super) fn backward<E: Scalar>(
    layer: &Layer<'_, E>,
    logits_grad: &[E],
    scale: &[E],
    threads: usize,
) -> Gradients<E> {
    let Layer { hidden, d_hidden, num_classes, tied, precision, .. } = *layer;
    let tokens = layer.targets.len();
    assert_eq!(scale.len(), tokens, "length of the scale");
    assert_eq!(logits_grad.len(), tokens * num_classes, "length of the logits' gradient");
    // The buffer is large and the hidden states are small: apply the scale in the products if it is
    // the same for all tokens, or else to the hidden states.
    let common = scale.first().filter(|first| scale.iter().all(|s| s == *first));
    let alpha = common.copied().unwrap_or(E::ONE);
    let dz = Matrix::new(logits_grad, tokens, num_classes);

    let weight = layer.weight(0..num_classes).t();
    let mut hidden_grad = matmul(alpha, dz, weight, precision, threads);
    let mut scaled = Vec::new();
    let hidden = if common.is_some() {
        hidden
    } else {
        scale_rows(&mut hidden_grad, scale, d_hidden, threads);
        scaled.extend_from_slice(hidden);
        scale_rows(&mut scaled, scale, d_hidden, threads);
        &scaled
    };
    let hidden = layer.tokens(hidden);
    let (lhs, rhs) = if tied { (dz.t(), hidden) } else { (hidden.t(), dz) };
    Gradients {
        hidden: hidden_grad,
        weight: matmul(alpha, lhs, rhs, precision, threads),
        bias: weighted_column_sums(logits_grad, scale, num_classes, threads),
    }
}

/// `rows[n, v] ← scale[n] · rows[n, v]`
pub(super) fn scale_rows<E: Scalar>(rows: &mut [E], scale: &[E], width: usize, threads: usize) {
    let per_task = rows_per_task(width);
    let tasks = rows.chunks_mut(per_task * width).zip(scale.chunks(per_task)).collect();
    map(tasks, threads, |(rows, scale): (&mut [E], &[E])| {
        vectorized(
            #[inline(always)]
            || {
                for (row, scale) in rows.chunks_exact_mut(width).zip(scale) {
                    for value in row {
                        *value *= *scale;
                    }
                }
            },
        );
    });
}

/// `Σₙ scale[n] · rows[n, v]` for each of `width` columns `v`.
fn weighted_column_sums<E: Scalar>(
    rows: &[E],
    scale: &[E],
    width: usize,
    threads: usize,
) -> Vec<E> {
    /// Rows that are summed in order; the sums of such groups are then added up.
    const ROWS: usize = 64;

    let tasks = rows.chunks(ROWS * width).zip(scale.chunks(ROWS)).collect();
    let sums = map(tasks, threads, |(rows, scale): (&[E], &[E])| {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = vec![E::ZERO; width];
                let (quads, rest) = scale.as_chunks::<4>();
                let (quad_rows, rest_rows) = rows.split_at(4 * quads.len() * width);
                for ([s0, s1, s2, s3], rows) in quads.iter().zip(quad_rows.chunks_exact(4 * width))
                {
                    let (r01, r23) = rows.split_at(2 * width);
                    let ((r0, r1), (r2, r3)) = (r01.split_at(width), r23.split_at(width));
                    let rows = r0.iter().zip(r1).zip(r2).zip(r3);
                    for (sum, (((r0, r1), r2), r3)) in sums.iter_mut().zip(rows) {
                        *sum += (*r0 * *s0 + *r1 * *s1) + (*r2 * *s2 + *r3 * *s3);
                    }
                }
                for (scale, row) in rest.iter().zip(rest_rows.chunks_exact(width)) {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += *value * *scale;
                    }
                }
                sums
            },
        )
    });
    let mut out = vec![E::ZERO; width];
    for part in sums {
        for (out, part) in out.iter_mut().zip(part) {
            *out += part;
        }
    }
    out
}

//! Linear layer and cross-entropy in one, with a single buffer of the logits' size.
//!
//! ```text
//! z = hidden · weight + bias,  p = softmax(z),  y = one-hot targets
//! nll[n] = ln Σᵥ e^z[n, v] − z[n, target[n]]
//! square[n] = Σᵥ z[n, v]²,  entropy[n] = −Σᵥ p[n, v] ln p[n, v]
//! ```
//!
//! [`forward`] leaves `p − y` in the buffer, the gradient of `nll` by the logits: backward is two products. With the
//! other two terms, [`forward_with_terms`] keeps the logits, and [`logits_gradient`] turns them into their gradient.
//! [`evaluate`] keeps nothing.

use std::ops::Range;

use crate::cpu::matmul::{Destination, Matrix, matmul, product};
use crate::cpu::reduce::{BLOCK, maximum, sum_block, sum_of_squares};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::map;

/// A logarithm of a probability below which the probability is 0, and so is its product with the logarithm.
const LOWEST: f64 = -1e3;

/// A linear layer over classes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a, E> {
    weight: &'a [E],
    bias: Option<&'a [E]>,
    d_hidden: usize,
    num_classes: usize,
    tied: bool,
}

impl<'a, E: Scalar> Head<'a, E> {
    /// `weight`: `[d_hidden, num_classes]` or, if `tied` to an embedding, `[num_classes, d_hidden]`, row-major.
    ///
    /// # Panics
    ///
    /// If a size is 0 or a slice has another length.
    pub(crate) fn new(
        weight: &'a [E],
        bias: Option<&'a [E]>,
        [d_hidden, num_classes]: [usize; 2],
        tied: bool,
    ) -> Self {
        assert!(d_hidden > 0 && num_classes > 0, "a layer of {d_hidden} by {num_classes}");
        assert_eq!(weight.len(), d_hidden * num_classes, "length of the weight");
        assert!(bias.is_none_or(|bias| bias.len() == num_classes), "length of the bias");
        Self { weight, bias, d_hidden, num_classes, tied }
    }

    /// Some of the classes' weights: `[d_hidden, classes.len()]`.
    fn weight(&self, classes: Range<usize>) -> Matrix<'a, E> {
        let Range { start, end } = classes;
        let (h, v) = (self.d_hidden, self.num_classes);
        if self.tied {
            Matrix::new(&self.weight[start * h..end * h], end - start, h).t()
        } else {
            Matrix::strided(&self.weight[start..], [h, end - start], [v, 1])
        }
    }

    fn check(&self, hidden: &[E], targets: &[usize]) {
        assert_eq!(hidden.len(), targets.len() * self.d_hidden, "length of the hidden states");
        for (token, &target) in targets.iter().enumerate() {
            assert!(
                target < self.num_classes,
                "the target {target} of token {token} is none of the {} classes",
                self.num_classes
            );
        }
    }

    /// `[tokens, d_hidden]`.
    fn tokens<'h>(&self, hidden: &'h [E]) -> Matrix<'h, E> {
        Matrix::new(hidden, hidden.len() / self.d_hidden, self.d_hidden)
    }

    /// `hidden · weight`; the bias is added where the logits are next read.
    fn logits(&self, hidden: &[E], threads: usize) -> Vec<E> {
        product(E::ONE, self.tokens(hidden), self.weight(0..self.num_classes), threads)
    }
}

/// Rows of logits that one task works on.
fn rows_per_task(num_classes: usize) -> usize {
    /// Less is not worth another thread.
    const ELEMENTS: usize = 1 << 16;
    (ELEMENTS / num_classes).max(1)
}

/// What is known of each token besides `nll`, `[tokens]` each unless said otherwise.
#[derive(Debug)]
pub(crate) struct Terms<'a, E> {
    pub(crate) square: &'a mut [E],
    pub(crate) entropy: &'a mut [E],
    /// `[tokens, 2]`: the largest logit `m`, and `ln Σᵥ e^(z[v] − m)`. Their sum would be less exact than they are.
    pub(crate) statistics: &'a mut [E],
}

/// `nll`, `[tokens]`; returned is the gradient `p − y` of each by its logits, `[tokens, num_classes]`.
///
/// `hidden`: `[tokens, d_hidden]`; what is in `nll` is not read. A NaN in a token's logits makes its `nll` NaN.
///
/// # Panics
///
/// If a target is none of the classes, or a slice has another length.
pub(crate) fn forward<E: Scalar>(
    head: Head<'_, E>,
    hidden: &[E],
    targets: &[usize],
    nll: &mut [E],
    threads: usize,
) -> Vec<E> {
    head.check(hidden, targets);
    assert_eq!(nll.len(), targets.len(), "length of the losses");
    let mut logits = head.logits(hidden, threads);
    let tokens = rows_per_task(head.num_classes);
    let rows = logits.chunks_mut(tokens * head.num_classes);
    let tasks = rows.zip(targets.chunks(tokens)).zip(nll.chunks_mut(tokens)).collect();
    map(tasks, threads, |((rows, targets), nll)| {
        vectorized(
            #[inline(always)]
            || {
                let rows = rows.chunks_exact_mut(head.num_classes);
                for ((row, &target), nll) in rows.zip(targets).zip(nll) {
                    *nll = gradient_of_nll(row, head.bias, target);
                }
            },
        );
    });
    logits
}

/// As [`forward`], with the other terms; returned are the logits.
///
/// # Panics
///
/// As [`forward`].
pub(crate) fn forward_with_terms<E: Scalar>(
    head: Head<'_, E>,
    hidden: &[E],
    targets: &[usize],
    nll: &mut [E],
    terms: Terms<'_, E>,
    threads: usize,
) -> Vec<E> {
    head.check(hidden, targets);
    assert_eq!(nll.len(), targets.len(), "length of the losses");
    assert_eq!(terms.square.len(), targets.len(), "length of the squares");
    assert_eq!(terms.entropy.len(), targets.len(), "length of the entropies");
    assert_eq!(terms.statistics.len(), 2 * targets.len(), "length of the statistics");
    let mut logits = head.logits(hidden, threads);
    let tokens = rows_per_task(head.num_classes);
    let tasks = logits
        .chunks_mut(tokens * head.num_classes)
        .zip(targets.chunks(tokens))
        .zip(nll.chunks_mut(tokens))
        .zip(terms.square.chunks_mut(tokens))
        .zip(terms.entropy.chunks_mut(tokens))
        .zip(terms.statistics.chunks_mut(2 * tokens))
        .collect();
    map(tasks, threads, |(((((rows, targets), nll), square), entropy), statistics)| {
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(head.num_classes).enumerate() {
                    let part = Part::of(row, head.bias);
                    nll[i] = E::from_f64(part.nll(row[targets[i]].to_f64()));
                    square[i] = E::from_f64(part.square);
                    entropy[i] = E::from_f64(part.entropy());
                    statistics[2 * i] = E::from_f64(part.maximum);
                    statistics[2 * i + 1] = E::from_f64(part.sum.ln());
                }
            },
        );
    });
    logits
}

/// `nll`, `square` and `entropy`, `[tokens]` each, with logits of a few classes at a time.
///
/// # Panics
///
/// As [`forward`].
pub(crate) fn evaluate<E: Scalar>(
    head: Head<'_, E>,
    hidden: &[E],
    targets: &[usize],
    nll: &mut [E],
    square: &mut [E],
    entropy: &mut [E],
    threads: usize,
) {
    /// Logits that stay in the last cache.
    const LOGITS: usize = 1 << 20;
    /// With fewer classes at a time, reading the hidden states would cost more than the product.
    const FEWEST: usize = 512;

    let tokens = targets.len();
    head.check(hidden, targets);
    assert_eq!([nll.len(), square.len(), entropy.len()], [tokens; 3], "lengths of the results");
    let width = (LOGITS / tokens.max(1)).clamp(FEWEST.min(head.num_classes), head.num_classes);
    let mut logits = vec![E::ZERO; tokens * width];
    let mut parts = vec![(Part::EMPTY, f64::NAN); tokens];
    for start in (0..head.num_classes).step_by(width) {
        let classes = start..(start + width).min(head.num_classes);
        let logits = &mut logits[..tokens * classes.len()];
        let (rows, weight) = (head.tokens(hidden), head.weight(classes.clone()));
        matmul(logits, classes.len(), Destination::Overwrite, E::ONE, rows, weight, threads);
        let bias = head.bias.map(|bias| &bias[classes.clone()]);
        let per_task = rows_per_task(classes.len());
        let rows = logits.chunks_mut(per_task * classes.len());
        let tasks = rows.zip(targets.chunks(per_task)).zip(parts.chunks_mut(per_task)).collect();
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
    }
}

/// Gradients of what [`forward_with_terms`] computes, `[tokens]` each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream<'a, E> {
    pub(crate) nll: &'a [E],
    pub(crate) square: Option<&'a [E]>,
    pub(crate) entropy: Option<&'a [E]>,
}

/// Turn the logits that [`forward_with_terms`] kept into the gradient by them.
///
/// ```text
/// dz = g_nll (p − y) + 2 g_square z − g_entropy p (ln p + entropy)
/// ```
///
/// # Panics
///
/// If the slices' lengths do not fit together.
pub(crate) fn logits_gradient<E: Scalar>(
    logits: &mut [E],
    targets: &[usize],
    statistics: &[E],
    entropy: &[E],
    upstream: Upstream<'_, E>,
    threads: usize,
) {
    let tokens = targets.len();
    if tokens == 0 {
        return;
    }
    let num_classes = logits.len() / tokens;
    assert_eq!(logits.len(), tokens * num_classes, "length of the logits");
    assert_eq!([statistics.len(), entropy.len()], [2 * tokens, tokens], "lengths of the terms");
    let given = [Some(upstream.nll), upstream.square, upstream.entropy];
    assert!(given.into_iter().flatten().all(|g| g.len() == tokens), "lengths of the gradients");

    let per_task = rows_per_task(num_classes);
    let tasks = logits.chunks_mut(per_task * num_classes).enumerate().collect();
    map(tasks, threads, |(task, rows): (usize, &mut [E])| {
        vectorized(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(num_classes).enumerate() {
                    let token = task * per_task + i;
                    let of = |gradient: Option<&[E]>| gradient.map_or(E::ZERO, |g| g[token]);
                    let (nll, square) = (upstream.nll[token], of(upstream.square));
                    let (factor, entropy_grad) = (square + square, of(upstream.entropy));
                    let [maximum, ln_sum] = [statistics[2 * token], statistics[2 * token + 1]];
                    let entropy = entropy[token];
                    for z in row.iter_mut() {
                        let ln_p = (*z - maximum - ln_sum).maximum(E::from_f64(LOWEST));
                        let through_p = ln_p.exp() * (nll - entropy_grad * (ln_p + entropy));
                        // A class may be excluded by −∞: its square does not count unless it is asked for.
                        let direct = if factor == E::ZERO { E::ZERO } else { factor * *z };
                        *z = through_p + direct;
                    }
                    row[targets[token]] -= nll;
                }
            },
        );
    });
}

/// Gradients by a head and its input; `weight` lies as the head's does.
#[derive(Debug)]
pub(crate) struct Gradients<E> {
    /// `[tokens, d_hidden]`.
    pub(crate) hidden: Vec<E>,
    pub(crate) weight: Vec<E>,
    /// `[num_classes]`.
    pub(crate) bias: Vec<E>,
}

/// Gradients by the head and its input, from those by the logits, `[tokens, num_classes]`, times `scale`, `[tokens]`.
///
/// After [`forward`], `scale` is the gradient by `nll`; after [`logits_gradient`], ones.
///
/// # Panics
///
/// If the slices' lengths do not fit together.
pub(crate) fn backward<E: Scalar>(
    head: Head<'_, E>,
    hidden: &[E],
    logits_grad: &[E],
    scale: &[E],
    threads: usize,
) -> Gradients<E> {
    let (tokens, d_hidden, num_classes) = (scale.len(), head.d_hidden, head.num_classes);
    assert_eq!(hidden.len(), tokens * d_hidden, "length of the hidden states");
    assert_eq!(logits_grad.len(), tokens * num_classes, "length of the logits' gradient");
    // The buffer is large and the hidden states are small: either the products take the scale, or the small side does.
    let common = scale.first().filter(|first| scale.iter().all(|s| s == *first));
    let alpha = common.copied().unwrap_or(E::ONE);
    let dz = Matrix::new(logits_grad, tokens, num_classes);

    let mut hidden_grad = product(alpha, dz, head.weight(0..num_classes).t(), threads);
    let mut scaled = Vec::new();
    let hidden = if common.is_some() {
        hidden
    } else {
        scale_rows(&mut hidden_grad, scale, d_hidden);
        scaled.extend_from_slice(hidden);
        scale_rows(&mut scaled, scale, d_hidden);
        &scaled
    };
    let hidden = head.tokens(hidden);
    let (lhs, rhs) = if head.tied { (dz.t(), hidden) } else { (hidden.t(), dz) };
    Gradients {
        hidden: hidden_grad,
        weight: product(alpha, lhs, rhs, threads),
        bias: weighted_column_sums(logits_grad, scale, num_classes, threads),
    }
}

/// Turn logits without their bias into `p − y`; returns the loss.
#[inline(always)]
fn gradient_of_nll<E: Scalar>(row: &mut [E], bias: Option<&[E]>, target: usize) -> E {
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

/// Finish the logits of a token; returns the largest.
///
/// That may pass over a NaN: the sum of exponentials will not.
#[inline(always)]
fn add_bias<E: Scalar>(row: &mut [E], bias: Option<&[E]>) -> E {
    let Some(bias) = bias else { return maximum(row) };
    let mut largest = E::from_f64(f64::NEG_INFINITY);
    for (block, bias) in row.chunks_mut(BLOCK).zip(bias.chunks(BLOCK)) {
        for (value, bias) in block.iter_mut().zip(bias) {
            *value += *bias;
        }
        let candidate = maximum(block);
        largest = if candidate > largest { candidate } else { largest };
    }
    largest
}

/// What is known of some of a token's classes, with the largest logit `m` among them.
#[derive(Debug, Clone, Copy)]
struct Part {
    maximum: f64,
    /// `Σ e^(z − m)`
    sum: f64,
    /// `Σ e^(z − m) (z − m)`
    weighted: f64,
    /// `Σ z²`
    square: f64,
}

impl Part {
    /// Of no classes.
    const EMPTY: Self = Self { maximum: f64::NEG_INFINITY, sum: 0.0, weighted: 0.0, square: 0.0 };

    /// From logits without their bias, which is added.
    #[inline(always)]
    fn of<E: Scalar>(row: &mut [E], bias: Option<&[E]>) -> Self {
        let maximum = add_bias(row, bias);
        // Where all classes are excluded, there is nothing to take the difference from.
        let shift = if maximum.to_f64() == f64::NEG_INFINITY { E::ZERO } else { maximum };
        let mut part = Self { maximum: maximum.to_f64(), ..Self::EMPTY };
        let (mut exps, mut products) = ([E::ZERO; BLOCK], [E::ZERO; BLOCK]);
        for block in row.chunks(BLOCK) {
            let (exps, products) = (&mut exps[..block.len()], &mut products[..block.len()]);
            for ((value, exp), product) in block.iter().zip(&mut *exps).zip(&mut *products) {
                let difference = *value - shift;
                *exp = difference.exp();
                *product = *exp * difference.maximum(E::from_f64(LOWEST));
            }
            part.sum += sum_block(exps);
            part.weighted += sum_block(products);
            part.square += sum_of_squares(block);
        }
        part
    }

    fn joined(self, other: Self) -> Self {
        let maximum = self.maximum.max(other.maximum);
        let [mut sum, mut weighted] = [0.0; 2];
        for part in [self, other] {
            let shift = (part.maximum - maximum).max(LOWEST);
            sum += shift.exp() * part.sum;
            weighted += shift.exp() * (part.weighted + shift * part.sum);
        }
        Self { maximum, sum, weighted, square: self.square + other.square }
    }

    fn nll(&self, logit: f64) -> f64 {
        self.sum.ln() + (self.maximum - logit)
    }

    /// `−Σ p ln p` with `ln p = (z − m) − ln Σ e^(z − m)`: both sums are positive, nothing cancels.
    fn entropy(&self) -> f64 {
        self.sum.ln() - self.weighted / self.sum
    }
}

fn scale_rows<E: Scalar>(rows: &mut [E], scale: &[E], width: usize) {
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
}

/// `Σₙ scale[n] · rows[n, v]` for each of `width` columns `v`.
fn weighted_column_sums<E: Scalar>(
    rows: &[E],
    scale: &[E],
    width: usize,
    threads: usize,
) -> Vec<E> {
    /// Rows that are summed one after the other; the sums of such groups are then added.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A problem with the gradients that it is given by what comes after it.
    #[derive(Debug, Clone)]
    struct Problem {
        tokens: usize,
        d_hidden: usize,
        num_classes: usize,
        tied: bool,
        hidden: Vec<f64>,
        weight: Vec<f64>,
        bias: Option<Vec<f64>>,
        targets: Vec<usize>,
        nll_grad: Vec<f64>,
        square_grad: Option<Vec<f64>>,
        entropy_grad: Option<Vec<f64>>,
    }

    /// Everything that the kernels compute, as `f64`.
    #[derive(Debug, PartialEq)]
    struct Results {
        nll: Vec<f64>,
        square: Vec<f64>,
        entropy: Vec<f64>,
        hidden_grad: Vec<f64>,
        weight_grad: Vec<f64>,
        bias_grad: Vec<f64>,
    }

    fn narrow<E: Scalar>(values: &[f64]) -> Vec<E> {
        values.iter().map(|&value| E::from_f64(value)).collect()
    }

    fn widen<E: Scalar>(values: &[E]) -> Vec<f64> {
        values.iter().map(|value| value.to_f64()).collect()
    }

    impl Problem {
        /// The definition, token by token.
        fn logits(&self) -> Vec<Vec<f64>> {
            let (h, v) = (self.d_hidden, self.num_classes);
            let weight = |i: usize, j: usize| {
                if self.tied { self.weight[j * h + i] } else { self.weight[i * v + j] }
            };
            let logit = |n: usize, j: usize| {
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias[j]);
                (0..h).map(|i| self.hidden[n * h + i] * weight(i, j)).sum::<f64>() + bias
            };
            (0..self.tokens).map(|n| (0..v).map(|j| logit(n, j)).collect()).collect()
        }

        /// `nll`, `square` and `entropy` of one token from the definition.
        fn terms(&self, token: usize, logits: &[f64]) -> [f64; 3] {
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
            let ln_p = |z: f64| z - largest - sum.ln();
            [
                -ln_p(logits[self.targets[token]]),
                logits.iter().map(|z| z * z).sum(),
                -logits.iter().map(|&z| ln_p(z).exp() * ln_p(z)).sum::<f64>(),
            ]
        }

        fn reference(&self) -> Vec<[f64; 3]> {
            self.logits().iter().enumerate().map(|(n, logits)| self.terms(n, logits)).collect()
        }

        /// `Σ upstream · term`, whose derivatives the gradients are.
        fn objective(&self) -> f64 {
            let of = |g: &Option<Vec<f64>>, n: usize| g.as_ref().map_or(0.0, |g| g[n]);
            let terms = self.reference().into_iter().enumerate();
            terms
                .map(|(n, [nll, square, entropy])| {
                    self.nll_grad[n] * nll
                        + of(&self.square_grad, n) * square
                        + of(&self.entropy_grad, n) * entropy
                })
                .sum()
        }

        /// What the kernels compute in `E`, without the other terms if `plain`.
        fn run<E: Scalar>(&self, plain: bool, threads: usize) -> Results {
            let [hidden, weight] = [&self.hidden, &self.weight].map(|x| narrow::<E>(x));
            let bias: Option<Vec<E>> = self.bias.as_deref().map(narrow);
            let head =
                Head::new(&weight, bias.as_deref(), [self.d_hidden, self.num_classes], self.tied);
            let n = self.tokens;
            // Results must not depend on what was there.
            let garbage = |len| vec![E::from_f64(f64::NAN); len];
            let [mut nll, mut square, mut entropy] = [n; 3].map(garbage);
            let mut statistics = garbage(2 * n);
            let mut scale = narrow(&self.nll_grad);
            let targets = &self.targets;
            let logits = if plain {
                forward(head, &hidden, targets, &mut nll, threads)
            } else {
                let terms = Terms {
                    square: &mut square,
                    entropy: &mut entropy,
                    statistics: &mut statistics,
                };
                let mut logits =
                    forward_with_terms(head, &hidden, targets, &mut nll, terms, threads);
                let square: Option<Vec<E>> = self.square_grad.as_deref().map(narrow);
                let entropy_grad: Option<Vec<E>> = self.entropy_grad.as_deref().map(narrow);
                let upstream = Upstream {
                    nll: &scale,
                    square: square.as_deref(),
                    entropy: entropy_grad.as_deref(),
                };
                logits_gradient(&mut logits, targets, &statistics, &entropy, upstream, threads);
                scale = vec![E::ONE; n];
                logits
            };
            let gradients = backward(head, &hidden, &logits, &scale, threads);
            Results {
                nll: widen(&nll),
                square: widen(&square),
                entropy: widen(&entropy),
                hidden_grad: widen(&gradients.hidden),
                weight_grad: widen(&gradients.weight),
                bias_grad: widen(&gradients.bias),
            }
        }

        /// Derivative of the objective by the number that `place` finds, by central differences.
        fn difference(&self, place: impl Fn(&mut Self) -> &mut f64) -> f64 {
            // Errors of the second order and of rounding are both near 1e-10 here.
            const STEP: f64 = 1e-5;
            let at = |step: f64| {
                let mut moved = self.clone();
                *place(&mut moved) += step;
                moved.objective()
            };
            (at(STEP) - at(-STEP)) / (2.0 * STEP)
        }
    }

    /// Repeatable numbers in `[-scale, scale)`.
    fn numbers(len: usize, scale: f64, seed: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        (0..len).map(|_| scale * next()).collect()
    }

    fn problem([n, h, v]: [usize; 3], tied: bool, bias: bool, seed: u64) -> Problem {
        Problem {
            tokens: n,
            d_hidden: h,
            num_classes: v,
            tied,
            hidden: numbers(n * h, 1.0, seed + 1),
            weight: numbers(h * v, 1.0, seed + 2),
            bias: bias.then(|| numbers(v, 1.0, seed + 3)),
            targets: numbers(n, 0.5, seed + 4)
                .into_iter()
                .map(|x| ((x + 0.5) * v as f64) as usize)
                .collect(),
            nll_grad: numbers(n, 1.0, seed + 5),
            square_grad: Some(numbers(n, 0.1, seed + 6)),
            entropy_grad: Some(numbers(n, 1.0, seed + 7)),
        }
    }

    fn problems() -> impl Strategy<Value = Problem> {
        let sizes = (
            1..7_usize,
            1..6_usize,
            prop_oneof![Just(1), Just(2), Just(37), 3..70_usize, Just(1100)],
        );
        (sizes, any::<bool>(), any::<bool>(), 0..1000_u64)
            .prop_map(|((n, h, v), tied, bias, seed)| problem([n, h, v], tied, bias, seed))
    }

    #[track_caller]
    fn assert_close(name: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(actual.len(), expected.len(), "{name}");
        for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
            assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "{name}[{i}]: {a}, not {e}");
        }
    }

    fn check_against_differences(problem: &Problem, results: &Results) {
        for (name, len, actual) in [
            ("hidden", problem.hidden.len(), &results.hidden_grad),
            ("weight", problem.weight.len(), &results.weight_grad),
            ("bias", problem.bias.as_ref().map_or(0, Vec::len), &results.bias_grad),
        ] {
            // A few of many: one difference costs a whole forward pass.
            for i in (0..len).step_by(len.div_ceil(40).max(1)) {
                let expected = problem.difference(|problem| match name {
                    "hidden" => &mut problem.hidden[i],
                    "weight" => &mut problem.weight[i],
                    _ => &mut problem.bias.as_mut().unwrap()[i],
                });
                assert_close(name, &actual[i..=i], &[expected], 1e-7);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn values_are_those_of_the_definition(problem in problems()) {
            let results = problem.run::<f64>(false, 1);
            let expected = problem.reference();
            let of = |term: usize| expected.iter().map(|terms| terms[term]).collect::<Vec<_>>();
            assert_close("nll", &results.nll, &of(0), 1e-12);
            assert_close("square", &results.square, &of(1), 1e-12);
            assert_close("entropy", &results.entropy, &of(2), 1e-12);
            assert_close("nll alone", &problem.run::<f64>(true, 1).nll, &of(0), 1e-12);
        }

        #[test]
        fn gradients_are_the_differences_of_the_values(problem in problems()) {
            check_against_differences(&problem, &problem.run::<f64>(false, 1));
        }

        #[test]
        fn gradients_of_the_loss_alone(problem in problems(), equal in any::<bool>()) {
            let mut problem = Problem { square_grad: None, entropy_grad: None, ..problem };
            if equal {
                problem.nll_grad.fill(-0.7);
            }
            let plain = problem.run::<f64>(true, 1);
            check_against_differences(&problem, &plain);
            let kept = problem.run::<f64>(false, 1);
            assert_close("hidden", &plain.hidden_grad, &kept.hidden_grad, 1e-12);
            assert_close("weight", &plain.weight_grad, &kept.weight_grad, 1e-12);
            assert_close("bias", &plain.bias_grad, &kept.bias_grad, 1e-12);
        }

        /// A logit has at most six terms below 1, each rounded a few times: an error below 3e-6, usually 5e-7.
        /// Gradients add up to 1100 such errors times up to 0.2, which grow like a random walk: 33 · 0.2 · 5e-7 = 3e-6.
        #[test]
        fn single_precision_agrees_to_its_rounding(problem in problems(), plain in any::<bool>()) {
            let (single, double) = (problem.run::<f32>(plain, 1), problem.run::<f64>(plain, 1));
            assert_close("nll", &single.nll, &double.nll, 1e-5);
            assert_close("hidden", &single.hidden_grad, &double.hidden_grad, 1e-5);
            assert_close("weight", &single.weight_grad, &double.weight_grad, 1e-5);
            assert_close("bias", &single.bias_grad, &double.bias_grad, 1e-5);
            if !plain {
                assert_close("square", &single.square, &double.square, 1e-5);
                assert_close("entropy", &single.entropy, &double.entropy, 1e-5);
            }
        }
    }

    /// Rounding the logits moves the loss by 3e-7, rounding the loss by 5e-7; a sum in one accumulator by 1e-5.
    #[test]
    fn many_classes_cost_no_precision() {
        let problem = of_logits(&numbers(50_000, 5.0, 3), 7);
        let expected = problem.run::<f64>(true, 1).nll;
        assert_close("nll", &problem.run::<f32>(true, 1).nll, &expected, 1e-7);
        assert_close("nll", &problem.run::<f32>(false, 1).nll, &expected, 1e-7);
    }

    /// More than one task in every pass, and a product that the `gemm` crate divides.
    #[test]
    fn threads_change_no_bit() {
        for (tied, bias) in [(false, true), (true, false)] {
            let problem = problem([150, 40, 3000], tied, bias, 11);
            for plain in [true, false] {
                let [one, two] = [1, 2].map(|threads| problem.run::<f32>(plain, threads));
                assert!(one.nll.iter().chain(&one.bias_grad).all(|x| x.is_finite()));
                assert_eq!(one.nll, two.nll);
                assert_eq!(one.hidden_grad, two.hidden_grad);
                assert_eq!(one.weight_grad, two.weight_grad);
                assert_eq!(one.bias_grad, two.bias_grad);
                if !plain {
                    assert_eq!([one.square, one.entropy], [two.square, two.entropy]);
                }
            }
        }
    }

    /// `nll`, `square` and `entropy` of [`evaluate`].
    fn evaluated(problem: &Problem, threads: usize) -> [Vec<f64>; 3] {
        let shape = [problem.d_hidden, problem.num_classes];
        let head = Head::new(&problem.weight, problem.bias.as_deref(), shape, problem.tied);
        let [mut nll, mut square, mut entropy] = [problem.tokens; 3].map(|n| vec![f64::NAN; n]);
        let (hidden, targets) = (&problem.hidden, &problem.targets);
        evaluate(head, hidden, targets, &mut nll, &mut square, &mut entropy, threads);
        [nll, square, entropy]
    }

    /// In several parts, of which the last is shorter.
    #[test]
    fn evaluation_computes_the_same() {
        for (tied, bias) in [(false, true), (true, false)] {
            let problem = problem([150, 7, 40_000], tied, bias, 5);
            let actual = evaluated(&problem, 2);
            assert_eq!(actual, evaluated(&problem, 1));
            let Results { nll, square, entropy, .. } = problem.run::<f64>(false, 2);
            for (actual, expected) in actual.iter().zip([nll, square, entropy]) {
                assert_close("evaluated", actual, &expected, 1e-13);
            }
        }
    }

    /// The first part has no class that counts, and one token's logits are not numbers.
    #[test]
    fn evaluation_without_a_part() {
        let mut problem = problem([150, 7, 40_000], false, true, 5);
        problem.bias.as_mut().unwrap()[..10_000].fill(f64::NEG_INFINITY);
        problem.targets.fill(20_000);
        let [expected, _, entropy] = evaluated(&problem, 1);
        problem.hidden[7] = f64::NAN;
        let [nll, ..] = evaluated(&problem, 1);
        assert!(nll[1].is_nan() && nll[0] == expected[0] && nll[2..] == expected[2..]);
        let plain = problem.run::<f64>(false, 1);
        assert_close("nll", &expected[2..], &plain.nll[2..], 1e-13);
        assert_close("entropy", &entropy[2..], &plain.entropy[2..], 1e-13);
    }

    /// One hidden unit that is 1, so that the weights are the logits.
    fn of_logits(logits: &[f64], target: usize) -> Problem {
        Problem {
            hidden: vec![1.0],
            weight: logits.to_vec(),
            targets: vec![target],
            nll_grad: vec![1.0],
            ..problem([1, 1, logits.len()], false, false, 0)
        }
    }

    #[test]
    fn large_logits_neither_overflow_nor_lose_the_small_ones() {
        for size in [80.0, 1e4] {
            let single = |target| {
                let problem =
                    Problem { square_grad: None, ..of_logits(&[size, -size, size, 0.0], target) };
                (problem.run::<f32>(true, 1), problem.run::<f32>(false, 1))
            };
            // p = [½, 0, ½, 0] up to e^−80.
            let ln_2 = std::f64::consts::LN_2;
            for (target, nll) in [(0, ln_2), (1, ln_2 + 2.0 * size), (3, ln_2 + size)] {
                let (plain, kept) = single(target);
                assert_close("nll", &plain.nll, &[nll], 1e-7);
                assert_close("nll", &kept.nll, &[nll], 1e-7);
                assert_close("entropy", &kept.entropy, &[ln_2], 1e-7);
                assert_close("square", &kept.square, &[3.0 * size * size], 1e-7);
                let mut expected = [0.5, 0.0, 0.5, 0.0];
                expected[target] -= 1.0;
                assert_close("plain", &plain.weight_grad, &expected, 1e-6);
                // The gradient of the entropy is 0: of the classes that count, both are alike.
                assert_close("kept", &kept.weight_grad, &expected, 1e-6);
            }
        }
    }

    #[test]
    fn a_class_may_be_excluded() {
        let problem = Problem {
            bias: Some(vec![0.0, f64::NEG_INFINITY, 0.0]),
            square_grad: None,
            ..of_logits(&[0.0; 3], 2)
        };
        for plain in [true, false] {
            let results = problem.run::<f32>(plain, 1);
            assert_close("nll", &results.nll, &[std::f64::consts::LN_2], 1e-7);
            assert_close("gradient", &results.bias_grad, &[0.5, 0.0, -0.5], 1e-6);
        }
        assert_close("entropy", &problem.run::<f64>(false, 1).entropy, &[2.0_f64.ln()], 1e-12);
    }

    #[test]
    fn not_a_number_is_passed_on_and_stays_in_its_token() {
        for place in [0, 36, 40] {
            for plain in [true, false] {
                let mut problem = problem([3, 2, 41], true, true, 3);
                problem.hidden[2] = f64::NAN;
                let results = problem.run::<f32>(plain, 1);
                assert_eq!(
                    results.nll.iter().map(|x| x.is_nan()).collect::<Vec<_>>(),
                    [false, true, false]
                );

                let mut logits = vec![0.0; 41];
                logits[place] = f64::NAN;
                let results = of_logits(&logits, 20).run::<f32>(plain, 1);
                assert!(results.nll[0].is_nan() && results.bias_grad.iter().all(|x| x.is_nan()));
            }
        }
    }

    #[test]
    fn no_tokens_have_no_gradient() {
        for plain in [true, false] {
            let results = problem([0, 3, 4], false, true, 0).run::<f32>(plain, 2);
            assert_eq!(results.weight_grad, [0.0; 12]);
            assert_eq!(results.bias_grad, [0.0; 4]);
        }
    }

    #[test]
    #[should_panic(expected = "the target 37 of token 1 is none of the 37 classes")]
    fn targets_are_checked() {
        let mut problem = problem([2, 3, 37], false, true, 0);
        problem.targets[1] = 37;
        problem.run::<f32>(true, 1);
    }
}

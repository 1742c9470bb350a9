//! Weights drawn from normal distributions, and their divergence from a mixture around zero.
//!
//! ```text
//! σ = ln(1 + e^ρ) + MIN_SIGMA
//! w = μ + σ ⊙ ε
//! d = Σ (−ln σ − ½ ε²) − ln p(w)
//! ∂μ = ∂w − ∂d · ∂ln p(w)/∂w
//! ∂ρ = (∂μ ⊙ ε − ∂d / σ) · 1/(1 + e^−ρ)
//! ```

use crate::cpu::reduce::{self, BLOCK, sum_block};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::filled_with;
use crate::sampled_weight::prior::LogDensity;
use crate::sampled_weight::{MIN_SIGMA, MixtureOver};

/// Elements per task, about; fixed, so that the order of the sum is.
const TASK: usize = 1 << 15;

/// What the weights' means are moved by, and what is believed of the weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw<'a, E> {
    pub(super) rho: &'a [E],
    pub(super) noise: &'a [E],
    pub(super) density: LogDensity,
}

impl<E: Scalar> Draw<'_, E> {
    /// The weights `w` and their divergence `d`.
    ///
    /// # Panics
    ///
    /// If the lengths differ, or are not multiples of a row's.
    pub(super) fn forward(&self, mean: &[E], threads: usize) -> (Vec<E>, f64) {
        let Self { rho, noise, density } = *self;
        let part_len = density.part_len(mean.len());
        let lens = [rho.len(), noise.len()];
        assert_eq!(lens, [mean.len(); 2], "lengths of ρ, the noise and the means");
        let parts = mean.chunks(part_len).zip(rho.chunks(part_len)).zip(noise.chunks(part_len));
        let tasks = parts.map(|parts| (parts.1.len(), parts));
        let (weights, sums) = filled_with(tasks, threads, |((mean, rho), noise), weights| {
            vectorized(
                #[inline(always)]
                || {
                    let cost = draw(mean, rho, noise, weights);
                    cost - density.sum(weights)
                },
            )
        });
        (weights, sums.into_iter().sum())
    }

    /// Gradients of the means and of ρ, from those of the weights and of the divergence. The
    /// gradient of the means replaces that of the weights.
    ///
    /// # Panics
    ///
    /// If the lengths differ, or are not multiples of a row's.
    pub(super) fn backward(
        &self,
        weights: &[E],
        weights_grad: &mut [E],
        divergence_grad: E,
        threads: usize,
    ) -> Vec<E> {
        let Self { rho, noise, density } = *self;
        let part_len = density.part_len(weights.len());
        let lens = [rho.len(), noise.len(), weights_grad.len()];
        assert_eq!(
            lens,
            [weights.len(); 3],
            "lengths of ρ, the noise, the gradient and the weights"
        );
        let inputs = rho.chunks(part_len).zip(noise.chunks(part_len));
        let parts = weights.chunks(part_len).zip(weights_grad.chunks_mut(part_len));
        let tasks = inputs.zip(parts).map(|parts| (parts.0.0.len(), parts));
        let (rho_grad, _) =
            filled_with(tasks, threads, |((rho, noise), (weights, mean_grad)), rho_grad| {
                vectorized(
                    #[inline(always)]
                    || {
                        density.add_gradient(weights, mean_grad, divergence_grad);
                        for (gradient, &rho) in rho_grad.iter_mut().zip(rho) {
                            *gradient = divergence_grad / sigma(rho);
                        }
                        let inputs = mean_grad.iter().zip(noise).zip(rho);
                        for (gradient, ((&mean_grad, &noise), &rho)) in
                            rho_grad.iter_mut().zip(inputs)
                        {
                            *gradient = (mean_grad * noise - *gradient) * rho.sigmoid();
                        }
                    },
                );
            });
        rho_grad
    }
}

/// Write the weights; `Σ (−ln σ − ½ ε²)`.
#[inline(always)]
fn draw<E: Scalar>(mean: &[E], rho: &[E], noise: &[E], weights: &mut [E]) -> f64 {
    let mut sum = 0.0;
    let mut terms = [E::ZERO; BLOCK];
    let inputs = mean.chunks(BLOCK).zip(rho.chunks(BLOCK)).zip(noise.chunks(BLOCK));
    for (((mean, rho), noise), weights) in inputs.zip(weights.chunks_mut(BLOCK)) {
        let terms = &mut terms[..mean.len()];
        for (term, &rho) in terms.iter_mut().zip(rho) {
            *term = sigma(rho);
        }
        for (((weight, &mean), &noise), sigma) in
            weights.iter_mut().zip(mean).zip(noise).zip(&*terms)
        {
            *weight = mean + *sigma * noise;
        }
        for (term, &noise) in terms.iter_mut().zip(noise) {
            *term = -(term.ln() + E::from_f64(0.5) * noise * noise);
        }
        sum += sum_block(terms);
    }
    sum
}

/// `ln(1 + e^x)`.
#[inline(always)]
fn softplus<E: Scalar>(x: E) -> E {
    let (positive, negative) = if x > E::ZERO { (x, -x) } else { (E::ZERO, x) };
    positive + negative.exp().ln_1p()
}

#[inline(always)]
fn sigma<E: Scalar>(rho: E) -> E {
    softplus(rho) + E::from_f64(MIN_SIGMA)
}

#[inline(always)]
fn sum_of_squares<E: Scalar>(row: &[E]) -> E {
    E::from_f64(reduce::sum_of_squares(row))
}

impl LogDensity {
    /// Weights per task, of `len` in all.
    fn part_len(&self, len: usize) -> usize {
        let Self { over, width, .. } = *self;
        match over {
            MixtureOver::Weight => TASK,
            MixtureOver::Row => {
                assert!(width > 0 && len.is_multiple_of(width), "{len} weights in rows of {width}");
                (TASK / width).max(1) * width
            }
        }
    }

    /// `ln p − a`.
    #[inline(always)]
    fn value<E: Scalar>(self, square: E) -> E {
        let exponent = E::from_f64(self.largest) - E::from_f64(self.slope) * square;
        softplus(exponent) - E::from_f64(self.wide_slope) * square
    }

    /// The derivative of [`value`](Self::value).
    #[inline(always)]
    fn derivative<E: Scalar>(self, square: E) -> E {
        let exponent = E::from_f64(self.largest) - E::from_f64(self.slope) * square;
        -(exponent.sigmoid() * E::from_f64(self.slope) + E::from_f64(self.wide_slope))
    }

    /// `ln p` of all weights.
    #[inline(always)]
    fn sum<E: Scalar>(self, weights: &[E]) -> f64 {
        match self.over {
            MixtureOver::Weight => {
                let mut sum = self.wide * weights.len() as f64;
                let mut terms = [E::ZERO; BLOCK];
                for weights in weights.chunks(BLOCK) {
                    let terms = &mut terms[..weights.len()];
                    for (term, &weight) in terms.iter_mut().zip(weights) {
                        *term = self.value(weight * weight);
                    }
                    sum += sum_block(terms);
                }
                sum
            }
            MixtureOver::Row => weights
                .chunks(self.width)
                .map(
                    #[inline(always)]
                    |row| self.value(sum_of_squares(row)).to_f64() + self.wide,
                )
                .sum(),
        }
    }

    /// `∂μ ← ∂w − ∂d · ∂ln p(w)/∂w`.
    #[inline(always)]
    fn add_gradient<E: Scalar>(self, weights: &[E], mean_grad: &mut [E], divergence_grad: E) {
        let factor = E::from_f64(-2.0) * divergence_grad;
        match self.over {
            MixtureOver::Weight => {
                for (gradient, &weight) in mean_grad.iter_mut().zip(weights) {
                    *gradient += factor * weight * self.derivative(weight * weight);
                }
            }
            MixtureOver::Row => {
                let rows = weights.chunks(self.width);
                for (gradient, row) in mean_grad.chunks_mut(self.width).zip(rows) {
                    let factor = factor * self.derivative(sum_of_squares(row));
                    for (gradient, &weight) in gradient.iter_mut().zip(row) {
                        *gradient += factor * weight;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::random::{Key, normal};

    /// Drawn each by itself.
    const DENSITY: LogDensity = LogDensity {
        over: MixtureOver::Weight,
        width: 1,
        wide: -0.4,
        wide_slope: 3.0,
        largest: 3.1,
        slope: 900.0,
    };

    fn rows(width: usize) -> LogDensity {
        LogDensity { over: MixtureOver::Row, width, ..DENSITY }
    }

    /// Weights, divergence, gradients of means and of ρ.
    type Results<E> = (Vec<E>, f64, Vec<E>, Vec<E>);

    fn run<E: Scalar>(density: LogDensity, len: usize, threads: usize) -> Results<E> {
        let numbers = |key, factor: f64, shift: f64| -> Vec<E> {
            let number = |number: f64| E::from_f64(f64::from(number as f32) * factor + shift);
            normal::<f64>(Key([key, 0]), len, 1).into_iter().map(number).collect()
        };
        let (mean, rho, noise) =
            (numbers(1, 0.125, 0.0), numbers(2, 0.5, -2.0), numbers(3, 1.0, 0.0));
        let mut gradient = numbers(4, 1.0, 0.0);
        let draw = Draw { rho: &rho, noise: &noise, density };
        let (weights, sum) = draw.forward(&mean, threads);
        let rho_gradient = draw.backward(&weights, &mut gradient, E::from_f64(0.25), threads);
        (weights, sum, gradient, rho_gradient)
    }

    #[test]
    fn threads_change_no_bit() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for (density, len) in
            [(DENSITY, 100_001), (rows(37), 37 * 2_700), (rows(2 * TASK + 1), 2 * (2 * TASK + 1))]
        {
            let two = pool.install(|| run::<f32>(density, len, 2));
            assert!(run::<f32>(density, len, 1) == two, "{density:?}");
        }
    }

    /// Some units of the last place of the largest magnitude; the sum's errors mostly cancel.
    #[test]
    fn single_precision_agrees_with_double() {
        for density in [DENSITY, rows(25)] {
            let (single, double) = (run::<f32>(density, 10_000, 1), run::<f64>(density, 10_000, 1));
            assert!((single.1 / double.1 - 1.0).abs() < 1e-6, "{} and {}", single.1, double.1);
            for (single, double) in
                [(single.0, double.0), (single.2, double.2), (single.3, double.3)]
            {
                let scale = double.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
                for (single, double) in single.into_iter().zip(double) {
                    assert!(
                        (f64::from(single) - double).abs() < 4e-6 * scale,
                        "{single}, {double}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "10 weights in rows of 4")]
    fn rows_are_whole() {
        let draw = Draw { rho: &[0.0_f32; 10], noise: &[0.0; 10], density: rows(4) };
        draw.forward(&[0.0; 10], 1);
    }
}

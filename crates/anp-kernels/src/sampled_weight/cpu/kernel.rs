//! Weights drawn from normal distributions, and how far these are from a mixture around zero.
//!
//! ```text
//! σ = ln(1 + e^ρ) + MIN_SIGMA
//! w = μ + σ ⊙ ε
//! d = Σ (−ln σ − ½ ε²) − ln p(w)
//! ∂μ = ∂w − ∂d · ∂ln p(w)/∂w
//! ∂ρ = (∂μ ⊙ ε − ∂d / σ) · 1/(1 + e^−ρ)
//! ```

use crate::cpu::reduce::{BLOCK, sum_block};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::filled_with;
use crate::sampled_weight::{LogDensity, MIN_SIGMA};

/// Elements that one task works on, about; fixed, so that the order of the sum is.
const TASK: usize = 1 << 15;

impl LogDensity {
    /// `ln p − a`.
    #[inline(always)]
    fn value<E: Scalar>(self, square: E) -> E {
        let exponent = E::from_f64(self.largest) - E::from_f64(self.slope) * square;
        softplus(exponent) - E::from_f64(self.wide_slope) * square
    }

    /// Its derivative.
    #[inline(always)]
    fn derivative<E: Scalar>(self, square: E) -> E {
        let exponent = E::from_f64(self.largest) - E::from_f64(self.slope) * square;
        -(exponent.sigmoid() * E::from_f64(self.slope) + E::from_f64(self.wide_slope))
    }
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

/// Which weights are drawn from one component of the mixture together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Together {
    /// Each by itself.
    One,
    /// So many in a row.
    Row(usize),
}

impl Together {
    /// Lengths of the tasks' parts.
    fn part_len(self) -> usize {
        match self {
            Self::One => TASK,
            Self::Row(width) => (TASK / width).max(1) * width,
        }
    }

    fn check(self, len: usize) {
        if let Self::Row(width) = self {
            assert!(width > 0 && len.is_multiple_of(width), "{len} weights in rows of {width}");
        }
    }
}

/// The weights `w` and their divergence `d`.
///
/// # Panics
///
/// If the lengths differ, or are no multiple of a row's.
pub(crate) fn forward<E: Scalar>(
    mean: &[E],
    rho: &[E],
    noise: &[E],
    density: LogDensity,
    together: Together,
    threads: usize,
) -> (Vec<E>, f64) {
    together.check(mean.len());
    assert_eq!([rho.len(), noise.len()], [mean.len(); 2], "lengths of ρ, the noise and the means");
    let part_len = together.part_len();
    let parts = mean.chunks(part_len).zip(rho.chunks(part_len)).zip(noise.chunks(part_len));
    let tasks = parts.map(|parts| (parts.1.len(), parts));
    let (weights, sums) = filled_with(tasks, threads, |((mean, rho), noise), weights| {
        vectorized(
            #[inline(always)]
            || {
                let cost = draw(mean, rho, noise, weights);
                cost - log_density(weights, density, together)
            },
        )
    });
    (weights, sums.into_iter().sum())
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

#[inline(always)]
fn log_density<E: Scalar>(weights: &[E], density: LogDensity, together: Together) -> f64 {
    match together {
        Together::One => {
            let mut sum = density.wide * weights.len() as f64;
            let mut terms = [E::ZERO; BLOCK];
            for weights in weights.chunks(BLOCK) {
                let terms = &mut terms[..weights.len()];
                for (term, &weight) in terms.iter_mut().zip(weights) {
                    *term = density.value(weight * weight);
                }
                sum += sum_block(terms);
            }
            sum
        }
        Together::Row(width) => weights
            .chunks(width)
            .map(
                #[inline(always)]
                |row| density.value(sum_of_squares(row)).to_f64() + density.wide,
            )
            .sum(),
    }
}

#[inline(always)]
fn sum_of_squares<E: Scalar>(row: &[E]) -> E {
    E::from_f64(crate::cpu::reduce::sum_of_squares(row))
}

/// Gradients of the means and of ρ, from that of the weights, which the first is written over, and that of the divergence.
///
/// # Panics
///
/// If the lengths differ, or are no multiple of a row's.
#[allow(clippy::too_many_arguments)]
pub(crate) fn backward<E: Scalar>(
    weights: &[E],
    rho: &[E],
    noise: &[E],
    density: LogDensity,
    together: Together,
    weight_grad: &mut [E],
    divergence_grad: E,
    threads: usize,
) -> Vec<E> {
    together.check(weights.len());
    let lens = [rho.len(), noise.len(), weight_grad.len()];
    assert_eq!(lens, [weights.len(); 3], "lengths of ρ, the noise, the gradient and the weights");
    let part_len = together.part_len();
    let inputs = rho.chunks(part_len).zip(noise.chunks(part_len));
    let parts = weights.chunks(part_len).zip(weight_grad.chunks_mut(part_len));
    let tasks = inputs.zip(parts).map(|parts| (parts.0.0.len(), parts));
    let (rho_grad, _) =
        filled_with(tasks, threads, |((rho, noise), (weights, mean_grad)), rho_grad| {
            vectorized(
                #[inline(always)]
                || {
                    add_prior(weights, density, together, mean_grad, divergence_grad);
                    for (gradient, &rho) in rho_grad.iter_mut().zip(rho) {
                        *gradient = divergence_grad / sigma(rho);
                    }
                    let inputs = mean_grad.iter().zip(noise).zip(rho);
                    for (gradient, ((&mean_grad, &noise), &rho)) in rho_grad.iter_mut().zip(inputs)
                    {
                        *gradient = (mean_grad * noise - *gradient) * rho.sigmoid();
                    }
                },
            );
        });
    rho_grad
}

/// `∂μ ← ∂w − ∂d · ∂ln p(w)/∂w`.
#[inline(always)]
fn add_prior<E: Scalar>(
    weights: &[E],
    density: LogDensity,
    together: Together,
    mean_grad: &mut [E],
    divergence_grad: E,
) {
    let factor = E::from_f64(-2.0) * divergence_grad;
    match together {
        Together::One => {
            for (gradient, &weight) in mean_grad.iter_mut().zip(weights) {
                *gradient += factor * weight * density.derivative(weight * weight);
            }
        }
        Together::Row(width) => {
            for (gradient, row) in mean_grad.chunks_mut(width).zip(weights.chunks(width)) {
                let factor = factor * density.derivative(sum_of_squares(row));
                for (gradient, &weight) in gradient.iter_mut().zip(row) {
                    *gradient += factor * weight;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::random::{Key, normal};

    const DENSITY: LogDensity =
        LogDensity { wide: -0.4, wide_slope: 3.0, largest: 3.1, slope: 900.0 };

    fn run<E: Scalar>(
        together: Together,
        len: usize,
        threads: usize,
    ) -> (Vec<E>, f64, Vec<E>, Vec<E>) {
        let numbers = |key, factor: f64, shift: f64| -> Vec<E> {
            let number = |number: f64| E::from_f64(f64::from(number as f32) * factor + shift);
            normal::<f64>(Key([key, 0]), len, 1).into_iter().map(number).collect()
        };
        let (mean, rho, noise) =
            (numbers(1, 0.125, 0.0), numbers(2, 0.5, -2.0), numbers(3, 1.0, 0.0));
        let mut gradient = numbers(4, 1.0, 0.0);
        let (weights, sum) = forward(&mean, &rho, &noise, DENSITY, together, threads);
        let factor = E::from_f64(0.25);
        let rho_gradient =
            backward(&weights, &rho, &noise, DENSITY, together, &mut gradient, factor, threads);
        (weights, sum, gradient, rho_gradient)
    }

    #[test]
    fn threads_change_no_bit() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        for (together, len) in [
            (Together::One, 100_001),
            (Together::Row(37), 37 * 2_700),
            (Together::Row(2 * TASK + 1), 2 * (2 * TASK + 1)),
        ] {
            let two = pool.install(|| run::<f32>(together, len, 2));
            assert!(run::<f32>(together, len, 1) == two, "{together:?}");
        }
    }

    /// Some units of the last place of the largest magnitude; the sum's errors mostly cancel.
    #[test]
    fn single_precision_agrees_with_double() {
        for together in [Together::One, Together::Row(25)] {
            let (single, double) =
                (run::<f32>(together, 10_000, 1), run::<f64>(together, 10_000, 1));
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
        forward(&[0.0_f32; 10], &[0.0; 10], &[0.0; 10], DENSITY, Together::Row(4), 1);
    }
}

//! Batch normalisation of images with a ReLU, and its gradients.
//!
//! Each task takes one channel, which stays in the cache between the passes over it.

use crate::cpu::reduce::{BLOCK, LaneSums};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::filled_columns;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dims {
    pub(super) batch_size: usize,
    pub(super) channels: usize,
    pub(super) places: usize,
}

/// What a batch normalisation reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchNorm<'a, E> {
    pub(super) dims: Dims,
    /// `[batch_size, channels, places]`.
    pub(super) input: &'a [E],
    /// `[channels]`.
    pub(super) gamma: &'a [E],
    /// `[channels]`.
    pub(super) beta: &'a [E],
    pub(super) epsilon: f64,
    pub(super) relu: bool,
}

/// Results of [`BatchNorm::forward`].
#[derive(Debug, PartialEq)]
pub(super) struct Normalized<E> {
    pub(super) output: Vec<E>,
    pub(super) mean: Vec<E>,
    pub(super) variance: Vec<E>,
}

/// Results of [`BatchNorm::backward`].
#[derive(Debug, PartialEq)]
pub(super) struct Gradients<E> {
    pub(super) input: Vec<E>,
    pub(super) gamma: Vec<E>,
    pub(super) beta: Vec<E>,
}

/// What is done to the values of one channel: `(x − mean) · scale + beta`, then the ReLU.
#[derive(Clone, Copy)]
struct Affine<E> {
    mean: E,
    scale: E,
    beta: E,
    relu: bool,
}

impl<E: Scalar> Affine<E> {
    /// Before the ReLU. Forward and backward compute the same bits, so that they agree on where it
    /// is zero.
    #[inline(always)]
    fn linear(self, x: E) -> E {
        (x - self.mean) * self.scale + self.beta
    }

    /// The gradient before the ReLU. As in PyTorch, it is zero at zero, and a NaN does not pass.
    #[inline(always)]
    fn before_relu(self, x: E, output_grad: E) -> E {
        if !self.relu || self.linear(x) > E::ZERO { output_grad } else { E::ZERO }
    }
}

impl<E: Scalar> BatchNorm<'_, E> {
    fn check(&self) {
        let Dims { batch_size, channels, places } = self.dims;
        assert_eq!(self.input.len(), batch_size * channels * places, "length of the input");
    }

    /// What is done to a channel, and the reciprocal of its standard deviation.
    fn affine(&self, channel: usize, mean: E, variance: E) -> (Affine<E>, f64) {
        let inverse_deviation = 1.0 / (variance.to_f64() + self.epsilon).sqrt();
        let scale = E::from_f64(self.gamma[channel].to_f64() * inverse_deviation);
        (Affine { mean, scale, beta: self.beta[channel], relu: self.relu }, inverse_deviation)
    }

    /// Normalise the input by `statistics`, mean and variance of each channel, or by its own.
    pub(super) fn forward(
        &self,
        statistics: Option<(&[E], &[E])>,
        threads: usize,
    ) -> Normalized<E> {
        self.check();
        let Self { dims: Dims { batch_size, channels, places }, input, .. } = *self;
        let dims = [batch_size, channels, places];
        let (output, moments) = filled_columns(dims, threads, |channel, output| {
            vectorized(
                #[inline(always)]
                || {
                    let input = input[channel * places..].chunks(channels * places);
                    let input = input.map(|image| &image[..places]);
                    let (mean, variance) = match statistics {
                        Some((mean, variance)) => (mean[channel], variance[channel]),
                        None => moments(input.clone(), (batch_size * places) as f64),
                    };
                    let (affine, _) = self.affine(channel, mean, variance);
                    for (output, input) in output.iter_mut().zip(input) {
                        if affine.relu {
                            for (output, x) in output.iter_mut().zip(input) {
                                let z = affine.linear(*x);
                                // Not a maximum, which would drop a NaN.
                                *output = if z < E::ZERO { E::ZERO } else { z };
                            }
                        } else {
                            for (output, x) in output.iter_mut().zip(input) {
                                *output = affine.linear(*x);
                            }
                        }
                    }
                    (mean, variance)
                },
            )
        });
        let (mean, variance) = moments.into_iter().unzip();
        Normalized { output, mean, variance }
    }

    /// Gradients from that of the output. `statistics` are what the input was normalised by: those
    /// of the batch itself if `of_batch`, constants otherwise.
    pub(super) fn backward(
        &self,
        (mean, variance): (&[E], &[E]),
        of_batch: bool,
        output_grad: &[E],
        threads: usize,
    ) -> Gradients<E> {
        self.check();
        let Self { dims: Dims { batch_size, channels, places }, input, .. } = *self;
        assert_eq!(output_grad.len(), input.len(), "length of the output's gradient");
        let dims = [batch_size, channels, places];
        let (input, of_channels) = filled_columns(dims, threads, |channel, grad| {
            vectorized(
                #[inline(always)]
                || {
                    let (affine, inverse_deviation) =
                        self.affine(channel, mean[channel], variance[channel]);
                    let part = |all: &'_ [E], image: usize| {
                        let start = (image * channels + channel) * places;
                        start..(start + places).min(all.len())
                    };
                    let pairs = (0..batch_size).map(|image| {
                        (&input[part(input, image)], &output_grad[part(output_grad, image)])
                    });

                    let mut sums = LaneSums::<E, 2>::new();
                    for (x, output_grad) in pairs.clone() {
                        for (x, output_grad) in x.chunks(BLOCK).zip(output_grad.chunks(BLOCK)) {
                            sums.add(
                                x,
                                output_grad,
                                #[inline(always)]
                                |x, output_grad| {
                                    let gradient = affine.before_relu(x, output_grad);
                                    [gradient, gradient * (x - affine.mean)]
                                },
                            );
                        }
                    }
                    let [sum, sum_with_difference] = sums.finish();

                    let count = (batch_size * places) as f64;
                    let square = inverse_deviation * inverse_deviation;
                    let [shift, slope] = match of_batch {
                        true => {
                            [sum, sum_with_difference * square].map(|sum| E::from_f64(sum / count))
                        }
                        false => [E::ZERO; 2],
                    };
                    for (grad, (x, output_grad)) in grad.iter_mut().zip(pairs) {
                        for ((grad, x), output_grad) in grad.iter_mut().zip(x).zip(output_grad) {
                            let gradient = affine.before_relu(*x, *output_grad);
                            let of_statistics = shift + (*x - affine.mean) * slope;
                            *grad = (gradient - of_statistics) * affine.scale;
                        }
                    }
                    (E::from_f64(sum_with_difference * inverse_deviation), E::from_f64(sum))
                },
            )
        });
        let (gamma, beta) = of_channels.into_iter().unzip();
        Gradients { input, gamma, beta }
    }
}

/// Mean, and mean square of the differences from it, of `count` numbers.
#[inline(always)]
fn moments<'a, E: Scalar>(parts: impl Iterator<Item = &'a [E]> + Clone, count: f64) -> (E, E) {
    let mut sum = LaneSums::<E, 1>::new();
    for part in parts.clone().flat_map(|part| part.chunks(BLOCK)) {
        sum.add(
            part,
            part,
            #[inline(always)]
            |x, _| [x],
        );
    }
    let [sum] = sum.finish();
    let mean = E::from_f64(sum / count);
    let mut squares = LaneSums::<E, 1>::new();
    for part in parts.flat_map(|part| part.chunks(BLOCK)) {
        squares.add(
            part,
            part,
            #[inline(always)]
            |x, _| [(x - mean) * (x - mean)],
        );
    }
    let [squares] = squares.finish();
    // The differences are from the rounded mean.
    let rounding = mean.to_f64() - sum / count;
    let variance = squares / count - rounding * rounding;
    // Not a maximum, which would drop a NaN.
    (mean, E::from_f64(if variance < 0.0 { 0.0 } else { variance }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed * 101) as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn a_channel_by_hand() {
        // Two images of two channels with two places. The first channel is 1, 2, 3, 6: mean 3,
        // variance 14 / 4.
        let norm = BatchNorm {
            dims: Dims { batch_size: 2, channels: 2, places: 2 },
            input: &[1.0, 2.0, 5.0, 5.0, 3.0, 6.0, 5.0, 5.0_f64],
            gamma: &[2.0, 1.0],
            beta: &[0.5, -0.5],
            epsilon: 0.5,
            relu: false,
        };
        let Normalized { output, mean, variance } = norm.forward(None, 1);
        assert_eq!((mean, variance), (vec![3.0, 5.0], vec![3.5, 0.0]));
        // √(3.5 + 0.5) = 2, so that the scale is 1.
        assert_eq!(output, [-1.5, -0.5, -0.5, -0.5, 0.5, 3.5, -0.5, -0.5]);
        let output = BatchNorm { relu: true, ..norm }.forward(None, 2).output;
        assert_eq!(output, [0.0, 0.0, 0.0, 0.0, 0.5, 3.5, 0.0, 0.0]);
    }

    #[test]
    fn a_large_mean_does_not_hide_the_variance() {
        let input: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 2) as f32).collect();
        let norm = BatchNorm {
            dims: Dims { batch_size: 4, channels: 1, places: 1024 },
            input: &input,
            gamma: &[1.0],
            beta: &[0.0],
            epsilon: 1e-9,
            relu: false,
        };
        let result = norm.forward(None, 1);
        assert_eq!((result.mean[0], result.variance[0]), (1000.5, 0.25));
    }

    #[test]
    fn infinity_and_nan_stay_in_their_channel() {
        let norm = BatchNorm {
            dims: Dims { batch_size: 1, channels: 2, places: 3 },
            input: &[1.0, f32::NAN, 2.0, 1.0, 2.0, 3.0],
            gamma: &[1.0; 2],
            beta: &[0.0; 2],
            epsilon: 1e-5,
            relu: true,
        };
        let Normalized { output, mean, variance } = norm.forward(None, 1);
        assert!(output[..3].iter().all(|x| x.is_nan()) && mean[0].is_nan() && variance[0].is_nan());
        assert!(output[3..].iter().all(|x| x.is_finite()));
    }

    #[test]
    fn threads_change_no_bit() {
        let (input, output_grad) = (numbers(10_500, 1), numbers(10_500, 2));
        let norm = BatchNorm {
            dims: Dims { batch_size: 3, channels: 7, places: 500 },
            input: &input,
            gamma: &numbers(7, 3),
            beta: &numbers(7, 4),
            epsilon: 1e-5,
            relu: true,
        };
        let run = |threads| {
            let result = norm.forward(None, threads);
            let statistics = (&*result.mean, &*result.variance);
            let gradients = norm.backward(statistics, true, &output_grad, threads);
            (result, gradients)
        };
        assert_eq!(run(1), run(2));
    }

    proptest! {
        #[test]
        fn gradients_match_finite_differences(
            batch_size in 1..4_usize,
            channels in 1..4_usize,
            places in 1..6_usize,
            of_batch: bool,
            relu: bool,
            seed in 0..1000_usize,
        ) {
            let dims = Dims { batch_size, channels, places };
            let len = batch_size * channels * places;
            let wide = |len, seed| -> Vec<f64> {
                numbers(len, seed).into_iter().map(f64::from).collect()
            };
            let (input, output_grad) = (wide(len, seed), wide(len, seed + 1));
            let (gamma, beta) = (wide(channels, seed + 2), wide(channels, seed + 3));
            let constants = (wide(channels, seed + 4), vec![0.7; channels]);
            let given = (!of_batch).then_some((&*constants.0, &*constants.1));
            let norm =
                BatchNorm { dims, input: &input, gamma: &gamma, beta: &beta, epsilon: 0.1, relu };
            let loss = |norm: BatchNorm<'_, f64>| -> f64 {
                let output = norm.forward(given, 1).output;
                output.iter().zip(&output_grad).map(|(x, w)| x * w).sum()
            };
            // Central differences are meaningless over a kink.
            let linear = BatchNorm { relu: false, ..norm }.forward(given, 1).output;
            prop_assume!(!relu || linear.iter().all(|x| x.abs() > 1e-4));

            let result = norm.forward(given, 1);
            let statistics = (&*result.mean, &*result.variance);
            let gradients = norm.backward(statistics, of_batch, &output_grad, 1);
            let check = |name: &str, gradient: &[f64], loss: &dyn Fn(usize, f64) -> f64| {
                for (index, gradient) in gradient.iter().enumerate() {
                    let difference = (loss(index, 1e-6) - loss(index, -1e-6)) / 2e-6;
                    let error = (difference - gradient).abs();
                    assert!(
                        error < 1e-7,
                        "{name}[{index}]: {gradient}, by differences {difference}"
                    );
                }
            };
            let moved = |numbers: &[f64], index: usize, step: f64| {
                let mut numbers = numbers.to_vec();
                numbers[index] += step;
                numbers
            };
            check("input", &gradients.input, &|i, h| {
                loss(BatchNorm { input: &moved(&input, i, h), ..norm })
            });
            check("gamma", &gradients.gamma, &|i, h| {
                loss(BatchNorm { gamma: &moved(&gamma, i, h), ..norm })
            });
            check("beta", &gradients.beta, &|i, h| {
                loss(BatchNorm { beta: &moved(&beta, i, h), ..norm })
            });
        }
    }
}

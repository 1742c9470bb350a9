//! Batch normalisation of images with a ReLU, and its gradients, a channel at a time: it stays in the cache between the
//! passes over it.

use crate::cpu::reduce::{BLOCK, LaneSums};
use crate::cpu::scalar::Scalar;
use crate::cpu::simd::vectorized;
use crate::cpu::tasks::filled_columns;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) batch_size: usize,
    pub(crate) channels: usize,
    pub(crate) places: usize,
}

/// What is done to a channel after it has been normalised: numbers for each channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel<'a, E> {
    pub(crate) gamma: &'a [E],
    pub(crate) beta: &'a [E],
    pub(crate) epsilon: f64,
    pub(crate) relu: bool,
}

/// The same for one channel, with its mean: `(x − mean) · scale + beta`.
#[derive(Clone, Copy)]
struct Affine<E> {
    mean: E,
    scale: E,
    beta: E,
    relu: bool,
}

impl<E: Scalar> Affine<E> {
    fn new(channel: &Channel<'_, E>, index: usize, mean: E, variance: E) -> (Self, f64) {
        let inverse_deviation = 1.0 / (variance.to_f64() + channel.epsilon).sqrt();
        let scale = E::from_f64(channel.gamma[index].to_f64() * inverse_deviation);
        let Channel { beta, relu, .. } = *channel;
        (Self { mean, scale, beta: beta[index], relu }, inverse_deviation)
    }

    /// Before the ReLU; forward and backward compute the same bits, so that they agree on where it is zero.
    #[inline(always)]
    fn linear(self, x: E) -> E {
        (x - self.mean) * self.scale + self.beta
    }
}

/// Results of [`forward`].
#[derive(Debug, PartialEq)]
pub(crate) struct Normalized<E> {
    pub(crate) output: Vec<E>,
    pub(crate) mean: Vec<E>,
    pub(crate) variance: Vec<E>,
}

/// Normalise `input`, `[batch_size, channels, places]`, by `statistics`, mean and variance of each channel, or by its own.
pub(crate) fn forward<E: Scalar>(
    dims: Dims,
    input: &[E],
    channel: &Channel<'_, E>,
    statistics: Option<(&[E], &[E])>,
    threads: usize,
) -> Normalized<E> {
    let Dims { batch_size, channels, places } = dims;
    assert_eq!(input.len(), batch_size * channels * places, "length of the input");
    let (output, of_channels) =
        filled_columns([batch_size, channels, places], threads, |index, output| {
            vectorized(
                #[inline(always)]
                || {
                    let input = input[index * places..].chunks(channels * places);
                    let input = input.map(|image| &image[..places]);
                    let (mean, variance) = match statistics {
                        Some((mean, variance)) => (mean[index], variance[index]),
                        None => moments(input.clone(), (batch_size * places) as f64),
                    };
                    let (affine, _) = Affine::new(channel, index, mean, variance);
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
    let (mean, variance) = of_channels.into_iter().unzip();
    Normalized { output, mean, variance }
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

/// Results of [`backward`].
#[derive(Debug, PartialEq)]
pub(crate) struct Gradients<E> {
    pub(crate) input: Vec<E>,
    pub(crate) gamma: Vec<E>,
    pub(crate) beta: Vec<E>,
}

/// Gradients from that of the output. `statistics` are what the input was normalised by: of the batch itself if `of_batch`,
/// else constants.
pub(crate) fn backward<E: Scalar>(
    dims: Dims,
    input: &[E],
    channel: &Channel<'_, E>,
    (mean, variance): (&[E], &[E]),
    of_batch: bool,
    upstream: &[E],
    threads: usize,
) -> Gradients<E> {
    let Dims { batch_size, channels, places } = dims;
    assert_eq!(input.len(), batch_size * channels * places, "length of the input");
    assert_eq!(upstream.len(), input.len(), "length of the output's gradient");
    let (input, of_channels) =
        filled_columns([batch_size, channels, places], threads, |index, grad| {
            vectorized(
                #[inline(always)]
                || {
                    let (affine, inverse_deviation) =
                        Affine::new(channel, index, mean[index], variance[index]);
                    let part = |all: &'_ [E], image: usize| {
                        let start = (image * channels + index) * places;
                        start..(start + places).min(all.len())
                    };
                    let pairs = (0..batch_size).map(|image| {
                        (&input[part(input, image)], &upstream[part(upstream, image)])
                    });

                    let mut sums = LaneSums::<E, 2>::new();
                    for (x, upstream) in pairs.clone() {
                        for (x, upstream) in x.chunks(BLOCK).zip(upstream.chunks(BLOCK)) {
                            sums.add(
                                x,
                                upstream,
                                #[inline(always)]
                                |x, upstream| {
                                    let gradient = through_relu(affine, x, upstream);
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
                    for (grad, (x, upstream)) in grad.iter_mut().zip(pairs) {
                        for ((grad, x), upstream) in grad.iter_mut().zip(x).zip(upstream) {
                            let gradient = through_relu(affine, *x, *upstream);
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

#[inline(always)]
fn through_relu<E: Scalar>(affine: Affine<E>, x: E, upstream: E) -> E {
    // As PyTorch's: NaN does not pass, and at zero the gradient is zero.
    if !affine.relu || affine.linear(x) > E::ZERO { upstream } else { E::ZERO }
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
        // Two images of two channels with two places. The first channel is 1, 2, 3, 6: mean 3, variance 14 / 4.
        let input = [1.0, 2.0, 5.0, 5.0, 3.0, 6.0, 5.0, 5.0_f64];
        let dims = Dims { batch_size: 2, channels: 2, places: 2 };
        let channel = Channel { gamma: &[2.0, 1.0], beta: &[0.5, -0.5], epsilon: 0.5, relu: false };
        let Normalized { output, mean, variance } = forward(dims, &input, &channel, None, 1);
        assert_eq!((mean, variance), (vec![3.0, 5.0], vec![3.5, 0.0]));
        // √(3.5 + 0.5) = 2, so that the scale is 1.
        assert_eq!(output, [-1.5, -0.5, -0.5, -0.5, 0.5, 3.5, -0.5, -0.5]);
        let relu = Channel { relu: true, ..channel };
        let output = forward(dims, &input, &relu, None, 2).output;
        assert_eq!(output, [0.0, 0.0, 0.0, 0.0, 0.5, 3.5, 0.0, 0.0]);
    }

    #[test]
    fn a_large_mean_does_not_hide_the_variance() {
        let input: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 2) as f32).collect();
        let dims = Dims { batch_size: 4, channels: 1, places: 1024 };
        let channel = Channel { gamma: &[1.0], beta: &[0.0], epsilon: 1e-9, relu: false };
        let result = forward(dims, &input, &channel, None, 1);
        assert_eq!((result.mean[0], result.variance[0]), (1000.5, 0.25));
    }

    #[test]
    fn what_is_not_finite_is_passed_on() {
        let dims = Dims { batch_size: 1, channels: 2, places: 3 };
        let input = [1.0, f32::NAN, 2.0, 1.0, 2.0, 3.0];
        let channel = Channel { gamma: &[1.0; 2], beta: &[0.0; 2], epsilon: 1e-5, relu: true };
        let Normalized { output, mean, variance } = forward(dims, &input, &channel, None, 1);
        assert!(output[..3].iter().all(|x| x.is_nan()) && mean[0].is_nan() && variance[0].is_nan());
        assert!(output[3..].iter().all(|x| x.is_finite()));
    }

    #[test]
    fn threads_change_no_bit() {
        let dims = Dims { batch_size: 3, channels: 7, places: 500 };
        let (input, upstream) = (numbers(10_500, 1), numbers(10_500, 2));
        let (gamma, beta) = (numbers(7, 3), numbers(7, 4));
        let channel = Channel { gamma: &gamma, beta: &beta, epsilon: 1e-5, relu: true };
        let run = |threads| {
            let result = forward(dims, &input, &channel, None, threads);
            let statistics = (result.mean.as_slice(), result.variance.as_slice());
            let gradients = backward(dims, &input, &channel, statistics, true, &upstream, threads);
            (result, gradients)
        };
        assert_eq!(run(1), run(2));
    }

    proptest! {
        #[test]
        fn gradients_are_the_differences_of_the_values(
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
            let (input, upstream) = (wide(len, seed), wide(len, seed + 1));
            let (gamma, beta) = (wide(channels, seed + 2), wide(channels, seed + 3));
            let constants = (wide(channels, seed + 4), vec![0.7; channels]);
            let given = (!of_batch).then_some((&*constants.0, &*constants.1));
            let run = |input: &[f64], gamma: &[f64], beta: &[f64]| {
                let channel = Channel { gamma, beta, epsilon: 0.1, relu };
                forward(dims, input, &channel, given, 1)
            };
            let loss = |input: &[f64], gamma: &[f64], beta: &[f64]| -> f64 {
                let output = run(input, gamma, beta).output;
                output.iter().zip(&upstream).map(|(x, w)| x * w).sum()
            };
            let result = run(&input, &gamma, &beta);
            // Central differences are meaningless over a kink.
            let linear = Channel { gamma: &gamma, beta: &beta, epsilon: 0.1, relu: false };
            let linear = forward(dims, &input, &linear, given, 1).output;
            prop_assume!(!relu || linear.iter().all(|x| x.abs() > 1e-4));

            let channel = Channel { gamma: &gamma, beta: &beta, epsilon: 0.1, relu };
            let statistics = (&*result.mean, &*result.variance);
            let gradients = backward(dims, &input, &channel, statistics, of_batch, &upstream, 1);
            let check = |name: &str, gradient: &[f64], loss: &dyn Fn(usize, f64) -> f64| {
                for (index, gradient) in gradient.iter().enumerate() {
                    let difference = (loss(index, 1e-6) - loss(index, -1e-6)) / 2e-6;
                    let error = (difference - gradient).abs();
                    assert!(error < 1e-7, "{name}[{index}]: {gradient}, by differences {difference}");
                }
            };
            let moved = |numbers: &[f64], index: usize, step: f64| {
                let mut numbers = numbers.to_vec();
                numbers[index] += step;
                numbers
            };
            check("input", &gradients.input, &|i, h| loss(&moved(&input, i, h), &gamma, &beta));
            check("gamma", &gradients.gamma, &|i, h| loss(&input, &moved(&gamma, i, h), &beta));
            check("beta", &gradients.beta, &|i, h| loss(&input, &gamma, &moved(&beta, i, h)));
        }
    }
}
